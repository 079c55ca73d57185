package gateway

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/hostnet"
	"github.com/onewaylink/gw/netstack/wire"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// network is seen by red-1, whose site is a pair linked to gray and not to blue.
func network() configs.Config {
	return configs.Config{
		Sites: []configs.Site{
			{Name: "red", Subnets: prefixes("10.77.1.0/24", "fd77:1::/64"), Pair: &configs.Pair{}, Nodes: []configs.Node{
				{Name: "red-1", Addresses: addrs("10.77.1.1", "fd77:1::1")}, {Name: "red-2", Addresses: addrs("10.77.1.2")},
			}},
			{Name: "gray", Subnets: prefixes("10.77.2.0/24"), Pair: &configs.Pair{}, Nodes: []configs.Node{
				{Name: "gray-1", Addresses: addrs("10.77.2.1")}, {Name: "gray-2", Addresses: addrs("10.77.2.2")},
			}},
			{Name: "blue", Subnets: prefixes("10.77.3.0/24"), Nodes: []configs.Node{{Name: "blue-1", Addresses: addrs("10.77.3.1")}}},
		},
		Links: []configs.Link{{A: "red", B: "gray", Initiator: "red"}, {A: "gray", B: "blue", Initiator: "gray"}},
		Rules: []configs.Rule{{
			Name: "replication", Mode: configs.ModeAuto,
			From:  []configs.Endpoint{{Site: "gray", Whole: true, Prefixes: prefixes("10.77.2.0/24")}},
			To:    []configs.Endpoint{{Site: "red", Prefixes: prefixes("10.77.1.10/32")}},
			Ports: []configs.PortRange{{Proto: configs.ProtoTCP, Lo: 5432, Hi: 5432}},
		}},
		Local: configs.Local{TUN: configs.TUN{Name: "gw0", CongCtl: "bbr"}},
		Self:  configs.Self{Known: true},
	}
}

// TestJudgeTrunks: nobody but the gateways speaks their protocol, whatever the rules say.
func TestJudgeTrunks(t *testing.T) {
	c := network()
	c.Rules[0].To[0].Prefixes = prefixes("10.77.1.0/24")
	c.Rules[0].Ports = []configs.PortRange{{Proto: configs.ProtoAny}}
	j, err := newJudge(c)
	if err != nil {
		t.Fatal(err)
	}
	src, dst := netip.MustParseAddr("10.77.2.1"), netip.MustParseAddr("10.77.1.1")
	if j.Judge(src, dst, wire.ProtoTrunk-1, 0) == nil {
		t.Error("any does not allow another protocol")
	}
	if j.Judge(src, dst, wire.ProtoTrunk, 0) != nil {
		t.Error("any allows the protocol of trunks")
	}
}

// TestJudge: a rule is asked in the direction of the opening, and no address is above the
// rules, those of the nodes neither.
func TestJudge(t *testing.T) {
	j, err := newJudge(network())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		src, dst string
		proto    uint8
		port     uint16
		want     string // the rule; empty is denied
	}{
		{"somebody's", "10.77.2.10", "10.77.1.10", wire.ProtoTCP, 5432, "replication"},
		{"nobody's", "10.77.2.10", "10.77.1.11", wire.ProtoTCP, 5432, ""},
		{"the other way", "10.77.1.10", "10.77.2.10", wire.ProtoTCP, 5432, ""},
		{"another port", "10.77.2.10", "10.77.1.10", wire.ProtoTCP, 5433, ""},
		{"another protocol", "10.77.2.10", "10.77.1.10", wire.ProtoUDP, 5432, ""},
		{"from node to node", "10.77.1.1", "10.77.2.1", wire.ProtoTCP, 5432, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if r := j.Judge(netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst), c.proto, c.port); r != nil {
				got = r.Name
			}
			if got != c.want {
				t.Errorf("allowed by %q, want %q", got, c.want)
			}
		})
	}
}

// TestJudgeLeavesGatewaysOut: what the configuration excepts of a site, its rules do not allow.
func TestJudgeLeavesGatewaysOut(t *testing.T) {
	c := network()
	own := addrs("10.77.1.1", "fd77:1::1")
	c.Rules = []configs.Rule{{
		Name: "any", Mode: configs.ModeAuto, Ports: []configs.PortRange{{Proto: configs.ProtoAny, Hi: 65535}},
		From: []configs.Endpoint{{Site: "gray", Prefixes: prefixes("10.77.2.0/24", "fd77:2::/64")}},
		To:   []configs.Endpoint{{Site: "red", Whole: true, Prefixes: prefixes("10.77.1.0/24", "fd77:1::/64"), Except: own}},
	}}
	j, err := newJudge(c)
	if err != nil {
		t.Fatal(err)
	}
	for dst, want := range map[string]bool{"10.77.1.10": true, "10.77.1.1": false} {
		src, dst := netip.MustParseAddr("10.77.2.10"), netip.MustParseAddr(dst)
		if got := j.Judge(src, dst, wire.ProtoTCP, 22) != nil; got != want {
			t.Errorf("%v allowed: %v", dst, got)
		}
	}
	if j.Judge(netip.MustParseAddr("fd77:2::10"), own[1], wire.ProtoTCP, 22) != nil {
		t.Error("the gateway is reached over IPv6")
	}
}

func TestHostConfig(t *testing.T) {
	got := hostConfig(network())
	want := hostnet.Config{
		Device: "gw0", Addresses: addrs("10.77.1.1", "fd77:1::1"), Site: prefixes("10.77.1.0/24", "fd77:1::/64"),
		Routes: []hostnet.Route{{Prefix: netip.MustParsePrefix("10.77.2.0/24"), Src: netip.MustParseAddr("10.77.1.1"), Congctl: "bbr"}},
	}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestCheckedPort: the host's firewall is asked about WireGuard's port where others dial it.
func TestCheckedPort(t *testing.T) {
	c := network()
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
		if got := checkConfig(c, hostConfig(c)); got.ListenPort != tt.port || got.Listen4 != tt.v4 || got.Listen6 != tt.v6 {
			t.Errorf("%s: port %d, %v, %v", tt.name, got.ListenPort, got.Listen4, got.Listen6)
		}
	}
}
