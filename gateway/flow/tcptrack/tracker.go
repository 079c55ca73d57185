package tcptrack

import (
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// Phase is where a TCP connection stands, as seen from the middle.
type Phase uint8

// The phases, in the order in which a record numbers them.
const (
	None        Phase = iota // not TCP
	SynSent                  // SYN seen
	SynReceived              // SYN and SYN-ACK seen
	Established              // both ends have acknowledged the other's SYN
	HalfClosed               // one end has sent FIN
	Closing                  // both have
	TimeWait                 // both have, and it is acknowledged: only late copies still arrive
	Reset                    // one end has sent RST
)

var phaseNames = [...]string{
	None: "", SynSent: "syn-sent", SynReceived: "syn-received", Established: "established",
	HalfClosed: "half-closed", Closing: "closing", TimeWait: "time-wait", Reset: "reset",
}

func (p Phase) String() string { return phaseNames[p] }

// Timeout returns for how long a connection may be silent in this phase before it is forgotten. The
// time-outs are generous: a connection kept too long costs memory, one forgotten too early is lost.
func (p Phase) Timeout() time.Duration {
	switch p {
	case SynSent, SynReceived:
		return 130 * time.Second // Linux gives up a SYN after 127 s
	case Established:
		return 5 * 24 * time.Hour // RFC 5382 REQ-5 asks for at least 2 h 4 min
	case HalfClosed:
		return 12 * time.Hour // the other end may still have much to send
	case Closing:
		return 4 * time.Minute // RFC 5382 REQ-5: at least 4 minutes
	case TimeWait:
		return 2 * time.Minute // RFC 9293 section 3.4.2: 2 MSL is four minutes, Linux takes one
	}
	return 2 * time.Minute // an end repeats a lost RST when the other one sends
}

// Over reports whether the connection has ended, so that the same tuple may open again.
func (p Phase) Over() bool { return p == TimeWait || p == Reset }

// side is what one end of a connection has sent.
type side struct {
	// isn is the sequence number of the SYN, when begun says that it was seen.
	isn   uint32
	begun bool
	// end is the highest sequence number sent, plus one.
	end uint32
	// may is, while before says so, how much it may have sent before a restart
	// without our knowing; see Tracker.relearn.
	may    uint32
	before bool
	// edge is the highest right edge that the other end has allowed.
	edge uint32
	// window is the largest window that this end has offered, scaled.
	window uint32
	// scale shifts this end's windows; scales says that its SYN offered to (RFC
	// 7323 section 2.2).
	scale  uint8
	scales bool
	// acked says that ack holds the highest acknowledgement of this end.
	acked bool
	ack   uint32
	// opened says that right is the highest right edge that this end has opened for
	// the other, exactly. edge is that of the other way, with some room for error.
	opened bool
	right  uint32
	// mss and sack are what its SYN offered.
	mss  uint16
	sack bool
	// fin says that finEnd, one past the FIN, is known, and finAcked that the
	// other end has acknowledged it.
	fin, finAcked bool
	finEnd        uint32
}

// Tracker follows one TCP connection from the middle. Index 0 of its sides is
// the opener. It does no I/O and keeps no clock.
type Tracker struct {
	phase Phase
	side  [2]side
	// trusted says that both SYNs were seen, or that a record tells of them, so
	// that the scales are known. Without them windows can't be checked.
	trusted bool
	// loose says that the positions are not known yet: after a restart, until
	// what both ends say fits together.
	loose bool
	hint  [2]bool // while loose: end is near the truth
	seen  [2]bool // while loose: this end has spoken
	// again is another SYN of the opener, when reopening says so. Either it is
	// newer: it came while the connection was open, since the opener was
	// restarted and does not know of it. Or it is that of an earlier try, which may
	// be answered before this one is.
	again            side
	reopening, newer bool
	// was is the phase before a RST that may not be believed, when doubted says so.
	was     Phase
	doubted bool
}

// Packet judges a segment from side i (0: the opener) and, when it is fine,
// takes it into account.
//
// It must never refuse what a correct TCP sends. Refused are segments outside
// the windows, which belong to no connection or to somebody who guesses.
func (t *Tracker) Packet(i int, p *wire.Packet) wire.Reason {
	switch {
	case p.Flags&wire.SYN != 0:
		t.syn(i, p)
		return wire.OK
	case p.Flags&wire.RST != 0:
		return t.rst(i, p)
	case t.loose:
		return t.relearn(i, p)
	case t.unanswered():
		// Nothing but the SYN-ACK brings the connection about. The end that was
		// called may still hold an older one and answer by a challenge ACK (RFC
		// 5961 section 4), which the opener answers by a RST.
		if i == 0 {
			return wire.OutOfState
		}
		return wire.OK
	}
	if r := t.inWindow(i, p); r != wire.OK {
		return r
	}
	t.advance(i, p)
	t.step(i, p)
	return wire.OK
}

// step moves the phase by a good segment, neither SYN nor RST.
func (t *Tracker) step(i int, p *wire.Packet) {
	s, o := &t.side[i], &t.side[1-i]
	if p.Flags&wire.FIN != 0 {
		s.fin, s.finEnd = true, p.Seq+p.SegLen()
	}
	if o.fin && !wire.SeqLess(p.Ack, o.finEnd) {
		o.finAcked = true
	}
	if t.phase == Reset {
		if !t.doubted {
			return
		}
		t.phase, t.doubted = t.was, false // it was not believed
	}
	if t.phase == SynReceived && i == 0 {
		t.phase = Established
		t.again, t.reopening = side{}, false // the opener has agreed to the answer
	}
	t.fins(s, o)
}

// Position returns what side i has sent, as far as the tracker knows.
func (t *Tracker) Position(i int) wire.Position {
	s := &t.side[i]
	return wire.Position{
		End: s.end, Fin: s.fin && s.end == s.finEnd, Ack: s.ack, Edge: s.right, Scale: s.scale, MSS: s.mss,
	}
}

// Learn takes into account what side i has sent, as another node reports it: no packet of it
// passed here. It returns how many bytes are new.
func (t *Tracker) Learn(i int, said wire.Position) (n uint32) {
	s, o := &t.side[i], &t.side[1-i]
	if wire.SeqLess(s.end, said.End) {
		n = said.End - s.end
		s.end = said.End
	}
	if said.Fin {
		s.fin, s.finEnd = true, said.End
	}
	if wire.SeqLess(s.edge, s.end) {
		s.edge = s.end
	}
	if wire.SeqLess(o.end, said.Ack) {
		o.end = said.Ack // see maySent
	}
	o.edge = wire.SeqMax(o.edge, said.Edge)
	s.window = max(s.window, said.Edge-said.Ack)
	s.acks(said.Ack)
	s.opens(said.Edge)
	if o.fin && !wire.SeqLess(said.Ack, o.finEnd) {
		o.finAcked = true
	}
	t.fins(s, o)
	return n
}

// fins moves the phase by the FINs of both sides.
func (t *Tracker) fins(s, o *side) {
	switch {
	case s.finAcked && o.finAcked:
		t.phase = TimeWait
	case s.fin && o.fin:
		t.phase = Closing
	case s.fin || o.fin:
		t.phase = HalfClosed
	}
}

// rst judges a segment with RST.
//
// An end believes a RST that says exactly the sequence number that it waits
// for, or in SYN-SENT one that acknowledges its SYN; one that is merely inside
// the window it answers by a challenge ACK (RFC 5961 section 3.2, RFC 9293
// section 3.10.7.3). What it waits for is the highest number that it has
// acknowledged, or, where that acknowledgement is yet to come, what was sent.
// Nothing but silence tells whether it believed any other.
func (t *Tracker) rst(i int, p *wire.Packet) wire.Reason {
	s, o := &t.side[i], &t.side[1-i]
	refusal := i == 1 && p.Flags&wire.ACK != 0
	refusesAgain := refusal && t.reopening && t.again.synAckedBy(p.Ack)
	switch {
	case t.unanswered():
		if i == 0 {
			return wire.OK // answers a challenge ACK about an older connection
		}
		if !refusesAgain && !(refusal && o.synAckedBy(p.Ack)) {
			return wire.OutWindow
		}
		t.phase, t.doubted = Reset, false
		return wire.OK
	case refusesAgain:
		// The end that was called has forgotten the connection too.
		t.phase, t.doubted = Reset, false
		return wire.OK
	case t.loose:
		if t.hint[i] && far(p.Seq, s.end) {
			return wire.OutWindow
		}
	default:
		if r := t.inWindow(i, p); r != wire.OK {
			return r
		}
	}
	if t.phase == TimeWait || t.phase == Reset && !t.doubted {
		return wire.OK
	}
	if !t.doubted {
		t.was = t.phase
	}
	exact := !t.loose && (p.Seq == s.end || o.acked && p.Seq == o.ack)
	t.phase, t.doubted = Reset, !exact
	return wire.OK
}

// Repeated reports whether the SYN p is one that opened this connection.
func (t *Tracker) Repeated(i int, p *wire.Packet) bool {
	return t.side[i].begun && p.Seq == t.side[i].isn
}

// Lasting is the phase that a record tells of: that of a connection whose RST is
// doubted is the one that it goes on in.
func (t *Tracker) Lasting() Phase {
	if t.doubted {
		return t.was
	}
	return t.phase
}
