package hostnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Config lists what Apply puts on the host.
type Config struct {
	// Device is the TUN's name.
	Device string
	// Addresses are the node's own. The device gets them as /32 and /128.
	Addresses []netip.Addr
	// Site holds the subnets of the node's own site, and LAN the interface toward its hosts (empty
	// if there is none). Both select the address by which the other sites know what runs on this
	// host: see Route.Src.
	Site []netip.Prefix
	LAN  string
	// Routes lead to the other sites.
	Routes []Route
	// Former are the prefixes that earlier processes of this node have held. Apply removes the
	// holds of those that Routes no longer has. It leaves all other holds alone, since they may be
	// another gateway's.
	Former []netip.Prefix
}

// Route leads a subnet of another site through the device.
type Route struct {
	Prefix netip.Prefix
	// Src is the source address of sockets of this host that have chosen none. If it isn't valid,
	// Apply prefers a lasting address that the host has within Config.Site on another interface (on
	// LAN first), since that is how its site knows a database on this host, and otherwise uses the
	// node's own address. In a pair use the node's own: only the active node may send with the rest
	// of the site's addresses.
	Src netip.Addr
	// MTU and AdvMSS, in bytes, are what connections of this host over the route start from; 0
	// leaves the choice to the kernel.
	MTU, AdvMSS int
	// Congctl is the congestion control of such connections, "bbr" for one; empty means the host's
	// default.
	Congctl string
}

// Apply brings the device up with its addresses and routes, and removes what an earlier process has
// left and c does not ask for. It may be called again with another Config. A host without the
// congestion control that a route asks for gets the route without it, and a warning in the log.
//
// Nothing undoes Apply when a gateway ends. The kernel deletes a device that does not persist, with
// its addresses and routes, and the holds stay: see Hold and Down.
//
// Apply changes the namespace of the calling thread. Calls must not overlap.
func Apply(c Config, log hclog.Logger) error {
	l, err := netlink.LinkByName(c.Device)
	if err != nil {
		return fmt.Errorf("find interface %q: %w", c.Device, err)
	}
	if err := prepareIPv6(l, c.Addresses); err != nil {
		return fmt.Errorf("set up IPv6 on %q: %w", c.Device, err)
	}
	if err := setIPv4(l, ipv4DevconfAcceptLocal); err != nil {
		return fmt.Errorf("make %q accept the gateway's own ICMP errors: %w", c.Device, err)
	}
	if err := forward(l, c.Site); err != nil {
		return fmt.Errorf("make %q forward to the site's hosts: %w", c.Device, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring %q up: %w", c.Device, err)
	}
	if err := setAddresses(l, c.Addresses); err != nil {
		return err
	}
	return setRoutes(l, c, log)
}

// addrGenNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h: no link-local address. No host on the
// link could use one, and the kernel would send router solicitations from it.
const addrGenNone = 1

// prepareIPv6 must run before the device is up.
func prepareIPv6(l netlink.Link, addrs []netip.Addr) error {
	needed := false
	for _, a := range addrs {
		needed = needed || a.Is6()
	}
	conf := "net/ipv6/conf/" + l.Attrs().Name
	disabled, err := readSysctl(conf + "/disable_ipv6")
	switch {
	case errors.Is(err, os.ErrNotExist) && !needed:
		return nil // a kernel without IPv6
	case errors.Is(err, os.ErrNotExist):
		return errors.New("the kernel has no IPv6: boot it without ipv6.disable=1, or remove IPv6 from the configuration")
	case err != nil:
		return err
	}
	if needed && disabled != "0" {
		// Containers often begin with IPv6 off on new interfaces. This one is ours.
		if err := writeSysctl(conf+"/disable_ipv6", "0"); err != nil {
			return fmt.Errorf("IPv6 is off, and can't be turned on: sysctl -w net.ipv6.conf.%s.disable_ipv6=0: %w", l.Attrs().Name, err)
		}
	}
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(l.Attrs().Index)
	req.AddData(msg)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, nl.Uint8Attr(addrGenNone))
	req.AddData(spec)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("turn link-local addresses off: %w", err)
	}
	return nil
}

// What unix lacks of linux/if_link.h and linux/ip.h.
const (
	iflaInetConf = 1
	// ipv4DevconfForwarding makes the kernel forward packets that arrive on the device.
	ipv4DevconfForwarding = 1
	// ipv4DevconfAcceptLocal makes the kernel accept IPv4 packets from the device whose source is
	// an address of this host. The gateway's ICMP errors have the node's own address, and without
	// this the kernel drops them as martians (ip-sysctl, accept_local). IPv6 has no such check.
	ipv4DevconfAcceptLocal = 23
)

// setIPv4 sets one of a device's settings of IPv4 to 1. Netlink does it where a container has
// /proc/sys read-only.
func setIPv4(l netlink.Link, setting uint16) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(l.Attrs().Index)
	req.AddData(msg)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET, nil).AddRtAttr(iflaInetConf, nil).
		AddRtAttr(int(setting), nl.Uint32Attr(1))
	req.AddData(spec)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// forward makes the kernel forward packets from the device to the site's hosts, if the site has
// others than this one. These packets have passed the policy. The other direction is a setting of
// the LAN interface, which belongs to the operator. For IPv6 it needs Linux 6.17; checkForwarding6
// finds what an older kernel needs.
func forward(l netlink.Link, site []netip.Prefix) error {
	behind, err := hostsBehind(CheckConfig{Site: site})
	if err != nil {
		return err
	}
	if has4(behind) {
		if err := setIPv4(l, ipv4DevconfForwarding); err != nil {
			return err
		}
	}
	if has6(behind) {
		// It fails where /proc/sys is read-only, too, and then counts only if the host as a whole
		// does not forward, which checkForwarding6 finds.
		_ = writeSysctl(forceForwarding6(l.Attrs().Name), "1")
	}
	return nil
}

// setAddresses leaves the device with exactly these addresses. Those that are there already are not
// touched, so that sockets bound to them notice nothing.
func setAddresses(l netlink.Link, want []netip.Addr) error {
	dev := l.Attrs().Name
	have, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list the addresses of %q: %w", dev, err)
	}
	keep := map[netip.Prefix]bool{}
	for _, a := range want {
		keep[netip.PrefixFrom(a, a.BitLen())] = true
	}
	for _, a := range have {
		p := prefixOf(a.IPNet)
		if keep[p] || p.Addr().IsLinkLocalUnicast() {
			delete(keep, p)
			continue
		}
		if err := netlink.AddrDel(l, &a); err != nil {
			return fmt.Errorf("remove %v from %q: %w", p, dev, err)
		}
	}
	for _, a := range want {
		p := netip.PrefixFrom(a, a.BitLen())
		if !keep[p] {
			continue
		}
		addr := &netlink.Addr{IPNet: netOf(p)}
		if a.Is6() {
			// No other host on this link can have the address: skip duplicate address detection.
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(l, addr); err != nil {
			return fmt.Errorf("put %v on %q: %w", a, dev, err)
		}
	}
	return nil
}

// netOf and prefixOf translate between Go's two kinds of prefix.
func netOf(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}

// readSysctl reads a setting by its path below /proc/sys. Below net/ it is that of the calling
// thread's namespace.
func readSysctl(path string) (string, error) {
	b, err := os.ReadFile("/proc/sys/" + path)
	return strings.TrimSpace(string(b)), err
}

func writeSysctl(path, value string) error {
	return os.WriteFile("/proc/sys/"+path, []byte(value), 0)
}
