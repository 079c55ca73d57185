package configs

import (
	"io"
	"testing"
)

// FuzzLoad feeds arbitrary text to Load. Whatever loads must render for each
// of its sites, and what is rendered must load again.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{"testdata/full.hcl", "testdata/mistakes.hcl", "testdata/three.hcl", "reference.hcl", "examples/two-sites.hcl", "examples/pair.hcl"} {
		c, d := Load([]string{name}, Options{Key: KeyIgnored})
		_ = c
		f.Add(d.sources[name])
	}
	f.Add([]byte("\xff\xfe\x00"))
	f.Add([]byte("local {\n mtu = [for x in {a=1}: x...]\n lan = \"${[\"\"][0]}\"\n}"))
	f.Add([]byte("site \"a\" {\n subnets = [<<E\n10.0.0.0/8\nE\n]\n}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, diags := loadText(string(text), Options{Key: KeyIgnored})
		if err := diags.WriteDiagnostics(io.Discard, true); err != nil {
			t.Fatal(err)
		}
		for _, d := range diags.List {
			if d.Summary == "" {
				t.Errorf("finding without text at %s:%d", d.File, d.Line)
			}
		}
		if diags.HasErrors() {
			if diags.Err().Error() == "" {
				t.Error("error without text")
			}
			return
		}
		for _, s := range cfg.Sites {
			out, err := Render(cfg, s.Name)
			if s.Pair != nil && (s.Nodes[0].SiblingEndpoint == "" || s.Nodes[1].SiblingEndpoint == "") {
				continue // refused, as a pair of another site whose own file is elsewhere
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, again := loadText(string(out), Options{Key: KeyIgnored}); again.HasErrors() {
				t.Fatalf("rendered for %s: %v\n%s", s.Name, again.Err(), out)
			}
		}
	})
}
