package legs

// Outward: from the near database into the trunk.
//
//  1. FromHost takes a segment. The goroutine that reads the host's device calls it (flow.Path),
//     with no lock held; FromHost locks mu to judge the segment and decides what goes raw too.
//  2. toLegSoon (hold.go) gives the leg the segment, or holds a small one for a moment: Settle.
//     inject hands it to gVisor, which acknowledges to fromLeg and has notify called.
//  3. notify (gVisor's locks held) calls Trunk.Ready, which queues the relay and wakes the reader.
//  4. The same goroutine asks the trunks for packets (trunk.Pool.Pull). Without the trunk's lock,
//     it calls pump.take, which runs toTrunk.
//  5. toTrunk (relay_trunk.go) reads the leg straight into the packet that the trunk builds:
//     Trunk.Begin, Endpoint.Read, nextFrame (mu), Trunk.Commit.
//
// The far database's acknowledgements come back inward and pass the gate; see relay_trunk.go.

import (
	"bytes"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// FromHost takes a segment of the near database, and reports whether to forward it
// raw. It is called by one goroutine at a time and keeps nothing of p.
// partial says that the checksum of p is not finished. Where hold isn't 0, Settle has to
// be called by then.
func (r *Relay) FromHost(p *wire.Packet, partial bool) (raw bool, hold time.Duration) {
	switch {
	case p.Flags&wire.SYN != 0:
		return true, 0
	case p.Flags&wire.RST != 0:
		return r.reset(p, partial), 0
	case p.Flags&wire.URG != 0:
		r.release(endUrgent)
		return true, 0
	}
	payload := p.Payload()
	end := p.Seq + uint32(len(payload))
	fin := p.Flags&wire.FIN != 0
	now := r.legs.cfg.Now()

	r.mu.Lock()
	if r.ending.why != nil || r.ending.rst != nil {
		raw = r.ending.rst == nil
		r.mu.Unlock()
		return raw, 0
	}
	edge := p.Ack + uint32(p.Window)<<r.conn.NearSaid.Scale
	news := r.gate.HeardNear(p.Ack, edge)
	if r.check != nil {
		r.check.HeardNear(p.Ack)
	}
	if len(payload) > 0 {
		switch gap := int32(p.Seq - r.gate.NearEnd()); {
		case gap < 0:
			r.near.resent++
		case gap > 0:
			r.near.gapEnd, r.near.gapShows = p.Seq, gapShows
		}
	}
	r.gate.SentNear(end)
	if len(payload) > 0 || news {
		r.health.moved = now
	}
	fresh := fin && !r.near.fin && (r.handBack.why == nil || wire.SeqLess(end, r.handBack.cut))
	if fresh {
		r.near.fin = true
		r.gate.FinNear(end)
	}
	mark := r.gate.NearMark()
	fresher := len(payload) > 0 && wire.SeqLess(mark, end) // has bytes for the leg
	toLeg := fresher || r.opening.begun
	switch {
	case (len(payload) > 0 || fin) && wire.SeqLess(p.Seq, mark):
		// Sent before the relay began, and repeated as before. What reaches beyond the
		// mark goes both ways.
		raw = true
	case r.handBack.why != nil && (len(payload) > 0 || fin) && !wire.SeqLess(p.Seq, r.handBack.cut):
		raw, fresher = true, false
	case len(payload) > 0:
		raw = r.repeated(p.Seq, end) || r.behindGap(p.Seq)
	case fin:
		// It goes into the trunk once; said again, it goes as it is.
		raw = !fresh
	default:
		blocks := r.near.sack
		n := p.SACK(&blocks)
		sacked := n > 0 && blocks != r.near.sack
		r.near.sack = blocks
		// What acknowledges bytes that passed before the leg's is for their sender
		// to see. What says nothing new is a probe or the answer to one: neither is
		// the gateway's to give.
		catching := !r.opening.begun || wire.SeqLess(p.Ack, r.gate.Mark())
		raw = catching || !news && !sacked || r.handBack.why != nil || r.gate.Beyond(blocks[:n])
	}
	wait := toLeg && !r.opening.live
	if wait && fresher && len(r.opening.early) < maxEarly {
		r.opening.early = append(r.opening.early, early{p.Seq, p.Flags, bytes.Clone(payload)})
	}
	var s wire.Segment
	var opts [40]byte
	if toLeg && !wait {
		s = r.segment(p, opts[:0])
		if len(payload) > 0 && !fresher {
			// The leg would not look at what acknowledges anything in a segment that it
			// has long received.
			payload, s.Seq = nil, r.gate.NearEnd()
		}
	}
	finNow := r.finDue()
	most := r.gate.Spacing() / holdPart
	ready := fresh || news && !fresher && !r.putOff(now)
	r.mu.Unlock()

	if toLeg && !wait {
		hold = r.toLegSoon(now, &s, payload, news, most)
	}
	if ready {
		r.trunk.Ready()
	}
	if finNow {
		r.sayFin()
	}
	return raw, hold
}

// segment is a segment of the near database in the leg's terms. A FIN is not shown
// to the leg, which would send no SACK from then on.
func (r *Relay) segment(p *wire.Packet, opts []byte) wire.Segment {
	s := wire.Segment{Seq: p.Seq, Ack: p.Ack, Window: p.Window, Flags: p.Flags & (wire.ACK | wire.PSH)}
	if !r.opening.begun {
		s.Ack, s.Window = r.leg.iss+1, r.nearWindow()
		return s
	}
	var blocks [wire.MaxBlocks]wire.Block
	n := p.SACK(&blocks)
	s.Options = wire.AppendSACK(opts, blocks[:r.gate.In(&s, blocks[:n])])
	return s
}

// repeated decides whether a segment goes raw too. What the leg has already is for
// the leg alone: a duplicate that overtakes the trunk makes its sender go back N.
// But when it comes again, something is wrong with the trunk.
func (r *Relay) repeated(seq, end uint32) (raw bool) {
	if wire.SeqLess(r.gate.Received(), end) {
		return false
	}
	raw = r.near.hasRepeated && r.near.repeated == seq
	r.near.repeated, r.near.hasRepeated = seq, true
	return raw
}

// gapShows is how many segments behind a gap go raw. One is enough for a sender that goes
// by time (RFC 8985), others want three (RFC 6675). Where there are several gaps it takes
// what lies between two and was not selected for lost, and sends it again; all that is
// under way, though, would fill the link twice.
const gapShows = 16

// behindGap decides whether a segment goes raw too, because bytes before it are missing.
// The leg keeps it, but that is not the gateway's to say, and without a SACK block its
// sender would find the loss by its timer only. So the far database gets something to
// say: the bytes that it selects it has.
func (r *Relay) behindGap(seq uint32) bool {
	if r.near.gapShows == 0 || wire.SeqLess(seq, r.near.gapEnd) {
		return false
	}
	if !wire.SeqLess(r.gate.Received(), r.near.gapEnd) {
		r.near.gapShows = 0 // it was filled
		return false
	}
	r.near.gapShows--
	return true
}

// reset handles the near database's RST. It waits for the bytes before it to be
// acknowledged, as it would on a path without a gateway, where it can't overtake
// them; the watch bounds that. From then on the near database is told nothing.
func (r *Relay) reset(p *wire.Packet, partial bool) (raw bool) {
	now := r.legs.cfg.Now()
	r.mu.Lock()
	if r.ending.why != nil {
		r.mu.Unlock()
		return true
	}
	if r.ending.rst != nil {
		r.mu.Unlock()
		return false // said again
	}
	if wire.SeqLess(r.gate.FarAck(), p.Seq) && wire.SeqLess(r.gate.FarAck(), r.gate.NearEnd()) {
		c := *p
		c.B = bytes.Clone(p.B)
		if partial {
			c.FinishChecksum()
		}
		r.ending.rst, r.ending.rstAt = c.B, now
		if r.check != nil {
			r.check.HeardReset()
		}
		r.mu.Unlock()
		return false
	}
	r.mu.Unlock()
	r.release(endReset)
	return true
}

// resetDue reports whether the RST that waits may go.
func (r *Relay) resetDue() bool {
	return r.ending.rst != nil && !wire.SeqLess(r.gate.FarAck(), r.gate.NearEnd())
}

// sendReset sends the RST that waits.
func (r *Relay) sendReset() {
	if r.finish(endReset) {
		r.track.Detach(endReset)
		r.legs.cfg.Near.SendLink(r.ending.rst)
	}
}

// FromLink takes notice of a segment of the far database that passes raw.
func (r *Relay) FromLink(p *wire.Packet) {
	if p.Flags&wire.RST != 0 {
		r.release(endReset)
		return
	}
	if p.Flags&wire.SYN != 0 || p.Flags&wire.ACK == 0 {
		return
	}
	r.mu.Lock()
	edge := p.Ack + uint32(p.Window)<<r.conn.FarSaid.Scale
	r.gate.HeardFar(p.Ack, edge)
	r.gate.Told(p.Ack, edge)
	if r.check != nil {
		r.check.HeardFar(p.Ack, edge)
	}
	var blocks [wire.MaxBlocks]wire.Block
	r.gate.Shown(blocks[:p.SACK(&blocks)])
	due := r.resetDue()
	r.mu.Unlock()
	if due {
		r.sendReset()
	}
}

// TooBig takes notice of the ICMP error by which a router toward the near database
// asks for packets of at most mtu bytes (RFC 1191, RFC 8201). The leg sends again by its
// timer what was dropped there. The far database, in whose name the packets went, hears
// of it as well, for what goes raw. It is called by one goroutine at a time.
func (r *Relay) TooBig(mtu int) {
	mtu = max(mtu, wire.MaxTCPHeaders+wire.LeastMSS) // a segment has a payload whatever is asked for
	if old := r.pathMTU.Load(); old == 0 || int32(mtu) < old {
		r.pathMTU.Store(int32(mtu))
	}
}

// finDue reports whether to send the far database's FIN: when all before it
// has been acknowledged. It reports true once.
func (r *Relay) finDue() bool {
	if !r.far.fin || r.far.finSent || wire.SeqLess(r.gate.NearAck(), r.far.finAt) {
		return false
	}
	r.far.finSent = true
	return true
}

func (r *Relay) sayFin() {
	r.out.Lock()
	defer r.out.Unlock()
	r.mu.Lock()
	if r.ending.why != nil || r.ending.rst != nil {
		r.mu.Unlock()
		return
	}
	s := r.gate.Fin(r.legs.cfg.Now())
	bad := r.breaks(&s, nil)
	r.mu.Unlock()
	if bad {
		r.release(endRule)
		return
	}
	r.say(&s)
}
