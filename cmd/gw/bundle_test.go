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
	writeFile(t, site, string(text)+"\n# "+strings.Join(private[:len(private)-1], " ")+"\non_active = [\"cloud\",\n    \"hunter2\"]\n")

	s := healthy()
	s.ConfigFiles = []string{site}
	s.Links[0].Refused = "the key " + private[0]
	out := filepath.Join(dir, "b.tar.gz")
	if stdout, stderr, code := gw("bundle", "-o", out, "--socket", serve(t, madeUp{status: s})); code != exitOK {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	seen := map[string]bool{}
	for name, content := range unpack(t, out) {
		seen[name] = true
		for _, k := range append(private, public...) {
			if strings.Contains(content, strings.TrimRight(k, "=")) {
				t.Errorf("%s holds %s", name, k)
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

// unpack returns the files of a bundle by name.
func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		} else if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, "gw-bundle/")] = string(content)
	}
}

// TestBundleHoldsNoSecret: what the commands, comments and unknown settings of a configuration hold
// is in no file of the bundle, in no form: not in the configuration, nor in the log, nor in what
// doctor and the gateway answer.
func TestBundleHoldsNoSecret(t *testing.T) {
	const canary = "hunter2"
	const journal = `Nov 30 22:00:01 red-1 gw[812]: 2026-11-30T22:00:01.000Z [INFO]  pair: command done: setting=on_active command="/bin/a x] hunter2" took=2ms output=hunter2
Nov 30 22:00:02 red-1 gw[812]: 2026-11-30T22:00:02.000Z [ERROR] pair: command failed: setting=on_standby command=/bin/b took=2ms output=
Nov 30 22:00:02 red-1 gw[812]:   | token of an earlier configuration: unknown-hunter2
Nov 30 22:00:02 red-1 gw[812]:   | hunter2
Nov 30 22:00:03 red-1 gw[812]: {"@level":"info","@message":"command done","setting":"on_active","command":"/bin/a \"hunter2\"","output":"a\nhunter2"}
Nov 30 22:00:04 red-1 gw[812]: 2026-11-30T22:00:04.000Z [INFO]  link: up: peer=gray-1
Nov 30 22:00:05 red-1 gw[812]: 2026-11-30T22:00:05.000Z [WARN]  some: curl said no: password="hunter2 <quoted>" api_token: hunter2
`
	for _, c := range []struct {
		name, pair string
		// unknown says that the file gives no text to look for in what the gateway answers.
		unknown bool
	}{
		{"plain list", `on_active = ["/bin/a", "hunter2"]`, false},
		{"a bracket in a text", `on_active = ["/bin/a", "x]", "hunter2"]`, false},
		{"comments within", "on_active = [\n \"/bin/a\", # ] hunter2\n /* ] */ \"hunter2\", // ]\n ]", false},
		{"several lines", "on_standby = [\n\"/bin/a\",\n\"hunter2\",\n]", false},
		{"heredoc", "on_active = [\"/bin/sh\", \"-c\", <<END\ncurl -H 'X: hunter2'\nEND\n]", false},
		{"HTML in JSON", `on_active = ["/bin/a", "<hunter2>&"]`, false},
		{"comment", `# hunter2`, true},
		{"unknown setting", `credentials = { aws = "hunter2" }`, false},
		{"does not parse", `on_active = ["/bin/a", "hunter2]`, true},
		{"JSON", `{"on_active": ["hunter2"]}`, true},
		{"value in the wrong place", `heartbeat = "hunter2"`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			writeFile(t, filepath.Join(dir, "journalctl"), "#!/bin/sh\ncat <<'EOF'\n"+journal+"EOF\n")
			if err := os.Chmod(filepath.Join(dir, "journalctl"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
			site := filepath.Join(dir, "site.hcl")
			oneLine := ""
			if !strings.ContainsAny(c.pair, "\n#") {
				oneLine = "pair { " + c.pair + " }\n"
			}
			writeFile(t, site, "site \"red\" {\n subnets = [\"10.77.1.0/24\"]\n pair {\n"+c.pair+"\n}\n}\n"+oneLine)
			s := healthy()
			s.ConfigFiles = []string{site}
			s.Links[0].Refused = "the command /bin/a hunter2, or <hunter2>& in JSON"
			out := filepath.Join(dir, "b.tar.gz")
			if stdout, stderr, code := gw("bundle", "-o", out, "-c", site, "--socket", serve(t, madeUp{status: s})); code != exitOK {
				t.Fatalf("exit %d: %s%s", code, stdout, stderr)
			}
			files := unpack(t, out)
			for name, content := range files {
				if c.unknown && strings.HasPrefix(name, "status.") {
					continue
				}
				if strings.Contains(content, canary) {
					t.Errorf("%s:\n%s", name, content)
				}
			}
			if !strings.Contains(files["log.txt"], "link: up: peer=gray-1") {
				t.Errorf("log.txt lacks what is no secret:\n%s", files["log.txt"])
			}
			if config := files["config/0-site.hcl"]; strings.Contains(config, "left out") == strings.Contains(config, "10.77.1.0/24") {
				t.Errorf("neither left out nor there:\n%s", config)
			}
		})
	}
}

// TestScrubKeepsPlainWords: a command's argument that is a word of gw's own takes it from no answer
// of gw.
func TestScrubKeepsPlainWords(t *testing.T) {
	var s scrubber
	s.learn([]string{"active", "--token=Hunter-2", "dev"})
	if got := s.scrub("ha.json", `"role": "active", "why": "Hunter-2"`); got != `"role": "active", "why": "redacted"` {
		t.Error(got)
	}
	if got := s.scrub("log.txt", "ran /bin/a active dev"); got != "ran /bin/a redacted dev" {
		t.Error(got)
	}
}
