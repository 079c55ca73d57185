package tcptrack

import "github.com/onewaylink/gw/netstack/wire"

// begin notes the SYN or SYN-ACK of this end.
func (s *side) begin(p *wire.Packet) {
	end := p.Seq + p.SegLen()
	*s = side{isn: p.Seq, begun: true, end: end, edge: end, window: max(uint32(p.Window), 1)}
	s.scale, s.scales = p.WindowScale()
	s.mss, s.sack = p.MSS(), p.SACKPermitted()
	if p.Flags&wire.ACK != 0 {
		s.acked, s.ack = true, p.Ack
		s.opens(p.Ack + uint32(p.Window)) // never scaled in a SYN
	}
}

// maxData is more than the data that an IP packet may carry.
const maxData = 1 << 16

// synAckedBy reports whether ack acknowledges the SYN of this end, and no more
// than went with it: the data of a Fast Open need not be (RFC 7413 section
// 4.2.2). Of a SYN that only a record tells of nothing but the end is known, and
// that its data fit a packet.
func (s *side) synAckedBy(ack uint32) bool {
	if !s.begun {
		return s.end-ack <= maxData
	}
	return ack != s.isn && ack-s.isn <= s.end-s.isn
}

// unanswered reports whether nothing but the opener's SYN is known.
func (t *Tracker) unanswered() bool { return t.side[0].begun && !t.side[1].begun }

// Open begins with a SYN from the opener.
func (t *Tracker) Open(p *wire.Packet) {
	*t = Tracker{phase: SynSent, trusted: true}
	t.side[0].begin(p)
}

// syn handles SYN and SYN-ACK, first and repeated. All of them pass. A SYN on a
// connection that is open has to, by RFC 5961 section 4: the end that still
// knows the connection answers by a challenge ACK, and the one that does not
// resets it by that.
func (t *Tracker) syn(i int, p *wire.Packet) {
	s, ack := &t.side[i], p.Flags&wire.ACK != 0
	switch {
	case t.Repeated(i, p):
		t.repeatSYN(i, p)
		if t.phase == Reset && t.unanswered() {
			t.phase = SynSent // the refusal has not reached the opener
		}
	case i == 0 && !ack:
		t.newSYN(p)
	case i == 1 && ack:
		t.answer(p)
	case i == 1 && t.phase == SynSent:
		// Both open at once (RFC 9293 section 3.5).
		s.begin(p)
		t.agree()
	}
}

// repeatSYN handles a SYN or SYN-ACK that was sent before: maybe without its data
// now, with another window, or with an ACK after both ends have opened at once.
func (t *Tracker) repeatSYN(i int, p *wire.Packet) {
	s, o := &t.side[i], &t.side[1-i]
	if end := p.Seq + p.SegLen(); t.phase == SynSent && wire.SeqLess(s.end, end) {
		s.end = end
	}
	s.window = max(s.window, uint32(p.Window))
	from, known := o.isn+1, o.begun
	if p.Flags&wire.ACK != 0 {
		from, known = p.Ack, o.synAckedBy(p.Ack)
	}
	if edge := from + uint32(p.Window); known && wire.SeqLess(o.edge, edge) {
		o.edge = edge
	}
}

// newSYN handles a SYN of the opener that is not the one known.
func (t *Tracker) newSYN(p *wire.Packet) {
	switch {
	case t.phase != SynSent:
		t.again.begin(p)
		t.reopening, t.newer = true, true
	case t.loose:
		// The one that the record tells of, more likely than not; then with data
		// that it leaves out now.
		known, end := t.hint[0], t.side[0].end
		t.Open(p)
		if s := &t.side[0]; known && end-s.isn <= maxData {
			s.end = wire.SeqMax(s.end, end)
		}
	default:
		// A new try from the same port, while the old one may still be answered.
		t.again, t.reopening, t.newer = t.side[0], true, false
		t.side[0].begin(p)
	}
}

// answer handles a SYN-ACK of the end that was called.
func (t *Tracker) answer(p *wire.Packet) {
	o := &t.side[0]
	switch known := o.synAckedBy(p.Ack); {
	case !known && t.reopening && t.again.synAckedBy(p.Ack) && (t.newer || t.phase == SynSent):
		other := Tracker{phase: SynSent, side: [2]side{t.again}}
		if !t.newer {
			other.again, other.reopening, other.newer = *o, true, true
		}
		*t = other
		fallthrough
	case known && t.phase == SynSent:
		t.side[1].begin(p)
		t.agree()
	case known && t.phase == SynReceived && t.loose:
		t.side[1].end, t.hint[1], t.seen[1] = p.Seq+p.SegLen(), false, false
	case known && t.phase == SynReceived:
		// A second answer with another number: the end that was called keeps no
		// state yet (SYN cookies, RFC 4987 section 3.6). Which one the opener
		// takes is seen by what it acknowledges.
		t.side[1].begin(p)
		t.agree()
		t.loose, t.hint, t.seen = true, [2]bool{true, false}, [2]bool{}
	}
}

// ThirdACK takes into account what the opener has sent after its SYN, as another node reports it:
// the third packet of a connection may still be on its way.
func (t *Tracker) ThirdACK(said *wire.Position) {
	if t.phase == SynReceived && !t.loose && t.trusted && said.Ack == t.side[1].end {
		t.Learn(0, *said)
		t.phase = Established
		t.again, t.reopening = side{}, false
	}
}

// agree takes the connection from two SYNs to SynReceived.
func (t *Tracker) agree() {
	o, s := &t.side[0], &t.side[1]
	if !o.begun {
		// A record tells neither, but an answer that scales does the first.
		o.scales, o.window = true, 1<<16-1
	}
	if !o.scales || !s.scales {
		o.scale, s.scale = 0, 0 // RFC 7323 section 1.3: both or neither
	}
	s.edge = s.end + o.window
	o.edge = o.end + s.window
	t.phase, t.trusted, t.loose = SynReceived, true, false
}
