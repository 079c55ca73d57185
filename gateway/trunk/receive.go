package trunk

import (
	"io"

	"github.com/onewaylink/gw/netstack/wire"
)

// Receive waits for the next frame. The payload is valid until the next Receive. Of data
// it returns what is there, where it lies: a long frame may come in parts, each of which
// says the same, and several that follow each other as one, which says what the last of
// them does. At the end of the frames, after the other end's Finish, the error is io.EOF; after
// this end's Close or Finish, net.ErrClosed.
func (c *Conn) Receive(f *wire.Frame) error {
	for {
		if ok, err := c.TryReceive(f); ok || err != nil {
			return err
		}
		<-c.data
	}
}

// TryReceive is Receive without waiting: it reports whether there is a frame.
func (c *Conn) TryReceive(f *wire.Frame) (ok bool, err error) {
	w := c.path
	w.mu.Lock()
	ok, err = c.receive(f)
	if c.out.windowDue {
		w.push(c)
	}
	w.unlock()
	return ok, err
}

// receive is Receive as far as it does not have to wait.
func (c *Conn) receive(f *wire.Frame) (ok bool, err error) {
	clear(c.taking.further)
	if c.err != nil {
		return false, c.err
	}
	c.consume(c.taking.handed)
	c.taking.handed = 0
	if c.taking.rest == 0 && c.in.whole-c.in.read >= wire.FrameHeaderSize {
		if c.taking.frame, c.taking.rest, err = c.headerAt(c.in.read); err != nil {
			return false, err
		}
		c.consume(wire.FrameHeaderSize)
		if c.taking.rest == 0 {
			*f = c.taking.frame
			return true, nil
		}
	}
	there := int(min(uint64(c.taking.rest), c.in.whole-c.in.read))
	switch {
	case there > 0 && c.taking.frame.Kind == wire.FrameData:
		c.gather(f)
		return true, nil
	case there > 0 && there == c.taking.rest:
		c.taking.handed, c.taking.rest = c.taking.rest, 0
		*f = c.taking.frame
		f.Payload = make([]byte, c.taking.handed) // it is short, and there are few
		c.in.buffer.get(c.in.read, f.Payload)
		return true, nil
	}
	if c.in.fin && c.in.whole == c.in.finAt {
		if c.taking.rest > 0 || c.in.read < c.in.whole {
			return false, io.ErrUnexpectedEOF
		}
		return false, io.EOF
	}
	return false, nil
}

// headerAt reads the header of a frame, which is there.
func (c *Conn) headerAt(at uint64) (f wire.Frame, payload int, err error) {
	var b [wire.FrameHeaderSize]byte
	c.in.buffer.get(at, b[:])
	payload, err = wire.ParseFrameHeader(b[:], &f)
	return f, payload, err
}

// gather joins the payload of this frame and of those that continue it into one frame, so that the
// receiver is called once. The acknowledgment and window are those of the last frame joined.
func (c *Conn) gather(f *wire.Frame) {
	seq, at, size := c.taking.frame.Seq, c.in.read, 0
	var first []byte
	c.taking.further = c.taking.further[:0]
	for {
		n := min(uint64(c.taking.rest), c.in.whole-at, uint64(gatherSize-size))
		if n == 0 {
			break
		}
		p := c.in.buffer.piece(at, int(n))
		if size == 0 {
			first = p
		} else {
			c.taking.further = append(c.taking.further, p)
		}
		size += len(p)
		at += uint64(len(p))
		c.taking.rest -= len(p)
		c.taking.frame.Seq += uint32(len(p))
		at = c.follow(at)
	}
	c.taking.handed = int(at - c.in.read)
	*f = c.taking.frame
	f.Seq, f.Payload, f.Further, f.Fin = seq, first, c.taking.further, f.Fin && c.taking.rest == 0
}

// follow goes on to the next frame, behind those without payload, if this one is over and
// the next goes on from it, and returns where its payload begins.
func (c *Conn) follow(at uint64) uint64 {
	for c.taking.rest == 0 && !c.taking.frame.Fin && c.in.whole-at >= wire.FrameHeaderSize {
		next, payload, err := c.headerAt(at)
		if err != nil || next.Kind != wire.FrameData || next.Seq != c.taking.frame.Seq {
			break // the next call's
		}
		c.taking.frame, c.taking.rest = next, payload
		at += wire.FrameHeaderSize
	}
	return at
}

// consume takes n bytes out of what has come, and lets the other end send more.
func (c *Conn) consume(n int) {
	if n == 0 {
		return
	}
	c.in.read += uint64(n)
	c.in.buffer.drop(c.in.read, c.in.end)
	if c.in.advertised-c.in.read < inWindow/2 {
		c.in.advertised = c.in.read + inWindow
		c.out.windowDue = true
	}
}

// deliver takes what has come of the stream. It reports whether the receiver has to look, and
// whether the piece was kept: if not, the packet is not acknowledged, and its sender sends the
// bytes again later.
func (c *Conn) deliver(p *piece) (news, kept bool) {
	offset := expand(p.offset, c.in.whole)
	end := offset + uint64(len(p.data))
	if p.flags&flagFin != 0 {
		// The other end keeps nothing any more, and does not say how far to send.
		c.out.limit = max(c.out.limit, noLimit)
		c.path.push(c)
	}
	if c.discards {
		return false, true
	}
	s := span{max(offset, c.in.whole), end}
	if end > c.in.advertised || !c.admitted && end > openWindow || s.from > c.in.whole && s.from < s.to && !c.mayLeap(s) {
		return false, false
	}
	if p.flags&flagFin != 0 {
		c.in.fin, c.in.finAt = true, end
		news = true
	}
	if s.from >= s.to {
		return news, true
	}
	if !c.in.buffer.fit(s.from, int(s.len())) {
		c.exhaust()
		return true, true
	}
	c.in.buffer.put(s.from, p.data[s.from-offset:])
	c.in.end = max(c.in.end, end)
	if s.from > c.in.whole {
		c.in.got.add(s)
		c.in.ahead += int(s.len())
		return news, true
	}
	c.in.whole = c.in.got.pop(s.to)
	c.in.ahead = max(0, c.in.ahead-int(c.in.whole-s.to))
	if len(c.in.got) == 0 {
		c.in.ahead = 0
	}
	return true, true
}

// mayLeap reports whether bytes behind a gap are kept. They take whole blocks, so that a few
// bytes here and there would cost many times their size: the memory is bounded by what has
// really come.
func (c *Conn) mayLeap(s span) bool {
	if !c.admitted || len(c.in.got) >= maxGaps && !c.in.got.touches(s) {
		return false
	}
	most := int(c.in.whole-c.in.read) + sparse*(c.in.ahead+int(s.len())) + spareBlocks*blockSize
	return c.in.buffer.bytes+c.in.buffer.cost(s.from, int(s.len())) <= most
}

// begins reports whether what has come is enough for Receive to return something, or to fail.
func (c *Conn) begins() bool {
	there := c.in.whole - c.in.read
	if there < wire.FrameHeaderSize {
		return c.in.fin && c.in.whole == c.in.finAt
	}
	f, payload, err := c.headerAt(c.in.read)
	need := uint64(wire.FrameHeaderSize + payload)
	if f.Kind == wire.FrameData {
		need = uint64(wire.FrameHeaderSize + min(payload, 1))
	}
	return err != nil || there >= need || c.in.fin && c.in.whole == c.in.finAt
}

// stopReading discards what has arrived. The receiver may still hold a piece of it, so
// that its memory is left to the garbage collector.
func (c *Conn) stopReading() {
	c.discards = true
	c.in.buffer.abandon()
	c.in.got, c.in.ahead = nil, 0
	signal(c.data)
}
