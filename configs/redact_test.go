package configs

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// canary is a text that no setting but a command may hold.
const canary = "hunter2; a canary"

// shippedFiles are whole configurations.
func shippedFiles(t testing.TB) map[string][]byte {
	t.Helper()
	files := map[string][]byte{"reference.hcl": Reference}
	names, err := filepath.Glob("examples/*.hcl")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range append(names, "testdata/full.hcl") {
		if files[name], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestRedactEachString: whichever text of a configuration is a secret, it is not shown.
func TestRedactEachString(t *testing.T) {
	for name, src := range shippedFiles(t) {
		tokens, diags := hclsyntax.LexConfig(src, name, hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		n := 0
		for _, token := range tokens {
			if token.Type != hclsyntax.TokenQuotedLit && token.Type != hclsyntax.TokenComment {
				continue
			}
			n++
			text := canary
			if token.Type == hclsyntax.TokenComment {
				text = "# " + canary + "\n"
			}
			changed := slices.Concat(src[:token.Range.Start.Byte], []byte(text), src[token.Range.End.Byte:])
			out, secrets, err := Redact(name, changed)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(out, []byte("hunter2")) {
				t.Errorf("%v: the text is shown", token.Range)
			}
			if token.Type == hclsyntax.TokenQuotedLit && !slices.Contains(secrets, canary) {
				t.Errorf("%v: not among the secrets: %q", token.Range, secrets)
			}
		}
		if n == 0 {
			t.Errorf("%s has no texts", name)
		}
	}
}

// TestRedactForms: in whatever form a secret is written, it is not shown, and it is known for other
// texts.
func TestRedactForms(t *testing.T) {
	for _, c := range []struct{ name, src string }{
		{"a bracket in a text", `site "red" { 
  pair { 
    on_active = ["/bin/a", "x]", "hunter2"]
  }
}`},
		{"one line", `pair { on_active = ["/bin/a", "hunter2"] }`},
		{"comments in a list", "site \"red\" {\n pair {\n on_standby = [\n \"/bin/a\", # ]\n /* ] */ \"hunter2\", // ]\n ]\n }\n}"},
		{"heredoc", "site \"red\" {\n pair {\n on_active = [\"sh\", \"-c\", <<END\ncurl -H hunter2\nEND\n ]\n }\n}"},
		{"template", `local { socket = "${"hunter2"} " }`},
		{"conditional", `local { socket = true ? "hunter2 " : "b" }`},
		{"no text in quotes", `password = hunter2`},
		{"call", `password = file("hunter2")`},
		{"object", `aws = { secret = "hunter2" }`},
		{"nested lists", `secrets = [["a", ["hunter2"]]]`},
		{"number", `pin = 12345678`},
		{"unknown setting in a known block", `local { token = "hunter2" }`},
		{"known setting in an unknown block", `other { lan = "hunter2" }`},
		{"setting in the wrong block", `site "red" { socket = "hunter2" }`},
		{"unknown label", `site "red" "hunter2" { }`},
		{"label of an unknown block", `vault "hunter2" { }`},
		{"label that is no name", `site "hunter2 !" { }`},
		{"zone of an address", `site "red" { subnets = ["fe80::1%hunter2"] }`},
		{"user in an endpoint", "site \"red\" {\n node \"a\" {\n endpoint = \"root:hunter2@192.0.2.1:51820\"\n }\n}"},
		{"zone of an endpoint", "site \"red\" {\n node \"a\" {\n endpoint = \"[fe80::1%hunter2]:51820\"\n }\n}"},
		{"too long for a name", `link "a" "b" { initiator = "hunter2hunter2hunter2hunter2hunter2" }`},
		{"escapes", `token = "hunter\u0032"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, secrets, err := Redact("site.hcl", []byte(c.src))
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []string{"hunter2", "12345678", `hunter\u0032`} {
				if bytes.Contains(out, []byte(s)) {
					t.Errorf("shown:\n%s", out)
				}
			}
			if !slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(s, "hunter2") || s == "12345678" }) {
				t.Errorf("secrets %q", secrets)
			}
		})
	}
}

// TestRedactRefuses a file that does not parse, and quotes nothing of it.
func TestRedactRefuses(t *testing.T) {
	for _, src := range []string{
		`on_active = ["hunter2`, "a = \"hunter2\"\na = \"hunter2\"", `{"site": {"red": {"pair": {"on_active": ["hunter2"]}}}}`, "\x00hunter2",
		"hunter2", strings.Repeat("[", 1000) + "hunter2", "# hunter2\n" + strings.Repeat(" ", maxFileSize),
	} {
		out, secrets, err := Redact("site.hcl", []byte(src))
		if err == nil || out != nil || secrets != nil {
			t.Errorf("%.40q: %q, %q", src, out, secrets)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%.40q: %v", src, err)
		}
	}
}

// TestRedactKeepsWhatIsKnown: what a reader needs is all there, on its old lines: the redacted file
// loads, and is the same configuration but for the commands.
func TestRedactKeepsWhatIsKnown(t *testing.T) {
	for name, src := range shippedFiles(t) {
		out, _, err := Redact(name, src)
		if err != nil {
			t.Fatal(err)
		}
		load := func(text []byte) Config {
			c, d := LoadFiles([]File{{name, text}}, Options{Key: KeyIgnored})
			if d.HasErrors() {
				t.Fatalf("%v\n%s", d.Err(), text)
			}
			for i := range c.Sites {
				if p := c.Sites[i].Pair; p != nil {
					p.OnActive, p.OnStandby = nil, nil
				}
			}
			return c
		}
		// A command is the whole path of a program.
		want, got := load(src), load(bytes.ReplaceAll(out, []byte(`"redacted"`), []byte(`"/redacted"`)))
		if d := cmp.Diff(want, got, compareAddrs); d != "" {
			t.Errorf("%s (-before +after):\n%s", name, d)
		}
		for i, r := range want.Rules {
			if got.Rules[i].Pos != r.Pos {
				t.Errorf("%s: rule %s at %v, was at %v", name, r.Name, got.Rules[i].Pos, r.Pos)
			}
		}
	}
}

// TestShapes: each setting of the schema has a shape, or is hidden on purpose.
func TestShapes(t *testing.T) {
	known := map[string]bool{}
	var walk func(s *bodySchema, path string)
	walk = func(s *bodySchema, path string) {
		for _, a := range s.attrs {
			known[path+a] = true
			if _, ok := shapes[path+a]; !ok {
				t.Errorf("%s has no shape", path+a)
			}
		}
		for _, b := range s.blocks {
			walk(b.body, path+b.name+".")
		}
	}
	walk(rootSchema, "")
	for name := range shapes {
		if !known[name] {
			t.Errorf("there is no setting %s", name)
		}
	}
}

// FuzzRedact: what is redacted parses, and redacting it again changes nothing.
func FuzzRedact(f *testing.F) {
	for _, src := range shippedFiles(f) {
		f.Add(src)
	}
	f.Add([]byte("a = <<-END\n x ${1} \n END\nb \"c\" { d = [\"]\"] }\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		out, _, err := Redact("site.hcl", src)
		if err != nil {
			return
		}
		again, _, err := Redact("site.hcl", out)
		if err != nil || !bytes.Equal(again, out) {
			t.Errorf("%v\n%q\n%q\n%q", err, src, out, again)
		}
	})
}
