package wire

import (
	"encoding/binary"
	"net/netip"
)

// AppendSegment appends a whole TCP segment with n bytes of zeros as payload, to be
// judged and never to be sent. Its checksum is finished. options is a multiple of
// four bytes, at most 40.
func AppendSegment(b []byte, src, dst netip.AddrPort, seq, ack uint32, flags uint8, window uint16, options []byte, n int) []byte {
	at := len(b)
	b = AppendIP(b, src.Addr(), dst.Addr(), ProtoTCP, TCPHeader+len(options)+n)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, uint8(TCPHeader+len(options))/4<<4, flags)
	b = binary.BigEndian.AppendUint16(b, window)
	b = append(b, 0, 0, 0, 0) // checksum and urgent pointer
	b = append(b, options...)
	b = append(b, make([]byte, n)...)
	finish(b[at:])
	return b
}

// AppendEcho appends a whole ICMP echo of the addresses' family with n bytes of zeros
// as payload.
func AppendEcho(b []byte, src, dst netip.Addr, id, seq uint16, n int) []byte {
	at := len(b)
	proto, kind := uint8(ProtoICMP), uint8(icmp4Echo)
	if src.Is6() {
		proto, kind = ProtoICMPv6, icmp6Echo
	}
	b = AppendIP(b, src, dst, proto, ICMPHeader+n)
	b = append(b, kind, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, seq)
	b = append(b, make([]byte, n)...)
	finish(b[at:])
	return b
}
