package wire

import "encoding/binary"

// ClampMSS lowers the MSS option of a SYN or SYN-ACK to mss, and reports whether
// it changed anything (RFC 4459 section 3.4). With partial the checksum field
// holds only the pseudo-header's sum and stays as it is. A SYN without the
// option stays without: its sender then takes 536 or 1220 (RFC 9293 section
// 3.7.1), which fits any path that this gateway carries.
func (p *Packet) ClampMSS(mss uint16, partial bool) bool {
	if p.Proto != ProtoTCP || p.Flags&SYN == 0 {
		return false
	}
	for o := p.options(); o.next(); {
		if o.kind == optMSS && o.n == 4 {
			if binary.BigEndian.Uint16(o.value()) <= mss {
				return false
			}
			p.put16(o.at+2, mss, partial)
			return true
		}
	}
	return false
}

// put16 stores a 16-bit value in the TCP header at any offset and mends the
// checksum. At an odd offset the value lies across two words of the sum.
func (p *Packet) put16(at int, v uint16, partial bool) {
	lo := at - (at-p.L4)%2
	hi := min(lo+4, len(p.B))
	if partial {
		binary.BigEndian.PutUint16(p.B[at:], v)
		return
	}
	before := [4]byte{}
	copy(before[:], p.B[lo:hi])
	binary.BigEndian.PutUint16(p.B[at:], v)
	after := [4]byte{}
	copy(after[:], p.B[lo:hi])
	for i := 0; i < 4; i += 2 {
		replace16(p.B, p.L4+16, binary.BigEndian.Uint16(before[i:]), binary.BigEndian.Uint16(after[i:]))
	}
}
