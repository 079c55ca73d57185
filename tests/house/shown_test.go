package house

import (
	"go/ast"
	"go/types"
	"strings"
	"testing"
)

// TestWhatIsShownIsSet: the product sets each field of a snapshot, so none is shown that was never
// measured.
func TestWhatIsShownIsSet(t *testing.T) {
	set := map[field]bool{}
	var shown []field
	for _, s := range sources(t) {
		written, _ := s.uses()
		for f := range written {
			set[f] = true
		}
		if s.name == "gateway/status" || s.name == "gateway/doctor" {
			shown = append(shown, s.exportedFields(func(string) bool { return true })...)
		}
	}
	if len(shown) < 150 {
		t.Fatalf("found %d fields", len(shown))
	}
	for _, f := range shown {
		if !set[f] {
			t.Errorf("nothing sets %v, which is shown: set it, or remove it", f)
		}
	}
}

// isStats reports whether a type is a snapshot of a package's counters, by its name.
func isStats(name string) bool {
	return strings.HasSuffix(name, "Stats") || name == "PeerStatus" || name == "Recalls" || name == "Conflict"
}

// TestWhatIsCountedIsShown: a package that fills snapshots for people reads each field of the other
// packages' counters, perhaps by a method of theirs.
func TestWhatIsCountedIsShown(t *testing.T) {
	shown := map[field]bool{}
	var counted []field
	for _, s := range sources(t) {
		if s.name != "gateway/status" && s.name != "gateway/doctor" && s.name != "cmd/gw" {
			counted = append(counted, s.exportedFields(isStats)...)
		}
		_, read := s.uses()
		if !s.imports("gateway/status") {
			read = s.readByMethods()
		}
		for f := range read {
			shown[f] = true
		}
	}
	if len(counted) < 90 {
		t.Fatalf("found %d fields", len(counted))
	}
	for _, f := range counted {
		if !shown[f] {
			t.Errorf("%v is counted, and nothing shows it: add it to gateway/status, or remove the counter", f)
		}
	}
}

// TestCountersAreRead: the product reads each atomic counter that it has, and calls each exported
// method that returns nothing but a counter.
func TestCountersAreRead(t *testing.T) {
	read, called := map[field]bool{}, map[string]bool{}
	var counters []field
	var methods []string
	for _, s := range sources(t) {
		for _, f := range s.files {
			unread := map[ast.Expr]bool{} // Add and Store whose result is unused
			ast.Inspect(f, func(n ast.Node) bool {
				if st, ok := n.(*ast.ExprStmt); ok {
					if call, ok := st.X.(*ast.CallExpr); ok {
						unread[call.Fun] = true
					}
				}
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if fn, ok := s.info.Uses[sel.Sel].(*types.Func); ok {
					called[fn.FullName()] = true
				}
				x := ast.Unparen(sel.X)
				if i, ok := x.(*ast.IndexExpr); ok {
					x = i.X
				}
				if of, ok := x.(*ast.SelectorExpr); ok && !unread[sel] {
					s.note(read, of)
				}
				return true
			})
		}
		scope := s.pkg.Scope()
		for _, name := range scope.Names() {
			o, ok := scope.Lookup(name).(*types.TypeName)
			if !ok || o.IsAlias() {
				continue
			}
			if st, ok := o.Type().Underlying().(*types.Struct); ok {
				for i := range st.NumFields() {
					if types.TypeString(st.Field(i).Type(), nil) == "sync/atomic.Uint64" {
						counters = append(counters, field{s.name, name, st.Field(i).Name()})
					}
				}
			}
			all := types.NewMethodSet(types.NewPointer(o.Type()))
			for i := range all.Len() {
				fn := all.At(i).Obj().(*types.Func)
				sig := fn.Signature()
				if fn.Exported() && sig.Params().Len() == 0 && sig.Results().Len() == 1 && types.TypeString(sig.Results().At(0).Type(), nil) == "uint64" {
					methods = append(methods, fn.FullName())
				}
			}
		}
	}
	if len(counters) < 30 || len(methods) < 3 {
		t.Fatalf("found %d counters and %d methods", len(counters), len(methods))
	}
	for _, f := range counters {
		if !read[f] {
			t.Errorf("nothing reads the counter %v: show it, or remove it", f)
		}
	}
	for _, name := range methods {
		if !called[name] {
			t.Errorf("nothing calls %s: show what it returns, or remove it", name)
		}
	}
}

// TestDoctorKnowsTheReasons: each reason for which a datagram does not leave the host, by which gw
// doctor judges, is one that the link counts.
func TestDoctorKnowsTheReasons(t *testing.T) {
	words := func(in func(name string) bool) map[string]bool {
		all := map[string]bool{}
		for _, s := range sources(t) {
			if !in(s.name) {
				continue
			}
			for _, f := range s.files {
				ast.Inspect(f, func(n ast.Node) bool {
					if lit, ok := n.(*ast.BasicLit); ok {
						all[strings.ReplaceAll(strings.Trim(lit.Value, `"`), "_", "-")] = true
					}
					return true
				})
			}
		}
		return all
	}
	counted := words(func(name string) bool { return under(name, "gateway/link") })
	judged := 0
	for word := range words(func(name string) bool { return name == "gateway/doctor" }) {
		if strings.HasPrefix(word, "send-") {
			judged++
			if !counted[word] {
				t.Errorf("gw doctor judges by %s, which nothing counts", word)
			}
		}
	}
	if judged < 4 {
		t.Errorf("gw doctor judges by %d reasons", judged)
	}
}
