package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBundleHoldsNoKey: neither a private nor a public key occurs in it, in any
// writing, wherever it stood, nor what a configuration's commands give away.
func TestBundleHoldsNoKey(t *testing.T) {
	dir := starter(t)
	var private []string
	files, _ := filepath.Glob(filepath.Join(dir, "*.key"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		private = append(private, strings.TrimSpace(string(b)))
	}
	if len(private) == 0 {
		t.Fatal("no keys")
	}
	raw, err := base64.StdEncoding.DecodeString(private[0])
	if err != nil {
		t.Fatal(err)
	}
	private = append(private, hex.EncodeToString(raw), "hunter2")
	site := filepath.Join(dir, "site.hcl")
	text, err := os.ReadFile(site)
	if err != nil {
		t.Fatal(err)
	}
	public := keys.FindAllString(string(text), -1)
	if len(public) == 0 {
		t.Fatal("no public key in the file")
	}
	writeFile(t, site, string(text)+"\n# "+strings.Join(private[:len(private)-1], " ")+"\n  on_active = [\"cloud\",\n    \"hunter2\"]\n")

	s := healthy()
	s.ConfigFiles = []string{site}
	s.Links[0].Refused = "the key " + private[0]
	out := filepath.Join(dir, "b.tar.gz")
	if stdout, stderr, code := gw("bundle", "-o", out, "--socket", serve(t, madeUp{status: s})); code != exitOK {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		seen[strings.TrimPrefix(h.Name, "gw-bundle/")] = true
		for _, k := range append(private, public...) {
			if bytes.Contains(content, []byte(strings.TrimRight(k, "="))) {
				t.Errorf("%s holds %s", h.Name, k)
			}
		}
	}
	for _, name := range []string{"status.json", "conns.json", "doctor.json", "version.txt", "config/0-site.hcl", "host/routes.txt", "log.txt"} {
		if !seen[name] {
			t.Errorf("no %s among %v", name, seen)
		}
	}
	if _, stderr, code := gw("bundle", "-o", out); code != exitFailed || !strings.Contains(stderr, "-o") {
		t.Errorf("written over: exit %d: %s", code, stderr)
	}
}
