package hostnet

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestWaterOnlyByItsSetting: the library songgao/water is unmaintained, so it may run only where
// the configuration names its driver. Any other setting opens our own driver or fails, and in the
// source openWater has one caller, under that setting.
func TestWaterOnlyByItsSetting(t *testing.T) {
	s := newSpace(t, "water")
	for _, tt := range []struct {
		driver string
		water  bool
	}{{"", false}, {DriverOffload, false}, {DriverWater, true}} {
		s.do(func() {
			d, err := open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: tt.driver})
			if err != nil {
				t.Fatalf("driver %q: %v", tt.driver, err)
			}
			if _, water := d.(*waterDevice); water != tt.water {
				t.Errorf("driver %q opens a %T", tt.driver, d)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for _, driver := range []string{"Water", "water ", "tun"} {
		if d, err := open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: driver}); err == nil {
			t.Errorf("driver %q opens a %T", driver, d)
		}
	}

	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	calls, cases, importers := 0, 0, []string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			if strings.Contains(i.Path.Value, "songgao/water") {
				importers = append(importers, file)
			}
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if isIdent(n.Fun, "openWater") {
					calls++
				}
			case *ast.CaseClause:
				if len(n.List) != 1 || !isIdent(n.List[0], "DriverWater") {
					return true
				}
				ast.Inspect(n, func(n ast.Node) bool {
					if call, ok := n.(*ast.CallExpr); ok && isIdent(call.Fun, "openWater") {
						cases++
					}
					return true
				})
			}
			return true
		})
	}
	if calls != 1 || cases != 1 {
		t.Errorf("openWater is called %d times, %d of them in the case of DriverWater; want one", calls, cases)
	}
	if len(importers) != 1 || importers[0] != "water.go" {
		t.Errorf("the library is imported by %q, want water.go alone", importers)
	}
}

func isIdent(e ast.Expr, name string) bool {
	i, ok := e.(*ast.Ident)
	return ok && i.Name == name
}
