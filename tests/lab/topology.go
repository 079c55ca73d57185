package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Site is one of the two sites: its namespaces and the addresses in them.
type Site struct {
	// Name is "red" or "gray".
	Name string
	// Subnets are the site's LAN, which the other site is to reach: one of each family.
	Subnets []netip.Prefix
	// Routers are the LAN's next hop toward the other site, one of each family.
	Routers []netip.Addr
	// Gateways and Databases are the site's hosts, at least one of each.
	Gateways, Databases []*Host

	underlay []netip.Prefix // of the WAN's near side
	uplinks  []netip.Addr   // the WAN router's addresses there
}

// GW is the site's first gateway.
func (s *Site) GW() *Host { return s.Gateways[0] }

// DB is the site's first database host.
func (s *Site) DB() *Host { return s.Databases[0] }

// Host is a machine of a site. Addresses that it doesn't have are the zero Addr.
type Host struct {
	*Namespace
	// LAN4 and LAN6 are the host's own addresses on its LAN (interface lan0).
	LAN4, LAN6 netip.Addr
	// WAN4 and WAN6 are a gateway's addresses in the underlay (interface wan0).
	WAN4, WAN6 netip.Addr
	// Node4 and Node6 are the overlay addresses that a gateway's TUN gets.
	// The lab doesn't assign them.
	Node4, Node6 netip.Addr
}

// Addrs are the host's own LAN addresses, one of each family.
func (h *Host) Addrs() []netip.Addr { return []netip.Addr{h.LAN4, h.LAN6} }

// plan is where a site lies.
type plan struct {
	name           string
	lan4, lan6     string
	wan4, wan6     string
	firstWAN       int
	gateways, dbs  int
	floatingRouter bool
}

// nth is the prefix's address number n.
func nth(prefix string, n int) netip.Prefix {
	p := netip.MustParsePrefix(prefix)
	b := p.Addr().AsSlice()
	b[len(b)-1] = byte(n)
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, p.Bits())
}

// hostNames are "red-gw" for one and "red-gw1", "red-gw2" for several.
func hostNames(site, role string, n int) []string {
	if n <= 1 {
		return []string{site + "-" + role}
	}
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%s%d", site, role, i+1))
	}
	return names
}

// port is one end of a segment.
type port struct {
	ns     *Namespace
	ifname string
	addrs  []netip.Prefix
}

// segment joins ports by a wire if they are two, and by a switch in a namespace
// of its own if they are more. The wire is there for the benchmarks' sake.
func (l *Lab) segment(name string, ports ...port) error {
	if len(ports) == 2 {
		if err := l.veth(ports[0].ns, ports[0].ifname, ports[1].ns, ports[1].ifname); err != nil {
			return err
		}
	} else {
		sw, err := l.namespace(name)
		if err != nil {
			return err
		}
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		if err := sw.link.LinkAdd(bridge); err != nil {
			return fmt.Errorf("add bridge in %s: %w", name, err)
		}
		if err := sw.SetLink("br0", true); err != nil {
			return err
		}
		for i, p := range ports {
			near := fmt.Sprintf("port%d", i)
			if err := l.veth(sw, near, p.ns, p.ifname); err != nil {
				return err
			}
			link, err := sw.link.LinkByName(near)
			if err == nil {
				err = errors.Join(sw.link.LinkSetMaster(link, bridge), sw.link.LinkSetUp(link))
			}
			if err != nil {
				return fmt.Errorf("join %s to switch %s: %w", p.ns.name, name, err)
			}
		}
	}
	for _, p := range ports {
		if err := p.ns.configure(p.ifname, p.addrs...); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) veth(a *Namespace, aName string, b *Namespace, bName string) error {
	v := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: aName},
		PeerName:      bName,
		PeerNamespace: netlink.NsFd(b.handle),
	}
	if err := a.link.LinkAdd(v); err != nil {
		return fmt.Errorf("wire %s %s to %s %s: %w", a.name, aName, b.name, bName, err)
	}
	return nil
}

// noDAD keeps an address from waiting for duplicate address detection (RFC
// 4862 section 5.4), which would hold up every lab by two seconds.
const noDAD = unix.IFA_F_NODAD

// configure brings an interface up with addresses that can be used at once.
func (n *Namespace) configure(ifname string, addrs ...netip.Prefix) error {
	if err := n.SetLink(ifname, true); err != nil {
		return err
	}
	link, err := n.link.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("%s: interface %s: %w", n.name, ifname, err)
	}
	for _, a := range addrs {
		addr := &netlink.Addr{IPNet: ipNet(a)}
		if a.Addr().Is6() {
			addr.Flags = noDAD
		}
		if err := n.link.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("%s: address %s on %s: %w", n.name, a, ifname, err)
		}
	}
	return nil
}

// Route adds a route by a next hop or, if via is the zero Addr, by a device.
func (n *Namespace) Route(to netip.Prefix, via netip.Addr, ifname string) error {
	r := &netlink.Route{Dst: ipNet(to.Masked())}
	if via.IsValid() {
		r.Gw = via.AsSlice()
	}
	if ifname != "" {
		link, err := n.link.LinkByName(ifname)
		if err != nil {
			return fmt.Errorf("%s: interface %s: %w", n.name, ifname, err)
		}
		r.LinkIndex = link.Attrs().Index
	}
	if err := n.link.RouteReplace(r); err != nil {
		return fmt.Errorf("%s: route to %s: %w", n.name, to, err)
	}
	return nil
}

// SetCongestion makes connections by the namespace's routes with a next hop use a
// congestion control, as the congctl of `ip route` does. Unlike a sysctl it may be
// one that the machine keeps for root.
func (n *Namespace) SetCongestion(name string) error {
	routes, err := n.link.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("%s: list routes: %w", n.name, err)
	}
	set := 0
	for _, r := range routes {
		if r.Gw == nil {
			continue
		}
		r.Congctl = name
		if err := n.link.RouteReplace(&r); err != nil {
			return fmt.Errorf("%s: congestion control %s for %v: %w", n.name, name, r.Dst, err)
		}
		set++
	}
	if set == 0 {
		return fmt.Errorf("%s: no route has a next hop", n.name)
	}
	return nil
}
