// Package wiretest makes packets for tests, byte by byte from the RFCs and with
// none of package wire's code, so that it can serve as an oracle for that.
package wiretest

import (
	"encoding/binary"
	"net/netip"
)

// TCP flags.
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

// A TCP is a segment to be.
type TCP struct {
	Src, Dst netip.AddrPort
	Seq, Ack uint32
	Flags    uint8
	Window   uint16
	// Options is padded to a multiple of four with end-of-list.
	Options, Payload []byte
	// ID is the identification of the IPv4 header; NoDF clears its DF flag.
	ID   uint16
	NoDF bool
}

// Packet returns the whole IP packet.
func (t TCP) Packet() []byte {
	opts := t.Options
	for len(opts)%4 != 0 {
		opts = append(opts[:len(opts):len(opts)], 0)
	}
	h := make([]byte, 20, 20+len(opts)+len(t.Payload))
	binary.BigEndian.PutUint16(h, t.Src.Port())
	binary.BigEndian.PutUint16(h[2:], t.Dst.Port())
	binary.BigEndian.PutUint32(h[4:], t.Seq)
	binary.BigEndian.PutUint32(h[8:], t.Ack)
	h[12] = byte(5+len(opts)/4) << 4
	h[13] = t.Flags
	binary.BigEndian.PutUint16(h[14:], t.Window)
	h = append(append(h, opts...), t.Payload...)
	b := IP(t.Src.Addr(), t.Dst.Addr(), 6, h)
	if b[0]>>4 == 4 {
		binary.BigEndian.PutUint16(b[4:], t.ID)
		if t.NoDF {
			b[6] = 0
		}
	}
	return Finish(b)
}

// UDP returns an IP packet with a UDP datagram.
func UDP(src, dst netip.AddrPort, payload []byte) []byte {
	h := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(h, src.Port())
	binary.BigEndian.PutUint16(h[2:], dst.Port())
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(payload)))
	return Finish(IP(src.Addr(), dst.Addr(), 17, append(h, payload...)))
}

// Echo returns an IP packet with an ICMP echo of the addresses' family, or the
// reply to one.
func Echo(src, dst netip.Addr, reply bool, id, seq uint16, payload []byte) []byte {
	typ := byte(8)
	switch {
	case src.Is4() && reply:
		typ = 0
	case src.Is6() && !reply:
		typ = 128
	case src.Is6():
		typ = 129
	}
	return ICMP(src, dst, typ, 0, uint32(id)<<16|uint32(seq), payload)
}

// ICMP returns an IP packet with an ICMP message of the addresses' family; rest
// is the second word of its header.
func ICMP(src, dst netip.Addr, typ, code byte, rest uint32, body []byte) []byte {
	h := binary.BigEndian.AppendUint32([]byte{typ, code, 0, 0}, rest)
	proto := byte(1)
	if src.Is6() {
		proto = 58
	}
	return Finish(IP(src, dst, proto, append(h, body...)))
}

// IP returns an IP packet around a transport's bytes: IPv4 with DF, or IPv6.
func IP(src, dst netip.Addr, proto byte, body []byte) []byte {
	if src.Is4() {
		h := []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, proto, 0, 0}
		h = append(append(h, src.AsSlice()...), dst.AsSlice()...)
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
		return FinishHeader(append(h, body...))
	}
	h := []byte{0x60, 0, 0, 0, 0, 0, proto, 64}
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	h = append(append(h, src.AsSlice()...), dst.AsSlice()...)
	return append(h, body...)
}

// FinishHeader stores the checksum of an IPv4 header in place.
func FinishHeader(b []byte) []byte {
	if b[0]>>4 == 4 {
		h := b[:int(b[0]&15)*4]
		h[10], h[11] = 0, 0
		binary.BigEndian.PutUint16(h[10:], ^Sum(h))
	}
	return b
}

// Finish stores the checksums of the IPv4 header and of the transport in place.
// The packet must have no IPv6 extension headers.
func Finish(b []byte) []byte {
	FinishHeader(b)
	l4, proto := 40, b[6]
	if b[0]>>4 == 4 {
		l4, proto = int(b[0]&15)*4, b[9]
	}
	at := l4
	switch proto {
	case 6:
		at += 16
	case 17:
		at += 6
	case 1, 58:
		at += 2
	default:
		return b
	}
	b[at], b[at+1] = 0, 0
	c := ^TransportSum(b)
	if c == 0 && proto == 17 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], c)
	return b
}

// TransportSum returns the one's complement sum of the transport's bytes with its
// pseudo-header: 0xffff when the checksum in it holds.
func TransportSum(b []byte) uint16 {
	if b[0]>>4 == 4 {
		l4 := int(b[0]&15) * 4
		if b[9] == 1 {
			return Sum(b[l4:])
		}
		return Sum(append(PseudoHeader(b), b[l4:]...))
	}
	return Sum(append(PseudoHeader(b), b[40:]...))
}

// PseudoHeader returns the bytes of RFC 9293 section 3.1 or RFC 8200 section 8.1.
func PseudoHeader(b []byte) []byte {
	var ph []byte
	if b[0]>>4 == 4 {
		l4 := int(b[0]&15) * 4
		ph = append(ph, b[12:20]...)
		ph = append(ph, 0, b[9])
		return binary.BigEndian.AppendUint16(ph, uint16(len(b)-l4))
	}
	ph = append(ph, b[8:40]...)
	ph = binary.BigEndian.AppendUint32(ph, uint32(len(b)-40))
	return append(ph, 0, 0, 0, b[6])
}

// Sum is the one's complement sum of RFC 1071, two bytes at a time.
func Sum(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		s += w
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// Pattern returns n bytes in which a shift or a swap of parts is visible.
func Pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + 1)
	}
	return b
}
