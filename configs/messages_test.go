package configs

import (
	"bytes"
	"fmt"
	"go/ast"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onewaylink/gw/tests/messages"
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
	formats, err := messages.Formats(".", 2, func(fun ast.Expr) bool {
		f, ok := fun.(*ast.SelectorExpr)
		return ok && (f.Sel.Name == "errorAt" || f.Sel.Name == "warnAt")
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range formats {
		for _, piece := range f.Pieces() {
			if piece = strings.Join(strings.Fields(piece), " "); !strings.Contains(unbroken, piece) {
				t.Errorf("%s: %q is in no golden file: add a mistake that leads to it", f.Pos, f.Text)
				break
			}
		}
	}
	if found := len(formats); found < 80 {
		t.Errorf("%d findings found in the source", found)
	}
}
