package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/netstack/wire"
)

// A host answers few datagrams to a closed port: six at once, and one a second
// from then on (Linux: icmp_ratelimit). The first after a gateway's death may be to
// a heartbeat, and none to a knock. So the Link listens for all refusals.

// Lengths and codes of messages that quote a refused datagram: RFC 792, "Destination Unreachable
// Message", and RFC 4443 section 3.1.
const (
	unreachableHeader = 8
	codePort4         = 3
	codePort6         = 4
)

// listenForRefusals notes refusals until ctx ends. Where the process may not listen for them it
// ends at once; knocks still receive their own answers.
func (l *Link) listenForRefusals(ctx context.Context) error {
	var g errgroup.Group
	for _, network := range []string{"ip4:icmp", "ip6:ipv6-icmp"} {
		conn, err := net.ListenPacket(network, "")
		if err != nil {
			l.log.Debug("refusals are not listened for", "network", network, "error", err)
			continue
		}
		v6 := network[2] == '6'
		if err := filterRefusals(conn, v6); err != nil {
			return errors.Join(err, conn.Close())
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		g.Go(func() error {
			defer stop()
			defer conn.Close()
			return l.receiveRefusals(ctx, conn, v6)
		})
	}
	return g.Wait()
}

// filterRefusals has the kernel keep all other messages to itself.
func filterRefusals(conn net.PacketConn, v6 bool) (err error) {
	if v6 {
		var f ipv6.ICMPFilter
		f.SetAll(true)
		f.Accept(ipv6.ICMPTypeDestinationUnreachable)
		err = ipv6.NewPacketConn(conn).SetICMPFilter(&f)
	} else {
		var f ipv4.ICMPFilter
		f.SetAll(true)
		f.Accept(ipv4.ICMPTypeDestinationUnreachable)
		err = ipv4.NewPacketConn(conn).SetICMPFilter(&f)
	}
	if err != nil {
		return fmt.Errorf("filter ICMP messages: %w", err)
	}
	return nil
}

func (l *Link) receiveRefusals(ctx context.Context, conn net.PacketConn, v6 bool) error {
	buf := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listen for refusals: %w", err)
		}
		to, ok := refused(buf[:n], v6)
		if !ok {
			continue
		}
		for _, p := range l.peers {
			p.knocker.refuse(to)
		}
	}
}

// refused returns the destination of the datagram that an ICMP message reports as refused.
func refused(b []byte, v6 bool) (to netip.AddrPort, ok bool) {
	header, code, typ := wire.IPv4Header, byte(codePort4), byte(3)
	if v6 {
		header, code, typ = wire.IPv6Header, codePort6, 1
	}
	if len(b) < unreachableHeader+header+wire.UDPHeader || b[0] != typ || b[1] != code {
		return to, false
	}
	q := b[unreachableHeader:]
	var dst netip.Addr
	var proto byte
	if v6 {
		proto, dst = q[6], netip.AddrFrom16([16]byte(q[24:]))
	} else {
		header = int(q[0]&15) * 4
		proto, dst = q[9], netip.AddrFrom4([4]byte(q[16:]))
	}
	if proto != wire.ProtoUDP || header < wire.IPv4Header || len(q) < header+wire.UDPHeader {
		return to, false
	}
	return netip.AddrPortFrom(dst, binary.BigEndian.Uint16(q[header+2:])), true
}
