package wire

import (
	"bytes"
	"encoding/binary"
)

// maxJoin bounds how many segments become one super-segment: 64 KB in segments
// of Ethernet size, and a length that one writev takes easily.
const maxJoin = 64

// Joined is a run of TCP segments that follow each other and differ in nothing
// else, to be written to a device as one super-segment (GRO, done by us). The
// zero value is empty. It refers to the bytes of the packets added.
type Joined struct {
	first Packet
	vec   [maxJoin][]byte
	n     int
	size  int // payload bytes of the first segment, and of all but the last
	total int // bytes of the super-segment
	next  uint32
	psh   bool
	shut  bool // nothing may follow
	// partial reports that the first segment's checksum is not finished; good that
	// its payload is known to be, by that or by its checksum.
	partial, good bool
}

// Start begins a run with p, a TCP segment. partial reports that its checksum field
// holds the sum of the pseudo-header only: see Packet.IsPartial. Whatever the run
// held is forgotten.
func (j *Joined) Start(p *Packet, partial bool) {
	j.first = *p
	j.vec[0] = p.B
	j.n = 1
	j.size = len(p.B) - p.Data
	j.total = len(p.B)
	j.next = p.Seq + uint32(j.size)
	j.psh = false
	j.partial, j.good = partial, partial
	j.shut = !joinable(p) || p.Flags&PSH != 0
}

// joinable reports whether a segment may be part of a run at all: plain data.
func joinable(p *Packet) bool {
	return p.Flags&^(ACK|PSH) == 0 && len(p.B) > p.Data
}

// Add appends p to the run if it continues it, and reports whether it did.
//
// A joined segment gets a new checksum, which would make damage look good: where
// those of the segments are finished they are verified, and one that doesn't
// hold is not joined. Alone it is left to its receiver.
func (j *Joined) Add(p *Packet, partial bool) bool {
	f := &j.first
	n := len(p.B) - p.Data
	switch {
	case j.n == 0 || j.shut || j.n == maxJoin,
		p.V6 != f.V6 || p.L4 != f.L4 || p.Data != f.Data,
		p.Seq != j.next || !joinable(p),
		n > j.size || j.total+n > 65535,
		!bytes.Equal(p.B[p.L4:p.L4+4], f.B[f.L4:f.L4+4]),                     // ports
		!bytes.Equal(p.B[p.L4+8:p.L4+13], f.B[f.L4+8:f.L4+13]),               // acknowledgement, header length, reserved bits
		!bytes.Equal(p.B[p.L4+14:p.L4+16], f.B[f.L4+14:f.L4+16]),             // window
		!bytes.Equal(p.B[p.L4+TCPHeader:p.Data], f.B[f.L4+TCPHeader:f.Data]), // options
		!sameIP(p, f):
		return false
	case !j.good && !f.ChecksumOK():
		j.shut = true
		return false
	case !partial && !p.ChecksumOK():
		return false
	}
	j.good = true
	j.vec[j.n] = p.B[p.Data:]
	j.n++
	j.total += n
	j.next += uint32(n)
	if p.Flags&PSH != 0 {
		j.psh = true
	}
	j.shut = n < j.size || j.psh
	return true
}

// sameIP compares what must be alike in the IP headers of one run: addresses,
// traffic class, hop limit, and for IPv4 DF and the absence of options.
func sameIP(a, b *Packet) bool {
	if a.V6 {
		return a.L4 == IPv6Header && bytes.Equal(a.B[0:4], b.B[0:4]) && a.B[7] == b.B[7] && bytes.Equal(a.B[8:40], b.B[8:40])
	}
	return a.L4 == IPv4Header && a.B[1] == b.B[1] && a.B[8] == b.B[8] && a.DF && b.DF && bytes.Equal(a.B[12:20], b.B[12:20])
}

// Len returns the number of packets in the run.
func (j *Joined) Len() int { return j.n }

// Finish edits the headers of the first segment so that it stands for the whole
// run, and returns the parts of the super-segment in order and what is left to
// the device. A run of one is that packet as it was. The result is valid until
// Start or Release is called.
func (j *Joined) Finish() ([][]byte, Offload) {
	f := &j.first
	if j.n == 1 {
		if j.partial {
			return j.vec[:1], f.Partial()
		}
		return j.vec[:1], Offload{}
	}
	if j.psh {
		f.B[f.L4+13] |= PSH
	}
	if f.V6 {
		binary.BigEndian.PutUint16(f.B[4:], uint16(j.total-IPv6Header))
	} else {
		binary.BigEndian.PutUint16(f.B[2:], uint16(j.total))
		setHeaderChecksum(f.B, f.L4)
	}
	o := f.Partial()
	binary.BigEndian.PutUint16(f.B[f.L4+int(o.CsumOffset):], fold(f.pseudo(j.total-f.L4)))
	o.GSOSize, o.HdrLen = uint16(j.size), uint16(f.Data)
	return j.vec[:j.n], o
}

// Release lets go of the packets, so that nothing is kept from being freed.
func (j *Joined) Release() {
	clear(j.vec[:j.n])
	j.first.B = nil
	j.n = 0
}
