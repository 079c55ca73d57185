package link

import (
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/gateway/link/bind/udp"
)

// A sibling lies on a network of this host, most often the LAN. When that interface is down, its
// route is gone, and heartbeats and knocks to the sibling would follow the default route to the
// WAN: the firewall there sees a node of gray begin connections. So the interface on whose network
// the sibling was seen is the only one by which this node sends to it.

// onLink is the interface that leads to a sibling.
type onLink struct {
	to    netip.AddrPort // the sibling, as of when the interface was found
	index int            // 0: the sibling is reached through a router, as far as is known
	name  string
}

// findOnLink returns the interface on whose network an endpoint lies.
func findOnLink(to netip.AddrPort) (found onLink) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return found
	}
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && p.Bits() < p.Addr().BitLen() && p.Contains(to.Addr()) {
				return onLink{to: to, index: i.Index, name: i.Name}
			}
		}
	}
	return found
}

// watchOnLink finds the interface that leads to a sibling, and looks again while the sibling is not
// reached: interfaces are deleted and made again. What was found stays until something else is.
func (l *Link) watchOnLink(p *peer, up bool) {
	to, err := netip.ParseAddrPort(p.endpoint)
	if p.Site != l.cfg.Self.Site || err != nil || up && p.onLink.to == to {
		return
	}
	found := findOnLink(to)
	if found.index == 0 || found == p.onLink {
		return
	}
	p.onLink = found
	p.knocker.on(found.name)
	var paths []udp.OnLink
	for _, p := range l.peers {
		if p.onLink.index != 0 {
			paths = append(paths, udp.OnLink{To: p.onLink.to, Interface: p.onLink.index})
		}
	}
	l.udp.OnLink(paths)
}

// onDevice returns a net.Dialer's Control that binds the socket to an interface; "" is any.
func onDevice(name string) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) (err error) {
		if name == "" {
			return nil
		}
		errControl := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), name) })
		if errControl != nil {
			return errControl
		}
		return err
	}
}
