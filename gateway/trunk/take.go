package trunk

import (
	"encoding/binary"
	"time"
)

// maxBegun is how many ranges of numbers of streams are kept that the other node has begun.
const maxBegun = 512

// came is the time at which the first packet of this batch has come: for the others it
// does as well.
func (w *path) came() time.Duration {
	now := time.Duration(w.batch.Load())
	if now == 0 {
		now = w.pool.now()
		w.batch.Store(int64(now))
	}
	return now
}

// deliver takes the payload of a packet from the other node.
func (w *path) deliver(now time.Duration, b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session.gone {
		return nil
	}
	w.now = now
	w.dirty.Store(true)
	h, rest, err := parseHead(b)
	if err != nil || !w.admit(&h) {
		return err
	}
	switch h.kind {
	case kindReset:
		return nil // admit has seen to it
	case kindAck:
		return w.takeAck(now, rest)
	case kindData:
		return w.takeData(now, rest, h.count, len(b))
	}
	return errPacket
}

// admit reports whether a packet belongs to the sessions of both nodes. When the other
// node has restarted, it knows no earlier stream.
func (w *path) admit(h *head) bool {
	ours := w.session.remote != 0 && h.tag == tagOf(w.session.local, w.session.remote)
	if h.long {
		ours = h.to == 0 || h.to == w.session.local
	}
	if !ours {
		w.session.resetDue = w.session.resetDue || h.kind != kindReset
		return false
	}
	if h.long && h.from != w.session.remote {
		if w.session.remote != 0 {
			w.startOver()
		}
		w.session.remote = h.from
	}
	w.session.known = h.kind != kindReset && (w.session.known || !h.long || h.to != 0)
	return true
}

// startOver forgets all that was said with a session of the other node that is no more.
func (w *path) startOver() {
	w.dropAll(errAnew)
	w.bbr.restart(w.now)
	w.acks, w.begun, w.session.known = acks{}, nil, false
	w.pool.restarted.Add(1)
}

func (w *path) takeAck(now time.Duration, b []byte) error {
	waited, spans, err := parseAck(b, w.building.spans[:0])
	if err != nil {
		return err
	}
	if !w.flight.expand(spans) {
		return errPacket
	}
	held := w.pacing.held
	n := w.flight.ack(now, waited, spans, w.building.settle)
	w.bbr.ack(now, n, w.flight.delivered, w.flight.inside, held)
	return nil
}

// takeData takes what follows the head of a packet of so many bytes with count chunks.
func (w *path) takeData(now time.Duration, rest []byte, count, size int) error {
	if len(rest) < numSize {
		return errPacket
	}
	number := expand(binary.BigEndian.Uint32(rest), w.acks.next())
	if number < w.acks.next() && w.acks.got.has(span{number, number + 1}) {
		return nil
	}
	rest = rest[numSize:]
	// All of them are read before one has an effect.
	w.building.pieces = w.building.pieces[:0]
	for range count {
		p, next, err := parsePiece(rest)
		if err != nil {
			return err
		}
		w.building.pieces, rest = append(w.building.pieces, p), next
	}
	kept := true
	for i := range w.building.pieces {
		p := &w.building.pieces[i]
		c, ok := w.stream(p)
		if c != nil {
			ok = w.takePiece(c, p)
		}
		kept = kept && ok
	}
	if kept {
		// Otherwise the packet counts as lost, and its sender sends again what was in it.
		w.acks.see(now, number, size)
	}
	return nil
}

// stream finds the stream of a chunk, or begins it. It returns nil for one that has ended or is
// refused. ok says that the chunk does not come too early: a stream begins with its first bytes,
// and what has overtaken them has to be sent again.
func (w *path) stream(p *piece) (c *Conn, ok bool) {
	if c := w.latest; c != nil && c.id == p.stream {
		return c, true
	}
	if c := w.streams[p.stream]; c != nil {
		w.latest = c
		return c, true
	}
	id := span{uint64(p.stream), uint64(p.stream) + 2} // numbers of one node touch
	if p.flags&(flagOpen|flagReset) == 0 || p.stream&1 == w.parity || w.begun.has(id) {
		return nil, true
	}
	if p.flags&flagReset == 0 && (p.offset != 0 || len(p.data) == 0) {
		return nil, false
	}
	w.begun.add(id)
	if len(w.begun) > maxBegun {
		w.begun.add(span{w.begun[0].from, w.begun[1].to}) // what is between was never used
	}
	if p.flags&flagReset != 0 {
		return nil, true // what began it comes too late
	}
	if len(w.streams) >= maxStreams || w.guests >= maxGuests {
		w.refuse(p.stream)
		w.pool.refused.Add(1)
		return nil, true
	}
	c = newConn(w, p.stream)
	c.out.known, c.asking = true, true
	w.streams[p.stream] = c
	w.guests++
	w.opening.add(c, w.now+openWithin)
	return c, true
}

// takePiece takes a chunk of a stream, and reports whether it was kept.
func (w *path) takePiece(c *Conn, p *piece) (kept bool) {
	news := false
	kept = true
	switch {
	case p.flags&flagReset != 0:
		c.fail(errReset)
		w.forget(c)
		news = !c.asking
	case p.flags&flagWindow != 0:
		if limit := expand(p.offset, c.out.limit); limit > c.out.limit {
			c.out.limit = limit
			w.push(c)
		}
	default:
		if news, kept = c.deliver(p); c.asking {
			news = c.begins()
		}
	}
	if news && !c.touched {
		c.touched = true
		w.waiting.touched = append(w.waiting.touched, c)
	}
	return kept
}

// flushed is the work that follows a batch of packets.
type flushed struct {
	begun []*Conn       // those that the other node has begun
	sinks []*Conn       // whose sinks the caller must call; the caller returns the slice
	wake  bool          // there is something to send now,
	at    time.Duration // or then; 0 is never
}

// flush ends a batch of packets that have arrived: it returns the receivers to call.
func (w *path) flush(now time.Duration) (f flushed) {
	if !w.dirty.Swap(false) {
		return f
	}
	w.batch.Store(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	f.sinks = w.waiting.touched[:0]
	for _, c := range w.waiting.touched {
		c.touched = false
		if c.asking {
			c.asking = false
			f.begun = append(f.begun, c)
		}
		if c.users.sink != nil {
			f.sinks = append(f.sinks, c)
		} else {
			signal(c.data)
		}
	}
	clear(w.waiting.touched[len(f.sinks):])
	w.waiting.touched = w.waiting.touched[:0]
	if len(f.sinks) > 0 {
		w.waiting.touched, w.waiting.called = w.waiting.called, nil
	}
	f.at = w.acks.due(w.flight.rtt)
	f.wake = w.pacing.wake || w.session.resetDue || f.at > 0 && f.at <= now || w.pacing.held && w.flight.hasRoom(w.bbr.window(w.pacing.quantum))
	w.pacing.wake = false
	return f
}

// call calls the sinks, and gives the list of them back.
func (w *path) call(sinks []*Conn) {
	if len(sinks) == 0 {
		return
	}
	for i, c := range sinks {
		c.users.sink()
		sinks[i] = nil
	}
	w.mu.Lock()
	w.waiting.called = sinks[:0]
	w.mu.Unlock()
}
