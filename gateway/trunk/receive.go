package trunk

import (
	"errors"
	"io"
	"net"
	"sync"

	"github.com/onewaylink/gw/netstack/wire"
)

// A connection gets a buffer when it first reads and gives it back when reading
// fails, so that one that waits in a pool has none.
const (
	bufSize = 128 << 10
	// bigSize takes the largest frame, and the header of the next.
	bigSize = wire.MaxFramePayload + 2*wire.FrameHeaderSize
	// largeRest is how much of a frame has to be missing for it to be read by
	// itself, straight to where it stays. Below, whatever has arrived is read.
	largeRest = 8 << 10
)

var (
	bufs = sync.Pool{New: func() any { b := make([]byte, bufSize); return &b }}
	bigs = sync.Pool{New: func() any { b := make([]byte, bigSize); return &b }}
)

// inbuf holds what has been read: b[start:end] has not been returned yet.
type inbuf struct {
	b          *[]byte
	start, end int
}

// swap moves what there is to the front of a buffer of the other size.
func (in *inbuf) swap(from *sync.Pool) {
	old, oldStart, oldEnd := in.b, in.start, in.end
	in.b = from.Get().(*[]byte)
	in.start, in.end = 0, 0
	if old != nil {
		in.end = copy(*in.b, (*old)[oldStart:oldEnd])
		putBuf(old)
	}
}

func (in *inbuf) release() {
	if in.b != nil {
		putBuf(in.b)
	}
	*in = inbuf{}
}

func putBuf(b *[]byte) {
	if len(*b) == bigSize {
		bigs.Put(b)
	} else {
		bufs.Put(b)
	}
}

// room makes space for size bytes from start on.
func (in *inbuf) room(size int) {
	switch {
	case in.b == nil:
		in.swap(&bufs)
	case in.start == in.end:
		in.start, in.end = 0, 0
		if len(*in.b) == bigSize && size <= bufSize {
			in.swap(&bufs)
		}
	}
	if size > len(*in.b) {
		in.swap(&bigs)
		return
	}
	if in.start+size > len(*in.b) {
		in.end = copy(*in.b, (*in.b)[in.start:in.end])
		in.start = 0
	}
}

// Receive waits for the next frame. The payload is valid until the next Receive. At
// the end of the frames, after the other end's Finish, the error is io.EOF; after
// this end's Close or Finish, net.ErrClosed.
func (c *Conn) Receive(f *wire.Frame) error {
	c.recvMu.Lock()
	defer c.recvMu.Unlock()
	if err := c.receive(f); err != nil {
		c.in.release()
		if c.state.Load() != open {
			return net.ErrClosed
		}
		return err
	}
	return nil
}

func (c *Conn) receive(f *wire.Frame) error {
	if c.state.Load() != open {
		return net.ErrClosed
	}
	in := &c.in
	if err := c.fill(wire.FrameHeaderSize); err != nil {
		return err
	}
	n, err := wire.ParseFrameHeader((*in.b)[in.start:in.end], f)
	if err != nil {
		return err
	}
	if err := c.fill(wire.FrameHeaderSize + n); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	at := in.start + wire.FrameHeaderSize
	if n > 0 {
		f.Payload = (*in.b)[at : at+n : at+n]
	}
	in.start = at + n
	return nil
}

// fill reads until size bytes are there.
func (c *Conn) fill(size int) error {
	in := &c.in
	if in.b == nil || in.end-in.start < size {
		in.room(size)
	}
	for in.end-in.start < size {
		to := len(*in.b)
		if rest := size - (in.end - in.start); rest > largeRest {
			// A large payload stays where it is read to. With it the next header
			// comes, which tells how much to read then.
			to = min(to, in.end+rest+wire.FrameHeaderSize)
		}
		n, err := c.tcp.Read((*in.b)[in.end:to])
		in.end += n
		if err != nil {
			if errors.Is(err, io.EOF) && in.end > in.start {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}
