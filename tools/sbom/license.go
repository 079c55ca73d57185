package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// known are the licenses that may be in a binary under Apache-2.0, by SPDX identifier: each with
// words that only its text has. MPL-2.0 covers its own files alone (section 1.10).
var known = []struct {
	id      string
	has     []string
	without string
}{
	{"Apache-2.0", []string{"apache license", "version 2.0"}, ""},
	{"BSD-2-Clause", []string{"redistribution and use in source and binary forms"}, "neither the name"},
	{"BSD-3-Clause", []string{"redistribution and use in source and binary forms", "neither the name"}, ""},
	{"MIT", []string{"permission is hereby granted, free of charge, to any person obtaining a copy of this software"}, ""},
	{"MPL-2.0", []string{"mozilla public license", "version 2.0", "covered software"}, ""},
	{"Unicode-DFS-2016", []string{"obtaining a copy of the unicode data files"}, ""},
}

// foreign are words of licenses that are not allowed. MPL-2.0 names the GNU licenses as
// secondary ones and is left out.
var foreign = []string{"gnu general public license", "gnu lesser general public", "gnu affero", "server side public license", "business source license", "commons clause"}

// identify returns the SPDX expression of a module's license.
func identify(texts []text) (string, error) {
	var ids []string
	for _, t := range texts {
		if !isLicense(t.name) {
			continue
		}
		words := strings.ToLower(strings.Join(strings.Fields(string(t.text)), " "))
		var here []string
		for _, k := range known {
			all := k.without == "" || !strings.Contains(words, k.without)
			for _, w := range k.has {
				all = all && strings.Contains(words, w)
			}
			if all {
				here = append(here, k.id)
			}
		}
		for _, w := range foreign {
			if strings.Contains(words, w) && !slices.Contains(here, "MPL-2.0") {
				return "", fmt.Errorf("%s speaks of the %s: may it be in the binary? If so, tell tools/sbom", t.name, w)
			}
		}
		ids = append(ids, here...)
	}
	if len(ids) == 0 {
		return "", errors.New("no license that tools/sbom knows: read it, and add it there")
	}
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), " AND "), nil
}

func isLicense(name string) bool {
	name = strings.ToUpper(name)
	return strings.HasPrefix(name, "LICEN") || strings.HasPrefix(name, "COPYING")
}

// notices returns the licenses of all modules as one text.
func notices(modules []module) []byte {
	var b bytes.Buffer
	b.WriteString("The program gw contains these modules. gw itself is under Apache-2.0: see copyright.\n" +
		"The source of each is at the address that its name is, in the version that is given.\n\n")
	for _, m := range modules {
		fmt.Fprintf(&b, "%s %s: %s\n", m.path, m.version, m.license)
	}
	line := strings.Repeat("=", 80)
	for _, m := range modules {
		for _, t := range m.texts {
			fmt.Fprintf(&b, "\n%s\n%s %s: %s\n%s\n\n%s\n", line, m.path, m.version, t.name, line, bytes.TrimSpace(t.text))
		}
	}
	return b.Bytes()
}
