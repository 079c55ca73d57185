package reload

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/parts/partstest"
	"github.com/onewaylink/gw/gateway/status"
)

// TestAgreement: the nodes that have to agree, those that stand by first.
func TestAgreement(t *testing.T) {
	carry := func(_, node string) bool { return node == "red-2" || node == "gray-1" }
	for _, tt := range []struct {
		name string
		list []configs.Agreement
		want *status.Agreement
	}{
		{"nothing", nil, nil},
		{"the pair", []configs.Agreement{{Site: "red", Refused: []string{"x"}}},
			&status.Agreement{Refused: []string{"x"}, Pair: true, First: []string{"red-1"}, Then: []string{"red-2"}}},
		{"pair and link", []configs.Agreement{{Site: "red", Refused: []string{"x", "y"}, Shown: []string{"r"}}, {Site: "gray", Refused: []string{"x"}, Shown: []string{"r"}}},
			&status.Agreement{Refused: []string{"x", "y"}, First: []string{"red-1", "gray-2"}, Then: []string{"red-2", "gray-1"},
				Shown: []string{"r"}, ShownOn: []string{"gray-1", "gray-2", "red-2"}}},
		{"shown", []configs.Agreement{{Site: "gray", Shown: []string{"r"}}}, &status.Agreement{Shown: []string{"r"}, ShownOn: []string{"gray-1", "gray-2"}}},
	} {
		if d := cmp.Diff(tt.want, agreement(partstest.Network(), tt.list, carry)); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}
