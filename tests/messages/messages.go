// Package messages finds what a package's source may say to an operator, so that its
// tests can hold that against a golden file.
package messages

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Format is a literal format of a message.
type Format struct {
	Pos  token.Position
	Text string
}

// Formats returns the literal argument with number arg of each call to a function that
// says picks, in the sources of a directory; its tests are left out.
func Formats(dir string, arg int, says func(fun ast.Expr) bool) ([]Format, error) {
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, fmt.Errorf("list the sources: %w", err)
	}
	var all []Format
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w", name, err)
		}
		var bad error
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) <= arg || !says(call.Fun) {
				return true
			}
			if lit, ok := call.Args[arg].(*ast.BasicLit); ok {
				text, err := strconv.Unquote(lit.Value)
				if err != nil {
					bad = fmt.Errorf("%s: %w", set.Position(lit.Pos()), err)
				}
				all = append(all, Format{set.Position(lit.Pos()), text})
			}
			return true
		})
		if bad != nil {
			return nil, bad
		}
	}
	return all, nil
}

var verb = regexp.MustCompile(`%[-+# 0]*[\d.]*[a-zA-Z%]`)

// Pieces are the parts of the format between its verbs that are long enough to be
// looked for.
func (f Format) Pieces() (pieces []string) {
	for _, p := range verb.Split(f.Text, -1) {
		if len(p) > 3 {
			pieces = append(pieces, p)
		}
	}
	return pieces
}
