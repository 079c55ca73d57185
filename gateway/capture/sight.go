package capture

import (
	"encoding/binary"
	"net/netip"

	"github.com/onewaylink/gw/netstack/wire"
)

// MaxHead is the most that is kept of a packet, in bytes: the headers of TCP over IPv6 with all
// options, and of an ICMP error with those that it quotes.
const MaxHead = 128

// Point is where a packet was seen.
type Point uint8

const (
	// FromHost: read from the host's device, and judged.
	FromHost Point = iota
	// ToLink: on its way to the other site.
	ToLink
	// FromLink: decrypted, from the other site, and judged.
	FromLink
	// ToHost: written to the host's device.
	ToHost
)

// OnHost reports whether the point is on the host's side of the gateway.
func (p Point) OnHost() bool { return p == FromHost || p == ToHost }

// Inbound reports whether the packet came into the gateway there.
func (p Point) Inbound() bool { return p == FromHost || p == FromLink }

// Note is what else is known of a packet.
type Note uint8

const (
	// Plain is nothing.
	Plain Note = iota
	// Passed to a relay, which carries it by its trunk.
	Taken
	// FromRelay was sent by a relay, which repeats what the far end has sent.
	FromRelay
	// Own is of the gateway's own: an ICMP error, or a packet that it has kept.
	Own
	// Waits for the other fragments of its datagram.
	Waits
	// PassedOn to the sibling, which is the active node.
	PassedOn

	numNotes
)

var noteNames = [numNotes]string{
	Taken: "taken by the relay", FromRelay: "from the relay", Own: "from the gateway's queue",
	Waits: "waits for other fragments", PassedOn: "passed on to the sibling",
}

// String returns the words for people; none for Plain.
func (n Note) String() string {
	if n < numNotes {
		return noteNames[n]
	}
	return "unknown"
}

// A Sight is one packet, seen at one point.
type Sight struct {
	Point  Point
	Reason wire.Reason // why it was dropped; OK if it was not
	Note   Note
	// At is when, in nanoseconds since 1970.
	At int64
	// Length is that of the whole packet in bytes, Head its headers.
	Length int
	Head   []byte
	// Rule and Pos name the policy rule and its file:line; empty where none is known.
	Rule, Pos string
}

// head tells how much of a packet is kept: its headers, and of an ICMP error those that it quotes.
// rare says that the packet begins, ends or refuses something, so that it is worth being kept
// longer than those of bulk. b may be cut off anywhere, and may be no packet at all.
func head(b []byte) (keep int, rare bool) {
	l4, proto, first := transport(b)
	if !first {
		return min(l4, len(b), MaxHead), false
	}
	room := len(b) - l4
	switch proto {
	case wire.ProtoTCP:
		keep = l4 + wire.TCPHeader
		if room >= wire.TCPHeader {
			keep = l4 + max(int(b[l4+12]>>4)*4, wire.TCPHeader)
			rare = b[l4+13]&(wire.SYN|wire.FIN|wire.RST) != 0
		}
	case wire.ProtoUDP:
		keep = l4 + wire.UDPHeader
	case wire.ProtoICMP, wire.ProtoICMPv6:
		keep = l4 + wire.ICMPHeader
		if room > 0 && quotes(proto, b[l4]) {
			rare = true
			if quoted := l4 + wire.ICMPHeader; len(b) > quoted {
				n, qproto, qfirst := transport(b[quoted:])
				keep = quoted + n
				if qfirst && (qproto == wire.ProtoTCP || qproto == wire.ProtoUDP || qproto == wire.ProtoICMP || qproto == wire.ProtoICMPv6) {
					keep += 8 // what RFC 792 has an error quote at least: ports, and a sequence number
				}
			}
		}
	default:
		keep = l4
	}
	return min(keep, len(b), MaxHead), rare
}

// quotes reports whether an ICMP type is that of an error, which quotes a packet.
func quotes(proto, typ uint8) bool {
	if proto == wire.ProtoICMPv6 {
		return typ < 128 // RFC 4443 section 2.1
	}
	return typ == 3 || typ == 4 || typ == 5 || typ == 11 || typ == 12 // RFC 792
}

// transport finds the transport header: its offset, its protocol, and whether it is there, as it is
// not in a fragment other than the first.
func transport(b []byte) (l4 int, proto uint8, first bool) {
	switch {
	case len(b) >= wire.IPv4Header && b[0]>>4 == 4:
		return int(b[0]&15) * 4, b[9], binary.BigEndian.Uint16(b[6:])&0x1fff == 0
	case len(b) >= wire.IPv6Header && b[0]>>4 == 6:
		return transport6(b)
	}
	return 0, 0, false
}

// transport6 follows the extension headers of IPv6 that stand before the payload.
func transport6(b []byte) (l4 int, proto uint8, first bool) {
	const hopByHop, routing, fragment, auth, destination = 0, 43, 44, 51, 60
	next, at := b[6], wire.IPv6Header
	for at+8 <= len(b) {
		size := int(b[at+1])*8 + 8
		switch next {
		case hopByHop, routing, destination:
		case auth:
			size = int(b[at+1])*4 + 8
		case fragment:
			if binary.BigEndian.Uint16(b[at+2:])&0xfff8 != 0 {
				return at + 8, b[at], false
			}
			size = 8
		default:
			return at, next, true
		}
		next, at = b[at], at+size
	}
	return min(at, len(b)), next, false
}

// A Tuple identifies a flow. Ports are 0 where the protocol has none.
type Tuple struct {
	Proto                uint8
	Source, Destination  netip.Addr
	SourcePort, DestPort uint16
	Flags                uint8 // TCP's
	ICMPType, ICMPCode   uint8
}

// Tuple reads the packet's own tuple out of its headers, and of an ICMP error that of the packet
// that it quotes. It reports false where there is none.
func (s *Sight) Tuple() (t Tuple, quoted *Tuple, ok bool) {
	t, l4, ok := tuple(s.Head)
	if ok && (t.Proto == wire.ProtoICMP || t.Proto == wire.ProtoICMPv6) && len(s.Head) > l4+wire.ICMPHeader && quotes(t.Proto, t.ICMPType) {
		if q, _, ok := tuple(s.Head[l4+wire.ICMPHeader:]); ok {
			quoted = &q
		}
	}
	return t, quoted, ok
}

func tuple(b []byte) (t Tuple, l4 int, ok bool) {
	l4, proto, first := transport(b)
	if l4 == 0 {
		return t, 0, false
	}
	t.Proto = proto
	if b[0]>>4 == 4 {
		t.Source, t.Destination = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	} else {
		t.Source, t.Destination = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	}
	if !first || len(b) < l4+4 {
		return t, l4, true
	}
	switch proto {
	case wire.ProtoTCP, wire.ProtoUDP:
		t.SourcePort, t.DestPort = binary.BigEndian.Uint16(b[l4:]), binary.BigEndian.Uint16(b[l4+2:])
		if proto == wire.ProtoTCP && len(b) >= l4+wire.TCPHeader {
			t.Flags = b[l4+13]
		}
	case wire.ProtoICMP, wire.ProtoICMPv6:
		t.ICMPType, t.ICMPCode = b[l4], b[l4+1]
	}
	return t, l4, true
}
