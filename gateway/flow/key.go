package flow

import (
	"bytes"
	"net/netip"

	"github.com/onewaylink/gw/netstack/wire"
)

// key names a flow, the same in both directions: of the two ends, a is the one
// that sorts first.
type key struct {
	a, b   [16]byte
	pa, pb uint16
	proto  uint8
	v6     bool
	// asks and asksB set ICMP echoes with one identifier in the two directions
	// apart: a reply belongs to what the other end has asked. Both are false for
	// all that is no echo.
	asks, asksB bool
}

// keyOf returns the key of p's flow, and whether p's source is the end b.
func keyOf(p *wire.Packet) (k key, fromB bool) {
	if p.V6 {
		copy(k.a[:], p.B[8:24])
		copy(k.b[:], p.B[24:40])
	} else {
		copy(k.a[:4], p.B[12:16])
		copy(k.b[:4], p.B[16:20])
	}
	k.pa, k.pb = p.SrcPort, p.DstPort
	k.proto, k.v6 = p.Proto, p.V6
	fromB = k.order()
	if p.IsEcho() {
		k.asks, k.asksB = true, fromB == p.IsEchoRequest()
	}
	return k, fromB
}

// keyOfQuoted returns the key of the flow of a packet that an ICMP error quotes.
func keyOfQuoted(q *wire.Quoted) (k key, fromB bool) {
	k.v6 = q.Src.Is6()
	copy(k.a[:], q.Src.AsSlice())
	copy(k.b[:], q.Dst.AsSlice())
	k.pa, k.pb, k.proto = q.SrcPort, q.DstPort, q.Proto
	fromB = k.order()
	if q.Echo {
		k.asks, k.asksB = true, fromB != q.EchoReply
	}
	return k, fromB
}

// keyBetween returns the key of a TCP connection, and whether x is the end b.
func keyBetween(x, y netip.AddrPort) (k key, xB bool) {
	k.v6 = x.Addr().Is6()
	if k.v6 {
		k.a, k.b = x.Addr().As16(), y.Addr().As16()
	} else {
		a, b := x.Addr().As4(), y.Addr().As4()
		copy(k.a[:], a[:])
		copy(k.b[:], b[:])
	}
	k.pa, k.pb, k.proto = x.Port(), y.Port(), wire.ProtoTCP
	return k, k.order()
}

// order swaps the ends when the second sorts before the first, and reports
// whether it did.
func (k *key) order() bool {
	c := bytes.Compare(k.a[:], k.b[:])
	if c < 0 || c == 0 && k.pa <= k.pb {
		return false
	}
	k.a, k.b = k.b, k.a
	k.pa, k.pb = k.pb, k.pa
	return true
}

// ends returns the two ends as addresses with ports; with fromB the end b comes first.
func (k *key) ends(fromB bool) (src, dst netip.AddrPort) {
	addr := func(x *[16]byte) netip.Addr {
		if k.v6 {
			return netip.AddrFrom16(*x)
		}
		return netip.AddrFrom4([4]byte(x[:4]))
	}
	a, b := netip.AddrPortFrom(addr(&k.a), k.pa), netip.AddrPortFrom(addr(&k.b), k.pb)
	if fromB {
		return b, a
	}
	return a, b
}
