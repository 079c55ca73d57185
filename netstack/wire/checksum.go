package wire

import (
	"encoding/binary"
	"math/bits"
)

// sum adds b to the one's complement sum acc, in 16-bit big-endian words (RFC
// 1071). It adds 64 bits at a time with an end-around carry, which the sum's
// independence from word size (section 2(B)) allows.
func sum(b []byte, acc uint64) uint64 {
	var c uint64
	for len(b) >= 64 {
		acc, c = bits.Add64(acc, binary.BigEndian.Uint64(b), 0)
		acc, c = bits.Add64(acc, binary.BigEndian.Uint64(b[8:]), c)
		acc, c = bits.Add64(acc, binary.BigEndian.Uint64(b[16:]), c)
		acc, c = bits.Add64(acc, binary.BigEndian.Uint64(b[24:]), c)
		acc, c = bits.Add64(acc, binary.BigEndian.Uint64(b[32:]), c)
		acc, c = bits.Add64(acc, binary.BigEndian.Uint64(b[40:]), c)
		acc, c = bits.Add64(acc, binary.BigEndian.Uint64(b[48:]), c)
		acc, c = bits.Add64(acc, binary.BigEndian.Uint64(b[56:]), c)
		acc += c
		b = b[64:]
	}
	for len(b) >= 8 {
		acc, c = bits.Add64(acc, binary.BigEndian.Uint64(b), 0)
		acc += c
		b = b[8:]
	}
	if len(b) >= 4 {
		acc, c = bits.Add64(acc, uint64(binary.BigEndian.Uint32(b)), 0)
		acc += c
		b = b[4:]
	}
	if len(b) >= 2 {
		acc, c = bits.Add64(acc, uint64(binary.BigEndian.Uint16(b)), 0)
		acc += c
		b = b[2:]
	}
	if len(b) == 1 {
		acc, c = bits.Add64(acc, uint64(b[0])<<8, 0)
		acc += c
	}
	return acc
}

// fold brings a sum down to 16 bits.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// pseudo returns the unfolded sum of the pseudo-header for a transport segment
// of n bytes (RFC 9293 section 3.1, RFC 8200 section 8.1).
func (p *Packet) pseudo(n int) uint64 {
	acc := uint64(n) + uint64(p.Proto)
	if p.V6 {
		return sum(p.B[8:40], acc)
	}
	return sum(p.B[12:20], acc)
}

// segment returns the transport header and payload that the checksum covers.
// For UDP that is what its length field says: options may stand behind it (RFC
// 9868).
func (p *Packet) segment() []byte {
	t := p.B[p.L4:]
	if p.Proto == ProtoUDP {
		return t[:binary.BigEndian.Uint16(t[4:])]
	}
	return t
}

// csumField returns the offset in B of the transport checksum, and whether the
// protocol has one that this package knows.
func (p *Packet) csumField() (at int, ok bool) {
	switch {
	case p.Proto == ProtoTCP:
		return p.L4 + 16, true
	case p.Proto == ProtoUDP:
		return p.L4 + 6, true
	case p.IsICMP():
		return p.L4 + 2, true
	}
	return 0, false
}

// ChecksumOK reports whether the transport checksum holds. A protocol without a
// known checksum, and IPv4 UDP without one (RFC 768), are fine.
func (p *Packet) ChecksumOK() bool {
	at, ok := p.csumField()
	if !ok {
		return true
	}
	if p.Proto == ProtoUDP && !p.V6 && binary.BigEndian.Uint16(p.B[at:]) == 0 {
		return true
	}
	var acc uint64
	if p.Proto != ProtoICMP {
		acc = p.pseudo(len(p.segment()))
	}
	return fold(sum(p.segment(), acc)) == 0xffff
}

// FinishChecksum computes the transport checksum over the whole segment and
// stores it. It does nothing for a protocol without one.
func (p *Packet) FinishChecksum() {
	at, ok := p.csumField()
	if !ok {
		return
	}
	binary.BigEndian.PutUint16(p.B[at:], 0)
	var acc uint64
	if p.Proto != ProtoICMP {
		acc = p.pseudo(len(p.segment()))
	}
	c := ^fold(sum(p.segment(), acc))
	if c == 0 && p.Proto == ProtoUDP {
		c = 0xffff // RFC 768: zero means that there is no checksum
	}
	binary.BigEndian.PutUint16(p.B[at:], c)
}

// IsPartial reports whether the checksum field of a TCP or UDP packet holds
// nothing but the sum of the pseudo-header, as a gateway leaves it when it
// knows that the far gateway will have it finished (see Offload.NeedsCsum). A
// finished checksum looks the same once in 65,536 packets; finishing it again
// yields the same value then, so that no harm is done.
func (p *Packet) IsPartial() bool {
	at, ok := p.csumField()
	if !ok || p.IsICMP() {
		return false
	}
	return binary.BigEndian.Uint16(p.B[at:]) == fold(p.pseudo(len(p.segment())))
}

// Partial returns the Offload that makes a device finish the checksum of a TCP
// or UDP packet whose field holds the sum of the pseudo-header: see IsPartial.
func (p *Packet) Partial() Offload {
	at, _ := p.csumField()
	return Offload{NeedsCsum: true, CsumStart: uint16(p.L4), CsumOffset: uint16(at - p.L4)}
}

// Settle brings what a device left to do down to what a path of packets can
// carry: after it, NeedsCsum is about the transport checksum of p itself and
// covers p to its end. Anything else is finished here: the checksum of a packet
// inside a tunnel that the host has built, and one that ends before the
// packet does, since UDP options stand behind it (RFC 9868).
func (p *Packet) Settle(o Offload) (Offload, Reason) {
	if !o.NeedsCsum {
		return o, OK
	}
	at, ok := p.csumField()
	if ok && !p.Fragment && int(o.CsumStart) == p.L4 && int(o.CsumStart)+int(o.CsumOffset) == at {
		if o.GSOSize == 0 && p.Proto == ProtoUDP && len(p.segment()) != len(p.B)-p.L4 {
			p.FinishChecksum()
			return Offload{}, OK
		}
		return o, OK
	}
	start, field := int(o.CsumStart), int(o.CsumStart)+int(o.CsumOffset)
	if o.GSOSize > 0 || start < max(p.L4, p.Data) || field+2 > len(p.B) {
		return o, BadTransport // nor may it reach into the headers that have been parsed
	}
	c := ^fold(sum(p.B[start:], 0)) // the field holds its pseudo-header's sum
	if c == 0 {
		c = 0xffff // the same, and never "none" (RFC 768)
	}
	binary.BigEndian.PutUint16(p.B[field:], c)
	return Offload{}, OK
}

// SetPartial stores the sum of the pseudo-header in the checksum field of a TCP
// or UDP packet and returns the Offload that makes a device finish it.
func (p *Packet) SetPartial() Offload {
	at, _ := p.csumField()
	binary.BigEndian.PutUint16(p.B[at:], fold(p.pseudo(len(p.segment()))))
	return p.Partial()
}

// setHeaderChecksum computes the checksum of an IPv4 header of hlen bytes.
func setHeaderChecksum(b []byte, hlen int) {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^fold(sum(b[:hlen], 0)))
}

// replace16 updates the checksum at b[at:] for a 16-bit word that changed from
// old to new (RFC 1624, equation 3).
func replace16(b []byte, at int, old, new uint16) {
	c := ^binary.BigEndian.Uint16(b[at:])
	acc := uint64(c) + uint64(^old) + uint64(new)
	binary.BigEndian.PutUint16(b[at:], ^fold(acc))
}
