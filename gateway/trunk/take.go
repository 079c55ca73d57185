package trunk

import (
	"encoding/binary"
	"time"
)

// came is the time at which the first packet of this batch has come: for the others it
// does as well.
func (w *way) came() time.Duration {
	now := time.Duration(w.batch.Load())
	if now == 0 {
		now = w.pool.now()
		w.batch.Store(int64(now))
	}
	return now
}

// deliver takes the payload of a packet from the other node.
func (w *way) deliver(now time.Duration, b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
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
// node has begun anew, it knows nothing of what there was.
func (w *way) admit(h *head) bool {
	ours := w.remote != 0 && h.tag == tagOf(w.local, w.remote)
	if h.long {
		ours = h.to == 0 || h.to == w.local
	}
	if !ours {
		w.resetDue = w.resetDue || h.kind != kindReset
		return false
	}
	if h.long && h.from != w.remote {
		if w.remote != 0 {
			w.startOver()
		}
		w.remote = h.from
	}
	w.known = h.kind != kindReset && (w.known || !h.long || h.to != 0)
	return true
}

// startOver forgets all that was said with a session of the other node that is no more.
func (w *way) startOver() {
	w.dropAll(errAnew)
	w.bbr.restart(w.now)
	w.acks, w.begun, w.known = acks{}, nil, false
	w.pool.restarted.Add(1)
}

func (w *way) takeAck(now time.Duration, b []byte) error {
	waited, spans, err := parseAck(b, w.spans[:0])
	if err != nil {
		return err
	}
	if !w.flight.expand(spans) {
		return errPacket
	}
	held := w.held
	n := w.flight.ack(now, waited, spans, w.settle)
	w.bbr.ack(now, n, w.flight.delivered, w.flight.inside, held)
	return nil
}

// takeData takes what follows the head of a packet of so many bytes with count chunks.
func (w *way) takeData(now time.Duration, rest []byte, count, size int) error {
	if len(rest) < numSize {
		return errPacket
	}
	number := expand(binary.BigEndian.Uint32(rest), w.acks.next())
	if !w.acks.see(now, number, size) {
		return nil
	}
	rest = rest[numSize:]
	for range count {
		var p piece
		var err error
		if p, rest, err = parsePiece(rest); err != nil {
			return err
		}
		if c := w.stream(&p); c != nil {
			w.takePiece(c, &p)
		}
	}
	return nil
}

// stream finds the stream of a chunk, or begins it. It returns nil for one that has ended.
func (w *way) stream(p *piece) *Conn {
	if c := w.latest; c != nil && c.id == p.stream {
		return c
	}
	if c := w.streams[p.stream]; c != nil {
		w.latest = c
		return c
	}
	id := span{uint64(p.stream), uint64(p.stream) + 2} // numbers of one node touch
	if p.flags&(flagOpen|flagReset) == 0 || p.stream&1 == w.parity || w.begun.has(id) {
		return nil
	}
	w.begun.add(id)
	if len(w.begun) > maxStreams {
		w.begun.add(span{w.begun[0].from, w.begun[1].to}) // what is between was never used
	}
	if p.flags&flagReset != 0 {
		return nil // what began it comes too late
	}
	c := newConn(w, p.stream)
	c.known, c.asking = true, true
	w.streams[p.stream] = c
	if len(w.streams) > maxStreams {
		c.giveUp(errTooMany)
		c.asking = false
		w.pool.refused.Add(1)
	}
	return c
}

func (w *way) takePiece(c *Conn, p *piece) {
	news := false
	switch {
	case p.flags&flagReset != 0:
		c.fail(errReset)
		w.forget(c)
		news = true
	case p.flags&flagWindow != 0:
		if limit := expand(p.offset, c.limit); limit > c.limit {
			c.limit = limit
			w.push(c)
		}
	default:
		news = c.deliver(p)
	}
	if news && !c.touched {
		c.touched = true
		w.touched = append(w.touched, c)
	}
}

// flushed is what is to be done after a batch of packets.
type flushed struct {
	begun []*Conn       // those that the other node has begun
	sinks []*Conn       // whose sinks are to be called; it has to be given back
	wake  bool          // there is something to send now,
	at    time.Duration // or then; 0 is never
}

// flush ends a batch of packets that have come: whoever waits to receive is told.
func (w *way) flush(now time.Duration) (f flushed) {
	if !w.dirty.Swap(false) {
		return f
	}
	w.batch.Store(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	f.sinks = w.touched[:0]
	for _, c := range w.touched {
		c.touched = false
		if c.asking {
			c.asking = false
			f.begun = append(f.begun, c)
		}
		if c.sink != nil {
			f.sinks = append(f.sinks, c)
		} else {
			signal(c.data)
		}
	}
	clear(w.touched[len(f.sinks):])
	w.touched = w.touched[:0]
	if len(f.sinks) > 0 {
		w.touched, w.told = w.told, nil
	}
	f.at = w.acks.due(w.flight.rtt)
	f.wake = w.wake || w.resetDue || f.at > 0 && f.at <= now || w.held && w.flight.inside < w.bbr.window(w.quantum)
	w.wake = false
	return f
}

// call calls the sinks, and gives the list of them back.
func (w *way) call(sinks []*Conn) {
	if len(sinks) == 0 {
		return
	}
	for i, c := range sinks {
		c.sink()
		sinks[i] = nil
	}
	w.mu.Lock()
	w.told = sinks[:0]
	w.mu.Unlock()
}
