package parts

import (
	"net/netip"
	"testing"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/parts/partstest"
	"github.com/onewaylink/gw/netstack/wire"
)

// TestJudgeTrunks: nobody but the gateways speaks their protocol, whatever the rules say.
func TestJudgeTrunks(t *testing.T) {
	c := partstest.Network()
	c.Rules[0].To[0].Prefixes = partstest.Prefixes("10.77.1.0/24")
	c.Rules[0].Ports = []configs.PortRange{{Proto: configs.ProtoAny}}
	j, err := NewJudge(c)
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
	j, err := NewJudge(partstest.Network())
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
	c := partstest.Network()
	own := partstest.Addrs("10.77.1.1", "fd77:1::1")
	c.Rules = []configs.Rule{{
		Name: "any", Mode: configs.ModeAuto, Ports: []configs.PortRange{{Proto: configs.ProtoAny, Hi: 65535}},
		From: []configs.Endpoint{{Site: "gray", Prefixes: partstest.Prefixes("10.77.2.0/24", "fd77:2::/64")}},
		To:   []configs.Endpoint{{Site: "red", Whole: true, Prefixes: partstest.Prefixes("10.77.1.0/24", "fd77:1::/64"), Except: own}},
	}}
	j, err := NewJudge(c)
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

// TestJudgeMode: a rule's mode reaches the flow table, and an unknown one is an error.
func TestJudgeMode(t *testing.T) {
	for mode, want := range map[configs.Mode]flow.Mode{
		configs.ModeAuto: flow.ModeAuto, configs.ModeRelay: flow.ModeRelay, configs.ModeRoute: flow.ModeRoute,
	} {
		c := partstest.Network()
		c.Rules[0].Mode = mode
		j, err := NewJudge(c)
		if err != nil {
			t.Fatal(err)
		}
		if got := j.rules[c.Rules[0].Name].Mode; got != want {
			t.Errorf("mode %q: %v, want %v", mode, got, want)
		}
	}
	c := partstest.Network()
	c.Rules[0].Mode = "rely"
	if _, err := NewJudge(c); err == nil {
		t.Error("an unknown mode is no error")
	}
}
