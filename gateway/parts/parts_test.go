package parts

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/onewaylink/gw/gateway/hostnet"
	"github.com/onewaylink/gw/gateway/parts/partstest"
)

func TestHostConfig(t *testing.T) {
	got := HostSpec(partstest.Network()).Net
	want := hostnet.Config{
		Device: "gw0", Addresses: partstest.Addrs("10.77.1.1", "fd77:1::1"), Site: partstest.Prefixes("10.77.1.0/24", "fd77:1::/64"),
		Routes: []hostnet.Route{{Prefix: netip.MustParsePrefix("10.77.2.0/24"), Src: netip.MustParseAddr("10.77.1.1"), Congctl: "bbr"}},
	}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestCheckedPort: the host's firewall is asked about WireGuard's port where others dial it.
func TestCheckedPort(t *testing.T) {
	c := partstest.Network()
	c.Local.ListenPort = 51820
	c.Sites[0].Nodes[0].SiblingEndpoint, c.Sites[0].Nodes[1].SiblingEndpoint = "192.168.1.1:51820", "192.168.1.2:51820"
	c.Sites[1].Nodes[0].Endpoint, c.Sites[1].Nodes[1].Endpoint = "[2001:db8::10]:51820", "gw.example:51820"
	for _, tt := range []struct {
		name       string
		site, node int
		port       uint16
		v4, v6     bool
	}{
		{"dials all", 0, 0, 0, false, false},
		{"its sibling dials it", 0, 1, 51820, true, false},
		{"all dial it", 1, 0, 51820, false, true},
		{"all dial it by its name", 1, 1, 51820, true, false},
	} {
		c.Self.Site, c.Self.Node = tt.site, tt.node
		if got := HostSpec(c).Check; got.ListenPort != tt.port || got.Listen4 != tt.v4 || got.Listen6 != tt.v6 {
			t.Errorf("%s: port %d, %v, %v", tt.name, got.ListenPort, got.Listen4, got.Listen6)
		}
	}
}
