package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// module is a module that is in the binary, or the standard library ("std").
type module struct {
	path, version string
	sum           string // of go.sum; "" for the standard library
	license       string // an SPDX expression
	texts         []text // what its license asks to reproduce
}

// text is a file of a module.
type text struct {
	name string
	text []byte
}

// included returns the modules in the binary, by path, with their licenses.
func included(info *buildinfo.BuildInfo, source string) ([]module, error) {
	dirs, err := directories(source)
	if err != nil {
		return nil, err
	}
	root, err := goCommand(source, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	dirs["std"] = strings.TrimSpace(string(root))
	list := []module{{path: "std", version: strings.TrimPrefix(info.GoVersion, "go")}}
	for _, d := range info.Deps {
		m := d
		if d.Replace != nil {
			m = d.Replace
		}
		list = append(list, module{path: d.Path, version: m.Version, sum: m.Sum})
	}
	slices.SortFunc(list, func(a, b module) int { return strings.Compare(a.path, b.path) })
	var errs []error
	for i := range list {
		m := &list[i]
		if m.texts, err = licenseTexts(dirs[m.path]); err == nil {
			m.license, err = identify(m.texts)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", m.path, m.version, err))
		}
	}
	return list, errors.Join(errs...)
}

// directories returns where the source of each module of the build list is.
func directories(source string) (map[string]string, error) {
	out, err := goCommand(source, "list", "-m", "-json=Path,Dir", "all")
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var m struct{ Path, Dir string }
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return dirs, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the answer of go list: %w", err)
		}
		dirs[m.Path] = m.Dir
	}
}

// licenseTexts reads the files of a module that its license asks to reproduce, in the order of
// their names.
func licenseTexts(dir string) ([]text, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w; fetch its source: go mod download", err)
	}
	var texts []text
	for _, e := range entries {
		name, _, _ := strings.Cut(strings.ToUpper(e.Name()), ".")
		if e.IsDir() || !slices.Contains([]string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "PATENTS"}, name) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		texts = append(texts, text{name: e.Name(), text: b})
	}
	return texts, nil
}
