package hostnet

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// checkForwarding asks for forwarding when the site has hosts behind this one.
func checkForwarding(c CheckConfig) []Finding {
	behind, err := hostsBehind(c)
	if err != nil {
		return notChecked("forwarding", err)
	}
	var all []Finding
	if has4(behind) {
		all = append(all, checkForwarding4(c)...)
	}
	if has6(behind) {
		all = append(all, checkForwarding6()...)
	}
	return all
}

// hostsBehind lists those of the site's subnets which have addresses that are not this
// host's own.
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

// checkForwarding4 looks at what counts for IPv4: the interface at which a packet comes
// in. An interface that does not exist yet begins with the host's setting.
func checkForwarding4(c CheckConfig) []Finding {
	const all = "net/ipv4/ip_forward"
	if v, err := readSysctl(all); err != nil {
		return notChecked("IPv4 forwarding", err)
	} else if v == "0" {
		return []Finding{{Warning, "IPv4 forwarding is off: the hosts behind this one reach no other site", sysctlCommand("1", all)}}
	}
	var found []Finding
	for _, name := range []string{c.LAN, c.Device} {
		path := "net/ipv4/conf/" + name + "/forwarding"
		if v, err := readSysctl(path); name != "" && err == nil && v == "0" {
			found = append(found, Finding{Warning,
				fmt.Sprintf("IPv4 forwarding is off on %q: what comes in there goes no further", name), sysctlCommand("1", path)})
		}
	}
	return found
}

func checkForwarding6() []Finding {
	const all = "net/ipv6/conf/all/forwarding"
	v, err := readSysctl(all)
	switch {
	case os.IsNotExist(err):
		return []Finding{{Warning, "the kernel has no IPv6, but the site has IPv6 subnets", "boot without ipv6.disable=1"}}
	case err != nil:
		return notChecked("IPv6 forwarding", err)
	case v != "0":
		return nil
	}
	// A host that forwards ignores router advertisements from then on, and loses
	// the default route that it got by one, unless accept_ra is 2.
	mend := ""
	for _, name := range raInterfaces() {
		path := "net/ipv6/conf/" + name + "/accept_ra"
		if v, err := readSysctl(path); err == nil && v == "1" {
			mend += sysctlCommand("2", path) + " && "
		}
	}
	return []Finding{{Warning, "IPv6 forwarding is off: the hosts behind this one reach no other site", mend + sysctlCommand("1", all)}}
}

// raInterfaces names the interfaces by which a route was learned from a router
// advertisement (RFC 4861, section 4.2).
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

// checkReversePath looks for RFC 3704's strict reverse path filter, which drops what comes
// in elsewhere than the way back leads: in a pair the way back changes with the
// active node. The greater of the settings for all and for the interface counts, and 2
// (loose) is greater than 1 (strict).
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
