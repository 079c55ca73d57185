package house

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// skips lists the files whose tests may skip. What a test needs is installed by tests/deps.sh, or
// it has a build tag and a line of the Makefile. It may only shrink.
var skips = map[string]string{}

// spins lists the files that may yield in a loop. Others wait with tests/await, or for a channel.
var spins = map[string]string{
	"gateway/process/process_test.go":   "the test is about goroutines that wait for a processor",
	"netstack/legs/relay_alloc_test.go": "it drives the relay, and what it measures is the relay's speed",
	"netstack/legs/relay_end_test.go":   "it varies the moment of an end",
}

// sleeps lists the files that may sleep outside a synctest bubble.
var sleeps = map[string]string{
	"gateway/link/bind/intake_test.go": "its helper runs in bubbles",
	"gateway/link/moment_test.go":      "the sleep is the delay of the path under test",
	"tests/bench/memory_test.go":       "what is measured is the memory after a time",
	"tests/bench/pair_test.go":         "what is measured is the traffic in a time",
	"tests/bench/pairtake_test.go":     "what is measured is the memory after a time; it paces probes",
	"tests/bench/relaymemory_test.go":  "what is measured is the memory after a time",
	"tests/bench/wan_test.go":          "what is measured begins after the slow start",
}

// TestTestsDoNotSkip: a test that is skipped proves nothing, and CI does not show it.
func TestTestsDoNotSkip(t *testing.T) {
	only(t, skips, func(call *ast.CallExpr, _ []ast.Node) bool {
		sel, ok := call.Fun.(*ast.SelectorExpr)
		return ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name)
	}, "skips: install what it needs in tests/deps.sh, or use a build tag and a line of the Makefile")
}

// TestTestsDoNotSpin: a loop that yields takes a processor from what it waits for.
func TestTestsDoNotSpin(t *testing.T) {
	only(t, spins, func(call *ast.CallExpr, _ []ast.Node) bool {
		return calls(call, "runtime", "Gosched")
	}, "spins: wait for an event, or with tests/await")
}

// TestTestsDoNotSleep: a test that sleeps is slow on a fast machine and fails on a busy one. In a
// synctest bubble a sleep costs no time.
func TestTestsDoNotSleep(t *testing.T) {
	only(t, sleeps, func(call *ast.CallExpr, above []ast.Node) bool {
		return calls(call, "time", "Sleep") && !slices.ContainsFunc(above, func(n ast.Node) bool {
			outer, ok := n.(*ast.CallExpr)
			return ok && calls(outer, "synctest", "Test")
		})
	}, "sleeps: wait for an event, or in a synctest bubble")
}

func calls(call *ast.CallExpr, pkg, name string) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// only fails for each call in a test that bad finds in a file outside the list, and for each file
// of the list without one. Bad gets the nodes around the call, too.
func only(t *testing.T, list map[string]string, bad func(call *ast.CallExpr, above []ast.Node) bool, fault string) {
	t.Helper()
	found := map[string]bool{}
	each(t, func(file string, f *ast.File, fset *token.FileSet) {
		if !strings.HasSuffix(file, "_test.go") && !under(file, "tests") {
			return
		}
		var above []ast.Node
		ast.Inspect(f, func(n ast.Node) bool {
			if n == nil {
				above = above[:len(above)-1]
				return true
			}
			if call, ok := n.(*ast.CallExpr); ok && bad(call, above) {
				found[file] = true
				if _, listed := list[file]; !listed {
					t.Errorf("%s:%d %s", file, fset.Position(call.Pos()).Line, fault)
				}
			}
			above = append(above, n)
			return true
		})
	})
	for file := range list {
		if !found[file] {
			t.Errorf("%s no longer waits for time: remove it from the list", file)
		}
	}
}
