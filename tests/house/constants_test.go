package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/onewaylink/gw/netstack/wire"
)

// TestProtocolNumbersStandOnce: the ports and the IP protocol of the gateways stand in
// netstack/wire and nowhere else in the product.
func TestProtocolNumbersStandOnce(t *testing.T) {
	const home = "netstack/wire"
	reserved := fmt.Sprintf("ports %d-%d and protocol %d", wire.FirstNodePort, wire.LastNodePort, wire.ProtoTrunk)
	seen := 0
	literals(t, func(file string, at token.Position, lit *ast.BasicLit) {
		switch lit.Kind {
		case token.INT:
			n, err := strconv.ParseInt(lit.Value, 0, 64)
			if err != nil {
				return
			}
			port := n >= wire.FirstNodePort && n <= wire.LastNodePort
			if port && under(file, home) {
				seen++
			} else if port || n == wire.ProtoTrunk && !under(file, home) && !under(file, "configs") { // a name has 253 bytes
				t.Errorf("%s:%d: %d is already declared in %s; use that constant", file, at.Line, n, home)
			}
		case token.STRING:
			rest := strings.ReplaceAll(lit.Value, reserved, "")
			for port := wire.FirstNodePort; port <= wire.LastNodePort; port++ {
				if strings.Contains(rest, strconv.Itoa(port)) {
					t.Errorf("%s:%d names port %d: write %q, or use the constant", file, at.Line, port, reserved)
				}
			}
		}
	})
	if seen != 4 {
		t.Errorf("%d ports are declared in %s, want 4", seen, home)
	}
}

// TestMagicsStandOnce: each message of the gateways has a magic of its own, which stands once.
func TestMagicsStandOnce(t *testing.T) {
	count := map[string]int{
		`"gwe"`:  0,              // the election, ha
		`"gwr"`:  0,              // the replication, ha
		`"gwm"`:  0,              // the siblings' link addresses, gateway/pair
		`"gwh"`:  0,              // hello, gateway/link/hello
		`"gwqu"`: 0, `"gwan"`: 0, // a question and its answer, gateway/ask
		`"gwrf"`: 0, `"gwrr"`: 0, // a request for records and its reply, gateway/records
		`"gwrecord"`: 0, // the file of records, gateway/records
	}
	literals(t, func(_ string, _ token.Position, lit *ast.BasicLit) {
		if _, ok := count[lit.Value]; ok {
			count[lit.Value]++
		}
	})
	for magic, n := range count {
		if n != 1 {
			t.Errorf("%s is declared %d times in the product, want once", magic, n)
		}
	}
}

// literals calls do for each literal of the product.
func literals(t *testing.T, do func(file string, at token.Position, lit *ast.BasicLit)) {
	t.Helper()
	each(t, func(file string, f *ast.File, fset *token.FileSet) {
		if strings.HasSuffix(file, "_test.go") || under(file, "tests") || under(file, "tools") || strings.HasSuffix(strings.TrimSuffix(file, ".go"), "test") {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok {
				do(file, fset.Position(lit.Pos()), lit)
			}
			return true
		})
	})
}
