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
	errReset   = errors.New("the other node has given the trunk up")
	errUnheard = errors.New("the other node has not been heard of for too long")
	errAnew    = errors.New("the other node has begun anew")
	errLate    = errors.New("the other node has neither opened nor ended the trunk in time")
	errStuck   = errors.New("the other node does not acknowledge the first bytes")
	errMemory  = errors.New("the memory for trunks is used up: see local.limits.trunks")
)

// Conn is a stream of frames to another node, in both directions. Whoever uses it waits in
// Send and Receive, or is told by Serve when there is something to do. Send may be called
// by several goroutines, Receive and TryReceive by one at a time, all else by any. After an
// error from them it is of no more use, and has to be closed.
type Conn struct {
	path *path
	id   uint32

	sendMu sync.Mutex // one frame at a time
	header [wire.FrameHeaderSize]byte
	draft  draft // but for its size, which belongs to the path's lock

	room chan struct{} // holds a token when Send is to look,
	data chan struct{} // and when Receive is

	// What Serve was told, once.
	source, sink, ended func()

	// Receive's own: how much is left of the payload of frame, how many bytes of the
	// stream the last call has returned, and where most of them lie.
	frame   wire.Frame
	rest    int
	handed  int
	further [][]byte

	// All below belongs to the path's lock.

	err       error // why nothing is sent any more, or received
	discards  bool  // nobody wants what comes
	closed    bool  // by Close
	forgotten bool  // the path does not know it any more

	due      place
	admitted bool // this end wants it: before that, the other end may send only a little

	next   *Conn // among those that have something to send
	bulk   bool  // it has more to send than a packet, and is counted
	queued bool
	eager  bool // source is to be called
	short  bool // Begin has found no room,
	waits  bool // or Send

	// una is the first byte that was not acknowledged, sent the next that is new, wrote
	// the end of what there is, and limit how far the other end lets it go.
	out                    buffer
	una, sent, wrote       uint64
	limit                  uint64
	unaAt                  time.Duration // when una moved, or the byte there was sent
	acked, lost            ranges        // beyond una
	fin, finSent, finAcked bool
	known                  bool // the other end knows the stream
	resetDue, windowDue    bool
	segments, again        uint64 // chunks with payload, those of them sent again

	// read is the first byte that was not received yet, whole the end of what is there
	// without a gap, end that of all, and told how far the other end may send.
	in              buffer
	got             ranges
	ahead           int // bytes that have come behind a gap, about
	read, whole     uint64
	end, told       uint64
	eof             bool
	eofAt           uint64
	touched, asking bool // since the last Flush; it is new
}

func newConn(w *path, id uint32) *Conn {
	c := &Conn{
		path: w, id: id, room: make(chan struct{}, 1), data: make(chan struct{}, 1), limit: inWindow, told: inWindow,
	}
	c.in.mem, c.out.mem = &w.memory, &w.memory
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
	c.out.put(c.wrote, header)
	c.out.put(c.wrote+uint64(len(header)), f.Payload)
	c.wrote += uint64(len(header) + len(f.Payload))
	w.push(c)
	w.unlock()
	return nil
}

// waitRoom waits until a frame of size bytes may be queued, and makes room for it. It is called
// with the path's lock, which it gives up meanwhile.
func (c *Conn) waitRoom(size int) error {
	for c.err == nil && !c.makeRoom(size) && c.err == nil {
		c.waits = true
		c.path.unlock()
		<-c.room
		c.path.mu.Lock()
	}
	c.waits = false
	return c.err
}

// hasRoom reports whether a frame may be queued, as far as memory allows.
func (c *Conn) hasRoom() bool { return c.wrote-c.sent < Backlog }

// makeRoom makes room for a frame of size bytes, and reports whether there is. If the memory is
// used up, a stream that holds some waits for an acknowledgement. One that holds none would wait
// for others, and ends.
func (c *Conn) makeRoom(size int) bool {
	if !c.hasRoom() {
		return false
	}
	if c.out.fit(c.wrote, size) {
		return true
	}
	c.out.cut(c.wrote)
	if c.una == c.wrote {
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
	if c.short {
		c.short = false
		c.ready()
	}
}

// reach is how far the stream may be sent: as far as the other end lets it, and no further beyond
// what that has acknowledged than any window.
func (c *Conn) reach() uint64 { return min(c.wrote, c.limit, c.una+inWindow) }

// Close ends the connection at once: what is queued is discarded, and the other end
// is told. It may be called again.
func (c *Conn) Close() {
	w := c.path
	w.mu.Lock()
	if c.closed || c.forgotten {
		w.mu.Unlock()
		return
	}
	if c.known || c.wrote > 0 || c.far() {
		c.giveUp(net.ErrClosed)
	} else {
		c.fail(net.ErrClosed)
		w.forget(c) // nobody knows of it
	}
	w.unlock()
	w.pool.changed()
}

// giveUp ends both directions, and has the other end told.
func (c *Conn) giveUp(err error) {
	c.fail(err)
	c.closed, c.resetDue = true, true
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
	c.fin = false
	if c.draft.size > 0 {
		c.out.abandon() // somebody writes to it
	} else {
		c.out.clear()
	}
	c.stopReading()
	c.acked, c.lost = nil, nil
	c.sent, c.una = c.wrote, c.wrote
	signal(c.room)
	if c.ended != nil {
		c.ended()
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
	if c.wrote == 0 && !c.far() {
		w.forget(c)
	} else {
		c.fin = true
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
	return c.resetDue || c.windowDue || len(c.lost) > 0 || c.sent < c.reach() || c.finDue()
}

func (c *Conn) finDue() bool { return c.fin && !c.finSent && c.sent == c.wrote }

// fill takes what is to be sent next, at most room bytes of it, and reports false if
// there is nothing.
func (c *Conn) fill(room int) (s span, flags uint8, ok bool) {
	switch {
	case c.resetDue:
		c.resetDue = false
		return s, flagReset, true
	case c.windowDue:
		c.windowDue = false
		return span{c.told, c.told}, flagWindow, true
	case len(c.lost) > 0:
		s = c.lost[0]
		s.to = min(s.to, s.from+uint64(room))
		c.lost.remove(s)
		c.again++
	case c.sent < c.reach():
		s = span{c.sent, min(c.reach(), c.sent+uint64(room))}
		if c.sent == c.una {
			c.unaAt = c.path.now
		}
		c.sent = s.to
	case c.finDue():
		s = span{c.wrote, c.wrote}
	default:
		return s, 0, false
	}
	if s.len() > 0 {
		c.segments++
	}
	if c.fin && s.to == c.wrote {
		flags |= flagFin
		c.finSent = true
	}
	if !c.known && !c.far() {
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
			c.resetDue = true
		case k.flags&flagWindow != 0:
			c.windowDue = !c.discards
		case c.sent > c.una || k.flags&flagFin != 0:
			if from := max(k.span.from, c.una); from < k.span.to && !c.acked.has(span{from, k.span.to}) {
				c.lost.add(span{from, k.span.to})
			}
			c.finSent = c.finSent && (k.flags&flagFin == 0 || c.finAcked)
			if c.una < c.sent && k.span.from <= c.una && w.now-c.unaAt > stuckAfter {
				c.giveUp(errStuck)
				w.pool.abandoned.Add(1)
			}
		}
		w.push(c)
		return
	}
	c.known = c.known || k.flags&flagOpen != 0
	switch {
	case k.flags&flagReset != 0:
		w.forget(c)
		return
	case k.flags&flagWindow != 0:
		return
	case c.err != nil && !c.fin:
		return // it was given up
	}
	c.finAcked = c.finAcked || k.flags&flagFin != 0
	if k.span.to > c.una && k.span.len() > 0 {
		c.lost.remove(k.span)
		before := c.una
		if k.span.from <= c.una {
			c.una = k.span.to
		} else {
			c.acked.add(k.span)
		}
		c.una = c.acked.pop(c.una)
		c.lost.remove(span{0, c.una}) // a part of what was lost may have come in another chunk
		c.out.drop(c.una, c.wrote+uint64(c.draft.size))
		if c.una > before {
			c.unaAt = w.now
			w.push(c) // it may reach further
			if (c.short || c.waits) && c.hasRoom() {
				c.roomy()
			}
		}
	}
	if c.finAcked && c.una == c.wrote {
		w.forget(c)
	}
}
