package tcptrack

import "github.com/onewaylink/gw/netstack/wire"

// The checks follow Guido van Rooij's "Real Stateful TCP Packet Filtering in IP
// Filter" (2001), on which those of all common firewalls rest: with every
// segment of both directions passing by, the middle knows at least what either
// end knows, so it can tell what neither would send.
const (
	// Slack is the least that a segment may be late by, whatever the windows:
	// MAXACKWINDOW of the paper, a whole unscaled window.
	Slack = 66000
	// overtaken is how far beyond the right edge a segment may begin: the byte by
	// which a closed window is probed and a FIN take up a number each there, and
	// what follows may come before them.
	overtaken = 2
	// maxWindow is the largest window that can be said (RFC 7323 section 2.3).
	maxWindow = 65535 << 14
)

// back is how far behind the highest number known a segment or an
// acknowledgement may be, when window is the largest that was ever open: a
// window for what is in flight, and another for how late it comes. It fits 31
// bits.
func back(window uint32) int32 { return int32(2 * min(max(window, Slack), maxWindow)) }

// inWindow holds a segment against the four bounds of van Rooij's paper.
func (t *Tracker) inWindow(i int, p *wire.Packet) wire.Reason {
	if !t.trusted {
		return wire.OK
	}
	s, o := &t.side[i], &t.side[1-i]
	end := p.Seq + p.SegLen()
	ack := p.Ack
	if p.Flags&wire.ACK == 0 || p.Flags&wire.RST != 0 && ack == 0 {
		ack = o.end
	}
	switch {
	case wire.SeqLess(s.edge+overtaken, p.Seq): // beyond what the receiver allows
	case int32(s.end-end) > back(o.window): // long received
	case wire.SeqLess(o.end, ack) && !o.maySent(ack): // acknowledges what was never sent
	case int32(o.end-ack) > back(s.window): // long acknowledged
	default:
		return wire.OK
	}
	return wire.OutWindow
}

// advance takes a good segment, neither SYN nor RST, into account.
func (t *Tracker) advance(i int, p *wire.Packet) {
	s, o := &t.side[i], &t.side[1-i]
	end := p.Seq + p.SegLen()
	if wire.SeqLess(s.end, end) {
		s.end = end
	}
	if wire.SeqLess(o.end, p.Ack) {
		o.end = p.Ack // see maySent
	}
	if wire.SeqLess(s.edge, end) {
		// It began inside the window, or probes one that is closed; what it
		// proves is kept.
		o.window = min(o.window+(end-s.edge), maxWindow)
		s.edge = end
	}
	win := max(uint32(p.Window)<<s.scale, 1) // a closed window may be probed with one byte
	s.window = max(s.window, win)
	if wire.SeqLess(o.edge, p.Ack+win) {
		o.edge = p.Ack + win
	}
	s.acks(p.Ack)
	s.opens(p.Ack + uint32(p.Window)<<s.scale)
}

// opens notes a right edge that this end has opened.
func (s *side) opens(edge uint32) {
	if !s.opened || wire.SeqLess(s.right, edge) {
		s.opened, s.right = true, edge
	}
}

// acks notes an acknowledgement of this end.
func (s *side) acks(ack uint32) {
	if !s.acked || wire.SeqLess(s.ack, ack) {
		s.acked, s.ack = true, ack
	}
}
