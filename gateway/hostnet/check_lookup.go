package hostnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A lookup is a question to the kernel: by which interface it sends a packet.
type lookup struct {
	from, to netip.Addr   // from is invalid for a packet of this host that has no source yet
	in       netlink.Link // nil for a packet of this host
}

// ask returns the interface, 0 when the kernel drops the packet.
func (l lookup) ask() (index int, err error) {
	var o netlink.RouteGetOptions
	if l.in != nil {
		o.IifIndex, o.SrcAddr = l.in.Attrs().Index, l.from.AsSlice()
	}
	got, err := netlink.RouteGetWithOptions(l.to.AsSlice(), &o)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EXDEV):
		return 0, nil // a blackhole, an unreachable destination, or a source that the kernel refuses
	case err != nil:
		return 0, fmt.Errorf("ask for the route to %v: %w", l.to, err)
	case len(got) == 0:
		return 0, nil
	}
	return got[0].LinkIndex, nil
}

func (l lookup) String() string {
	if l.in == nil {
		return fmt.Sprintf("this host's packets to %v", l.to)
	}
	return fmt.Sprintf("packets from %v at %q to %v", l.from, l.in.Attrs().Name, l.to)
}

// command is what shows the same to an operator.
func (l lookup) command() string {
	if l.in == nil {
		return fmt.Sprintf("ip route get %v", l.to)
	}
	return fmt.Sprintf("ip route get %v from %v iif %s", l.to, l.from, l.in.Attrs().Name)
}

// checkLookups asks by which interface packets to another site leave, those of the site's hosts and
// those of this host, once a gateway runs: its own route may be missing, and a rule may let another
// table decide before the main one.
func checkLookups(c CheckConfig, remote netip.Prefix) []Finding {
	tun, err := netlink.LinkByName(c.Device)
	if err != nil || !deviceRuns(c.Device) {
		return nil
	}
	ours, err := ownRoutes()
	if err != nil {
		return notChecked("gw's routes", err)
	}
	if !slices.ContainsFunc(ours, func(r netlink.Route) bool {
		return r.LinkIndex == tun.Attrs().Index && prefixOf(r.Dst) == remote.Masked()
	}) {
		return []Finding{{Failure,
			fmt.Sprintf("gw's route to the remote subnet %v is missing: another program removed it", remote),
			fmt.Sprintf("ip %sroute replace %v dev %s proto %d metric %d", family(remote.Addr()), remote.Masked(), c.Device, RouteProtocol, metricDevice)}}
	}
	to := sample(remote, c.outer())
	if !to.IsValid() {
		return nil
	}
	asked := []lookup{{to: to}}
	lans, hosts, err := lanHosts(c)
	if err != nil {
		return notChecked("routing rules", err)
	}
	for i, lan := range lans {
		for _, h := range hosts[i] {
			if h.addr.Is4() == to.Is4() && forwardsFrom(lan.Attrs().Name, to) {
				asked = append(asked, lookup{h.addr, to, lan})
			}
		}
	}
	for _, l := range asked {
		index, err := l.ask()
		if err != nil {
			return notChecked("routing rules", err)
		}
		if index != tun.Attrs().Index {
			return []Finding{elsewhere(l, index, remote)}
		}
	}
	return nil
}

// checkReturn asks the same for packets from the other sites to the site's hosts.
func checkReturn(c CheckConfig) (found []Finding) {
	tun, err := netlink.LinkByName(c.Device)
	if err != nil || !deviceRuns(c.Device) {
		return nil
	}
	lans, hosts, err := lanHosts(c)
	if err != nil {
		return notChecked("routing rules", err)
	}
	isLAN := func(index int) bool {
		return slices.ContainsFunc(lans, func(l netlink.Link) bool { return l.Attrs().Index == index })
	}
	for i, lan := range lans {
		for _, h := range hosts[i] {
			for _, remote := range c.Remote {
				if h.addr.Is4() != remote.Addr().Is4() || !forwardsFrom(c.Device, h.addr) {
					continue
				}
				from := sample(remote, c.outer())
				if !from.IsValid() {
					continue
				}
				l := lookup{from, h.addr, tun}
				if index, err := l.ask(); err != nil {
					return append(found, notChecked("routing rules", err)...)
				} else if !isLAN(index) {
					f := elsewhere(l, index, h.subnet)
					if !h.routed {
						f.Mend = fmt.Sprintf("ip %sroute add %v dev %s", family(h.addr), h.subnet, lan.Attrs().Name)
					}
					found = append(found, f)
					break // the next remote subnet has the same rules
				}
			}
		}
	}
	return found
}

// elsewhere is what a lookup means that ends at an interface where it must not. Rules decide, since
// the main table has the right route.
func elsewhere(l lookup, index int, to netip.Prefix) Finding {
	where := "drops"
	if out, err := netlink.LinkByIndex(index); index != 0 && err == nil {
		where = fmt.Sprintf("sends by %q", out.Attrs().Name)
	}
	return Finding{Failure, fmt.Sprintf("the kernel %s %v, because of a routing rule or a route (%s)", where, l, l.command()),
		fmt.Sprintf("ip %srule add to %v lookup main priority %d", family(to.Addr()), to.Masked(), firstPriority(to.Addr()))}
}

// firstPriority is one before those of all rules but the first, which looks for this host's own
// addresses.
func firstPriority(a netip.Addr) int {
	version := netlink.FAMILY_V4
	if a.Is6() {
		version = netlink.FAMILY_V6
	}
	first := 101
	rules, err := netlink.RuleList(version)
	if err != nil {
		return first - 1
	}
	for _, r := range rules {
		if r.Priority > 1 {
			first = min(first, r.Priority)
		}
	}
	return first - 1
}

// A lanHost is an address that may be a host's of the site, and the subnet that it is of.
type lanHost struct {
	addr   netip.Addr
	subnet netip.Prefix
	routed bool // the main table has a route to the subnet by this interface
}

// lanHosts lists the interfaces toward the site's hosts, and for each an address of every subnet of
// the site that it leads to, by a route of the main table or by its own addresses. No address is
// this host's own.
func lanHosts(c CheckConfig) (lans []netlink.Link, hosts [][]lanHost, err error) {
	behind, err := hostsBehind(c)
	if err != nil || len(behind) == 0 {
		return nil, nil, err
	}
	own, err := localAddresses()
	if err != nil {
		return nil, nil, err
	}
	lans, _, err = sides(c, behind)
	if err != nil {
		return nil, nil, err
	}
	routes, err := otherRoutes()
	if err != nil {
		return nil, nil, err
	}
	hosts = make([][]lanHost, len(lans))
	for i, lan := range lans {
		addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(lan, netlink.FAMILY_ALL) })
		if err != nil {
			return nil, nil, fmt.Errorf("list the addresses of %q: %w", lan.Attrs().Name, err)
		}
		for _, p := range behind {
			if h, ok := hostOf(lan, p, routes, addrs, own); ok {
				hosts[i] = append(hosts[i], h)
			}
		}
	}
	return lans, hosts, nil
}

// hostOf returns a host behind an interface in a subnet of the site.
func hostOf(lan netlink.Link, p netip.Prefix, routes []netlink.Route, addrs []netlink.Addr, own map[netip.Addr]bool) (lanHost, bool) {
	inside := func(q netip.Prefix, routed bool) (lanHost, bool) {
		if !q.IsValid() || !q.Overlaps(p) {
			return lanHost{}, false
		}
		if p.Bits() > q.Bits() {
			q = p
		}
		a := sample(q, own)
		return lanHost{a, q.Masked(), routed}, a.IsValid()
	}
	for i := range routes {
		if r := &routes[i]; r.LinkIndex == lan.Attrs().Index && r.Type == unix.RTN_UNICAST {
			if h, ok := inside(prefixOf(r.Dst), true); ok {
				return h, true
			}
		}
	}
	for _, a := range addrs {
		if h, ok := inside(prefixOf(a.IPNet), false); ok {
			return h, true
		}
	}
	return lanHost{}, false
}

// outer are the endpoints, which have routes of their own where they lie in another site's subnet.
func (c CheckConfig) outer() map[netip.Addr]bool {
	all := map[netip.Addr]bool{}
	for _, e := range c.Endpoints {
		all[e] = true
	}
	return all
}

// sample returns an address of a prefix that is not among some others: not the first, which may
// stand for all routers (RFC 4291, section 2.6.1), unless it is the only one. It is invalid if
// there is none.
func sample(p netip.Prefix, not map[netip.Addr]bool) netip.Addr {
	a := p.Masked().Addr()
	if !p.IsSingleIP() {
		a = a.Next()
	}
	for ; p.Contains(a) && not[a]; a = a.Next() {
	}
	if !p.Contains(a) {
		return netip.Addr{}
	}
	return a
}
