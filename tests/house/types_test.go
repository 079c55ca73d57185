package house

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// source is a package of the product with its types, tests aside.
type source struct {
	name  string // below the module
	pkg   *types.Package
	files []*ast.File
	info  *types.Info
}

// checked has the types of all packages of the product. It computes them once. What they import
// comes from the compiler's export data.
var checked = sync.OnceValues(func() ([]source, error) {
	out, err := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Export,Dir,GoFiles", module+"/...").Output()
	if err != nil {
		return nil, err
	}
	type listed struct {
		ImportPath, Export, Dir string
		GoFiles                 []string
	}
	var own []listed
	exports := map[string]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		exports[p.ImportPath] = p.Export
		if under(p.ImportPath, module) && !isTest(p.ImportPath) && !under(p.ImportPath, module+"/tools") {
			own = append(own, p)
		}
	}
	fset := token.NewFileSet()
	imports := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	var all []source
	for _, p := range own {
		s := source{name: strings.TrimPrefix(p.ImportPath, module+"/"), info: &types.Info{
			Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{},
		}}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			s.files = append(s.files, f)
		}
		if s.pkg, err = (&types.Config{Importer: imports}).Check(p.ImportPath, fset, s.files, s.info); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
})

func sources(t *testing.T) []source {
	t.Helper()
	all, err := checked()
	if err != nil {
		t.Fatalf("check the types of the product: %v", err)
	}
	if len(all) < 20 {
		t.Fatalf("found %d packages", len(all))
	}
	return all
}

// field names a field of a struct: package, type and name.
type field struct{ pkg, typ, name string }

func (f field) String() string { return f.pkg + "." + f.typ + "." + f.name }

// fieldOf names the field of a named struct type of this module, if it is one.
func fieldOf(t types.Type, name string) (field, bool) {
	if p, ok := t.Underlying().(*types.Pointer); ok {
		t = p.Elem()
	}
	n, ok := types.Unalias(t).(*types.Named)
	if !ok || n.Obj().Pkg() == nil || !under(n.Obj().Pkg().Path(), module) {
		return field{}, false
	}
	return field{strings.TrimPrefix(n.Obj().Pkg().Path(), module+"/"), n.Obj().Name(), name}, true
}

// fieldList lists the fields of a struct type.
func fieldList(t types.Type) (out []field) {
	s, ok := t.Underlying().(*types.Struct)
	if !ok {
		return nil
	}
	for i := range s.NumFields() {
		if f, ok := fieldOf(t, s.Field(i).Name()); ok {
			out = append(out, f)
		}
	}
	return out
}

// uses are the fields that a package writes and reads. A conversion of a whole struct does both.
func (s *source) uses() (written, read map[field]bool) {
	written, read = map[field]bool{}, map[field]bool{}
	targets := map[ast.Expr]bool{} // selectors that are assigned to
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, l := range n.Lhs {
					targets[ast.Unparen(l)] = n.Tok == token.ASSIGN || n.Tok == token.DEFINE
					if sel, ok := ast.Unparen(l).(*ast.SelectorExpr); ok {
						s.note(written, sel)
					}
				}
			case *ast.IncDecStmt:
				if sel, ok := ast.Unparen(n.X).(*ast.SelectorExpr); ok {
					targets[sel] = true
					s.note(written, sel)
				}
			case *ast.CompositeLit:
				t := s.info.Types[n].Type
				if p, ok := t.Underlying().(*types.Pointer); ok {
					t = p.Elem()
				}
				fields := fieldList(t)
				for i, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						if id, ok := kv.Key.(*ast.Ident); ok && len(fields) > 0 {
							f, _ := fieldOf(t, id.Name)
							written[f] = true
						}
					} else if i < len(fields) {
						written[fields[i]] = true
					}
				}
			case *ast.CallExpr:
				if len(n.Args) != 1 || !s.info.Types[n.Fun].IsType() {
					return true
				}
				for _, f := range fieldList(s.info.Types[n.Fun].Type) {
					written[f] = true
				}
				for _, f := range fieldList(s.info.Types[n.Args[0]].Type) {
					read[f] = true
				}
			}
			return true
		})
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && !targets[sel] {
				s.note(read, sel)
			}
			return true
		})
	}
	return written, read
}

// imports reports whether the package imports another one of this module.
func (s *source) imports(name string) bool {
	return slices.ContainsFunc(s.pkg.Imports(), func(p *types.Package) bool { return p.Path() == module+"/"+name })
}

// readByMethods are the fields that exported methods of their own struct read, for callers
// elsewhere.
func (s *source) readByMethods() map[field]bool {
	all := map[field]bool{}
	for _, f := range s.files {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil || !fn.Name.IsExported() {
				continue
			}
			own, _ := fieldOf(s.info.Types[fn.Recv.List[0].Type].Type, "")
			ast.Inspect(fn, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok {
					read := map[field]bool{}
					s.note(read, sel)
					for f := range read {
						if f.typ == own.typ {
							all[f] = true
						}
					}
				}
				return true
			})
		}
	}
	return all
}

// note adds the field that a selector selects. The fields of embedded structs on the way count for
// their own type.
func (s *source) note(into map[field]bool, sel *ast.SelectorExpr) {
	selected := s.info.Selections[sel]
	if selected == nil || selected.Kind() != types.FieldVal {
		return
	}
	t := selected.Recv()
	for _, i := range selected.Index() {
		if p, ok := t.Underlying().(*types.Pointer); ok {
			t = p.Elem()
		}
		st, ok := t.Underlying().(*types.Struct)
		if !ok {
			return
		}
		if f, ok := fieldOf(t, st.Field(i).Name()); ok {
			into[f] = true
		}
		t = st.Field(i).Type()
	}
}

// exportedFields lists the exported fields of the exported struct types of a package that fit.
func (s *source) exportedFields(fits func(typeName string) bool) (out []field) {
	scope := s.pkg.Scope()
	for _, name := range scope.Names() {
		o, ok := scope.Lookup(name).(*types.TypeName)
		if !ok || !o.Exported() || o.IsAlias() || !fits(name) {
			continue
		}
		for _, f := range fieldList(o.Type()) {
			if token.IsExported(f.name) {
				out = append(out, f)
			}
		}
	}
	return out
}
