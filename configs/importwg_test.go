package configs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImportWG holds what files of wg-quick become, and what is said of them,
// against golden files.
func TestImportWG(t *testing.T) {
	files, err := filepath.Glob("testdata/wg/*.conf")
	if err != nil || len(files) < 4 {
		t.Fatalf("%v: %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			out, diags := ImportWG("wg0.conf", []byte(read(t, file)), ImportOptions{Site: "here", Peers: []string{"red"}})
			var b bytes.Buffer
			if err := diags.WriteDiagnostics(&b, false); err != nil {
				t.Fatal(err)
			}
			if !diags.HasErrors() {
				fmt.Fprintf(&b, "\n--- site.hcl\n%s--- local.hcl\n%s", out.Site, out.Local)
				checkImported(t, out)
			}
			for _, key := range []string{"aPxGwq8z", "qFx3kUXn", "OmMuFVvL", "secretsecret"} {
				if strings.Contains(b.String(), key) {
					t.Errorf("a secret is shown: %s", key)
				}
			}
			golden(t, "wg/"+strings.TrimSuffix(filepath.Base(file), ".conf")+".golden", b.Bytes())
		})
	}
}

// checkImported loads what an import has made, as `gw up` would.
func checkImported(t *testing.T, out Imported) {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "node.key")
	for name, text := range map[string][]byte{
		filepath.Join(dir, "site.hcl"): out.Site, filepath.Join(dir, "local.hcl"): out.Local, key: []byte(out.Key.Reveal()),
	} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, diags := Load([]string{dir}, Options{KeyFile: key})
	if diags.HasErrors() {
		t.Fatalf("it does not load: %v\n%s%s", diags.Err(), out.Site, out.Local)
	}
	if cfg.SelfNode().Name != out.Node {
		t.Errorf("with the key this is node %s, want %s", cfg.SelfNode().Name, out.Node)
	}
}

// FuzzImportWG: whatever is taken over loads.
func FuzzImportWG(f *testing.F) {
	files, err := filepath.Glob("testdata/wg/*.conf")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("[Interface]\r\nPrivateKey=aPxGwq8zERHQ3Q1cOZFdJ+cvJX5Ka4mLN38AyYKYF10=\r\nAddress=::ffff:10.0.0.1,,1::1\r\n[peer]\nallowedips=1::/0,\n"))
	f.Add([]byte("[Interface]\nPrivateKey = =\nAddress = \xff#\n[Peer\n= x"))
	f.Fuzz(func(t *testing.T, text []byte) {
		out, diags := ImportWG("wg0.conf", text, ImportOptions{Site: "here"})
		if err := diags.WriteDiagnostics(&bytes.Buffer{}, false); err != nil {
			t.Fatal(err)
		}
		for _, d := range diags.List {
			if d.Summary == "" {
				t.Errorf("finding without text at line %d", d.Line)
			}
		}
		if !diags.HasErrors() {
			checkImported(t, out)
		}
	})
}
