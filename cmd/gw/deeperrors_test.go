package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/onewaylink/gw/tests/messages"
)

// remedy matches a text that says what to do: a command in backquotes or by its name, an
// imperative behind a separator, or a %s behind a semicolon, which stands for one of these.
var remedy = regexp.MustCompile("`|; %s$|(^give|[;:,(] (or )?(leave|see|choose|use|stop|run|make|name|wait|ask|" +
	"restart|write|give|add|remove|move|boot|update|start|report|mend|correct|fix|let|try|check|there is nothing))\\b|" +
	`\b(ip link|ip route|modprobe|sysctl|gw status|gw ha) `)

// TestShownErrorsSayWhatToDo checks every error line in the golden lists of what commands print.
func TestShownErrorsSayWhatToDo(t *testing.T) {
	checked := 0
	for _, name := range []string{"errors.txt", "errors-up.txt"} {
		for _, entry := range strings.Split(golden(t, name), "\n\n") {
			_, line, ok := strings.Cut("\n"+entry, "\ngw: ")
			if !ok || strings.HasPrefix(entry, "$ gw validate --json") { // the remedy is in the JSON
				continue
			}
			checked++
			if !saysWhatToDo(line) {
				t.Errorf("%s: %q doesn't say what to do", name, line)
			}
		}
	}
	if checked < 80 {
		t.Errorf("%d errors found in the golden lists", checked)
	}
	if saysWhatToDo("open the socket: permission denied") {
		t.Error("an error without a remedy passes")
	}
}

// sentence matches the form of a finding about the configuration: "what is wrong: What to do."
var sentence = regexp.MustCompile(`(?m): [A-Z].*[.?]$`)

// saysWhatToDo reports whether a line that a command prints contains a remedy.
func saysWhatToDo(line string) bool {
	return remedy.MatchString(line) || sentence.MatchString(line)
}

// TestDeepErrors holds the errors of the packages below cmd/gw against a golden list, which says
// of each whether it contains a remedy. An error that a command shows needs one: a new error
// among the others is a fault, unless a caller adds the remedy, logs the error or counts it.
// The list names no files, so code can move.
func TestDeepErrors(t *testing.T) {
	shown := golden(t, "errors.txt") + golden(t, "errors-up.txt")
	var with, without []string
	for _, f := range deepErrors(t) {
		switch {
		case !remedy.MatchString(f.Text):
			without = append(without, f.Text)
		case !inList(shown, f):
			with = append(with, f.Text)
		}
	}
	var b strings.Builder
	section := func(title string, list []string) {
		slices.Sort(list)
		fmt.Fprintf(&b, "# %s\n\n  %s\n\n", title, strings.Join(slices.Compact(list), "\n  "))
	}
	section("with a remedy, and not in errors.txt or errors-up.txt", with)
	section("without a remedy: the caller adds one, logs the error or counts it", without)
	checkGolden(t, "errors-deep.txt", b.String())
}

// inList reports whether a list contains all literal parts of the error.
func inList(list string, f messages.Format) bool {
	return !slices.ContainsFunc(f.Pieces(), func(p string) bool { return !strings.Contains(list, p) })
}

// deepErrors returns the errors of all packages but this one and configs, which has lists of
// its own.
func deepErrors(t *testing.T) (all []messages.Format) {
	t.Helper()
	for _, top := range []string{"gateway", "ha", "netstack", "policy"} {
		err := filepath.WalkDir(filepath.Join("../..", top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			list, err := messages.Formats(path, 0, makesError)
			all = append(all, list...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// golden returns a file of testdata.
func golden(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
