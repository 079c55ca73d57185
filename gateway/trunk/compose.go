package trunk

import (
	"io"

	"github.com/onewaylink/gw/netstack/wire"
)

// draft is the memory of a frame that is being written, where it will be sent from.
type draft struct {
	size    int      // how much there is; 0 is that no frame is being written
	written int      // so much of it, the header included
	pieces  [][]byte // it all,
	free    [][]byte // and what has not been written to
}

// Begin begins a frame whose payload, at most size bytes, is written by Write, and which
// Commit sends. It reports false where Send would wait, and has Serve's source called when
// there is room. If it reports true, Commit has to follow, and no other frame can be sent
// meanwhile.
func (c *Conn) Begin(size int) (room bool, err error) {
	c.sendMu.Lock()
	w := c.path
	w.mu.Lock()
	defer w.unlock()
	size = wire.FrameHeaderSize + min(size, wire.MaxFramePayload)
	if c.err != nil || !c.makeRoom(size) {
		c.line.short = c.err == nil
		c.sendMu.Unlock()
		return false, c.err
	}
	d := &c.draft
	d.size, d.written = size, 0
	d.pieces = c.out.buffer.reserve(d.pieces[:0], c.out.wrote, d.size)
	d.free = d.pieces
	var header [wire.FrameHeaderSize]byte // comes last
	d.write(header[:])
	return true, nil
}

// Write adds to the payload of the frame that was begun. If there is no room for all of p,
// the rest is left out, and the error is io.ErrShortWrite.
func (c *Conn) Write(p []byte) (int, error) {
	n := c.draft.write(p)
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

func (d *draft) write(p []byte) (written int) {
	for len(p) > 0 && len(d.free) > 0 {
		n := copy(d.free[0], p)
		if d.free[0] = d.free[0][n:]; len(d.free[0]) == 0 {
			d.free = d.free[1:]
		}
		p = p[n:]
		written += n
	}
	d.written += written
	return written
}

// Commit sends the frame that was begun, whose payload is what was written; of f it takes
// all else. If f is nil nothing is sent. An error is as that of Send.
func (c *Conn) Commit(f *wire.Frame) error {
	defer c.sendMu.Unlock()
	w := c.path
	w.mu.Lock()
	d := &c.draft
	if c.err == nil && f != nil {
		c.out.buffer.put(c.out.wrote, wire.AppendFrameHeader(c.header[:0], f, d.written-wire.FrameHeaderSize))
		c.out.wrote += uint64(d.written)
		w.push(c)
	}
	err := c.err
	clear(d.pieces)
	d.size, d.free = 0, nil
	c.out.buffer.cut(c.out.wrote)
	c.out.buffer.drop(c.out.una, c.out.wrote)
	w.unlock()
	return err
}
