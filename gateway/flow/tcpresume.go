package flow

import "github.com/onewaylink/gw/netstack/wire"

// position is what a record tells of one end.
type position struct {
	known bool
	end   uint32
	scale uint8
	mss   uint16
	sack  bool
}

// resumeWindow bounds the window that an end is taken to have offered before a
// restart: all that its scale can say, since what it offers now may be what is
// left of it. Linux and others offer no more than this unless told to.
const resumeWindow = 64 << 20

// resume begins with what a record tells of a connection. Its positions are at
// most recordBytes and one flight old.
func (t *tracker) resume(ph phase, trusted bool, at [2]position) {
	*t = tracker{phase: ph, trusted: trusted, loose: true}
	for i := range t.side {
		s := &t.side[i]
		s.end, s.scale = at[i].end, at[i].scale
		s.mss, s.sack = at[i].mss, at[i].sack
		s.window = min(uint32(65535)<<s.scale, resumeWindow)
		t.hint[i] = at[i].known
	}
}

// unsettle makes what is known of the connection a record: its packets may have
// passed elsewhere since.
func (t *tracker) unsettle() {
	if t.phase != phaseNone {
		t.resume(t.lasting(), t.recordTrusted(), t.positions())
	}
}

// recordTrusted is whether a record may say that both scales are known, and
// positions what it tells of the ends.
func (t *tracker) recordTrusted() bool { return t.trusted && t.phase != phaseSyn }

func (t *tracker) positions() (at [2]position) {
	for i := range at {
		known := !t.loose || t.hint[i]
		if i == 1 {
			known = known && t.phase != phaseSyn
		}
		s := &t.side[i]
		at[i] = position{known: known, end: s.end, scale: s.scale, mss: s.mss, sack: s.sack}
	}
	return at
}

// relearn finds the positions of a connection of which only a record is known.
// What one packet says is a hint: it counts once the other end's packet fits
// it, so that a single stray segment can't lead the window astray. Until then
// everything near the record passes.
func (t *tracker) relearn(i int, p *wire.Packet) wire.Reason {
	s, o := &t.side[i], &t.side[1-i]
	end := p.Seq + p.SegLen()
	if t.hint[i] && far(end, s.end) || t.hint[1-i] && far(p.Ack, o.end) {
		return wire.OutWindow
	}
	if t.phase == phaseSyn {
		if i == 1 {
			return wire.OK // a challenge ACK, or more of a connection that it can't tell yet
		}
		t.phase = phaseOpen // the SYN-ACK went by without us, and the scales with it
	}
	if !t.heard[i] || wire.SeqLess(s.end, end) {
		s.end = end
	}
	t.heard[i], t.hint[i] = true, true
	s.window = max(s.window, uint32(p.Window)<<s.scale, 1)
	s.acks(p.Ack)
	s.opens(p.Ack + uint32(p.Window)<<s.scale)
	if t.heard[1-i] && fits(s, o) && fits(o, s) {
		t.loose = false
		s.assume(o)
		o.assume(s)
	}
	t.step(i, p)
	return wire.OK
}

// fits reports whether what s has sent and what o acknowledges can be of one
// connection. The acknowledgement may be ahead: s repeats what was lost, and o
// has the rest from before the restart.
func fits(s, o *side) bool {
	d := int64(int32(s.end - o.ack))
	near := int64(o.window) + slack
	return -near <= d && d <= near
}

// assume takes it that s may have sent all that o allows. Less would be wrong:
// before the restart s may have filled the window of o, which then acknowledges
// all of it at once when s repeats the one segment that it missed.
func (s *side) assume(o *side) {
	s.edge = o.ack + o.window + slack
	if wire.SeqLess(s.edge, s.end) {
		s.edge = s.end
	}
	s.may, s.before = s.edge, true
}

// maySent reports whether ack can acknowledge what was sent before a restart.
func (s *side) maySent(ack uint32) bool {
	if !s.before {
		return false
	}
	s.before = wire.SeqLess(s.end, s.may) // no longer when more than that was sent since
	return s.before && !wire.SeqLess(s.may, ack)
}

// far reports whether a and b are further apart than a record can be from its
// connection.
func far(a, b uint32) bool {
	d := int32(a - b)
	return d > recordWindow || d < -recordWindow
}
