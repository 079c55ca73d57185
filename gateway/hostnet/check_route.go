package hostnet

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What WireGuard puts around a packet of the TUN: outer IP header, UDP header (8), and type,
// receiver, counter and tag of a data message (32).
const (
	overhead4 = 20 + 8 + 32
	overhead6 = 40 + 8 + 32
)

// otherRoutes lists the main table's routes that are not gw's.
func otherRoutes() ([]netlink.Route, error) {
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rs, err := dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range rs {
			if r.Protocol != RouteProtocol {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// describe is the route as "ip route" wants it.
func describe(r *netlink.Route) string {
	s := prefixOf(r.Dst).String()
	if r.Gw != nil {
		s += fmt.Sprint(" via ", r.Gw)
	}
	if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
		s += " dev " + l.Attrs().Name
	}
	if r.Priority != 0 {
		s += fmt.Sprint(" metric ", r.Priority)
	}
	return s
}

// within reports whether q contains p.
func within(p, q netip.Prefix) bool { return p.Bits() >= q.Bits() && q.Contains(p.Addr()) }

// checkRoutes looks for routes that send traffic for the other sites elsewhere: more specific ones,
// and those to just such a subnet that win by their metric.
func checkRoutes(c CheckConfig) []Finding {
	others, err := otherRoutes()
	if err != nil {
		return notChecked("conflicting routes", err)
	}
	device := -1
	if l, err := netlink.LinkByName(c.Device); err == nil {
		device = l.Attrs().Index
	}
	endpoint := map[netip.Prefix]bool{}
	for _, e := range c.Endpoints {
		endpoint[netip.PrefixFrom(e, e.BitLen())] = true
	}
	var found []Finding
	for _, remote := range c.Remote {
		conflict := false
		for i := range others {
			r, dst := &others[i], prefixOf(others[i].Dst)
			if r.LinkIndex == device || !dst.IsValid() || !within(dst, remote) || endpoint[dst] {
				continue
			}
			if dst == remote.Masked() && r.Priority > metricDevice {
				continue
			}
			conflict = true
			found = append(found, Finding{Warning,
				fmt.Sprintf("another route matches traffic for the remote subnet %v: %s", remote, describe(r)),
				"ip route del " + describe(r)})
		}
		if !conflict {
			found = append(found, checkRules(remote, device)...)
		}
	}
	return found
}

// checkRules asks the kernel itself, once our route is there: a rule may let another table decide
// before the main one.
func checkRules(remote netip.Prefix, device int) []Finding {
	ours, err := ownRoutes()
	if err != nil {
		return notChecked("routing rules", err)
	}
	for i := range ours {
		if ours[i].LinkIndex != device || prefixOf(ours[i].Dst) != remote.Masked() {
			continue
		}
		got, err := netlink.RouteGet(remote.Masked().Addr().Next().AsSlice())
		if err != nil || len(got) == 0 || got[0].LinkIndex == device {
			return nil
		}
		return []Finding{{Warning,
			fmt.Sprintf("a routing rule sends traffic for the remote subnet %v elsewhere", remote),
			fmt.Sprintf("ip %srule add to %v lookup main priority 100", family(remote.Addr()), remote.Masked())}}
	}
	return nil
}

// family is the option of ip(8) for IPv6.
func family(a netip.Addr) string {
	if a.Is6() {
		return "-6 "
	}
	return ""
}

// checkEndpoints looks for endpoints that the routes of gw would swallow: the tunnel's own packets
// would go into the tunnel.
func checkEndpoints(c CheckConfig) []Finding {
	others, err := otherRoutes()
	if err != nil {
		return notChecked("the path to the endpoints", err)
	}
	var found []Finding
	for _, e := range c.Endpoints {
		for _, remote := range c.Remote {
			if !remote.Contains(e) {
				continue
			}
			way := bestRoute(others, e)
			if way != nil && prefixOf(way.Dst).Bits() > remote.Bits() {
				continue // an exception was made for it
			}
			mend := fmt.Sprintf("ip route add %v via GATEWAY", e)
			if way != nil {
				out := *way
				out.Dst, out.Priority = netOf(netip.PrefixFrom(e, e.BitLen())), 0
				mend = "ip route add " + describe(&out)
			}
			found = append(found, Finding{Fatal,
				fmt.Sprintf("the endpoint %v lies in the remote subnet %v: the tunnel's own packets would enter the tunnel", e, remote), mend})
			break
		}
	}
	return found
}

// bestRoute is the most specific of the routes to a.
func bestRoute(routes []netlink.Route, a netip.Addr) (best *netlink.Route) {
	for i := range routes {
		r, dst := &routes[i], prefixOf(routes[i].Dst)
		if dst.IsValid() && dst.Contains(a) && r.Type == unix.RTN_UNICAST &&
			(best == nil || dst.Bits() > prefixOf(best.Dst).Bits()) {
			best = r
		}
	}
	return best
}

// checkMTU compares the TUN's MTU with the first hop toward each endpoint. What lies further on,
// the link measures.
func checkMTU(c CheckConfig) []Finding {
	var found []Finding
	seen := map[int]bool{}
	for _, e := range c.Endpoints {
		got, err := netlink.RouteGet(e.AsSlice())
		if err != nil || len(got) == 0 || seen[got[0].LinkIndex] {
			continue // no route now: the link reports it, and tries again
		}
		seen[got[0].LinkIndex] = true
		l, err := netlink.LinkByIndex(got[0].LinkIndex)
		if err != nil || l.Attrs().Name == c.Device {
			continue
		}
		overhead := overhead4
		if e.Is6() {
			overhead = overhead6
		}
		if under := l.Attrs().MTU; c.MTU+overhead > under {
			found = append(found, Finding{Warning,
				fmt.Sprintf("the tun's mtu of %d does not fit the path to %v: %q has %d, and WireGuard needs %d of it (or lower tun.mtu to %d)",
					c.MTU, e, l.Attrs().Name, under, overhead, under-overhead),
				fmt.Sprintf("ip link set dev %s mtu %d", l.Attrs().Name, c.MTU+overhead)})
		}
	}
	return found
}
