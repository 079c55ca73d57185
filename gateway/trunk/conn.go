package trunk

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

const (
	// Backlog bounds what a Conn holds that has not been sent, in bytes, so that what a
	// frame says of the windows is not old when it leaves.
	Backlog = 128 << 10
	// inWindow is how far the other end may send beyond what has been received here. It
	// only bounds memory: what is in order is received at once, and a database sends no
	// more than the other one has room for.
	inWindow = 16 << 20
	// openWindow is how much of a stream is kept before this node has admitted it: what the
	// other end sends before it can know of that, and no more.
	openWindow = firstWindow
	// maxGaps is how many ranges behind a gap are kept. sparse bounds the memory of bytes behind
	// a gap: so many times their number, and spareBlocks blocks.
	maxGaps     = 1024
	sparse      = 4
	spareBlocks = 3
	// noLimit is beyond all that is ever sent.
	noLimit = 1 << 62
	// gatherSize is how much payload Receive returns at most: not more than a leg writes
	// as one segment, which is 65,374 bytes, or a short one would follow each.
	gatherSize = 65_000
)

// Why a Conn has ended, apart from net.ErrClosed and io.EOF.
var (
	errReset   = errors.New("the other node has closed the trunk")
	errUnheard = errors.New("the other node has not answered for too long")
	errAnew    = errors.New("the other node has restarted")
	errLate    = errors.New("the other node has neither opened nor ended the trunk in time")
	errStuck   = errors.New("the other node does not acknowledge the first bytes")
	errMemory  = errors.New("the memory for trunks is used up: see local.limits.trunks")
)

// Conn is a stream of frames to another node, in both directions. Its user waits in Send and
// Receive, or has Serve call it when there is something to do. Send may be called by several
// goroutines, Receive and TryReceive by one at a time, all other methods by any. After one of
// them has failed, a Conn is of no more use and has to be closed.
type Conn struct {
	path *path
	id   uint32

	sendMu sync.Mutex // one frame at a time; lock it before the path
	header [wire.FrameHeaderSize]byte
	draft  draft // but for its size, which belongs to the path's lock

	room chan struct{} // holds a token when Send has to look,
	data chan struct{} // and when Receive has to

	users  users
	taking taking

	// All below belongs to the path's lock.

	err       error // why nothing is sent any more, or received
	discards  bool  // nothing reads what arrives
	closed    bool  // by Close
	forgotten bool  // the path does not know it any more
	due       place
	admitted  bool // this end wants it: before that, the other end may send only a little
	asking    bool // it is new: this node has not accepted or refused it yet
	touched   bool // something has arrived since the last Flush

	line line
	out  outgoing
	in   incoming
}

// users are the functions that Serve has registered, once.
type users struct{ source, sink, ended func() }

// taking belongs to the goroutine that calls Receive or TryReceive.
type taking struct {
	frame   wire.Frame
	rest    int      // of the payload of frame
	handed  int      // bytes of the stream that the last call has returned,
	further [][]byte // and where most of them are
}

// line is the place of a Conn among those that have something to send.
type line struct {
	next   *Conn
	queued bool
	bulk   bool // it has more to send than a packet, and is counted
	eager  bool // source has to be called
	short  bool // Begin has found no room,
	waits  bool // or Send
}

// outgoing is the direction to the other node. Positions count the bytes of the stream.
type outgoing struct {
	buffer           buffer
	una              uint64        // the first byte that was not acknowledged
	sent             uint64        // the next new byte
	wrote            uint64        // the end of what was written
	limit            uint64        // how far the other node lets it be sent
	unaAt            time.Duration // when una moved, or the byte there was sent
	acked, lost      ranges        // beyond una
	fin, finSent     bool
	finAcked         bool
	known            bool // the other node knows the stream
	resetDue         bool
	windowDue        bool
	segments, resent uint64 // chunks with payload, those of them sent again
}

// incoming is the direction from the other node.
type incoming struct {
	buffer     buffer
	got        ranges
	ahead      int    // bytes that have arrived behind a gap, about
	read       uint64 // the first byte that was not received yet
	whole      uint64 // the end of what is there without a gap
	end        uint64 // the end of all
	advertised uint64 // how far the other node may send
	fin        bool
	finAt      uint64
}

func newConn(w *path, id uint32) *Conn {
	c := &Conn{
		path: w, id: id, room: make(chan struct{}, 1), data: make(chan struct{}, 1),
		out: outgoing{limit: inWindow}, in: incoming{advertised: inWindow},
	}
	c.in.buffer.mem, c.out.buffer.mem = &w.memory, &w.memory
	c.admitted = !c.far()
	return c
}

// Admit accepts a connection that another node has begun. Until then little of what it sends is
// kept, and that only for a short time.
func (c *Conn) Admit() {
	w := c.path
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.admitted || c.err != nil || c.forgotten {
		return
	}
	c.admitted = true
	c.unlist()
	w.guests--
}

// Remote is the node at the other end.
func (c *Conn) Remote() netip.Addr { return c.path.node }

// Send sends a frame. It blocks while there is enough to send, until there is room or the
// connection ends; after Close or Finish it fails by net.ErrClosed. It keeps nothing of f.
func (c *Conn) Send(f *wire.Frame) error {
	if len(f.Payload) > wire.MaxFramePayload {
		return fmt.Errorf("send frame with %d bytes of payload: %w", len(f.Payload), wire.ErrFrame)
	}
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	w := c.path
	w.mu.Lock()
	if err := c.waitRoom(wire.FrameHeaderSize + len(f.Payload)); err != nil {
		w.unlock()
		return err
	}
	header := wire.AppendFrameHeader(c.header[:0], f, len(f.Payload))
	c.out.buffer.put(c.out.wrote, header)
	c.out.buffer.put(c.out.wrote+uint64(len(header)), f.Payload)
	c.out.wrote += uint64(len(header) + len(f.Payload))
	w.push(c)
	w.unlock()
	return nil
}

// waitRoom waits until a frame of size bytes may be queued, and makes room for it. It is called
// with the path's lock, and releases it while it waits.
func (c *Conn) waitRoom(size int) error {
	for c.err == nil && !c.makeRoom(size) && c.err == nil {
		c.line.waits = true
		c.path.unlock()
		<-c.room
		c.path.mu.Lock()
	}
	c.line.waits = false
	return c.err
}

// hasRoom reports whether a frame may be queued, as far as memory allows.
func (c *Conn) hasRoom() bool { return c.out.wrote-c.out.sent < Backlog }

// makeRoom makes room for a frame of size bytes, and reports whether there is. If the memory is
// used up, a stream that holds some waits for an acknowledgement. One that holds none would wait
// for others, and ends.
func (c *Conn) makeRoom(size int) bool {
	if !c.hasRoom() {
		return false
	}
	if c.out.buffer.fit(c.out.wrote, size) {
		return true
	}
	c.out.buffer.cut(c.out.wrote)
	if c.out.una == c.out.wrote {
		c.exhaust()
	}
	return false
}

// exhaust ends the stream since the memory is used up.
func (c *Conn) exhaust() {
	c.path.memory.budget.refused.Add(1)
	if c.asking {
		c.asking = false
		c.fail(errMemory)
		c.path.forget(c)
		c.path.refuse(c.id)
		return
	}
	c.giveUp(errMemory)
}

// roomy wakes those that wait for room.
func (c *Conn) roomy() {
	signal(c.room)
	if c.line.short {
		c.line.short = false
		c.ready()
	}
}

// reach is how far the stream may be sent: as far as the other end lets it, and no further beyond
// what that has acknowledged than any window.
func (c *Conn) reach() uint64 { return min(c.out.wrote, c.out.limit, c.out.una+inWindow) }

// Close ends the connection at once: what is queued is discarded, and the other end
// is told. It may be called again.
func (c *Conn) Close() {
	w := c.path
	w.mu.Lock()
	if c.closed || c.forgotten {
		w.mu.Unlock()
		return
	}
	if c.out.known || c.out.wrote > 0 || c.far() {
		c.giveUp(net.ErrClosed)
	} else {
		c.fail(net.ErrClosed)
		w.forget(c) // the other node does not know it
	}
	w.unlock()
	w.pool.changed()
}

// giveUp ends both directions, and has the other end told.
func (c *Conn) giveUp(err error) {
	c.fail(err)
	c.closed, c.out.resetDue = true, true
	if !c.forgotten && c.due.list != &c.path.ending {
		c.path.ending.add(c, 0)
	}
	c.path.push(c)
}

// far reports whether the other node has begun the stream.
func (c *Conn) far() bool { return c.id&1 != c.path.parity }

// fail ends both directions: nothing is kept.
func (c *Conn) fail(err error) {
	if c.err == nil || err == net.ErrClosed {
		c.err = err
	}
	c.out.fin = false
	if c.draft.size > 0 {
		c.out.buffer.abandon() // somebody writes to it
	} else {
		c.out.buffer.clear()
	}
	c.stopReading()
	c.out.acked, c.out.lost = nil, nil
	c.out.sent, c.out.una = c.out.wrote, c.out.wrote
	signal(c.room)
	if c.users.ended != nil {
		c.users.ended()
	}
}

// Finish ends the connection after the frames that were sent, and does not wait for
// it. What the other end still says is discarded. The other end receives all frames,
// then io.EOF, unless it closes before.
func (c *Conn) Finish() {
	w := c.path
	w.mu.Lock()
	if c.err != nil {
		// It has failed, or is finished or closed already.
		w.mu.Unlock()
		return
	}
	c.err = net.ErrClosed
	c.stopReading()
	signal(c.room)
	if c.out.wrote == 0 && !c.far() {
		w.forget(c)
	} else {
		c.out.fin = true
		w.ending.add(c, 0)
		w.push(c)
	}
	w.unlock()
	w.pool.changed()
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// hasWork reports whether there is anything to send.
func (c *Conn) hasWork() bool {
	return c.out.resetDue || c.out.windowDue || len(c.out.lost) > 0 || c.out.sent < c.reach() || c.finDue()
}

func (c *Conn) finDue() bool { return c.out.fin && !c.out.finSent && c.out.sent == c.out.wrote }

// fill returns the next bytes to send, at most room of them, and reports false if
// there is nothing.
func (c *Conn) fill(room int) (s span, flags uint8, ok bool) {
	switch {
	case c.out.resetDue:
		c.out.resetDue = false
		return s, flagReset, true
	case c.out.windowDue:
		c.out.windowDue = false
		return span{c.in.advertised, c.in.advertised}, flagWindow, true
	case len(c.out.lost) > 0:
		s = c.out.lost[0]
		s.to = min(s.to, s.from+uint64(room))
		c.out.lost.remove(s)
		c.out.resent++
	case c.out.sent < c.reach():
		s = span{c.out.sent, min(c.reach(), c.out.sent+uint64(room))}
		if c.out.sent == c.out.una {
			c.out.unaAt = c.path.now
		}
		c.out.sent = s.to
	case c.finDue():
		s = span{c.out.wrote, c.out.wrote}
	default:
		return s, 0, false
	}
	if s.len() > 0 {
		c.out.segments++
	}
	if c.out.fin && s.to == c.out.wrote {
		flags |= flagFin
		c.out.finSent = true
	}
	if !c.out.known && !c.far() {
		flags |= flagOpen
	}
	if c.hasRoom() {
		c.roomy()
	}
	return s, flags, true
}

// settle is told what has become of a chunk.
func (c *Conn) settle(k *chunk, arrived bool) {
	if c.forgotten {
		return
	}
	w := c.path
	if !arrived {
		switch {
		case k.flags&flagReset != 0:
			c.out.resetDue = true
		case k.flags&flagWindow != 0:
			c.out.windowDue = !c.discards
		case c.out.sent > c.out.una || k.flags&flagFin != 0:
			if from := max(k.span.from, c.out.una); from < k.span.to && !c.out.acked.has(span{from, k.span.to}) {
				c.out.lost.add(span{from, k.span.to})
			}
			c.out.finSent = c.out.finSent && (k.flags&flagFin == 0 || c.out.finAcked)
			if c.out.una < c.out.sent && k.span.from <= c.out.una && w.now-c.out.unaAt > stuckAfter {
				c.giveUp(errStuck)
				w.pool.abandoned.Add(1)
			}
		}
		w.push(c)
		return
	}
	c.out.known = c.out.known || k.flags&flagOpen != 0
	switch {
	case k.flags&flagReset != 0:
		w.forget(c)
		return
	case k.flags&flagWindow != 0:
		return
	case c.err != nil && !c.out.fin:
		return // it was given up
	}
	c.out.finAcked = c.out.finAcked || k.flags&flagFin != 0
	if k.span.to > c.out.una && k.span.len() > 0 {
		c.out.lost.remove(k.span)
		before := c.out.una
		if k.span.from <= c.out.una {
			c.out.una = k.span.to
		} else {
			c.out.acked.add(k.span)
		}
		c.out.una = c.out.acked.pop(c.out.una)
		c.out.lost.remove(span{0, c.out.una}) // a part of what was lost may have come in another chunk
		c.out.buffer.drop(c.out.una, c.out.wrote+uint64(c.draft.size))
		if c.out.una > before {
			c.out.unaAt = w.now
			w.push(c) // it may reach further
			if (c.line.short || c.line.waits) && c.hasRoom() {
				c.roomy()
			}
		}
	}
	if c.out.finAcked && c.out.una == c.out.wrote {
		w.forget(c)
	}
}
