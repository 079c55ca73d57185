package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestIdentify(t *testing.T) {
	const mit = "Permission is hereby granted, free of charge, to any person\nobtaining a copy of this software"
	const bsd2 = "Redistribution and use in source and\n  binary forms, with or without"
	for _, tt := range []struct {
		name  string
		texts []text
		want  string // "" for an error
	}{
		{"MIT", []text{{"COPYING", []byte(mit)}}, "MIT"},
		{"BSD with two clauses", []text{{"LICENSE", []byte(bsd2)}}, "BSD-2-Clause"},
		{"BSD with three clauses", []text{{"LICENSE", []byte(bsd2 + " Neither the name of")}}, "BSD-3-Clause"},
		{"two licenses", []text{{"LICENSE.md", []byte(mit + " Apache License, Version 2.0")}}, "Apache-2.0 AND MIT"},
		{"in two files", []text{{"LICENSE-MIT", []byte(mit)}, {"LICENSE-BSD", []byte(bsd2)}}, "BSD-2-Clause AND MIT"},
		{"MPL, which names others", []text{{"LICENSE", []byte("Mozilla Public License, version 2.0 Covered Software GNU General Public License")}}, "MPL-2.0"},
		{"a notice is no license", []text{{"NOTICE", []byte(mit)}}, ""},
		{"unknown", []text{{"LICENSE", []byte("all rights reserved")}}, ""},
		{"none", nil, ""},
		{"one that asks more", []text{{"LICENSE", []byte(mit + " GNU Affero")}}, ""},
	} {
		got, err := identify(tt.texts)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}

// TestGateway describes the gateway twice: each module of the binary is there once, with its
// license's text, and the same binary gives the same files.
func TestGateway(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "gw")
	build := exec.Command("go", "build", "-o", binary, "./cmd/gw") // as the lab does: it is in the cache
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var first [2][]byte
	for range 2 {
		o := options{binary: binary, source: "../..", version: "1.2.3", sbom: filepath.Join(dir, "sbom"), notices: filepath.Join(dir, "notices")}
		if err := run(o); err != nil {
			t.Fatal(err)
		}
		for i, path := range []string{o.sbom, o.notices} {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if first[i] != nil && !bytes.Equal(b, first[i]) {
				t.Errorf("the second %s differs from the first", filepath.Base(path))
			}
			first[i] = b
		}
	}
	var doc document
	if err := json.Unmarshal(first[0], &doc); err != nil {
		t.Fatal(err)
	}
	if m := doc.Metadata.Component; m.Name != "gw" || m.Version != "1.2.3" || len(m.Hashes) != 1 {
		t.Errorf("the program is %+v", m)
	}
	components := map[string]int{}
	for _, c := range doc.Components {
		components[c.PURL]++
		if !strings.Contains(string(first[1]), c.Name+" "+c.Version+": "+c.Licenses[0].Expression+"\n") {
			t.Errorf("the notices don't name %s %s", c.Name, c.Version)
		}
	}
	out, err := goCommand(".", "version", "-m", binary)
	if err != nil {
		t.Fatal(err)
	}
	listed := 0
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) >= 3 && f[0] == "dep" {
			listed++
			if n := components[purl(f[1], f[2])]; n != 1 {
				t.Errorf("%s %s is there %d times", f[1], f[2], n)
			}
		}
	}
	if listed < 20 || len(doc.Components) != listed+1 {
		t.Errorf("%d components, and go version -m lists %d modules besides the standard library", len(doc.Components), listed)
	}
	// The graph has the program itself, and no reference to what is not listed.
	refs := map[string]bool{doc.Metadata.Component.Ref: true}
	for _, c := range doc.Components {
		refs[c.Ref] = true
	}
	for _, d := range doc.Dependencies {
		for _, ref := range append(d.On, d.Ref) {
			if !refs[ref] {
				t.Errorf("the graph names %s, which is no component", ref)
			}
		}
		if d.Ref == doc.Metadata.Component.Ref && len(d.On) < 10 {
			t.Errorf("the program depends on %q", d.On)
		}
	}
	if len(doc.Dependencies) != len(refs) {
		t.Errorf("%d nodes in the graph, %d components", len(doc.Dependencies), len(refs))
	}
}
