package rule

import "github.com/onewaylink/gw/netstack/wire"

import "time"

// Acknowledgements are told in steps while much is under way: those that come from
// the far database arrive in bunches as large as the trunk's segments, which the
// near kernel's HyStart (RFC 9406) would take for a growing round trip, and end its
// slow start early. HyStart looks at an eighth of the round trip, and from 4 ms on.
const (
	maxSpacing = 5 * time.Millisecond
	spacedMSS  = 16 // segments that would still be outstanding
)

// maxShown is how many SACK blocks that the near database has seen are remembered.
const maxShown = 16

// Gate holds what a leg says to the near database to what the far one has said. A
// leg is an endpoint that stands in for the far database. The Gate does no I/O,
// keeps no clock and no lock.
//
// All numbers are in wire space, the databases' own, but for those of the leg's
// outgoing sequence space, which differ by a constant.
type Gate struct {
	delta     uint32 // from the leg's sequence numbers to the wire's
	legScale  uint8
	nearScale uint8
	farScale  uint8
	nearMSS   uint32

	// What the far database has said, as far as heard.
	farAck, farEdge uint32
	// reach bounds how far the right edge may be beyond the far acknowledgement: what
	// is held between the two is resent after a kill. 0 is no bound.
	reach uint32

	// What the leg says it has received, and would take.
	legAck, legEdge uint32
	legKnown        bool
	// nearMark is where the near database's bytes began to be the leg's.
	nearMark uint32
	// finAt is the number of the near database's FIN, which the leg never sees.
	fin   bool
	finAt uint32

	// What the leg may send: [mark, fed) are the far database's bytes, if mark is not
	// long ago. sent is the
	// highest number that it has, plus one; una what it has been told is acknowledged.
	mark, fed, sent, una uint32

	// What the near database has said.
	nearEnd, nearAck, nearEdge uint32

	// What it has been told, and when there was last something new in it.
	toldAck, toldEdge uint32
	toldAt, spacing   time.Duration
	shown             []wire.Block
}

// NewGate makes the gate of a connection whose bytes from the far database begin,
// for the leg, at mark. It can say nothing before Ready.
func NewGate(c *wire.Connection) Gate {
	n, f := &c.NearSaid, &c.FarSaid
	return Gate{
		nearScale: n.Scale, farScale: f.Scale, nearMSS: uint32(max(n.MSS, 1)),
		farAck: f.Ack, farEdge: f.Edge,
		legAck: n.End, legEdge: n.End, nearMark: n.End,
		nearEnd: n.End, nearAck: n.Ack, nearEdge: n.Edge,
		toldAck: f.Ack, toldEdge: f.Edge, toldAt: -maxSpacing, spacing: maxSpacing,
	}
}

// follow keeps a mark that nothing falls below any more within half of sequence space
// of where its direction stands: beyond that it would look like one yet to come.
func follow(mark *uint32, now uint32) {
	const behind = 1 << 30
	if now-*mark > behind {
		*mark = now - behind/2
	}
}

// LegScale says by how much the leg shifts its windows.
func (g *Gate) LegScale(shift uint8) { g.legScale = shift }

// Begin says from which number on the far database's bytes are the leg's. iss is
// the leg's own initial sequence number.
func (g *Gate) Begin(mark, iss uint32) {
	g.mark, g.fed, g.sent, g.una = mark, mark, mark, mark
	g.delta = mark - (iss + 1)
}

// LegHas takes what the leg says of its receiving side: the acknowledgement, and
// the window as it stands in the segment.
func (g *Gate) LegHas(ack uint32, window uint16) {
	if !g.legKnown || wire.SeqLess(g.legAck, ack) {
		g.legAck = ack
		follow(&g.nearMark, ack)
	}
	if edge := ack + uint32(window)<<g.legScale; !g.legKnown || wire.SeqLess(g.legEdge, edge) {
		g.legEdge = edge
	}
	g.legKnown = true
}

// HeardFar takes an acknowledgement and a right edge of the far database.
func (g *Gate) HeardFar(ack, edge uint32) (moved bool) {
	if wire.SeqLess(g.farAck, ack) {
		g.farAck, moved = ack, true
	}
	if wire.SeqLess(g.farEdge, edge) {
		g.farEdge, moved = edge, true
	}
	return moved
}

// HeardNear takes an acknowledgement and a right edge of the near database, and
// reports whether one of them is news.
func (g *Gate) HeardNear(ack, edge uint32) (moved bool) {
	if wire.SeqLess(g.nearAck, ack) {
		g.nearAck, moved = ack, true
	}
	if wire.SeqLess(g.nearEdge, edge) {
		g.nearEdge, moved = edge, true
	}
	return moved
}

// SentNear takes the end of a segment of the near database.
func (g *Gate) SentNear(end uint32) { g.nearEnd = wire.SeqMax(g.nearEnd, end) }

// FinNear takes the number of the near database's FIN.
func (g *Gate) FinNear(at uint32) { g.fin, g.finAt = true, at }

// Feed says that the far database's next n bytes are given to the leg.
func (g *Gate) Feed(n int) { g.fed += uint32(n) }

// SetReach bounds the right edge to n bytes beyond the far acknowledgement. An edge
// that has been told is not taken back.
func (g *Gate) SetReach(n uint32) { g.reach = n }

// SetSpacing suits the spacing of acknowledgements to the round trip to the other
// gateway: over a short way there is nothing to hide.
func (g *Gate) SetSpacing(rtt time.Duration) { g.spacing = min(rtt/8, maxSpacing) }

// Spacing is how far apart acknowledgements are told.
func (g *Gate) Spacing() time.Duration { return g.spacing }

// FarAck, NearAck, NearEdge, Fed and Received are where both directions stand. Mark and
// NearMark are where the leg's bytes begin in either, if that is not long ago.
func (g *Gate) FarAck() uint32   { return g.farAck }
func (g *Gate) NearAck() uint32  { return g.nearAck }
func (g *Gate) NearEdge() uint32 { return g.nearEdge }
func (g *Gate) NearEnd() uint32  { return g.nearEnd }
func (g *Gate) Fed() uint32      { return g.fed }
func (g *Gate) Mark() uint32     { return g.mark }
func (g *Gate) NearMark() uint32 { return g.nearMark }
func (g *Gate) FinAt() uint32    { return g.finAt }

// Received is what the leg has received of the near database, its FIN included.
func (g *Gate) Received() uint32 {
	if g.fin && g.legAck == g.finAt {
		return g.finAt + 1
	}
	return g.legAck
}

// may is the most that may be told now: no acknowledgement above what the far
// database has acknowledged and the leg has received, no right edge beyond the far
// database's. Neither goes back.
func (g *Gate) may() (ack, edge uint32) {
	ack, edge = g.farAck, g.farEdge
	if got := g.Received(); wire.SeqLess(got, ack) {
		ack = got
	}
	if !wire.SeqLess(g.toldAck, ack) {
		ack = g.toldAck
	}
	// A kernel whose acknowledgement stops inside a block that it has been shown as
	// received takes that for reneging (RFC 2018 section 8) and resends a window.
	for _, b := range g.shown {
		if !wire.SeqLess(ack, b.Start) && wire.SeqLess(ack, b.End) {
			ack = g.toldAck
		}
	}
	if g.reach > 0 && wire.SeqLess(g.farAck+g.reach, edge) {
		edge = g.farAck + g.reach
	}
	if wire.SeqLess(g.legEdge, edge) {
		edge = g.legEdge
	}
	return ack, wire.SeqMax(edge, g.toldEdge)
}

// Due reports whether there is something new to tell, and if so how long to wait
// before it is told.
func (g *Gate) Due(now time.Duration) (wait time.Duration, news bool) {
	ack, edge := g.may()
	if ack == g.toldAck && edge == g.toldEdge {
		return 0, false
	}
	if since := now - g.toldAt; since < g.spacing && int32(g.nearEnd-ack) > int32(spacedMSS*g.nearMSS) {
		return g.spacing - since, true
	}
	return 0, true
}

// window is the field for an edge, as the far database would say it.
func (g *Gate) window(ack, edge uint32) uint16 { return wire.WindowField(ack, edge, g.farScale) }

func (g *Gate) tell(now time.Duration) {
	ack, edge := g.may()
	if ack != g.toldAck || edge != g.toldEdge {
		g.toldAck, g.toldEdge, g.toldAt = ack, edge, now
	}
	kept := g.shown[:0]
	for _, b := range g.shown {
		if wire.SeqLess(g.toldAck, b.End) {
			kept = append(kept, b)
		}
	}
	g.shown = kept
}

// Tell returns the acknowledgement, without payload, that tells what may be told.
//
// Its sequence number is the highest that the near database can know: a kernel
// drops one below what it has acknowledged as out of window.
func (g *Gate) Tell(now time.Duration) wire.Segment {
	g.tell(now)
	return wire.Segment{Seq: wire.SeqMax(g.sent, g.nearAck), Ack: g.toldAck, Window: g.window(g.toldAck, g.toldEdge), Flags: wire.ACK}
}

// Fin returns the far database's FIN, which follows all that it has sent.
func (g *Gate) Fin(now time.Duration) wire.Segment {
	s := g.Tell(now)
	s.Seq, s.Flags = g.fed, wire.FIN|wire.ACK
	return s
}

// Out judges a segment of the leg with n bytes of payload, and brings it into the
// wire's terms. It reports false for what must not go out: what the far database has
// not said, or nothing new. The leg's options are left out: its SACK blocks are bytes
// that the far database has not acknowledged, and may never get from here, so that
// the near one must not think that it has them.
func (g *Gate) Out(now time.Duration, s *wire.Segment, n int) bool {
	if s.Flags&(wire.SYN|wire.FIN|wire.RST) != 0 {
		return false
	}
	seq := s.Seq + g.delta
	wait, news := g.Due(now)
	if n == 0 {
		if !news || wait > 0 {
			return false
		}
		*s = g.Tell(now)
		return true
	}
	// netstack probes a closed window by an invented byte at the last number that has
	// been acknowledged; that a segment is new says that its bytes are the far
	// database's.
	if end := seq + uint32(n); wire.SeqLess(seq, g.mark) || wire.SeqLess(g.fed, end) || !wire.SeqLess(g.una, end) {
		return false
	}
	if news && wait == 0 {
		g.tell(now)
	}
	g.sent = wire.SeqMax(g.sent, seq+uint32(n))
	s.Seq, s.Ack, s.Window = seq, g.toldAck, g.window(g.toldAck, g.toldEdge)
	s.Flags = s.Flags&wire.PSH | wire.ACK
	return true
}

// Told takes what the near database has been told by another way.
func (g *Gate) Told(ack, edge uint32) {
	g.toldAck, g.toldEdge = wire.SeqMax(g.toldAck, ack), wire.SeqMax(g.toldEdge, edge)
}

// Shown takes SACK blocks that the near database has seen by another way: in a
// segment of the far database itself.
func (g *Gate) Shown(blocks []wire.Block) {
	for _, b := range blocks {
		if len(g.shown) < maxShown && wire.SeqLess(g.toldAck, b.End) && wire.SeqLess(b.Start, b.End) {
			g.shown = append(g.shown, b)
		}
	}
}

// Beyond reports whether any of the near database's SACK blocks holds bytes that the leg
// has not sent: they went past it, and are for their sender to hear of.
func (g *Gate) Beyond(blocks []wire.Block) bool {
	for _, b := range blocks {
		if wire.SeqLess(g.sent, b.End) {
			return true
		}
	}
	return false
}

// In brings acknowledgement, window field and SACK blocks of a segment of the near
// database into the leg's terms, and returns how many of the blocks it may see. A
// number that the leg has not sent yet, or that was sent before its time, is one
// that its TCP would take for an error.
func (g *Gate) In(s *wire.Segment, blocks []wire.Block) (keep int) {
	edge := s.Ack + uint32(s.Window)<<g.nearScale
	switch {
	case wire.SeqLess(s.Ack, g.una):
		s.Ack = g.una
	case wire.SeqLess(g.sent, s.Ack):
		s.Ack = g.sent
	}
	g.una = s.Ack
	follow(&g.mark, g.una)
	s.Window = wire.WindowField(s.Ack, edge, g.nearScale)
	s.Ack -= g.delta
	for _, b := range blocks {
		if wire.SeqLess(g.una, b.Start) && !wire.SeqLess(g.sent, b.End) && wire.SeqLess(b.Start, b.End) {
			blocks[keep] = wire.Block{Start: b.Start - g.delta, End: b.End - g.delta}
			keep++
		}
	}
	return keep
}
