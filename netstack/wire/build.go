package wire

import (
	"encoding/binary"
	"net/netip"
)

// hopLimit is what the gateway's own packets start with (RFC 1700).
const hopLimit = 64

// AppendIP appends an IPv4 (with DF) or IPv6 header for n bytes of transport.
func AppendIP(b []byte, src, dst netip.Addr, proto uint8, n int) []byte {
	if src.Is4() {
		at := len(b)
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(IPv4Header+n))
		b = append(b, 0, 0, 0x40, 0, hopLimit, proto, 0, 0)
		b = append(b, src.AsSlice()...)
		b = append(b, dst.AsSlice()...)
		setHeaderChecksum(b[at:], IPv4Header)
		return b
	}
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(b, proto, hopLimit)
	s, d := src.As16(), dst.As16()
	b = append(b, s[:]...)
	return append(b, d[:]...)
}

// SetLength makes a header as AppendIP makes it one for n bytes of transport.
func SetLength(b []byte, n int) {
	if b[0]>>4 == 6 {
		binary.BigEndian.PutUint16(b[4:], uint16(n))
		return
	}
	binary.BigEndian.PutUint16(b[2:], uint16(IPv4Header+n))
	setHeaderChecksum(b, IPv4Header)
}

// finish parses the packet that a builder made and completes its checksum.
func finish(b []byte) []byte {
	var p Packet
	if r := Parse(&p, b); r != OK {
		panic("wire: built a packet that does not parse: " + r.String())
	}
	p.FinishChecksum()
	return b
}

// AppendUDP appends a whole UDP packet to b, with DF for IPv4, and a finished
// checksum. Both addresses must be of the same family, and the payload at most
// 65,487 bytes.
func AppendUDP(b []byte, src, dst netip.AddrPort, payload []byte) []byte {
	at := len(b)
	n := UDPHeader + len(payload)
	b = AppendIP(b, src.Addr(), dst.Addr(), ProtoUDP, n)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(b, 0, 0)
	b = append(b, payload...)
	finish(b[at:])
	return b
}

// AppendTCP appends a whole TCP segment without options or payload, with a
// finished checksum. A gateway sends none: it is for quoting in ICMP errors.
func AppendTCP(b []byte, src, dst netip.AddrPort, seq uint32, flags uint8) []byte {
	return appendTCP(b, src, dst, seq, 0, flags, 0)
}

// AppendACK appends a pure acknowledgement without options, with a finished
// checksum. Its values repeat what that end has acknowledged.
func AppendACK(b []byte, src, dst netip.AddrPort, seq, ack uint32, window uint16) []byte {
	return appendTCP(b, src, dst, seq, ack, ACK, window)
}

func appendTCP(b []byte, src, dst netip.AddrPort, seq, ack uint32, flags uint8, window uint16) []byte {
	at := len(b)
	b = AppendIP(b, src.Addr(), dst.Addr(), ProtoTCP, TCPHeader)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, TCPHeader/4<<4, flags)
	b = binary.BigEndian.AppendUint16(b, window)
	b = append(b, 0, 0, 0, 0) // checksum and urgent pointer
	finish(b[at:])
	return b
}
