package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// maxFields is how many fields a struct with state may have. A struct that needs more has more than
// one owner: group its fields by the lock or the goroutine that guards them.
const maxFields = 30

// crowded lists the structs that have too many fields today. It may only shrink: the test fails for
// an entry that keeps to maxFields.
var crowded = map[string]bool{}

// structs is what the declarations of one package show of its structs.
type structs struct {
	fields   map[string]*ast.StructType
	pointers map[string]bool // types with a method on a pointer receiver
}

// TestStructsHaveFewFields: a struct of the product has at most maxFields fields, unless it is a
// plain value. A plain value has exported fields only, no method on a pointer receiver, and holds
// neither locks nor atomics nor functions nor channels: a configuration, a snapshot, a record of a
// log. Its fields have no invariant between them that a reader must know.
//
// A struct inside a struct counts by itself, and in the outer one as one field.
func TestStructsHaveFewFields(t *testing.T) {
	found := map[string]int{}
	for dir, s := range product(t) {
		for name, st := range s.fields {
			if n := fieldsOf(st); n > maxFields && !plain(st, s.pointers[name]) {
				found[dir+"."+name] = n
			}
		}
	}
	for name, n := range found {
		if !crowded[name] {
			t.Errorf("%s has %d fields, at most %d are allowed: group them by their owner", name, n, maxFields)
		}
	}
	for name := range crowded {
		if found[name] == 0 {
			t.Errorf("%s now has at most %d fields: remove it from the list", name, maxFields)
		}
	}
}

// TestPlainValue: what counts as a plain value.
func TestPlainValue(t *testing.T) {
	for _, c := range []struct {
		body string
		want bool
	}{
		{"A, B int; C []string; D map[string]int; E *int", true},
		{"A int; b int", false},
		{"A int; Mu sync.Mutex", false},
		{"A atomic.Uint64", false},
		{"A func()", false},
		{"A []func()", false},
		{"A chan int", false},
		{"A struct { B func() }", false},
		{"A struct { B int }", true},
	} {
		expr, err := parser.ParseExpr("struct {" + c.body + "}{}")
		if err != nil {
			t.Fatal(err)
		}
		st := expr.(*ast.CompositeLit).Type.(*ast.StructType)
		if got := plain(st, false); got != c.want {
			t.Errorf("{%s} is plain: %v", c.body, got)
		}
		if plain(st, true) {
			t.Errorf("{%s} with a pointer receiver is plain", c.body)
		}
	}
}

func fieldsOf(st *ast.StructType) int {
	n := 0
	for _, f := range st.Fields.List {
		n += max(1, len(f.Names))
	}
	return n
}

func plain(st *ast.StructType, pointerReceiver bool) bool {
	if pointerReceiver {
		return false
	}
	ok := true
	for _, f := range st.Fields.List {
		for _, name := range f.Names {
			ok = ok && name.IsExported()
		}
		ast.Inspect(f.Type, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncType, *ast.ChanType:
				ok = false
			case *ast.SelectorExpr:
				if x, isName := n.X.(*ast.Ident); isName && (x.Name == "sync" || x.Name == "atomic") {
					ok = false
				}
			}
			return true
		})
	}
	return ok
}

// product reads the structs of every package but the tests and the tools, by directory.
func product(t *testing.T) map[string]*structs {
	t.Helper()
	all := map[string]*structs{}
	each(t, func(file string, f *ast.File, _ *token.FileSet) {
		if strings.HasSuffix(file, "_test.go") || under(file, "tests") || under(file, "tools") {
			return
		}
		dir := filepath.ToSlash(filepath.Dir(file))
		s := all[dir]
		if s == nil {
			s = &structs{fields: map[string]*ast.StructType{}, pointers: map[string]bool{}}
			all[dir] = s
		}
		s.read(f)
	})
	if len(all) < 20 {
		t.Fatalf("%d packages were read", len(all))
	}
	return all
}

func (s *structs) read(f *ast.File) {
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				continue
			}
			star, ok := d.Recv.List[0].Type.(*ast.StarExpr)
			if !ok {
				continue
			}
			switch x := star.X.(type) {
			case *ast.Ident:
				s.pointers[x.Name] = true
			case *ast.IndexExpr:
				s.pointers[fmt.Sprint(x.X)] = true
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				ts, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				ast.Inspect(ts.Type, func(n ast.Node) bool {
					st, ok := n.(*ast.StructType)
					if !ok {
						return true
					}
					name := ts.Name.Name
					for s.fields[name] != nil {
						name += "."
					}
					s.fields[name] = st
					return true
				})
			}
		}
	}
}

// each parses the Go files of the repository, in order; file is the path below its top.
func each(t *testing.T, do func(file string, f *ast.File, fset *token.FileSet)) {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(file, ".go") {
			files = append(files, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(files)
	fset := token.NewFileSet()
	for _, file := range files {
		f, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			t.Fatal(err)
		}
		do(filepath.ToSlash(rel), f, fset)
	}
}
