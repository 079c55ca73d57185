package tcptrack

import "github.com/onewaylink/gw/netstack/wire"

// End is what a record states of one end.
type End struct {
	Known bool
	Seq   uint32 // the highest sequence number sent, plus one
	Scale uint8  // shifts its windows
	MSS   uint16
	SACK  bool
}

// RecordWindow is how far a connection may be from its record, in bytes.
const RecordWindow = int32(1 << 30)

// ResumeWindow bounds the window that an end is taken to have offered before a
// restart: all that its scale can say, since what it offers now may be what is
// left of it. Linux and others offer no more than this unless told to.
const ResumeWindow = 64 << 20

// Resume begins with what a record tells of a connection. Its positions are at
// most recordBytes and one flight old.
func (t *Tracker) Resume(ph Phase, trusted bool, at [2]End) {
	*t = Tracker{phase: ph, trusted: trusted, loose: true}
	for i := range t.side {
		s := &t.side[i]
		s.end, s.scale = at[i].Seq, at[i].Scale
		s.mss, s.sack = at[i].MSS, at[i].SACK
		s.window = min(uint32(65535)<<s.scale, ResumeWindow)
		t.hint[i] = at[i].Known
	}
}

// Unsettle makes what is known of the connection a record: its packets may have
// passed elsewhere since.
func (t *Tracker) Unsettle() {
	if t.phase != None {
		t.Resume(t.Lasting(), t.RecordTrusted(), t.Recorded())
	}
}

// RecordTrusted is whether a record may say that both scales are known, and
// Recorded what it states of the ends.
func (t *Tracker) RecordTrusted() bool { return t.trusted && t.phase != SynSent }

func (t *Tracker) Recorded() (at [2]End) {
	for i := range at {
		known := !t.loose || t.hint[i]
		if i == 1 {
			known = known && t.phase != SynSent
		}
		s := &t.side[i]
		at[i] = End{Known: known, Seq: s.end, Scale: s.scale, MSS: s.mss, SACK: s.sack}
	}
	return at
}

// relearn finds the positions of a connection of which only a record is known.
// What one packet says is a hint: it counts once the other end's packet fits
// it, so that a single stray segment can't lead the window astray. Until then
// everything near the record passes.
func (t *Tracker) relearn(i int, p *wire.Packet) wire.Reason {
	s, o := &t.side[i], &t.side[1-i]
	end := p.Seq + p.SegLen()
	if t.hint[i] && far(end, s.end) || t.hint[1-i] && far(p.Ack, o.end) {
		return wire.OutWindow
	}
	if t.phase == SynSent {
		if i == 1 {
			return wire.OK // a challenge ACK, or more of a connection that it can't tell yet
		}
		t.phase = Established // the SYN-ACK went by without us, and the scales with it
	}
	if !t.seen[i] || wire.SeqLess(s.end, end) {
		s.end = end
	}
	t.seen[i], t.hint[i] = true, true
	s.window = max(s.window, uint32(p.Window)<<s.scale, 1)
	s.acks(p.Ack)
	s.opens(p.Ack + uint32(p.Window)<<s.scale)
	if t.seen[1-i] && fits(s, o) && fits(o, s) {
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
	near := int64(o.window) + Slack
	return -near <= d && d <= near
}

// assume takes it that s may have sent all that o allows. Less would be wrong:
// before the restart s may have filled the window of o, which then acknowledges
// all of it at once when s repeats the one segment that it missed.
func (s *side) assume(o *side) {
	s.edge = o.ack + o.window + Slack
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
	return d > RecordWindow || d < -RecordWindow
}
