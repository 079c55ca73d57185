package flow

import (
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// phase is where a TCP connection stands, as seen from the middle.
type phase uint8

const (
	phaseNone    phase = iota // not TCP
	phaseSyn                  // SYN seen
	phaseSynAck               // SYN and SYN-ACK seen
	phaseOpen                 // both ends have acknowledged the other's SYN
	phaseHalf                 // one end has said FIN
	phaseClosing              // both have
	phaseTomb                 // both have, and it is acknowledged: only stragglers come now
	phaseReset                // one end has said RST
)

var phaseNames = [...]string{
	phaseNone: "", phaseSyn: "syn-sent", phaseSynAck: "syn-received", phaseOpen: "established",
	phaseHalf: "half-closed", phaseClosing: "closing", phaseTomb: "time-wait", phaseReset: "reset",
}

func (s phase) String() string { return phaseNames[s] }

func (s phase) timeout() time.Duration {
	switch s {
	case phaseSyn, phaseSynAck:
		return timeoutSyn
	case phaseOpen:
		return timeoutOpen
	case phaseHalf:
		return timeoutHalf
	case phaseClosing:
		return timeoutClosing
	case phaseTomb:
		return timeoutTomb
	}
	return timeoutReset
}

// over reports whether the connection has ended, so that the same tuple may open anew.
func (s phase) over() bool { return s == phaseTomb || s == phaseReset }

// side is what one end of a connection has said, after Guido van Rooij's "Real
// Stateful TCP Packet Filtering in IP Filter" (2001), on which the window
// checks of all common firewalls rest.
type side struct {
	// end is the highest sequence number sent, plus one.
	end uint32
	// edge is the highest right edge that the other end has allowed.
	edge uint32
	// window is the largest window that this end has offered, scaled; 0 until
	// this end has been heard.
	window uint32
	// scale shifts this end's windows; scales says that its SYN offered to (RFC
	// 7323 section 2.2).
	scale  uint8
	scales bool
	// fin says that finEnd, one past the FIN, is known, and finAcked that the
	// other end has acknowledged it.
	fin, finAcked bool
	finEnd        uint32
}

// begin notes the SYN or SYN-ACK of this end.
func (s *side) begin(p *wire.Packet) {
	end := p.Seq + p.SegLen()
	*s = side{end: end, edge: end, window: max(uint32(p.Window), 1)}
	s.scale, s.scales = p.WindowScale()
}

// tracker follows one TCP connection from the middle. Index 0 of its sides is
// the opener. It does no I/O and keeps no clock.
type tracker struct {
	phase phase
	side  [2]side
	// trusted says that both SYNs were seen, or that a record tells of them, so
	// that the scales are known. Without them windows can't be checked.
	trusted bool
	// loose says that the positions are not known yet: after a restart, until
	// what both ends say fits together.
	loose bool
	hint  [2]bool   // while loose: end is near the truth
	heard [2]bool   // while loose: this end has spoken
	said  [2]uint32 // while loose: the latest acknowledgement of each end
	// again is the opener's SYN that came while the connection was open, when
	// reopening says so: the opener was restarted and does not know of it.
	again     side
	reopening bool
}

// open begins with a SYN from the opener.
func (t *tracker) open(p *wire.Packet) {
	*t = tracker{phase: phaseSyn, trusted: true}
	t.side[0].begin(p)
}

// position is what a record tells of one end.
type position struct {
	known bool
	end   uint32
	scale uint8
}

// resume begins with what a record tells of a connection. Its positions are at
// most recordBytes and one flight old.
func (t *tracker) resume(ph phase, trusted bool, at [2]position) {
	*t = tracker{phase: ph, trusted: trusted, loose: true}
	if ph < phaseOpen {
		// The rest of the handshake may have gone by without us.
		t.phase = phaseOpen
	}
	for i := range t.side {
		t.side[i].end, t.side[i].scale = at[i].end, at[i].scale
		t.hint[i] = at[i].known
	}
}

// packet judges a segment from side i (0: the opener) and, when it is fine,
// takes it into account.
//
// It must never refuse what a correct TCP sends. Refused are segments outside
// the windows, which belong to no connection or to somebody who guesses.
func (t *tracker) packet(i int, p *wire.Packet) wire.Reason {
	switch {
	case p.Flags&wire.SYN != 0:
		t.syn(i, p)
		return wire.OK
	case t.phase == phaseSyn:
		return t.early(i, p)
	case t.loose:
		return t.relearn(i, p)
	}
	if r := t.inWindow(i, p); r != wire.OK {
		return r
	}
	t.advance(i, p)
	return wire.OK
}

// early judges what is no SYN before the SYN-ACK: the called end may refuse or,
// when it still holds an older connection, answer by a challenge ACK (RFC 5961
// section 4), which the opener answers by a RST.
func (t *tracker) early(i int, p *wire.Packet) wire.Reason {
	switch {
	case i == 1 && p.Flags&wire.RST == 0:
		return wire.OK
	case i == 1:
		// RFC 9293 section 3.10.7.3: it has to acknowledge the SYN.
		if p.Flags&wire.ACK == 0 || p.Ack != t.side[0].end {
			return wire.OutWindow
		}
		t.phase = phaseReset
		return wire.OK
	case p.Flags&wire.RST != 0:
		return wire.OK
	}
	return wire.OutOfState
}

// syn handles SYN and SYN-ACK, first and repeated. All of them pass. A SYN on a
// connection that is open has to, by RFC 5961 section 4: the end that still
// knows the connection answers by a challenge ACK, and the one that does not
// resets it by that.
func (t *tracker) syn(i int, p *wire.Packet) {
	switch {
	case p.Flags&wire.ACK == 0 && i == 0:
		if t.phase == phaseSyn {
			t.side[0].begin(p) // repeated, or a new try from the same port
			return
		}
		t.again.begin(p)
		t.reopening = true
	case p.Flags&wire.ACK != 0 && i == 1:
		if t.reopening && p.Ack == t.again.end {
			*t = tracker{phase: phaseSyn, trusted: true, side: [2]side{t.again}}
		}
		if t.phase != phaseSyn || p.Ack != t.side[0].end {
			return // repeated, or an answer to another SYN
		}
		o, s := &t.side[0], &t.side[1]
		s.begin(p)
		if !o.scales || !s.scales {
			o.scale, s.scale = 0, 0 // RFC 7323 section 1.3: both or neither
		}
		s.edge = s.end + o.window
		o.edge = p.Ack + s.window
		t.phase = phaseSynAck
	}
}

// slack is how far behind an acknowledgement may come: MAXACKWINDOW of the paper.
const slack = 66000

// inWindow holds a segment against the four bounds of van Rooij's paper.
func (t *tracker) inWindow(i int, p *wire.Packet) wire.Reason {
	if !t.trusted {
		return wire.OK
	}
	s, o := &t.side[i], &t.side[1-i]
	if s.window == 0 {
		return wire.OK // this end has not been heard yet
	}
	end := p.Seq + p.SegLen()
	ack := p.Ack
	if p.Flags&wire.ACK == 0 || p.Flags&wire.RST != 0 && ack == 0 {
		ack = o.end
	}
	switch {
	case wire.SeqLess(s.edge, p.Seq): // beyond what the receiver allows
	case wire.SeqLess(end, s.end-o.window-slack): // long received
	case wire.SeqLess(o.end, ack): // acknowledges what was never sent
	case wire.SeqLess(ack, o.end-max(s.window, slack)-slack): // long acknowledged
	default:
		return wire.OK
	}
	return wire.OutWindow
}

// advance takes a good segment into account.
func (t *tracker) advance(i int, p *wire.Packet) {
	s, o := &t.side[i], &t.side[1-i]
	end := p.Seq + p.SegLen()
	if wire.SeqLess(s.end, end) {
		s.end = end
	}
	win := uint32(p.Window) << s.scale
	s.window = max(s.window, win, 1)
	if wire.SeqLess(s.edge, end) {
		// It was inside the window of a moment ago; what it proves is kept.
		o.window += end - s.edge
		s.edge = end
	}
	if p.Flags&wire.ACK != 0 && wire.SeqLess(o.edge, p.Ack+max(win, 1)) {
		o.edge = p.Ack + max(win, 1) // a closed window may be probed with one byte
	}
	t.step(i, p, end)
}

// step moves the phase.
func (t *tracker) step(i int, p *wire.Packet, end uint32) {
	s, o := &t.side[i], &t.side[1-i]
	if p.Flags&wire.RST != 0 {
		t.phase = phaseReset
		return
	}
	if p.Flags&wire.FIN != 0 {
		s.fin, s.finEnd = true, end
	}
	if o.fin && p.Flags&wire.ACK != 0 && !wire.SeqLess(p.Ack, o.finEnd) {
		o.finAcked = true
	}
	switch {
	case s.finAcked && o.finAcked:
		t.phase = phaseTomb
	case s.fin && o.fin:
		t.phase = phaseClosing
	case s.fin || o.fin:
		t.phase = phaseHalf
	case t.phase == phaseSynAck && i == 0:
		t.phase = phaseOpen
	}
}

// relearn finds the positions of a connection of which only a record is known.
// What one packet says is a hint: it counts once the other end's packet fits
// it, so that a single stray segment can't lead the window astray. Until then
// everything near the record passes.
func (t *tracker) relearn(i int, p *wire.Packet) wire.Reason {
	s, o := &t.side[i], &t.side[1-i]
	end := p.Seq + p.SegLen()
	if t.hint[i] && far(end, s.end) {
		return wire.OutWindow
	}
	if p.Flags&wire.ACK == 0 {
		t.step(i, p, end) // a RST
		return wire.OK
	}
	if t.hint[1-i] && far(p.Ack, o.end) {
		return wire.OutWindow
	}
	if !t.heard[i] || wire.SeqLess(s.end, end) {
		s.end = end
	}
	t.heard[i], t.hint[i] = true, true
	t.said[i] = p.Ack
	win := uint32(p.Window) << s.scale
	s.window = max(s.window, win, 1)
	// Both ends heard, and each acknowledges what the other has sent, not more
	// and not long ago.
	if t.heard[1-i] {
		behind, ahead := s.end-t.said[1-i], o.end-t.said[i]
		if behind <= o.window+slack && ahead <= s.window+slack {
			t.loose = false
			s.edge = t.said[1-i] + max(o.window, s.end-t.said[1-i])
			o.edge = t.said[i] + max(s.window, o.end-t.said[i])
		}
	}
	t.step(i, p, end)
	return wire.OK
}

// far reports whether a and b are further apart than a record can be from its
// connection.
func far(a, b uint32) bool {
	d := int32(a - b)
	return d > recordWindow || d < -recordWindow
}
