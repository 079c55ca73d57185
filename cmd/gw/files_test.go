package main

import (
	"encoding/binary"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onewaylink/gw/gateway/control"
)

// serveCapture puts a gateway with a capture of one block behind a control socket, and returns the
// block.
func serveCapture(t *testing.T) (socket, block string) {
	t.Helper()
	b := make([]byte, 28) // a section header (draft-ietf-opsawg-pcapng section 4.1)
	binary.NativeEndian.PutUint32(b, 0x0a0d0d0a)
	binary.NativeEndian.PutUint32(b[4:], uint32(len(b)))
	binary.NativeEndian.PutUint32(b[len(b)-4:], uint32(len(b)))
	socket = serveWith(t, madeUp{status: healthy()}, control.Route{
		Pattern: "GET /v1/capture", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }),
	})
	return socket, string(b)
}

// TestFilesOfCommands: a file that a command is to write goes to no place that another user has
// chosen: not through a symbolic link, not into a file of somebody else. Its own file of before is
// replaced, where the command does so at all, and is for its owner alone.
func TestFilesOfCommands(t *testing.T) {
	socket, block := serveCapture(t)
	dir := starter(t)
	site, err := os.ReadFile(filepath.Join(dir, "site.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		// file is what the command writes in a directory, by args.
		file     string
		args     func(dir string) []string
		replaces bool
		holds    string // a part of what it writes
	}{
		{"capture", "c.pcapng", func(dir string) []string {
			return []string{"capture", "--last", "1s", "-w", filepath.Join(dir, "c.pcapng"), "--socket", socket}
		}, true, block},
		{"bundle", "b.tar.gz", func(dir string) []string {
			return []string{"bundle", "-o", filepath.Join(dir, "b.tar.gz"), "--socket", socket}
		}, false, "\x1f\x8b"},
		{"man", "gw.1", func(dir string) []string { return []string{"man", "--dir", dir} }, true, ".TH"},
		{"init", "site.hcl", func(dir string) []string { return []string{"init", "--dir", dir} }, false, "public_key"},
		{"init's keys", "red-1.key", func(dir string) []string { return []string{"init", "--dir", dir} }, false, "="},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := func(place func(path string)) (path, text string, code int, stderr string) {
				t.Helper()
				dir := t.TempDir()
				path = filepath.Join(dir, c.file)
				place(path)
				_, stderr, code = gw(c.args(dir)...)
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				return path, string(b), code, stderr
			}
			if _, text, code, stderr := run(func(string) {}); code != exitOK || !strings.Contains(text, c.holds) {
				t.Errorf("into an empty directory: exit %d: %s%.80q", code, stderr, text)
			}
			path, text, code, stderr := run(func(path string) { writeFile(t, path, "old") })
			if replaced := text != "old"; replaced != c.replaces || (code == exitOK) != c.replaces {
				t.Errorf("over an own file: exit %d: %s%.80q", code, stderr, text)
			}
			if info, err := os.Stat(path); c.name == "capture" && (err != nil || info.Mode() != 0o600) {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if _, text, code, stderr = run(func(path string) {
				writeFile(t, path+".target", "victim")
				if err := os.Symlink(path+".target", path); err != nil {
					t.Fatal(err)
				}
			}); code != exitFailed || text != "victim" || !strings.Contains(stderr, "choose another") {
				t.Errorf("through a symbolic link: exit %d: %s%.80q", code, stderr, text)
			}
			if _, text, code, stderr = run(func(path string) {
				writeFile(t, path, "theirs")
				if err := os.Chown(path, 12345, 12345); err != nil {
					t.Fatalf("%v; run the tests as root", err)
				}
			}); code != exitFailed || text != "theirs" || !strings.Contains(stderr, "choose another") {
				t.Errorf("into another user's file: exit %d: %s%.80q", code, stderr, text)
			}
		})
	}
	t.Run("fmt", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "site.hcl")
		untidy := "\n\n   " + string(site)
		writeFile(t, path, untidy)
		if err := os.Chown(path, 12345, 12345); err != nil {
			t.Fatalf("%v; run the tests as root", err)
		}
		if _, stderr, code := gw("fmt", path); code != exitFailed || !strings.Contains(stderr, "as its owner") {
			t.Errorf("exit %d: %s", code, stderr)
		}
		if b, err := os.ReadFile(path); string(b) != untidy {
			t.Errorf("%.80q, %v", b, err)
		}
	})
}
