package wire

import (
	"encoding/binary"
	"math"
	"net/netip"
)

// Protocol numbers (IANA, "Assigned Internet Protocol Numbers").
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoTrunk  = 253 // RFC 3692 section 2.1; only gateways see it, inside the tunnel
	ProtoICMPv6 = 58

	protoHopByHop = 0
	protoRouting  = 43
	protoFragment = 44
	protoAH       = 51
	protoDstOpts  = 60
)

// TCP flags (RFC 9293 section 3.1).
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// Header sizes in bytes without options.
const (
	IPv4Header = 20
	IPv6Header = 40
	TCPHeader  = 20
	UDPHeader  = 8
	ICMPHeader = 8
)

// maxExtensions bounds the chain of IPv6 extension headers that are followed.
// Real packets carry one or two.
const maxExtensions = 8

// Packet is a view of one IP packet: the bytes and what Parse found in them.
// The zero value is ready for Parse, which overwrites all of it.
type Packet struct {
	// B is the whole packet, cut to the length that its IP header states.
	B []byte
	// V6 is set for IPv6.
	V6 bool
	// Proto is the upper-layer protocol, behind all extension headers.
	Proto uint8
	// Fragment reports that this is one piece of a larger datagram. Nothing
	// behind the IP headers has been parsed then.
	Fragment bool
	// DF reports that routers may not cut the packet up. It is always so for IPv6.
	DF bool
	// L4 is the offset of the transport header in B, Data that of its payload.
	L4, Data int
	// SrcPort and DstPort are those of TCP and UDP; both hold the identifier of
	// an ICMP echo or its reply, and are 0 for everything else.
	SrcPort, DstPort uint16
	// Seq, Ack, Window and Flags are TCP's.
	Seq, Ack uint32
	Window   uint16
	Flags    uint8
	// ICMPType and ICMPCode are those of ICMP and ICMPv6.
	ICMPType, ICMPCode uint8
}

// Parse fills p from b, which holds one IP packet and may hold padding behind
// it. It checks the form of all headers up to the transport's, and the IPv4
// header checksum, but no transport checksum. It returns OK or why the packet
// has to be dropped. p refers to b afterwards.
func Parse(p *Packet, b []byte) Reason {
	*p = Packet{}
	if len(b) < 1 {
		return Short
	}
	switch b[0] >> 4 {
	case 4:
		if r := p.parse4(b); r != OK {
			return r
		}
	case 6:
		if r := p.parse6(b); r != OK {
			return r
		}
	default:
		return BadVersion
	}
	if p.Fragment {
		return OK
	}
	return p.parseTransport()
}

func (p *Packet) parse4(b []byte) Reason {
	if len(b) < IPv4Header {
		return Short
	}
	hlen := int(b[0]&15) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if hlen < IPv4Header || total < hlen {
		return BadHeader
	}
	if total > len(b) {
		return Short
	}
	p.B = b[:total:total]
	if fold(sum(b[:hlen], 0)) != 0xffff {
		return BadChecksum
	}
	if hlen > IPv4Header {
		if r := checkOptions4(b[IPv4Header:hlen]); r != OK {
			return r
		}
	}
	frag := binary.BigEndian.Uint16(b[6:])
	p.DF = frag&0x4000 != 0
	p.Fragment = frag&0x3fff != 0
	p.Proto = b[9]
	p.L4 = hlen
	return OK
}

// checkOptions4 walks the options of an IPv4 header (RFC 791 section 3.1) and
// refuses source routes, with which a sender chooses its own path past a firewall.
func checkOptions4(opt []byte) Reason {
	const (
		end, nop   = 0, 1
		lsrr, ssrr = 131, 137
	)
	for len(opt) > 0 {
		switch opt[0] {
		case end:
			return OK
		case nop:
			opt = opt[1:]
			continue
		case lsrr, ssrr:
			return SourceRoute
		}
		if len(opt) < 2 || opt[1] < 2 || int(opt[1]) > len(opt) {
			return BadHeader
		}
		opt = opt[opt[1]:]
	}
	return OK
}

func (p *Packet) parse6(b []byte) Reason {
	if len(b) < IPv6Header {
		return Short
	}
	total := IPv6Header + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return Short
	}
	p.B = b[:total:total]
	p.V6, p.DF = true, true
	next, at := b[6], IPv6Header
	for range maxExtensions {
		switch next {
		case protoHopByHop, protoDstOpts, protoRouting, protoAH:
			if at+8 > total {
				return Short
			}
			size := int(p.B[at+1])*8 + 8
			if next == protoAH { // RFC 4302 section 2.2: in 4-byte units, less 2
				size = int(p.B[at+1])*4 + 8
			}
			if at+size > total {
				return Short
			}
			if next == protoHopByHop && at != IPv6Header {
				return BadExtension // RFC 8200 section 4.1: only directly behind the IPv6 header
			}
			// RFC 5095 deprecates type 0; with segments left, any type would
			// send the packet on to somewhere that policy has not judged.
			if next == protoRouting && p.B[at+3] != 0 {
				return SourceRoute
			}
			next = p.B[at]
			at += size
		case protoFragment:
			if at+8 > total {
				return Short
			}
			if binary.BigEndian.Uint16(p.B[at+2:])&^6 != 0 {
				p.Fragment = true
				p.Proto = p.B[at]
				p.L4 = at + 8
				return OK
			}
			// First and last fragment in one: a packet like any other (RFC 6946).
			next = p.B[at]
			at += 8
		default:
			p.Proto = next
			p.L4 = at
			return OK
		}
	}
	return BadExtension
}

func (p *Packet) parseTransport() Reason {
	t := p.B[p.L4:]
	p.Data = p.L4
	switch {
	case p.Proto == ProtoTCP:
		if len(t) < TCPHeader {
			return Short
		}
		off := int(t[12]>>4) * 4
		if off < TCPHeader {
			return BadTransport
		}
		if off > len(t) {
			return Short
		}
		p.Data = p.L4 + off
		p.ports(t)
		p.Seq = binary.BigEndian.Uint32(t[4:])
		p.Ack = binary.BigEndian.Uint32(t[8:])
		p.Flags = t[13]
		p.Window = binary.BigEndian.Uint16(t[14:])
		return checkFlags(p.Flags)
	case p.Proto == ProtoUDP:
		if len(t) < UDPHeader {
			return Short
		}
		n := int(binary.BigEndian.Uint16(t[4:]))
		if n < UDPHeader || n > len(t) {
			return BadTransport
		}
		p.Data = p.L4 + UDPHeader
		p.ports(t)
	case p.Proto == ProtoICMP && !p.V6, p.Proto == ProtoICMPv6 && p.V6:
		if len(t) < ICMPHeader {
			return Short
		}
		p.Data = p.L4 + ICMPHeader
		p.ICMPType, p.ICMPCode = t[0], t[1]
		if p.IsEcho() {
			p.SrcPort = binary.BigEndian.Uint16(t[4:])
			p.DstPort = p.SrcPort
		}
	case p.Proto == ProtoICMP, p.Proto == ProtoICMPv6:
		return BadTransport // of the other family: no host accepts it
	}
	return OK
}

func (p *Packet) ports(t []byte) {
	p.SrcPort = binary.BigEndian.Uint16(t)
	p.DstPort = binary.BigEndian.Uint16(t[2:])
}

// checkFlags refuses combinations that no TCP sends and only scanners do:
// SYN with FIN or RST, FIN with RST, and segments after the handshake without
// ACK (RFC 9293 section 3.10.7.4: they would be dropped by any receiver).
func checkFlags(f uint8) Reason {
	switch f & (SYN | FIN | RST | ACK) {
	case SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK:
		return OK
	}
	return BadFlags
}

// Src returns the source address.
func (p *Packet) Src() netip.Addr {
	if p.V6 {
		return netip.AddrFrom16([16]byte(p.B[8:24]))
	}
	return netip.AddrFrom4([4]byte(p.B[12:16]))
}

// Dst returns the destination address.
func (p *Packet) Dst() netip.Addr {
	if p.V6 {
		return netip.AddrFrom16([16]byte(p.B[24:40]))
	}
	return netip.AddrFrom4([4]byte(p.B[16:20]))
}

// Payload returns what stands behind the transport header.
func (p *Packet) Payload() []byte { return p.B[p.Data:] }

// SegLen returns the length that a TCP segment takes up in sequence space: its
// payload and one each for SYN and FIN (RFC 9293 section 3.4).
func (p *Packet) SegLen() uint32 {
	n := uint32(len(p.B) - p.Data)
	if p.Flags&SYN != 0 {
		n++
	}
	if p.Flags&FIN != 0 {
		n++
	}
	return n
}

// ICMP types (RFC 792, RFC 4443).
const (
	icmp4EchoReply    = 0
	icmp4Unreachable  = 3
	icmp4SourceQuench = 4
	icmp4Redirect     = 5
	icmp4Echo         = 8
	icmp4TimeExceeded = 11
	icmp4ParamProblem = 12

	icmp6Unreachable  = 1
	icmp6PacketTooBig = 2
	icmp6TimeExceeded = 3
	icmp6ParamProblem = 4
	icmp6Echo         = 128
	icmp6EchoReply    = 129
)

// IsICMP reports whether the packet is ICMP of its own family.
func (p *Packet) IsICMP() bool {
	return p.Proto == ProtoICMP && !p.V6 || p.Proto == ProtoICMPv6 && p.V6
}

// IsEcho reports whether the packet is an ICMP echo or the reply to one.
func (p *Packet) IsEcho() bool { return p.IsEchoRequest() || p.isEchoReply() }

// IsEchoRequest reports whether the packet is an ICMP echo, which may open a flow.
func (p *Packet) IsEchoRequest() bool {
	if p.V6 {
		return p.Proto == ProtoICMPv6 && p.ICMPType == icmp6Echo
	}
	return p.Proto == ProtoICMP && p.ICMPType == icmp4Echo
}

func (p *Packet) isEchoReply() bool {
	if p.V6 {
		return p.Proto == ProtoICMPv6 && p.ICMPType == icmp6EchoReply
	}
	return p.Proto == ProtoICMP && p.ICMPType == icmp4EchoReply
}

// IsPacketTooBig reports whether the packet is the ICMP error by which a router
// asks for smaller packets (RFC 1191, RFC 8201).
func (p *Packet) IsPacketTooBig() bool {
	if p.V6 {
		return p.Proto == ProtoICMPv6 && p.ICMPType == icmp6PacketTooBig
	}
	return p.Proto == ProtoICMP && p.ICMPType == icmp4Unreachable && p.ICMPCode == 4
}

// NextHopMTU is the largest packet, in bytes, that the router takes which has sent
// the packet, one for which IsPacketTooBig holds. What hosts may not be asked to go
// below, or what says nothing, is that bound (RFC 8200 section 5; Linux' min_pmtu).
func (p *Packet) NextHopMTU() int {
	b := p.B[p.L4:]
	if p.V6 {
		return max(leastMTU6, int(min(binary.BigEndian.Uint32(b[4:]), math.MaxUint16)))
	}
	return max(leastMTU4, int(binary.BigEndian.Uint16(b[6:])))
}

const leastMTU4, leastMTU6 = 552, 1280

// IsICMPError reports whether the packet is an ICMP error: one that quotes the
// packet that it is about, and that must never be answered by another error.
func (p *Packet) IsICMPError() bool {
	if !p.IsICMP() {
		return false
	}
	if p.V6 {
		return p.ICMPType < 128 // RFC 4443 section 2.1
	}
	switch p.ICMPType {
	case icmp4Unreachable, icmp4SourceQuench, icmp4Redirect, icmp4TimeExceeded, icmp4ParamProblem:
		return true
	}
	return false
}

// ForwardsICMP reports whether gateways forward ICMP messages of p's type: echo and
// its reply, and the errors that a sender needs about its own packets, which are
// destination unreachable, packet too big, time exceeded and parameter problem.
//
// The others are for the local link or obsolete, and hosts may obey some of them
// from any sender: redirect (RFC 792, RFC 4861), source quench (RFC 6633),
// neighbor and router discovery (RFC 4861), multicast listener discovery (RFC 2710),
// router advertisement (RFC 1256), timestamp and address mask (RFC 792, RFC 950).
// p must be ICMP.
func (p *Packet) ForwardsICMP() bool {
	if p.IsEcho() {
		return true
	}
	if p.V6 {
		switch p.ICMPType {
		case icmp6Unreachable, icmp6PacketTooBig, icmp6TimeExceeded, icmp6ParamProblem:
			return true
		}
		return false
	}
	switch p.ICMPType {
	case icmp4Unreachable, icmp4TimeExceeded, icmp4ParamProblem:
		return true
	}
	return false
}
