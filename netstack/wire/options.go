package wire

import "encoding/binary"

// TCP option kinds (IANA, "TCP Option Kind Numbers").
const (
	optEnd           = 0
	OptNOP           = 1
	optMSS           = 2
	optWindowScale   = 3
	optSACKPermitted = 4
	OptSACK          = 5
	optTimestamps    = 8
	optMD5           = 19
	optAO            = 29
	optMPTCP         = 30
	optFastOpen      = 34
	optExperiment    = 254 // Fast Open before RFC 7413
)

// options walks the options of a TCP header. It stops at what is malformed, as
// hosts do.
type options struct {
	p *Packet
	// at and n are the offset in the packet and the length of the option found,
	// kind and length bytes included.
	at, n int
	kind  byte
}

func (p *Packet) options() options { return options{p: p, at: p.L4 + TCPHeader} }

func (o *options) next() bool {
	b := o.p.B
	for o.at += o.n; o.at < o.p.Data && b[o.at] == OptNOP; o.at++ {
	}
	if o.at+1 >= o.p.Data || b[o.at] == optEnd {
		return false
	}
	o.kind, o.n = b[o.at], int(b[o.at+1])
	return o.n >= 2 && o.at+o.n <= o.p.Data
}

// value is what stands behind kind and length.
func (o *options) value() []byte { return o.p.B[o.at+2 : o.at+o.n] }

// WindowScale returns the shift of the window scale option of a SYN or SYN-ACK
// (RFC 7323 section 2.2), at most 14 (section 2.3), and whether there is one.
func (p *Packet) WindowScale() (shift uint8, ok bool) {
	for o := p.options(); o.next(); {
		if o.kind == optWindowScale && o.n == 3 {
			return min(o.value()[0], 14), true
		}
	}
	return 0, false
}

// MSS returns the largest segment that the sender of a SYN accepts, in bytes of
// payload: the option's value, or the default (RFC 9293 section 3.7.1).
func (p *Packet) MSS() uint16 {
	for o := p.options(); o.next(); {
		if o.kind == optMSS && o.n == 4 {
			return binary.BigEndian.Uint16(o.value())
		}
	}
	if p.V6 {
		return 1220
	}
	return 536
}

// TimestampOption returns the timestamps of a segment (RFC 7323 section 3.2) as an aligned option
// for another segment, and whether there are any.
func (p *Packet) TimestampOption() (b [12]byte, ok bool) {
	for o := p.options(); o.next(); {
		if o.kind == optTimestamps && o.n == 10 {
			b[0], b[1], b[2], b[3] = OptNOP, OptNOP, optTimestamps, 10
			copy(b[4:], o.value())
			return b, true
		}
	}
	return b, false
}

// SACKPermitted reports whether a SYN permits SACK (RFC 2018 section 2).
func (p *Packet) SACKPermitted() bool {
	for o := p.options(); o.next(); {
		if o.kind == optSACKPermitted {
			return true
		}
	}
	return false
}

// Signed reports whether the segment is protected by TCP-MD5 (RFC 2385) or
// TCP-AO (RFC 5925): nothing in it may be changed.
func (p *Packet) Signed() bool {
	for o := p.options(); o.next(); {
		if o.kind == optMD5 || o.kind == optAO {
			return true
		}
	}
	return false
}

// Plain takes from a SYN or SYN-ACK what a relay in the middle could not keep up:
// timestamps, Fast Open and Multipath TCP become NOPs, and ECN is not asked for.
// Either end can do without any of them. With partial the checksum field holds
// only the pseudo-header's sum and stays as it is.
func (p *Packet) Plain(partial bool) {
	for o := p.options(); o.next(); {
		switch o.kind {
		case optTimestamps, optMPTCP, optFastOpen, optExperiment:
			for i := range o.n {
				p.put8(o.at+i, OptNOP, partial)
			}
		}
	}
	if p.Flags&(ECE|CWR) != 0 {
		p.Flags &^= ECE | CWR
		p.put8(p.L4+13, p.Flags, partial)
	}
}

// put8 stores a byte in the TCP header and mends the checksum.
func (p *Packet) put8(at int, v byte, partial bool) {
	word := at - (at-p.L4)%2
	w := [2]byte{p.B[word], p.B[word+1]}
	w[at-word] = v
	p.put16(word, binary.BigEndian.Uint16(w[:]), partial)
}

// Block is a SACK block: the sequence numbers from Start up to, not including, End.
type Block struct{ Start, End uint32 }

// MaxBlocks is how many SACK blocks fit a TCP header (RFC 2018 section 3).
const MaxBlocks = 4

// SACK reads the SACK blocks of a segment (RFC 2018 section 3) and returns how
// many there are.
func (p *Packet) SACK(to *[MaxBlocks]Block) int {
	if p.Data == p.L4+TCPHeader {
		return 0
	}
	for o := p.options(); o.next(); {
		if o.kind != OptSACK {
			continue
		}
		n := 0
		for v := o.value(); len(v) >= 8 && n < MaxBlocks; v = v[8:] {
			to[n] = Block{binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])}
			n++
		}
		return n
	}
	return 0
}

// AppendSACK appends the option with two NOPs before it, so that what follows is
// aligned. It appends nothing when there are no blocks.
func AppendSACK(b []byte, blocks []Block) []byte {
	if len(blocks) == 0 {
		return b
	}
	b = append(b, OptNOP, OptNOP, OptSACK, byte(2+8*len(blocks)))
	for _, k := range blocks {
		b = binary.BigEndian.AppendUint32(b, k.Start)
		b = binary.BigEndian.AppendUint32(b, k.End)
	}
	return b
}

// AppendSYNOptions appends the options of a SYN: MSS, and SACK permitted and the
// window scale where asked for; scale < 0 leaves it out.
func AppendSYNOptions(b []byte, mss uint16, sack bool, scale int) []byte {
	b = append(b, optMSS, 4)
	b = binary.BigEndian.AppendUint16(b, mss)
	if sack {
		b = append(b, OptNOP, OptNOP, optSACKPermitted, 2)
	}
	if scale >= 0 {
		b = append(b, OptNOP, optWindowScale, 3, byte(scale))
	}
	return b
}
