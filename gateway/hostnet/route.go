package hostnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteProtocol marks the routes that are gw's, in "ip route show proto 103". Routing daemons have
// numbers from 186 on (linux/rtnetlink.h), administrators 4 and below.
const RouteProtocol = 0x67

// The metrics of the up to three routes to one subnet; the least wins. They are low so that another
// program's route to the same subnet does not win by chance, least of all while the device is gone
// and the hold stands in.
const (
	// metricDevice is the route through the device.
	metricDevice = 10
	// metricOwn is the same with the node's own address as its source. It is there when
	// metricDevice's source is an address of another interface: once that address is taken off, the
	// kernel removes every IPv4 route that names it.
	metricOwn = 11
	// metricHold is the blackhole.
	metricHold = 12
)

// A routeKey is what makes two of our routes the same to the kernel.
type routeKey struct {
	dst    netip.Prefix
	metric int
}

func keyOf(r *netlink.Route) routeKey { return routeKey{prefixOf(r.Dst), r.Priority} }

// setRoutes leaves the device with exactly the routes of c, and no hold without its route. It adds
// the new holds first and removes the old ones last, when every new route is in place: at no moment
// does a packet for a prefix of either set follow another route.
func setRoutes(l netlink.Link, c Config, log hclog.Logger) error {
	want, err := planRoutes(l, c)
	if err != nil {
		return err
	}
	have, err := ownRoutes()
	if err != nil {
		return err
	}
	ours, others := map[routeKey]bool{}, map[routeKey]int{}
	for i := range have {
		if r := &have[i]; isHold(r) || r.LinkIndex == l.Attrs().Index {
			ours[keyOf(r)] = true
		} else {
			others[keyOf(r)] = r.LinkIndex
		}
	}
	keep := map[routeKey]bool{}
	for i := range want {
		key := keyOf(&want[i])
		if index, taken := others[key]; taken {
			return takenError(key, index)
		}
		if err := setRoute(&want[i], ours[key], log); err != nil {
			return err
		}
		keep[key] = true
	}
	return dropRoutes(have, l.Attrs().Index, keep, c.Former, log)
}

// planRoutes lists the kernel routes that c asks for, holds first.
func planRoutes(l netlink.Link, c Config) ([]netlink.Route, error) {
	var holds, routes []netlink.Route
	for _, r := range c.Routes {
		own := ownAddress(c.Addresses, r.Prefix.Addr())
		src := r.Src
		if !src.IsValid() {
			var err error
			if src, err = siteAddress(c, own); err != nil {
				return nil, err
			}
		}
		holds = append(holds, holdFor(r.Prefix))

		route := netlink.Route{Dst: netOf(r.Prefix.Masked()), Protocol: RouteProtocol, Table: unix.RT_TABLE_MAIN}
		route.Type, route.Priority = unix.RTN_UNICAST, metricDevice
		route.LinkIndex, route.Scope = l.Attrs().Index, netlink.SCOPE_LINK
		route.MTU, route.AdvMSS, route.Congctl = r.MTU, r.AdvMSS, r.Congctl
		route.Src = src.AsSlice()
		routes = append(routes, route)
		if src != own && own.IsValid() {
			route.Priority, route.Src = metricOwn, own.AsSlice()
			routes = append(routes, route)
		}
	}
	return append(holds, routes...), nil
}

// ownAddress is the node's own address of the same family as to, or none.
func ownAddress(own []netip.Addr, to netip.Addr) netip.Addr {
	for _, a := range own {
		if a.Is4() == to.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// siteAddress chooses the address by which the other sites see this host: a lasting one within the
// site's subnets on an interface of the host's, those of the LAN first, or else the node's own.
func siteAddress(c Config, own netip.Addr) (netip.Addr, error) {
	if !own.IsValid() {
		return own, nil
	}
	links, err := dump(netlink.LinkList)
	if err != nil {
		return own, fmt.Errorf("list interfaces: %w", err)
	}
	best := own
	for _, l := range links {
		name := l.Attrs().Name
		if name == c.Device || best != own && name != c.LAN {
			continue
		}
		addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_ALL) })
		if err != nil {
			return own, fmt.Errorf("list the addresses of %q: %w", name, err)
		}
		for _, a := range addrs {
			// An address with a lifetime may be a pair's, which moves, or a privacy address, which
			// other hosts do not know.
			lasting := a.Flags&unix.IFA_F_PERMANENT != 0 && a.Flags&unix.IFA_F_DEPRECATED == 0
			addr := prefixOf(a.IPNet).Addr()
			if lasting && addr.Is4() == own.Is4() && inAny(c.Site, addr) {
				best = addr
				break
			}
		}
	}
	return best, nil
}

func inAny(ps []netip.Prefix, a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// takenError is for a route that another gateway's device has, or a device which one under another
// name has left.
func takenError(key routeKey, index int) error {
	name := fmt.Sprint("number ", index)
	if l, err := netlink.LinkByIndex(index); err == nil {
		name = l.Attrs().Name
	}
	return fmt.Errorf("route to %v: another gw has it on its device %s: stop that gw, or if it has ended: ip link del dev %s",
		key.dst, name, name)
}

// setRoute adds a route, or replaces one of ours.
func setRoute(r *netlink.Route, ours bool, log hclog.Logger) error {
	set := netlink.RouteAdd
	if ours {
		set = netlink.RouteReplace
	}
	err := set(r)
	if errors.Is(err, unix.EINVAL) && r.Congctl != "" && !hasCongctl(r.Congctl) {
		log.Warn("the kernel lacks the congestion control of a route: route added without it",
			"route", prefixOf(r.Dst), "congctl", r.Congctl, "fix", "modprobe tcp_"+r.Congctl)
		without := *r
		without.Congctl = ""
		err = set(&without)
	}
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("route to %v: another program has one of metric %d: ip route del %v metric %d",
			prefixOf(r.Dst), r.Priority, prefixOf(r.Dst), r.Priority)
	}
	if err != nil {
		return fmt.Errorf("route to %v from %v with metric %d: %w", prefixOf(r.Dst), r.Src, r.Priority, err)
	}
	return nil
}

// dropRoutes deletes those of our routes that are not to be kept: the device's, and then the former
// holds. Other devices' routes and the holds behind them are left alone, since another gateway may
// be running in this namespace; and so is a hold that another gateway may have left.
func dropRoutes(have []netlink.Route, device int, keep map[routeKey]bool, former []netip.Prefix, log hclog.Logger) error {
	others := map[netip.Prefix]bool{}
	for i := range have {
		if r := &have[i]; !isHold(r) && r.LinkIndex != device {
			others[prefixOf(r.Dst)] = true
		}
	}
	var errs []error
	for _, holds := range []bool{false, true} {
		for i := range have {
			r := &have[i]
			p := prefixOf(r.Dst)
			if isHold(r) != holds || others[p] || keep[keyOf(r)] {
				continue
			}
			if holds && !slices.Contains(former, p) {
				log.Warn("prefix held, but no running gateway routes it", "prefix", p, "to_open_it", "gw down")
				continue
			}
			if err := netlink.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("delete the route to %v with metric %d: %w", p, r.Priority, err))
				continue
			}
			if holds {
				log.Info("hold removed: the configuration no longer has its prefix", "prefix", p)
			}
		}
	}
	return errors.Join(errs...)
}

// ownRoutes lists the routes of RouteProtocol in the main table.
func ownRoutes() ([]netlink.Route, error) {
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rs, err := dump(func() ([]netlink.Route, error) {
			return netlink.RouteListFiltered(family, &netlink.Route{Protocol: RouteProtocol}, netlink.RT_FILTER_PROTOCOL)
		})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		all = append(all, rs...)
	}
	return all, nil
}

// hasCongctl reports whether the kernel has a congestion control loaded. It loads one that it has
// as a module when a route asks for it.
func hasCongctl(name string) bool {
	have, err := readSysctl("net/ipv4/tcp_available_congestion_control")
	return err == nil && slices.Contains(strings.Fields(have), name)
}

// dump repeats a listing that a change has interrupted.
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	for range 5 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}
