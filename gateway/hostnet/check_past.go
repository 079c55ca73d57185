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

// checkPast looks for paths around gw: interfaces other than the LAN's and the TUN from which the
// kernel forwards packets. Toward the site's hosts they bypass gw's policy. Toward the TUN the
// policy trusts their source address, and a sender on the WAN can forge that of a host of the site.
func checkPast(c CheckConfig) []Finding {
	behind, err := hostsBehind(c)
	if err != nil {
		return nil // checkForwarding reports it
	}
	lans, others, err := sides(c, behind)
	if err != nil {
		return notChecked("what is forwarded to the LAN", err)
	}
	path, err := readForwardPath()
	if err != nil {
		return notChecked("what is forwarded to the LAN", err)
	}
	var tun []netlink.Link
	if l, err := netlink.LinkByName(c.Device); err == nil {
		tun = append(tun, l)
	}
	var found []Finding
	for _, way := range []struct {
		out       []netlink.Link
		to        []netip.Prefix
		is, maybe string
	}{
		{lans, behind, "reach the LAN past gw", "may reach the LAN past gw"},
		{tun, c.Remote, "enter the tunnel as the site's own", "may enter the tunnel as the site's own"},
	} {
		open, unclear := path.passages(others, way.out, way.to)
		mend := mendPast(c, lans)
		switch {
		case len(open.from) > 0:
			found = append(found, Finding{Warning, fmt.Sprintf("packets from %s %s: this host forwards packets that arrive there to %s, and no firewall rule drops them",
				quoted(open.from), way.is, joined(open.to)), mend})
		case len(unclear.from) > 0:
			found = append(found, Finding{Warning, fmt.Sprintf("packets from %s %s: this host forwards packets that arrive there to %s, and gw can't tell which of them the firewall drops",
				quoted(unclear.from), way.maybe, joined(unclear.to)), mend})
		}
	}
	return found
}

// A passage lists from which interfaces the kernel forwards packets, and to which prefixes.
type passage struct {
	from []string
	to   []netip.Prefix
}

func (p *passage) add(from string, to netip.Prefix) {
	if !slices.Contains(p.from, from) {
		p.from = append(p.from, from)
	}
	if !slices.Contains(p.to, to) {
		p.to = append(p.to, to)
	}
}

// passages lists what the kernel forwards and the firewall passes, and what it may pass.
func (f *forwardPath) passages(in, out []netlink.Link, to []netip.Prefix) (open, unclear passage) {
	for _, i := range in {
		for _, p := range to {
			if !forwardsFrom(i.Attrs().Name, p.Addr()) {
				continue
			}
			for _, o := range out {
				switch f.verdict(i, o, p) {
				case passed:
					open.add(i.Attrs().Name, p)
				case undecided:
					unclear.add(i.Attrs().Name, p)
				}
			}
		}
	}
	return open, unclear
}

// sides divides the host's interfaces: those that lead to the site's hosts, and the others at which
// packets may arrive. The loopback, the TUN, ports of a bridge and interfaces that are down are
// neither.
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

// forwardsFrom reports whether the kernel forwards packets of to's family that arrive at an
// interface. For IPv4 the interface's own setting decides. For IPv6 the host's does, and from Linux
// 6.17 on also the interface's force_forwarding; the interface's setting "forwarding" chooses
// between the roles of host and router and decides nothing here.
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

// mendPast drops by nftables what arrives on other interfaces than the LAN's and the TUN and goes
// out by one of these. Without connection tracking, which would limit and slow down what gw
// carries.
func mendPast(c CheckConfig, lans []netlink.Link) string {
	names := []string{c.Device}
	for _, l := range lans {
		names = append(names, l.Attrs().Name)
	}
	return "nft add table inet gw_forward && nft add chain inet gw_forward forward '{ type filter hook forward priority filter; }' && " +
		fmt.Sprintf("nft add rule inet gw_forward forward 'iifname != { %[1]s } oifname { %[1]s } drop'", quoted(names))
}

func quoted(names []string) string { return `"` + strings.Join(names, `", "`) + `"` }

func joined(ps []netip.Prefix) string {
	var out []string
	for _, p := range ps {
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}
