package gateway

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/parts/partstest"
)

// TestRoutesAreDocumented: the comment of package control lists exactly the routes of a gateway.
func TestRoutesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("control/doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var listed, handled []string
	for _, m := range regexp.MustCompile(`(?m)^//\t((?:GET|POST) /v1/[a-z/]+)`).FindAllStringSubmatch(string(text), -1) {
		listed = append(listed, m[1])
	}
	g := &Gateway{cfg: partstest.Network(), log: hclog.NewNullLogger()}
	for _, r := range g.routes() {
		handled = append(handled, r.Pattern)
	}
	slices.Sort(listed)
	slices.Sort(handled)
	if d := cmp.Diff(handled, listed); d != "" {
		t.Errorf("control/doc.go (-handled +listed):\n%s", d)
	}
}
