package trunk

import (
	"io"

	"github.com/onewaylink/gw/netstack/wire"
)

// Receive waits for the next frame. The payload is valid until the next Receive. Of data
// it returns what is there, where it lies: a long frame may come in parts, each of which
// says the same, and several that follow each other as one, which says what the last of
// them does. At the end of the frames, after the other end's Finish, the error is io.EOF; after this
// end's Close or Finish, net.ErrClosed.
func (c *Conn) Receive(f *wire.Frame) error {
	for {
		if ok, err := c.TryReceive(f); ok || err != nil {
			return err
		}
		<-c.data
	}
}

// TryReceive is Receive for whoever does not wait: it reports whether there is a frame.
func (c *Conn) TryReceive(f *wire.Frame) (ok bool, err error) {
	w := c.path
	w.mu.Lock()
	ok, err = c.receive(f)
	if c.windowDue {
		w.push(c)
	}
	w.unlock()
	return ok, err
}

// receive is Receive as far as it does not have to wait.
func (c *Conn) receive(f *wire.Frame) (ok bool, err error) {
	clear(c.further)
	if c.err != nil {
		return false, c.err
	}
	c.consume(c.handed)
	c.handed = 0
	if c.rest == 0 && c.whole-c.read >= wire.FrameHeaderSize {
		if c.frame, c.rest, err = c.headerAt(c.read); err != nil {
			return false, err
		}
		c.consume(wire.FrameHeaderSize)
		if c.rest == 0 {
			*f = c.frame
			return true, nil
		}
	}
	there := int(min(uint64(c.rest), c.whole-c.read))
	switch {
	case there > 0 && c.frame.Kind == wire.FrameData:
		c.gather(f)
		return true, nil
	case there > 0 && there == c.rest:
		c.handed, c.rest = c.rest, 0
		*f = c.frame
		f.Payload = make([]byte, c.handed) // it is short, and there are few
		c.in.get(c.read, f.Payload)
		return true, nil
	}
	if c.eof && c.whole == c.eofAt {
		if c.rest > 0 || c.read < c.whole {
			return false, io.ErrUnexpectedEOF
		}
		return false, io.EOF
	}
	return false, nil
}

// headerAt reads the header of a frame, which is there.
func (c *Conn) headerAt(at uint64) (f wire.Frame, payload int, err error) {
	var b [wire.FrameHeaderSize]byte
	c.in.get(at, b[:])
	payload, err = wire.ParseFrameHeader(b[:], &f)
	return f, payload, err
}

// gather makes one frame of the payload that is there, of this frame and of those that go
// on from it: whoever takes it had better have it at once. It says what the last of them
// says of the other direction.
func (c *Conn) gather(f *wire.Frame) {
	seq, at, size := c.frame.Seq, c.read, 0
	var first []byte
	c.further = c.further[:0]
	for {
		n := min(uint64(c.rest), c.whole-at, uint64(gatherSize-size))
		if n == 0 {
			break
		}
		p := c.in.piece(at, int(n))
		if size == 0 {
			first = p
		} else {
			c.further = append(c.further, p)
		}
		size += len(p)
		at += uint64(len(p))
		c.rest -= len(p)
		c.frame.Seq += uint32(len(p))
		at = c.follow(at)
	}
	c.handed = int(at - c.read)
	*f = c.frame
	f.Seq, f.Payload, f.Further, f.Fin = seq, first, c.further, f.Fin && c.rest == 0
}

// follow goes on to the next frame, behind those without payload, if this one is over and
// the next goes on from it, and returns where its payload begins.
func (c *Conn) follow(at uint64) uint64 {
	for c.rest == 0 && !c.frame.Fin && c.whole-at >= wire.FrameHeaderSize {
		next, payload, err := c.headerAt(at)
		if err != nil || next.Kind != wire.FrameData || next.Seq != c.frame.Seq {
			break // the next call's
		}
		c.frame, c.rest = next, payload
		at += wire.FrameHeaderSize
	}
	return at
}

// consume takes n bytes out of what has come, and lets the other end send more.
func (c *Conn) consume(n int) {
	if n == 0 {
		return
	}
	c.read += uint64(n)
	c.in.drop(c.read, c.end)
	if c.told-c.read < inWindow/2 {
		c.told = c.read + inWindow
		c.windowDue = true
	}
}

// deliver takes what has come of the stream. It reports whether whoever receives has to look, and
// whether the piece was kept: if not, the packet is not acknowledged, and its sender sends the
// bytes again later.
func (c *Conn) deliver(p *piece) (news, kept bool) {
	offset := expand(p.offset, c.whole)
	end := offset + uint64(len(p.data))
	if p.flags&flagFin != 0 {
		// The other end keeps nothing any more, and does not say how far to send.
		c.limit = max(c.limit, noLimit)
		c.path.push(c)
	}
	if c.discards {
		return false, true
	}
	s := span{max(offset, c.whole), end}
	if end > c.told || !c.admitted && end > openWindow || s.from > c.whole && s.from < s.to && !c.mayLeap(s) {
		return false, false
	}
	if p.flags&flagFin != 0 {
		c.eof, c.eofAt = true, end
		news = true
	}
	if s.from >= s.to {
		return news, true
	}
	if !c.in.fit(s.from, int(s.len())) {
		c.exhaust()
		return true, true
	}
	c.in.put(s.from, p.data[s.from-offset:])
	c.end = max(c.end, end)
	if s.from > c.whole {
		c.got.add(s)
		c.ahead += int(s.len())
		return news, true
	}
	c.whole = c.got.pop(s.to)
	c.ahead = max(0, c.ahead-int(c.whole-s.to))
	if len(c.got) == 0 {
		c.ahead = 0
	}
	return true, true
}

// mayLeap reports whether bytes behind a gap are kept. They take whole blocks, so that a few
// bytes here and there would cost many times their size: the memory is bounded by what has
// really come.
func (c *Conn) mayLeap(s span) bool {
	if !c.admitted || len(c.got) >= maxGaps && !c.got.touches(s) {
		return false
	}
	most := int(c.whole-c.read) + sparse*(c.ahead+int(s.len())) + spareBlocks*blockSize
	return c.in.bytes+c.in.cost(s.from, int(s.len())) <= most
}

// begins reports whether what has come is enough for Receive to return something, or to fail.
func (c *Conn) begins() bool {
	there := c.whole - c.read
	if there < wire.FrameHeaderSize {
		return c.eof && c.whole == c.eofAt
	}
	f, payload, err := c.headerAt(c.read)
	need := uint64(wire.FrameHeaderSize + payload)
	if f.Kind == wire.FrameData {
		need = uint64(wire.FrameHeaderSize + min(payload, 1))
	}
	return err != nil || there >= need || c.eof && c.whole == c.eofAt
}

// stopReading gives up what has come. Whoever receives may have a piece of it still, so
// that its memory is left to the garbage collector.
func (c *Conn) stopReading() {
	c.discards = true
	c.in.abandon()
	c.got, c.ahead = nil, 0
	signal(c.data)
}
