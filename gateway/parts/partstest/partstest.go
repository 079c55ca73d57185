// Package partstest provides a configuration for the tests of what is built from one.
package partstest

import (
	"net/netip"

	"github.com/onewaylink/gw/configs"
)

// Addrs parses addresses.
func Addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// Prefixes parses prefixes.
func Prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Network returns the configuration of red-1, whose site is a pair, linked to gray and not to blue.
// A rule lets gray's hosts reach PostgreSQL at 10.77.1.10.
func Network() configs.Config {
	return configs.Config{
		Sites: []configs.Site{
			{Name: "red", Subnets: Prefixes("10.77.1.0/24", "fd77:1::/64"), Pair: &configs.Pair{}, Nodes: []configs.Node{
				{Name: "red-1", Addresses: Addrs("10.77.1.1", "fd77:1::1")}, {Name: "red-2", Addresses: Addrs("10.77.1.2")},
			}},
			{Name: "gray", Subnets: Prefixes("10.77.2.0/24"), Pair: &configs.Pair{}, Nodes: []configs.Node{
				{Name: "gray-1", Addresses: Addrs("10.77.2.1")}, {Name: "gray-2", Addresses: Addrs("10.77.2.2")},
			}},
			{Name: "blue", Subnets: Prefixes("10.77.3.0/24"), Nodes: []configs.Node{{Name: "blue-1", Addresses: Addrs("10.77.3.1")}}},
		},
		Links: []configs.Link{{A: "red", B: "gray", Initiator: "red"}, {A: "gray", B: "blue", Initiator: "gray"}},
		Rules: []configs.Rule{{
			Name: "replication", Mode: configs.ModeAuto,
			From:  []configs.Endpoint{{Site: "gray", Whole: true, Prefixes: Prefixes("10.77.2.0/24")}},
			To:    []configs.Endpoint{{Site: "red", Prefixes: Prefixes("10.77.1.10/32")}},
			Ports: []configs.PortRange{{Proto: configs.ProtoTCP, Lo: 5432, Hi: 5432}},
		}},
		Local: configs.Local{TUN: configs.TUN{Name: "gw0", CongCtl: "bbr"}},
		Self:  configs.Self{Known: true},
	}
}
