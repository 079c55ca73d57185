package configs

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// listing collects what is said of each of many mistakes, for a golden file.
type listing struct {
	n    int
	text bytes.Buffer
}

func (l *listing) add(name string, d Diagnostics) {
	l.n++
	fmt.Fprintf(&l.text, "# %s\n", name)
	for i, line := range lines(d) {
		fmt.Fprintf(&l.text, "%s\n\t%s\n", line, d.List[i].Detail)
	}
}

// check compares, unless -run has left mistakes out.
func (l *listing) check(t *testing.T, name string, all int) {
	t.Helper()
	if l.n == all {
		golden(t, name, l.text.Bytes())
	}
}

// TestEveryMessageIsListed looks for each finding that this package can report in
// the golden files: an operator's question about one is answered by a search.
func TestEveryMessageIsListed(t *testing.T) {
	var listed strings.Builder
	for _, pattern := range []string{"testdata/*.golden", "testdata/wg/*.golden"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			listed.WriteString(read(t, f))
		}
	}
	unbroken := strings.Join(strings.Fields(listed.String()), " ")
	verb := regexp.MustCompile(`%[-+# 0]*[\d.]*[a-zA-Z%]`)
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, src, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 3 {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "errorAt" && f.Sel.Name != "warnAt" {
				return true
			}
			lit, ok := call.Args[2].(*ast.BasicLit)
			if !ok {
				return true
			}
			found++
			format, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, piece := range verb.Split(format, -1) {
				if piece = strings.Join(strings.Fields(piece), " "); len(piece) > 3 && !strings.Contains(unbroken, piece) {
					t.Errorf("%s: %q is in no golden file: add a mistake that leads to it", set.Position(lit.Pos()), format)
					break
				}
			}
			return true
		})
	}
	if found < 80 {
		t.Errorf("%d findings found in the source", found)
	}
}
