package hostnet

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// checkPast looks for ways around gw: interfaces other than the LAN's and the TUN at which the
// kernel forwards what comes in to the site's subnets. On the WAN's, whoever has a route by
// this host reaches the site's hosts, and no rule of gw's policy sees the packets.
func checkPast(c CheckConfig) []Finding {
	behind, err := hostsBehind(c)
	if err != nil || len(behind) == 0 {
		return nil // checkForwarding has told
	}
	lans, others, err := sides(c, behind)
	if err != nil {
		return notChecked("what is forwarded to the LAN", err)
	}
	if len(lans) == 0 {
		return nil // no way to the site's hosts
	}
	path, err := readForwardPath()
	if err != nil {
		return notChecked("what is forwarded to the LAN", err)
	}
	var open, unclear []string
	var reached, maybe []netip.Prefix
	for _, in := range others {
		worst := dropped
		for _, p := range behind {
			if !forwardsFrom(in.Attrs().Name, p.Addr()) {
				continue
			}
			for _, out := range lans {
				v := path.verdict(in, out, p)
				switch {
				case v == passed && !slices.Contains(reached, p):
					reached = append(reached, p)
				case v == undecided && !slices.Contains(maybe, p):
					maybe = append(maybe, p)
				}
				worst = max(worst, v)
			}
		}
		switch worst {
		case passed:
			open = append(open, in.Attrs().Name)
		case undecided:
			unclear = append(unclear, in.Attrs().Name)
		}
	}
	var found []Finding
	if len(open) > 0 {
		found = append(found, Finding{Warning,
			fmt.Sprintf("packets from %s reach the LAN past gw: this host forwards what comes in there to %s, and no firewall rule drops it",
				quoted(open), joined(reached)),
			mendPast(c, lans, behind)})
	} else if len(unclear) > 0 {
		found = append(found, Finding{Warning,
			fmt.Sprintf("packets from %s may reach the LAN past gw: this host forwards what comes in there to %s, and gw can't tell which of it the firewall drops",
				quoted(unclear), joined(maybe)),
			mendPast(c, lans, behind)})
	}
	return found
}

// sides divides the host's interfaces: those that lead to the site's hosts, and the others at
// which packets may come in. The loopback, the TUN, ports of a bridge and interfaces that are
// down are neither.
func sides(c CheckConfig, behind []netip.Prefix) (lans, others []netlink.Link, err error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, nil, fmt.Errorf("list interfaces: %w", err)
	}
	routes, err := otherRoutes()
	if err != nil {
		return nil, nil, err
	}
	toward := map[int]bool{}
	for _, p := range behind {
		inside := false
		for i := range routes {
			if r := &routes[i]; r.Type == unix.RTN_UNICAST && prefixOf(r.Dst).IsValid() && within(prefixOf(r.Dst), p) {
				toward[r.LinkIndex] = true
				inside = true
			}
		}
		if best := bestRoute(routes, p.Addr()); !inside && best != nil && prefixOf(best.Dst).Bits() > 0 {
			toward[best.LinkIndex] = true
		}
	}
	for _, l := range links {
		a := l.Attrs()
		switch {
		case a.Name == c.Device, a.Flags&net.FlagLoopback != 0, a.Flags&net.FlagUp == 0:
		case a.Slave != nil && a.Slave.SlaveType() != "vrf":
		case a.Name == c.LAN, toward[a.Index]:
			lans = append(lans, l)
		default:
			others = append(others, l)
		}
	}
	return lans, others, nil
}

// forwardsFrom reports whether the kernel forwards packets of to's family that come in at an
// interface. For IPv4 the interface's own setting decides. For IPv6 the host's does, and from
// Linux 6.17 on also the interface's force_forwarding; the interface's setting "forwarding"
// chooses between the roles of host and router and decides nothing here.
func forwardsFrom(name string, to netip.Addr) bool {
	if to.Is4() {
		return sysctlInt(forwarding4(name)) != 0
	}
	return sysctlInt(forwarding6) != 0 || sysctlInt(forceForwarding6(name)) != 0
}

// forwarding6 is the setting of the whole host. Those of an interface are below.
const forwarding6 = "net/ipv6/conf/all/forwarding"

func forwarding4(name string) string      { return "net/ipv4/conf/" + name + "/forwarding" }
func forceForwarding6(name string) string { return "net/ipv6/conf/" + name + "/force_forwarding" }

// mendPast drops by nftables what comes in elsewhere than at the LAN's interfaces and the TUN
// and is addressed to the site.
func mendPast(c CheckConfig, lans []netlink.Link, behind []netip.Prefix) string {
	names := []string{`"` + c.Device + `"`}
	for _, l := range lans {
		names = append(names, `"`+l.Attrs().Name+`"`)
	}
	cmds := []string{"nft add table inet gw", "nft add chain inet gw forward '{ type filter hook forward priority filter; }'"}
	for _, p := range behind {
		family := "ip"
		if p.Addr().Is6() {
			family = "ip6"
		}
		cmds = append(cmds, fmt.Sprintf("nft add rule inet gw forward 'iifname != { %s } %s daddr %v drop'", strings.Join(names, ", "), family, p))
	}
	return strings.Join(cmds, " && ")
}

func quoted(names []string) string { return `"` + strings.Join(names, `", "`) + `"` }

func joined(ps []netip.Prefix) string {
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}
