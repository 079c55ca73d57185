package link

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/onewaylink/gw/netstack/wire"
)

// ErrUnknownNode is what methods that name a node return for one that is no peer.
var ErrUnknownNode = errors.New("no such node")

// SendDatagram sends a datagram to a peer's port inside the tunnel. It doesn't
// block and is not reliable: when too many are waiting it is dropped and counted.
func (l *Link) SendDatagram(node string, port uint16, payload []byte) error {
	p := l.byName[node]
	if p == nil {
		return fmt.Errorf("send to %q: %w", node, ErrUnknownNode)
	}
	src, dst := netip.AddrPortFrom(p.src.Addr(), port), netip.AddrPortFrom(p.dst.Addr(), port)
	l.tun.send(wire.AppendUDP(nil, src, dst, payload))
	return nil
}

// MoveSubnets makes a peer the one that carries the prefixes: packets to them go
// to it, and packets from them are accepted from it alone. No packet is lost by
// it, and none of the former carrier's is accepted after it. Only exactly these
// prefixes move (wireguard-go's table knows no others), and moving them to where
// they are changes nothing.
func (l *Link) MoveSubnets(node string, prefixes []netip.Prefix) error {
	p := l.byName[node]
	if p == nil {
		return fmt.Errorf("move subnets to %q: %w", node, ErrUnknownNode)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dev == nil { // Run will configure it so
		for i := range l.cfg.Peers {
			peer := &l.cfg.Peers[i]
			peer.Subnets = slices.DeleteFunc(slices.Clone(peer.Subnets), func(s netip.Prefix) bool { return slices.Contains(prefixes, s) })
			if peer.Node == node {
				peer.Subnets = append(peer.Subnets, prefixes...)
			}
		}
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "public_key=%x\nupdate_only=true\n", p.PublicKey)
	for _, s := range prefixes {
		fmt.Fprintf(&b, "allowed_ip=%s\n", s)
	}
	if err := l.dev.IpcSet(b.String()); err != nil {
		return fmt.Errorf("move subnets to %q: %w", node, err)
	}
	return nil
}
