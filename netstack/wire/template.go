package wire

import (
	"encoding/binary"
	"net/netip"
)

// MaxTCPHeaders is the most that the headers of a segment take, in bytes: IPv6
// without extensions, and TCP with all the options that there may be.
const MaxTCPHeaders = IPv6Header + 60

// Template holds the headers that all segments of one direction of a connection
// have in common, so that a segment is made without looking at addresses again.
type Template struct {
	b  [IPv6Header + TCPHeader]byte
	l4 int
}

// NewTemplate makes the template of segments from src to dst, which are of one
// family.
func NewTemplate(src, dst netip.AddrPort) Template {
	var t Template
	b := AppendIP(t.b[:0], src.Addr(), dst.Addr(), ProtoTCP, TCPHeader)
	t.l4 = len(b)
	b = binary.BigEndian.AppendUint16(b, src.Port())
	binary.BigEndian.AppendUint16(b, dst.Port())
	return t
}

// Segment is what the header of a TCP segment says beside its addresses.
type Segment struct {
	Seq, Ack uint32
	Window   uint16
	Flags    uint8
	// Options are in the form that they have in the header, padded to 4 bytes.
	Options []byte
}

// Put writes the headers of s for n bytes of payload to b, which needs room for
// MaxTCPHeaders, and returns their length. The TCP checksum is left at 0.
func (t *Template) Put(b []byte, s *Segment, n int) int {
	hdr := t.l4 + TCPHeader + len(s.Options)
	copy(b, t.b[:t.l4+4])
	h := b[t.l4:hdr]
	binary.BigEndian.PutUint32(h[4:], s.Seq)
	binary.BigEndian.PutUint32(h[8:], s.Ack)
	h[12], h[13] = byte((TCPHeader+len(s.Options))/4<<4), s.Flags
	binary.BigEndian.PutUint16(h[14:], s.Window)
	clear(h[16:20])
	copy(h[TCPHeader:], s.Options)
	if t.l4 == IPv6Header {
		binary.BigEndian.PutUint16(b[4:], uint16(hdr+n-IPv6Header))
	} else {
		binary.BigEndian.PutUint16(b[2:], uint16(hdr+n))
		setHeaderChecksum(b, IPv4Header)
	}
	return hdr
}

// Headers makes p a view of the headers in b of a TCP segment with n bytes of
// payload that are elsewhere, and leaves its checksum to a device.
func (p *Packet) Headers(b []byte, n int) Offload {
	*p = Packet{B: b, V6: b[0]>>4 == 6, Proto: ProtoTCP, L4: IPv4Header, Data: len(b)}
	if p.V6 {
		p.L4 = IPv6Header
	}
	o := p.Partial()
	binary.BigEndian.PutUint16(b[p.L4+int(o.CsumOffset):], fold(p.pseudo(len(b)-p.L4+n)))
	return o
}
