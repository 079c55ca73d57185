package trunk

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// served counts what a Conn that is served has its user do.
type served struct {
	c                      *Conn
	sources, sinks, endeds int
	source, sink           func()
}

func serve(c *Conn) *served {
	s := &served{c: c, source: func() {}, sink: func() {}}
	c.Serve(func() { s.sources++; s.source() }, func() { s.sinks++; s.sink() }, func() { s.endeds++ })
	return s
}

// wakes counts how often a path's pool wakes the reader.
func wakes(w *path) *int {
	n := new(int)
	w.pool.cfg.Wake = func() { *n++ }
	return n
}

// write sends a frame as a source does.
func (s *served) write(t *testing.T, payload []byte) (room bool) {
	t.Helper()
	room, err := s.c.Begin(len(payload))
	if err != nil {
		t.Fatal(err)
	}
	if !room {
		return false
	}
	if _, err := s.c.Write(payload); err != nil {
		t.Fatal(err)
	}
	if err := s.c.Commit(&wire.Frame{Kind: wire.FrameData}); err != nil {
		t.Fatal(err)
	}
	return true
}

// Who has something to send is asked for it once, when something may be sent.
func TestServeReady(t *testing.T) {
	l := newLink()
	l.now += time.Second // so that all may be sent that there is
	woken := wakes(l.paths[0])
	s := serve(l.paths[0].open())
	l.pull(0)
	if s.sources > 0 {
		t.Error("asked, and nobody was ready")
	}
	for range 3 {
		s.c.Ready()
	}
	if s.sources > 0 || *woken != 1 {
		t.Errorf("asked %d times, the reader woken %d times", s.sources, *woken)
	}
	said := noise[:1000]
	s.source = func() { s.write(t, said) }
	if n := len(l.pull(0)); s.sources != 1 || n != 1 || *woken != 1 {
		t.Errorf("asked %d times, %d packets; woken %d times", s.sources, n, *woken)
	}
	l.pull(0)
	s.c.Ready()
	if *woken != 2 {
		t.Error("ready again, and nobody is woken")
	}
	if l.pull(0); s.sources != 2 {
		t.Errorf("asked %d times", s.sources)
	}
}

// Who has found no room is asked again when there is, until all is sent; and who receives
// is told whenever something has come.
func TestServeRoom(t *testing.T) {
	l := newLink()
	near := serve(l.paths[0].open())
	rest := noise[:1<<20]
	near.source = func() {
		for len(rest) > 0 {
			n := min(len(rest), 50_000)
			if !near.write(t, rest[:n]) {
				return
			}
			rest = rest[n:]
		}
	}
	var far *served
	var got []byte
	take := func() {
		var f wire.Frame
		for {
			ok, err := receiveNow(far.c, &f)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return
			}
			got = append(got, f.Payload...)
		}
	}
	near.c.Ready()
	for range 10_000 {
		l.pass(t)
		if far == nil && len(l.begun[1]) > 0 {
			far = serve(l.begun[1][0])
			far.sink = take
			take()
		}
		if len(got) == 1<<20 {
			break
		}
	}
	if !bytes.Equal(got, noise[:1<<20]) {
		t.Fatalf("%d bytes have come", len(got))
	}
	if near.sources < 2 || far.sinks < 2 {
		t.Errorf("asked %d times, told %d times", near.sources, far.sinks)
	}
	sources, sinks := near.sources, far.sinks
	for range 50 {
		l.pass(t)
	}
	if near.sources != sources || far.sinks != sinks {
		t.Error("asked or told, and nothing was new")
	}
}

// An end is told at both ends, and after it nobody is asked any more.
func TestServeEnds(t *testing.T) {
	l := newLink()
	near := serve(l.paths[0].open())
	near.source = func() { near.write(t, []byte("x")) }
	near.c.Ready()
	for len(l.begun[1]) == 0 {
		l.pass(t)
	}
	far := serve(l.begun[1][0])
	near.c.Ready()
	near.c.Close()
	if near.endeds != 1 {
		t.Errorf("the end was told %d times to who has closed", near.endeds)
	}
	near.source = func() {
		if room, err := near.c.Begin(1); room || !errors.Is(err, net.ErrClosed) {
			t.Errorf("room: %v, %v", room, err)
		}
	}
	for range 20 {
		l.pass(t)
	}
	if far.endeds != 1 {
		t.Errorf("the end was told %d times at the other end", far.endeds)
	}
	if _, err := far.c.TryReceive(new(wire.Frame)); !errors.Is(err, errReset) {
		t.Errorf("received: %v", err)
	}
	asked := near.sources
	near.c.Ready()
	far.c.Ready()
	l.pass(t)
	if near.sources != asked || far.sources > 0 {
		t.Error("asked after the end")
	}
}

// Who becomes ready while there is no place for its packets is not forgotten.
func TestServeFull(t *testing.T) {
	l := newLink()
	l.now += time.Second
	a, b := serve(l.paths[0].open()), serve(l.paths[0].open())
	a.source = func() { a.write(t, []byte("a")); b.c.Ready() }
	b.source = func() { b.write(t, []byte("b")) }
	a.c.Ready()
	n, next := l.paths[0].pull(l.now, l.bufs[:1], l.sizes, 0)
	if n != 1 || next != l.now || b.sources > 0 {
		t.Fatalf("%d packets, the next in %v; asked %d times", n, next-l.now, b.sources)
	}
	if n, _ := l.paths[0].pull(l.now, l.bufs[:1], l.sizes, 0); n != 1 || b.sources != 1 {
		t.Errorf("%d packets; asked %d times", n, b.sources)
	}
}
