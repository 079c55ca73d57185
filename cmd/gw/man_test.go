package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestMan: each command has a page, and no text is taken for a request of roff.
func TestMan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	if _, stderr, code := gw("man", "--dir", dir); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	checkGolden(t, "gw-completion.1", read("gw-completion.1"))

	help, _, _ := gw("--help")
	_, commands, _ := strings.Cut(help, "Commands:\n")
	found := 0
	for _, m := range regexp.MustCompile(`(?m)^  (\w+(?: \w+)*)(?:  |$)`).FindAllStringSubmatch(commands, -1) {
		found++
		page := read("gw-" + strings.ReplaceAll(m[1], " ", "-") + ".1")
		if !strings.Contains(page, ".SH OPTIONS\n") || !strings.Contains(read("gw.1"), roff("gw-"+strings.ReplaceAll(m[1], " ", "-"))) {
			t.Errorf("%s: half a page, or gw.1 doesn't name it", m[1])
		}
	}
	if found < 10 {
		t.Fatalf("%d commands found in:\n%s", found, commands)
	}
	if config := read("gw.hcl.5"); !strings.Contains(config, "keepalive = ") {
		t.Errorf("gw.hcl.5 is without settings:\n%s", config)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != found+2 {
		t.Errorf("%v; %d pages for %d commands", err, len(entries), found)
	}
	known := regexp.MustCompile(`^\.(TH|SH|TP|B|BR|I|PP|RS|RE|nf|fi)\b`)
	for _, e := range entries {
		for line := range strings.Lines(read(e.Name())) {
			if strings.HasPrefix(line, "'") || strings.HasPrefix(line, ".") && !known.MatchString(line) {
				t.Errorf("%s: %q is taken for a request", e.Name(), line)
			}
		}
	}
}

func TestRoff(t *testing.T) {
	if got := roff(".a\n'b\\c\n-d . e"); got != "\\&.a\n\\&'b\\ec\n\\-d . e" {
		t.Errorf("%q", got)
	}
}
