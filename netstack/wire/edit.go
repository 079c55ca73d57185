package wire

import "encoding/binary"

// TCP option kinds (RFC 9293 section 3.1).
const (
	optEnd = 0
	optNop = 1
	optMSS = 2
)

// ClampMSS lowers the MSS option of a SYN or SYN-ACK to mss, and reports whether
// it changed anything (RFC 4459 section 3.4). With partial the checksum field
// holds only the pseudo-header's sum and stays as it is. A SYN without the
// option stays without: its sender then takes 536 or 1220 (RFC 9293 section
// 3.7.1), which fits any path that this gateway carries.
func (p *Packet) ClampMSS(mss uint16, partial bool) bool {
	if p.Proto != ProtoTCP || p.Flags&SYN == 0 {
		return false
	}
	for at := p.L4 + TCPHeader; at < p.Data; {
		kind := p.B[at]
		if kind == optEnd {
			return false
		}
		if kind == optNop {
			at++
			continue
		}
		if at+1 >= p.Data {
			return false
		}
		n := int(p.B[at+1])
		if n < 2 || at+n > p.Data {
			return false
		}
		if kind == optMSS && n == 4 {
			old := binary.BigEndian.Uint16(p.B[at+2:])
			if old <= mss {
				return false
			}
			p.put16(at+2, mss, partial)
			return true
		}
		at += n
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

// WindowScale returns the shift of the window scale option of a SYN or SYN-ACK
// (RFC 7323 section 2.2), at most 14 (section 2.3), and whether there is one.
func (p *Packet) WindowScale() (shift uint8, ok bool) {
	const optWScale = 3
	opts := p.B[p.L4+TCPHeader : p.Data]
	for len(opts) > 0 && opts[0] != optEnd {
		if opts[0] == optNop {
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
			return 0, false
		}
		if opts[0] == optWScale && opts[1] == 3 {
			return min(opts[2], 14), true
		}
		opts = opts[opts[1]:]
	}
	return 0, false
}
