package hostnet

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// checkForwarding asks for forwarding when the site has hosts behind this one: at the interfaces
// that lead to them and at the TUN, and nowhere else (see checkPast).
func checkForwarding(c CheckConfig) []Finding {
	behind, err := hostsBehind(c)
	if err != nil {
		return notChecked("forwarding", err)
	}
	if len(behind) == 0 {
		return nil
	}
	links, _, err := sides(c, behind)
	if err != nil {
		return notChecked("forwarding", err)
	}
	var lans []string
	for _, l := range links {
		lans = append(lans, l.Attrs().Name)
	}
	var all []Finding
	if has4(behind) {
		all = append(all, checkForwarding4(c, lans)...)
	}
	if has6(behind) {
		all = append(all, checkForwarding6(c, lans)...)
	}
	return all
}

// hostsBehind lists those of the site's subnets which have addresses that are not this host's own.
func hostsBehind(c CheckConfig) ([]netip.Prefix, error) {
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	local := map[netip.Addr]bool{}
	for _, a := range addrs {
		local[prefixOf(a.IPNet).Addr()] = true
	}
	var behind []netip.Prefix
	for _, p := range c.Site {
		if !p.IsSingleIP() || !local[p.Addr()] {
			behind = append(behind, p)
		}
	}
	return behind, nil
}

// noForwarding is what an interface without forwarding causes.
const noForwarding = "the kernel drops packets for other hosts that arrive there"

// checkForwarding4 checks what decides for IPv4: the interface on which a packet arrives. The TUN's
// own setting is Apply's.
func checkForwarding4(c CheckConfig, lans []string) (found []Finding) {
	for _, name := range append(slices.Clone(lans), c.Device) {
		path := forwarding4(name)
		v, err := readSysctl(path)
		switch {
		case os.IsNotExist(err): // the TUN, before the start
		case err != nil:
			found = append(found, notChecked("IPv4 forwarding", err)...)
		case v == "0":
			found = append(found, Finding{Warning, fmt.Sprintf("IPv4 forwarding is off on %q: %s", name, noForwarding), sysctlCommand("1", path)})
		}
	}
	return found
}

// checkForwarding6 accepts the host's setting, or those of the interfaces where the kernel has
// such.
func checkForwarding6(c CheckConfig, lans []string) []Finding {
	v, err := readSysctl(forwarding6)
	switch {
	case os.IsNotExist(err):
		return []Finding{{Warning, "the kernel has no IPv6, but the site has IPv6 subnets", "boot without ipv6.disable=1"}}
	case err != nil:
		return notChecked("IPv6 forwarding", err)
	case v != "0":
		return nil
	}
	var off, paths []string
	for _, name := range append(slices.Clone(lans), c.Device) {
		path := forceForwarding6(name)
		if v, err := readSysctl(path); err == nil && v == "0" {
			off, paths = append(off, name), append(paths, path)
		} else if os.IsNotExist(err) && name != c.Device {
			return []Finding{{Warning, "IPv6 forwarding is off: the hosts behind this one cannot reach other sites", mendForwarding6(raInterfaces())}}
		}
	}
	if len(off) == 0 {
		return nil
	}
	return []Finding{{Warning, fmt.Sprintf("IPv6 forwarding is off on %s: %s", quoted(off), noForwarding), sysctlCommand("1", paths...)}}
}

// mendForwarding6 turns IPv6 forwarding on for the whole host, which is all that kernels before
// Linux 6.17 offer. A host that forwards ignores router advertisements from then on, and loses the
// default route that it learned from one, unless accept_ra of that interface is 2.
func mendForwarding6(learned []string) string {
	mend := ""
	for _, name := range learned {
		path := "net/ipv6/conf/" + name + "/accept_ra"
		if v, err := readSysctl(path); err == nil && v == "1" {
			mend += sysctlCommand("2", path) + " && "
		}
	}
	return mend + sysctlCommand("1", forwarding6)
}

// raInterfaces names the interfaces by which a route was learned from a router advertisement (RFC
// 4861, section 4.2).
func raInterfaces() (names []string) {
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil
	}
	seen := map[int]bool{}
	for _, r := range routes {
		if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil && !seen[r.LinkIndex] {
			seen[r.LinkIndex] = true
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

// checkReversePath looks for RFC 3704's strict reverse path filter, which drops a packet that
// arrives on another interface than the route back uses: in a pair that route changes with the
// active node. The greater of the settings for all and for the interface counts, and 2 (loose) is
// greater than 1 (strict).
func checkReversePath(c CheckConfig) []Finding {
	var found []Finding
	for _, name := range []string{c.LAN, c.Device} {
		if name == "" {
			continue
		}
		path := "net/ipv4/conf/" + name + "/rp_filter"
		if _, err := readSysctl(path); os.IsNotExist(err) {
			path = "net/ipv4/conf/default/rp_filter" // what the device will begin with
		}
		if max(sysctlInt("net/ipv4/conf/all/rp_filter"), sysctlInt(path)) == 1 {
			found = append(found, Finding{Warning,
				fmt.Sprintf("strict rp_filter on %q may drop packets of the other sites", name), sysctlCommand("2", path)})
		}
	}
	return found
}

// sysctlInt reads a setting; one that can't be read is 0.
func sysctlInt(path string) int {
	v, err := readSysctl(path)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0
	}
	return n
}
