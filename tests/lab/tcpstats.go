package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// TCP flags as they stand on the wire (RFC 9293 section 3.1).
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Segment is what a capture shows of a TCP segment.
type Segment struct {
	Src, Dst netip.AddrPort
	Seq, Ack uint32
	Flags    uint8
	Window   uint16
	// Len is the length of the payload in bytes.
	Len int
	// Payload is what the capture kept of it. It is part of the packet.
	Payload []byte
	// Options are the header's options as they are.
	Options []byte
}

// DecodeTCP reads the headers of a TCP segment out of an IP packet. It knows no
// IPv6 extension headers, and returns false for anything but a whole or first
// piece of a TCP segment.
func DecodeTCP(p Packet) (s Segment, ok bool) {
	b := p.Data
	if len(b) < 20 {
		return s, false
	}
	var src, dst netip.Addr
	var at, length int
	switch b[0] >> 4 {
	case 4:
		at = int(b[0]&15) * 4
		length = int(binary.BigEndian.Uint16(b[2:]))
		if b[9] != 6 || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return s, false
		}
		src, dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	case 6:
		at = 40
		if len(b) < at || b[6] != 6 {
			return s, false
		}
		length = at + int(binary.BigEndian.Uint16(b[4:]))
		src, dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	default:
		return s, false
	}
	if len(b) < at+20 {
		return s, false
	}
	t := b[at:]
	header := int(t[12]>>4) * 4
	if header < 20 || length < at+header {
		return s, false
	}
	return Segment{
		Src: netip.AddrPortFrom(src, binary.BigEndian.Uint16(t)), Dst: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(t[2:])),
		Seq: binary.BigEndian.Uint32(t[4:]), Ack: binary.BigEndian.Uint32(t[8:]),
		Flags: t[13], Window: binary.BigEndian.Uint16(t[14:]),
		Len: length - at - header, Options: t[20:min(header, len(t))],
		Payload: t[min(header, len(t)):min(length-at, len(t))],
	}, true
}

// TCPCounts is what TCPStats has counted.
type TCPCounts struct {
	// Segments is all of them; Data those with payload.
	Segments, Data int
	SYNs, FINs     int
	// RSTs are the resets; Resets quotes the first of them.
	RSTs   int
	Resets []string
	// Retransmits are segments with payload below the highest sequence number seen.
	Retransmits int
	// Bytes is the payload, with what was sent again.
	Bytes int64
	// LongestStall is the longest wait between two segments with payload in one
	// direction of one connection.
	LongestStall time.Duration
	// Sources counts segments by source address.
	Sources map[netip.Addr]int
}

// TCPStats counts TCP segments. Its Each is meant for CaptureConfig.Each.
type TCPStats struct {
	// Only, if set, selects which segments count.
	Only func(Segment) bool

	mu     sync.Mutex
	counts TCPCounts
	flows  map[[2]netip.AddrPort]*oneWay
}

type oneWay struct {
	next uint32
	last time.Time
}

// maxResets is how many resets are quoted.
const maxResets = 10

// Each counts a packet.
func (s *TCPStats) Each(p Packet) {
	seg, ok := DecodeTCP(p)
	if !ok || s.Only != nil && !s.Only(seg) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flows == nil {
		s.flows = map[[2]netip.AddrPort]*oneWay{}
		s.counts.Sources = map[netip.Addr]int{}
	}
	c := &s.counts
	c.Segments++
	c.Sources[seg.Src.Addr()]++
	key := [2]netip.AddrPort{seg.Src, seg.Dst}
	if seg.Flags&SYN != 0 {
		c.SYNs++
		delete(s.flows, key) // a reused tuple is a new flow
	}
	if seg.Flags&FIN != 0 {
		c.FINs++
	}
	if seg.Flags&RST != 0 {
		c.RSTs++
		if len(c.Resets) < maxResets {
			c.Resets = append(c.Resets, fmt.Sprintf("%s %s > %s seq %d ack %d", p.Time.Format("15:04:05.000000"), seg.Src, seg.Dst, seg.Seq, seg.Ack))
		}
	}
	if seg.Len == 0 {
		return
	}
	c.Data++
	c.Bytes += int64(seg.Len)
	end := seg.Seq + uint32(seg.Len)
	f := s.flows[key]
	if f == nil {
		s.flows[key] = &oneWay{next: end, last: p.Time}
		return
	}
	if int32(seg.Seq-f.next) < 0 {
		c.Retransmits++
	}
	if int32(end-f.next) > 0 {
		f.next = end
	}
	c.LongestStall = max(c.LongestStall, p.Time.Sub(f.last))
	f.last = p.Time
}

// Counts is a snapshot.
func (s *TCPStats) Counts() TCPCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Resets = append([]string(nil), c.Resets...)
	c.Sources = map[netip.Addr]int{}
	for k, v := range s.counts.Sources {
		c.Sources[k] = v
	}
	return c
}
