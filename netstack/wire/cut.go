package wire

import "encoding/binary"

// Cutter cuts a TCP super-segment into segments that fit a path, as a network
// card does for a host (TSO). The zero value has nothing left to give. A
// Cutter refers to the bytes of the packet that it was Reset with.
type Cutter struct {
	p       Packet
	size    int // payload bytes per segment
	at      int // offset of the payload not yet given
	id      uint16
	pseudo  uint64 // sum of the pseudo-header but for the length
	partial bool
	busy    bool
}

// Reset makes c cut p into segments of at most size payload bytes. With partial
// the segments get the sum of their pseudo-header as checksum, otherwise a
// finished one. p must be a TCP packet. If size is not positive there are no segments.
//
// A SYN keeps only as much of its data as fits: no segment without ACK can carry
// on the data of a Fast Open, and its sender retransmits what is not
// acknowledged (RFC 7413 section 4.1.2).
func (c *Cutter) Reset(p *Packet, size int, partial bool) {
	if size <= 0 {
		*c = Cutter{}
		return
	}
	*c = Cutter{p: *p, size: size, at: p.Data, pseudo: p.pseudo(0), partial: partial, busy: true}
	if p.Flags&SYN != 0 {
		c.p.B = p.B[:min(len(p.B), p.Data+size)]
	}
	if !p.V6 {
		c.id = binary.BigEndian.Uint16(p.B[4:])
	}
}

// Busy reports whether Next has another segment to give.
func (c *Cutter) Busy() bool { return c.busy }

// Next writes the next segment to dst, which must have room for the headers and
// size payload bytes, and returns its length.
//
// FIN and PSH belong on the last segment only, CWR on the first only (RFC 3168
// section 6.1.2).
func (c *Cutter) Next(dst []byte) int {
	n := min(c.size, len(c.p.B)-c.at)
	first, last := c.at == c.p.Data, c.at+n == len(c.p.B)
	hdr := c.p.Data
	copy(dst, c.p.B[:hdr])
	copy(dst[hdr:], c.p.B[c.at:c.at+n])

	if c.p.V6 {
		binary.BigEndian.PutUint16(dst[4:], uint16(hdr+n-IPv6Header))
	} else {
		binary.BigEndian.PutUint16(dst[2:], uint16(hdr+n))
		binary.BigEndian.PutUint16(dst[4:], c.id)
		setHeaderChecksum(dst, c.p.L4)
		c.id++
	}
	t := dst[c.p.L4 : hdr+n]
	binary.BigEndian.PutUint32(t[4:], c.p.Seq+uint32(c.at-c.p.Data))
	if !last {
		t[13] &^= FIN | PSH
	}
	if !first {
		t[13] &^= CWR
	}
	t[16], t[17] = 0, 0
	acc := c.pseudo + uint64(len(t))
	if c.partial {
		binary.BigEndian.PutUint16(t[16:], fold(acc))
	} else {
		binary.BigEndian.PutUint16(t[16:], ^fold(sum(t, acc)))
	}
	c.at += n
	c.busy = !last
	return hdr + n
}
