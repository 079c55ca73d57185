package wire

import (
	"encoding/binary"
	"net/netip"
)

// ICMPKind is one of the errors that a gateway sends in its own name.
type ICMPKind uint8

// The gateway's own errors to a database.
const (
	// AdminProhibited: policy denies it (RFC 1812 section 5.2.7.1 code 13; RFC
	// 4443 section 3.1 code 1).
	AdminProhibited ICMPKind = iota
	// PacketTooBig: it does not fit the path, and may not be cut up (RFC 1191;
	// RFC 8201).
	PacketTooBig
	// HostUnreachable: the link to the other site is down (RFC 792; RFC 4443
	// section 3.1 code 0, no route).
	HostUnreachable
)

// Sizes of an ICMP error: IPv4 routers quote as much as fits 576 bytes (RFC
// 1812 section 4.3.2.3), IPv6 ones 1280 (RFC 4443 section 3.1).
const (
	maxError4 = 576
	maxError6 = 1280
)

// Answerable reports whether p may be answered by an ICMP error at all (RFC
// 1122 section 3.2.2, RFC 4443 section 2.4): not an error itself, not a
// fragment other than the first, not to or from an address that is no single host's.
func (p *Packet) Answerable() bool {
	if p.Fragment || p.IsICMPError() {
		return false
	}
	src, dst := p.Src(), p.Dst()
	return src.IsGlobalUnicast() && dst.IsGlobalUnicast()
}

// AppendICMPError appends to b the ICMP error of the given kind about p, from
// the address from to the sender of p. mtu is the next hop's for PacketTooBig,
// otherwise ignored. from must be of p's family and p must be Answerable.
func AppendICMPError(b []byte, kind ICMPKind, p *Packet, from netip.Addr, mtu int) []byte {
	var typ, code uint8
	var info uint32
	switch {
	case kind == AdminProhibited && !p.V6:
		typ, code = icmp4Unreachable, 13
	case kind == AdminProhibited:
		typ, code = icmp6Unreachable, 1
	case kind == PacketTooBig && !p.V6:
		typ, code, info = icmp4Unreachable, 4, uint32(mtu)
	case kind == PacketTooBig:
		typ, info = icmp6PacketTooBig, uint32(mtu)
	case !p.V6:
		typ, code = icmp4Unreachable, 1
	default:
		typ, code = icmp6Unreachable, 0
	}
	proto, room := uint8(ProtoICMP), maxError4-IPv4Header-ICMPHeader
	if p.V6 {
		proto, room = ProtoICMPv6, maxError6-IPv6Header-ICMPHeader
	}
	quote := p.B[:min(len(p.B), room)]
	at := len(b)
	b = AppendIP(b, from, p.Src(), proto, ICMPHeader+len(quote))
	b = append(b, typ, code, 0, 0)
	b = binary.BigEndian.AppendUint32(b, info)
	b = append(b, quote...)
	finish(b[at:])
	return b
}

// Quoted describes the packet that an ICMP error quotes.
type Quoted struct {
	Src, Dst         netip.Addr
	Proto            uint8
	SrcPort, DstPort uint16
	// Echo reports that it is an ICMP echo or the reply to one, EchoReply the latter.
	Echo, EchoReply bool
}

// isExtension reports whether an IPv6 header of this kind is followed to get to
// the transport's.
func isExtension(proto uint8) bool {
	switch proto {
	case protoHopByHop, protoDstOpts, protoRouting, protoAH, protoFragment:
		return true
	}
	return false
}

// ParseQuoted reads the packet that the ICMP error p quotes. Routers need quote
// no more than eight bytes of its transport header (RFC 792), which is enough
// for the ports; the quoted checksums mean nothing.
func ParseQuoted(p *Packet) (q Quoted, r Reason) {
	b := p.Payload()
	at := 0
	switch {
	case !p.V6:
		if len(b) < IPv4Header || b[0]>>4 != 4 {
			return q, Short
		}
		at = int(b[0]&15) * 4
		if at < IPv4Header {
			return q, BadHeader
		}
		if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return q, FragmentBad // not the first: no ports to match by
		}
		q.Proto = b[9]
		q.Src, q.Dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	default:
		if len(b) < IPv6Header || b[0]>>4 != 6 {
			return q, Short
		}
		at, q.Proto = IPv6Header, b[6]
		q.Src, q.Dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		for range maxExtensions {
			if !isExtension(q.Proto) {
				break
			}
			if at+8 > len(b) {
				return q, Short
			}
			size := int(b[at+1])*8 + 8
			switch q.Proto {
			case protoAH: // RFC 4302 section 2.2
				size = int(b[at+1])*4 + 8
			case protoFragment:
				if binary.BigEndian.Uint16(b[at+2:])&^7 != 0 {
					return q, FragmentBad
				}
				size = 8
			}
			q.Proto = b[at]
			at += size
		}
	}
	if len(b) < at+8 {
		return q, Short
	}
	switch q.Proto {
	case ProtoTCP, ProtoUDP:
		q.SrcPort, q.DstPort = binary.BigEndian.Uint16(b[at:]), binary.BigEndian.Uint16(b[at+2:])
	case ProtoICMP, ProtoICMPv6:
		e := Packet{V6: p.V6, Proto: q.Proto, ICMPType: b[at]}
		if q.Echo, q.EchoReply = e.IsEcho(), e.isEchoReply(); q.Echo {
			q.SrcPort = binary.BigEndian.Uint16(b[at+4:])
			q.DstPort = q.SrcPort
		}
	}
	return q, OK
}
