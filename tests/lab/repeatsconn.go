package lab

import (
	"fmt"
	"slices"
	"time"
)

// connection is one incarnation of a tuple, as two wires show it.
type connection struct {
	number int       // 1 for the first that was opened
	ends   [2]end    // by side
	last   time.Time // when it last sent a segment, at either end
	closed time.Time
}

// end is what one end of a connection has sent so far, and what of it has
// arrived at the other end.
type end struct {
	opened   bool // it has sent a SYN
	isn      uint32
	answered bool // it has sent a SYN with an ACK
	window   int  // the largest in a SYN
	options  tcpOptions

	bytes     stream
	acks      bool    // it has acknowledged anything
	ack, edge int64   // the highest; positions of the other end
	fins      []int64 // positions of its FINs; a correct end has one
	high      int64   // behind the last position that it has named
	resets    []uint32
	urgent    bool
	stamp     uint32 // the latest
	delivered ranges // of its bytes, at the other end, or so that has acknowledged
	// absurd are SACK blocks that it has sent and that name no bytes: empty ones, and
	// ones upside down.
	absurd map[[2]uint32]bool
}

// unwrap turns a sequence number of this end into a position.
func (e *end) unwrap(seq uint32) int64 { return e.bytes.top + int64(int32(seq-uint32(e.bytes.top))) }

// ended reports whether the end has sent a FIN that the other has acknowledged.
func (e *end) ended(o *end) bool {
	return slices.ContainsFunc(e.fins, func(fin int64) bool { return o.ack > fin })
}

// epochs keeps positions positive, however far below its first a number may lie.
const epochs = 1 << 33

// send records a segment that the end at side x has sent.
func (c *connection) send(x int, s *Segment, at time.Time) {
	e, o := &c.ends[x], &c.ends[1-x]
	opts := parseOptions(s.Options)
	c.last = at
	if s.Flags&RST != 0 {
		if !slices.Contains(e.resets, s.Seq) {
			e.resets = append(e.resets, s.Seq)
		}
		c.close(at)
	}
	if s.Flags&SYN != 0 {
		if !e.opened || e.isn != s.Seq {
			*e = end{opened: true, isn: s.Seq, resets: e.resets}
			e.bytes.start = epochs + int64(s.Seq) + 1
			e.bytes.top = e.bytes.start
		}
		e.options = opts
		e.window = max(e.window, int(s.Window))
		e.answered = e.answered || s.Flags&ACK != 0
	}
	if s.Flags&ACK != 0 && o.opened {
		ack := o.unwrap(s.Ack)
		edge := ack + int64(s.Window)<<e.shift(s, o)
		if !e.acks {
			e.acks, e.ack, e.edge = true, ack, edge
		}
		e.ack, e.edge = max(e.ack, ack), max(e.edge, edge)
		for _, b := range opts.selected {
			if absurd(b) {
				if e.absurd == nil {
					e.absurd = make(map[[2]uint32]bool)
				}
				e.absurd[b] = true
				continue
			}
			lo := o.unwrap(b[0])
			o.delivered.add(lo, lo+int64(b[1]-b[0]))
		}
		if e.ended(o) && o.ended(e) {
			c.close(at)
		}
	}
	if !e.opened {
		return
	}
	pos := e.unwrap(s.Seq)
	if s.Flags&SYN != 0 {
		pos++ // its bytes follow it
	}
	if s.Flags&RST == 0 { // what a reset carries is no part of the stream
		e.bytes.write(pos, s.Payload)
	}
	until := pos + int64(s.Len)
	if s.Flags&FIN != 0 {
		if !slices.Contains(e.fins, until) {
			e.fins = append(e.fins, until)
		}
		until++
	}
	e.high = max(e.high, until)
	e.urgent = e.urgent || s.Flags&URG != 0
	if opts.stamped && (e.stamp == 0 || int32(opts.stamp-e.stamp) > 0) {
		e.stamp = opts.stamp
	}
}

// close notes when the connection ended.
func (c *connection) close(at time.Time) {
	if c.closed.IsZero() {
		c.closed = at
	}
}

// shift is by how much the end's window is scaled: if both ends have sent the
// option, and never in a SYN (RFC 7323 section 2.2).
func (e *end) shift(s *Segment, o *end) int {
	if s.Flags&SYN != 0 || e.options.scale < 0 || o.options.scale < 0 {
		return 0
	}
	return e.options.scale
}

// receive judges a segment that has arrived from the end at side x, and returns what
// is wrong with it. Empty is nothing.
func (c *connection) receive(x int, s *Segment) string {
	e, o := &c.ends[x], &c.ends[1-x]
	opts := parseOptions(s.Options)
	if s.Flags&RST != 0 {
		if !slices.Contains(e.resets, s.Seq) {
			return "a RST that the other had not sent"
		}
		return ""
	}
	if !e.opened {
		return "the other had not sent a SYN"
	}
	pos := e.unwrap(s.Seq)
	if s.Flags&SYN != 0 {
		if why := e.receiveSYN(s, opts); why != "" {
			return why
		}
		pos++
	}
	if s.Flags&FIN != 0 && !slices.Contains(e.fins, pos+int64(s.Len)) {
		return "a FIN that the other had not sent"
	}
	if s.Flags&URG != 0 && !e.urgent {
		return "a URG flag, and the other had sent no urgent data"
	}
	switch d := e.bytes.compare(pos, s.Payload); {
	case d == different:
		return "other bytes than the other had sent there"
	case d == unsent:
		return fmt.Sprintf("bytes that the other had not sent: its last was at %d", uint32(e.bytes.top-1))
	case d == forgotten && !e.bytes.dropped: // a reset that the other end did not believe, and a timer of minutes
		return fmt.Sprintf("bytes that lie %d behind the other's last", e.bytes.top-pos)
	case pos+int64(s.Len) > e.high:
		return fmt.Sprintf("a sequence number beyond the other's, which was %d", uint32(e.high))
	}
	if opts.stamped && int32(opts.stamp-e.stamp) > 0 {
		return fmt.Sprintf("a timestamp %d beyond the other's last", opts.stamp-e.stamp)
	}
	until := pos + int64(s.Len)
	if s.Flags&FIN != 0 {
		until++ // which may be selected, too
	}
	e.delivered.add(pos, until)
	if s.Flags&ACK != 0 {
		return e.receiveACK(s, o, opts)
	}
	return ""
}

func (e *end) receiveSYN(s *Segment, opts tcpOptions) string {
	switch {
	case s.Seq != e.isn:
		return fmt.Sprintf("a SYN that the other had not sent: its own began at %d", e.isn)
	case s.Flags&ACK != 0 && !e.answered:
		return "a SYN with an ACK, and the other had sent one without"
	case int(s.Window) > e.window:
		return fmt.Sprintf("a window of %d in a SYN, the other's was %d", s.Window, e.window)
	case opts.scale != e.options.scale:
		return fmt.Sprintf("window scale %d, the other's was %d", opts.scale, e.options.scale)
	case opts.mss > e.options.mss:
		return fmt.Sprintf("an MSS of %d, the other's was %d", opts.mss, e.options.mss)
	case opts.sackOK && !e.options.sackOK:
		return "SACK permitted, and the other had not permitted it"
	case opts.stamped && !e.options.stamped:
		return "timestamps that the other had not offered"
	}
	return ""
}

func (e *end) receiveACK(s *Segment, o *end, opts tcpOptions) string {
	if !e.acks {
		return "an ACK, and the other had acknowledged nothing"
	}
	ack := o.unwrap(s.Ack)
	if ack > e.ack {
		return fmt.Sprintf("acknowledges %d bytes beyond what the other had", ack-e.ack)
	}
	if edge := ack + int64(s.Window)<<e.shift(s, o); edge > e.edge {
		return fmt.Sprintf("a right window edge %d bytes beyond the other's", edge-e.edge)
	}
	for _, b := range opts.selected {
		lo := o.unwrap(b[0])
		if absurd(b) && !e.absurd[b] || !absurd(b) && !o.delivered.covers(lo, lo+int64(b[1]-b[0])) {
			return fmt.Sprintf("a SACK block from %d to %d, which the other had not received", b[0], b[1])
		}
	}
	return ""
}

// absurd reports whether a SACK block names no bytes.
func absurd(b [2]uint32) bool { return int32(b[1]-b[0]) <= 0 }
