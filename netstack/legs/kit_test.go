package legs

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onewaylink/gw/netstack/stacktest"
	"github.com/onewaylink/gw/netstack/wire"
)

// A clock runs, and can be moved on.
type clock struct {
	start time.Time
	extra atomic.Int64
}

func newClock() *clock { return &clock{start: time.Now()} }

func (c *clock) now() time.Duration {
	return time.Hour + time.Since(c.start) + time.Duration(c.extra.Load())
}

func (c *clock) advance(d time.Duration) { c.extra.Add(int64(d)) }

// A lane carries the frames of one direction of a memTrunk.
type lane struct {
	mu       sync.Mutex
	frames   []wire.Frame
	bytes    int
	stalled  bool // nothing arrives
	finished bool // nothing follows
	deaf     bool // nobody reads any more
	dead     bool
	bell     stacktest.Bell
	ends     [2]stacktest.Bell // rung whenever anything has changed
}

// laneBytes is what a lane holds until there is no room.
const laneBytes = 512 << 10

func (l *lane) change(f func()) {
	l.mu.Lock()
	f()
	l.mu.Unlock()
	for _, b := range l.ends {
		b.Ring()
	}
	l.bell.Ring()
}

// memTrunk is one end of a trunk in memory.
type memTrunk struct {
	in, out *lane
	look    stacktest.Bell
	last    []byte // the payload that TryReceive has lent
	draft   []byte // that of the frame that was begun
	// inPieces says that what this end receives lies in several.
	inPieces bool
	quality  atomic.Pointer[Quality]
}

var _ Trunk = (*memTrunk)(nil)

func newTrunks(b stacktest.Bell) (x, y *memTrunk) {
	ends := [2]stacktest.Bell{stacktest.NewBell(), stacktest.NewBell()}
	there, back := &lane{bell: b, ends: ends}, &lane{bell: b, ends: ends}
	return &memTrunk{in: back, out: there, look: ends[0]}, &memTrunk{in: there, out: back, look: ends[1]}
}

// room reports whether a frame fits.
func (l *lane) room() (ok bool, err error) {
	if l.dead || l.finished {
		return false, net.ErrClosed
	}
	return l.bytes < laneBytes || l.deaf, nil
}

func (t *memTrunk) Send(f *wire.Frame) error {
	c := *f
	c.Payload = bytes.Clone(f.Payload)
	for {
		var room bool
		var err error
		t.out.change(func() {
			if room, err = t.out.room(); room && !t.out.deaf {
				t.out.frames = append(t.out.frames, c)
				t.out.bytes += len(c.Payload)
			}
		})
		if room || err != nil {
			return err
		}
		<-t.look
	}
}

// Serve calls all from one goroutine.
func (t *memTrunk) Serve(source, sink, ended func()) {
	go func() {
		for range t.look {
			t.in.mu.Lock()
			over := t.in.dead || t.in.deaf
			t.in.mu.Unlock()
			if over {
				ended()
				return
			}
			sink()
			source()
		}
	}()
}

func (t *memTrunk) Ready() { t.look.Ring() }

func (t *memTrunk) Begin(size int) (bool, error) {
	t.out.mu.Lock()
	defer t.out.mu.Unlock()
	t.draft = make([]byte, 0, size)
	return t.out.room()
}

func (t *memTrunk) Write(p []byte) (int, error) {
	n := min(len(p), cap(t.draft)-len(t.draft))
	t.draft = append(t.draft, p[:n]...)
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

func (t *memTrunk) Commit(f *wire.Frame) error {
	if f == nil {
		return nil
	}
	c := *f
	c.Payload = t.draft
	return t.Send(&c)
}

func (t *memTrunk) TryReceive(f *wire.Frame) (ok bool, err error) {
	clear(t.last) // code that has kept it fails
	t.last = nil
	l := t.in
	defer func() {
		if ok {
			l.change(func() {})
		}
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.dead, l.deaf:
		return false, net.ErrClosed
	case l.stalled:
		return false, nil
	case len(l.frames) == 0 && l.finished:
		return false, io.EOF
	case len(l.frames) == 0:
		return false, nil
	}
	*f = l.frames[0]
	l.frames = l.frames[1:]
	l.bytes -= len(f.Payload)
	t.last = f.Payload
	if third := len(f.Payload) / 3; t.inPieces && f.Kind == wire.FrameData && third > 0 {
		f.Further = [][]byte{f.Payload[third : 2*third], f.Payload[2*third:]}
		f.Payload = f.Payload[:third]
	}
	return true, nil
}

// receive waits for a frame.
func (t *memTrunk) receive(f *wire.Frame) error {
	for {
		if ok, err := t.TryReceive(f); ok || err != nil {
			return err
		}
		<-t.look
	}
}

func (t *memTrunk) Close() {
	for _, l := range []*lane{t.in, t.out} {
		l.change(func() { l.dead, l.frames, l.bytes = true, nil, 0 })
	}
}

func (t *memTrunk) Finish() {
	t.out.change(func() { t.out.finished = true })
	t.in.change(func() { t.in.deaf, t.in.frames, t.in.bytes = true, nil, 0 })
}

func (t *memTrunk) Quality() Quality {
	if q := t.quality.Load(); q != nil {
		return *q
	}
	return Quality{}
}

// stall stops what comes to this end, or lets it go on.
func (t *memTrunk) stall(yes bool) { t.in.change(func() { t.in.stalled = yes }) }

// ended reports whether the other end has closed or finished.
func (t *memTrunk) ended() bool {
	t.in.mu.Lock()
	defer t.in.mu.Unlock()
	return t.in.dead || t.in.finished
}

var (
	red4, gray4 = netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("10.77.2.1")
	red6, gray6 = netip.MustParseAddr("fd77:1::1"), netip.MustParseAddr("fd77:2::1")
)
