package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"slices"
	"strings"
)

// The part of CycloneDX 1.5 that is written. There is no time and no random serial number: both
// are optional, and would make each file another one.
type (
	document struct {
		Format       string       `json:"bomFormat"`
		Spec         string       `json:"specVersion"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Component component `json:"component"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Licenses   []license  `json:"licenses"`
		PURL       string     `json:"purl"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	license struct {
		Expression string `json:"expression"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref string   `json:"ref"`
		On  []string `json:"dependsOn"`
	}
)

// purl returns the package URL of a Go module.
func purl(path, version string) string { return "pkg:golang/" + path + "@" + version }

// describe makes the document. graph is what `go mod graph` prints.
func describe(info *buildinfo.BuildInfo, version string, binary []byte, modules []module, graph string) document {
	sum := sha256.Sum256(binary)
	main := component{
		Type: "application", Name: info.Path[strings.LastIndex(info.Path, "/")+1:], Version: version, PURL: purl(info.Main.Path, version),
		Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}}, Licenses: []license{{"Apache-2.0"}},
	}
	main.Ref = main.PURL
	for _, s := range info.Settings {
		// Not vcs.*: the version says it.
		if !strings.HasPrefix(s.Key, "vcs") {
			main.Properties = append(main.Properties, property{"go:build:" + s.Key, s.Value})
		}
	}
	doc := document{Format: "CycloneDX", Spec: "1.5", Version: 1, Metadata: metadata{main}}
	refs := map[string]string{info.Main.Path: main.Ref}
	for _, m := range modules {
		c := component{Type: "library", Name: m.path, Version: m.version, PURL: purl(m.path, m.version), Licenses: []license{{m.license}}}
		c.Ref = c.PURL
		if m.sum != "" {
			c.Properties = []property{{"go:sum", m.sum}}
		}
		refs[m.path] = c.Ref
		doc.Components = append(doc.Components, c)
	}
	doc.Dependencies = edges(refs, graph)
	return doc
}

// edges returns which of the modules require which, sorted. Lines of the graph that name other
// versions are of the same modules: one version of each is in the binary.
func edges(refs map[string]string, graph string) []dependency {
	on := map[string][]string{}
	for _, ref := range refs {
		on[ref] = []string{}
	}
	if std, ok := refs["std"]; ok {
		for path, ref := range refs {
			if path != "std" {
				on[ref] = append(on[ref], std)
			}
		}
	}
	for line := range strings.Lines(graph) {
		from, to, _ := strings.Cut(strings.TrimSpace(line), " ")
		from, _, _ = strings.Cut(from, "@")
		to, _, _ = strings.Cut(to, "@")
		a, known := refs[from]
		b, also := refs[to]
		if known && also {
			on[a] = append(on[a], b)
		}
	}
	var all []dependency
	for ref, list := range on {
		slices.Sort(list)
		all = append(all, dependency{ref, slices.Compact(list)})
	}
	slices.SortFunc(all, func(a, b dependency) int { return strings.Compare(a.Ref, b.Ref) })
	return all
}
