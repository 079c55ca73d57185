package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBashCompletion runs the script in bash, as bash does when tab is pressed.
func TestBashCompletion(t *testing.T) {
	script, stderr, code := gw("completion", "bash")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "site.hcl"), "")
	writeFile(t, filepath.Join(dir, "two words.hcl"), "")
	writeFile(t, filepath.Join(dir, "gw.bash"), script)
	complete := func(words ...string) []string {
		t.Helper()
		// The words are passed as arguments: nothing has to be quoted.
		cmd := exec.Command("bash", "--norc", "-eu", "-c",
			`source ./gw.bash; complete -p gw >/dev/null; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); set +eu; _gw; printf '%s\n' "${COMPREPLY[@]}"`, "bash")
		cmd.Args = append(cmd.Args, words...)
		cmd.Dir, cmd.Stderr = dir, os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", words, err)
		}
		list := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		slices.Sort(list)
		return list
	}
	tests := []struct {
		words []string
		want  []string
	}{
		{[]string{"gw", "v"}, []string{"validate", "version"}},
		{[]string{"gw", "--h"}, []string{"--help"}},
		{[]string{"gw", "ha", ""}, []string{"drain", "failover", "reset", "status", "test"}},
		{[]string{"gw", "ha", "drain", "--f"}, []string{"--force"}},
		{[]string{"gw", "init", "--re"}, []string{"--red-name", "--red-subnet"}},
		{[]string{"gw", "conns", "--sort", ""}, []string{"age", "bytes"}},
		{[]string{"gw", "conns", "--sort", "=", "a"}, []string{"age"}},
		{[]string{"gw", "conns", "--sort", "="}, []string{"age", "bytes"}},
		{[]string{"gw", "completion", ""}, []string{"bash", "fish", "zsh"}},
		{[]string{"gw", "up", "-c", "s"}, []string{"site.hcl"}},
		{[]string{"gw", "up", "-c", "site.hcl", "--key", "two"}, []string{"two words.hcl"}},
		{[]string{"gw", "fmt", "--diff", "s"}, []string{"site.hcl"}},
		{[]string{"gw", "conns", "--limit", ""}, []string{""}},
		{[]string{"gw", "version", ""}, []string{""}},
	}
	for _, tt := range tests {
		if got := complete(tt.words...); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.words, got, tt.want)
		}
	}
	if got := complete("gw", ""); !slices.Contains(got, "up") || !slices.Contains(got, "completion") {
		t.Errorf("commands: %q", got)
	}
}

// TestCompletionNamesEverything looks for each command and flag in each script.
func TestCompletionNamesEverything(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, _, _ := gw("completion", shell)
		for _, word := range []string{"up", "status", "conns", "init", "validate", "fmt", "render", "genkey", "pubkey", "version", "red-subnet", "config", "socket"} {
			if !strings.Contains(script, word) {
				t.Errorf("%s: no %s", shell, word)
			}
		}
	}
}

func TestQuotes(t *testing.T) {
	const text = `it's a \ "thing" $x`
	out, err := exec.Command("bash", "-c", "printf %s "+shellQuote(text)).Output()
	if err != nil || string(out) != text {
		t.Errorf("%v: %s", err, out)
	}
	if got := fishQuote(text); got != `'it\'s a \\ "thing" $x'` {
		t.Errorf("fish: %s", got)
	}
}
