package trunk

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// beginAnew has a node forget all, as one does that is started again.
func beginAnew(s *simNet, at int) {
	e := s.ends[at]
	e.path = newPath(e.path.pool, simNodes[at], simNodes[1-at], s.now)
	e.next, e.wakes, e.begun = 0, false, nil
}

// exchange has streams, each begun by one of the ends given, carry something and end.
func exchange(s *simNet, seed uint64, from ...int) {
	s.t.Helper()
	r := rand.New(rand.NewPCG(20, seed))
	before := len(s.ends[0].path.streams) + len(s.ends[1].path.streams)
	var talks []*talk
	for _, at := range from {
		talks = append(talks, finishing(s, at, script(r, 20000), script(r, 20000))...)
	}
	proceed(s, time.Minute, "end of new streams", func() bool {
		return allDone(talks)() && len(s.ends[0].path.streams)+len(s.ends[1].path.streams) <= before
	}, talks...)
}

// underWay are two streams that have much to say, one begun by each end.
func underWay(s *simNet) []*talk {
	s.t.Helper()
	r := rand.New(rand.NewPCG(21, 1))
	var talks []*talk
	for from := range 2 {
		near, far := call(s, from, script(r, 1<<20), script(r, 1<<20))
		talks = append(talks, near, far)
	}
	proceed(s, time.Second, "words", func() bool {
		return !slices.ContainsFunc(talks, func(k *talk) bool { return k.c == nil || k.c.in.read < 10000 })
	}, talks...)
	return talks
}

// When a node has restarted, its former streams fail at the other node, whichever of them sends
// first, and new streams can be opened.
func TestRestart(t *testing.T) {
	for name, again := range map[string]func(s *simNet, talks []*talk){
		"the other one speaks":          func(*simNet, []*talk) {},
		"it speaks first":               func(s *simNet, _ []*talk) { exchange(s, 1, 1) },
		"it is not heard for some time": func(s *simNet, _ []*talk) { s.ends[1].line.down = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, quick)
			talks := underWay(s)
			s.ends[1].fly = nil // what it has said before is not heard any more
			beginAnew(s, 1)
			again(s, talks)
			proceed(s, time.Second, "while", passes(s, 100*time.Millisecond))
			s.ends[1].line.down = false
			here := []*talk{talks[0], talks[3]}
			proceed(s, 5*time.Second, "end of the streams", func() bool { return len(s.ends[0].path.streams) == 0 })
			for _, k := range here {
				if _, err := receiveNow(k.c, new(wire.Frame)); !errors.Is(err, errAnew) {
					t.Errorf("received %v", err)
				}
				if err := k.c.Send(&wire.Frame{Kind: wire.FrameData}); !errors.Is(err, errAnew) {
					t.Errorf("sent %v", err)
				}
				if k.c.Close(); !empty(k.c) {
					t.Error("an ended stream keeps memory")
				}
			}
			exchange(s, 2, 0, 1)
			if !quiet(s) {
				t.Error("streams are left")
			}
			if n := s.ends[0].path.pool.restarted.Load(); n != 1 {
				t.Errorf("the other node has restarted %d times", n)
			}
		})
	}
}

// A packet that was sent in a former session changes nothing.
func TestFormerSession(t *testing.T) {
	for at, name := range []string{"by the node that lives on", "by the node that has restarted"} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, quick)
			underWay(s)
			old := slices.Clone(s.ends[at].fly)
			if len(old) == 0 {
				t.Fatal("nothing is under way")
			}
			s.ends[0].fly, s.ends[1].fly = nil, nil
			beginAnew(s, 1)
			exchange(s, 1, 1)
			talks := underWay(s)
			for i := range old {
				old[i].at = s.now + time.Duration(i)*time.Millisecond
			}
			s.ends[at].fly = append(s.ends[at].fly, old...)
			proceed(s, time.Minute, "end of what goes on", func() bool {
				return allDone(talks)() || slices.ContainsFunc(talks, func(k *talk) bool { return k.failed != nil })
			}, talks...)
			for i, k := range talks {
				if k.failed != nil {
					t.Errorf("end %d: %v", i, k.failed)
				}
			}
			if n := s.ends[0].path.pool.restarted.Load(); n != 1 {
				t.Errorf("the other node has restarted %d times", n)
			}
		})
	}
}

// Streams fail if nothing arrives from the other node for too long, and not before, whether they
// carry much or a little now and then. The other node learns of it later.
func TestUnheard(t *testing.T) {
	for name, little := range map[string]bool{"much to say": false, "a little now and then": true} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, quick)
			r := rand.New(rand.NewPCG(22, 1))
			near, far := call(s, 0, script(r, 10000), script(r, 10000))
			proceed(s, time.Second, "words", func() bool { return near.heard() && far.heard() }, near, far)
			if !little {
				near.say = script(r, 1<<21)
			}
			s.both(func(l *simLine) { l.down = true })
			began := s.now
			sends := func() {
				if little && s.now/simStep%100 == 0 && near.failed == nil {
					near.failed = near.c.Send(&wire.Frame{Kind: wire.FrameData})
				}
			}
			proceed(s, 2*deadAfter, "failure", func() bool { sends(); return near.failed != nil }, near, far)
			if !errors.Is(near.failed, errUnheard) {
				t.Errorf("sent %v", near.failed)
			}
			near.goOn(far)
			if !errors.Is(near.err, errUnheard) {
				t.Errorf("received %v", near.err)
			}
			if after := s.now - began; after < deadAfter-100*time.Millisecond || after > deadAfter+3*maxProbe {
				t.Errorf("it fails after %v", after)
			}
			near.c.Close()
			s.both(func(l *simLine) { l.down = false })
			far.hear.want = nil
			proceed(s, 2*deadAfter, "end of the stream", func() bool { return quiet(s) })
			if _, err := receiveNow(far.c, new(wire.Frame)); !errors.Is(err, errReset) {
				t.Errorf("the other end received %v", err)
			}
			exchange(s, 1, 0, 1)
		})
	}
}

// What is lost after the path was idle is no sign that the other node has not been heard of
// since before: also where nothing was left to say that had not been acknowledged.
func TestIdleIsNotUnheard(t *testing.T) {
	s := newSim(t, quick)
	near, far := call(s, 0, []wire.Frame{{Kind: wire.FrameOpen}}, nil)
	proceed(s, time.Second, "frame", far.heard, near, far)
	proceed(s, time.Second, "while", passes(s, 100*time.Millisecond), near, far)
	// The other end closes at the moment when this one says something that is not
	// acknowledged: then nobody has to say it again.
	near.say = []wire.Frame{{Kind: wire.FrameData}}
	s.ends[0].line.down = true
	proceed(s, time.Second, "packet", func() bool { return s.ends[0].path.flight.inside > 0 }, near, far)
	far.c.Close()
	proceed(s, time.Minute, "while", passes(s, 2*deadAfter))
	s.ends[0].line.down = false
	proceed(s, time.Minute, "while", passes(s, 2*deadAfter))
	near, far = call(s, 0, []wire.Frame{{Kind: wire.FrameOpen}}, nil)
	s.ends[0].line.down = true
	proceed(s, time.Second, "packet that is lost", func() bool { return s.ends[0].path.flight.inside > 0 }, near, far)
	s.ends[0].line.down = false
	proceed(s, time.Minute, "end", func() bool { return near.c.err != nil || far.heard() }, near, far)
	if near.c.err != nil {
		t.Errorf("a new stream has failed: %v", near.c.err)
	}
}

// A stream that is one too many is refused, and there may be another when one has ended.
func TestTooManyStreams(t *testing.T) {
	s := newSim(t, quick)
	w := s.ends[1].path
	for i := range uint32(maxStreams) {
		id := 1<<30 + i
		w.streams[id] = newConn(w, id)
		w.streams[id].admitted = true
	}
	near, far := call(s, 0, []wire.Frame{{Kind: wire.FrameOpen}}, nil)
	proceed(s, time.Second, "refusal", func() bool { return near.c.err != nil && len(w.streams) == maxStreams }, near, far)
	if !errors.Is(near.c.err, errReset) || far.c != nil || w.pool.refused.Load() != 1 {
		t.Errorf("the stream has ended by %v, accepted %v, %d refused", near.c.err, far.c != nil, w.pool.refused.Load())
	}
	delete(w.streams, 1<<30)
	near, far = call(s, 0, []wire.Frame{{Kind: wire.FrameOpen}}, nil)
	proceed(s, time.Second, "frame", far.heard, near, far)
}

// A packet that comes when the node has just been taken out begins nothing: nobody would
// ever end it.
func TestComesTooLate(t *testing.T) {
	l := newLink()
	near := l.paths[0].open()
	if err := near.Send(&wire.Frame{Kind: wire.FrameOpen}); err != nil {
		t.Fatal(err)
	}
	l.paths[1].end()
	l.pass(t)
	for _, c := range l.begun[1] {
		if c.err == nil {
			t.Error("a stream has begun on a path that is no more")
		}
	}
	if n := len(l.paths[1].streams); n > 0 {
		t.Errorf("%d streams", n)
	}
	c := l.paths[1].open()
	if err := c.Send(&wire.Frame{Kind: wire.FrameOpen}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("sent on a path that is no more: %v", err)
	}
	c.Close()
}

// What Path says agrees with what was sent.
func TestPath(t *testing.T) {
	line := quick
	line.loss = 0.05
	s := newSim(t, line)
	near, far := call(s, 0, script(rand.New(rand.NewPCG(23, 1)), 1<<20), nil)
	proceed(s, time.Second, "words", func() bool { return far.c != nil && far.c.in.read > 1<<16 }, near, far)
	p := near.c.Path()
	if p.Queued < p.Unsent || p.Unsent < Backlog || p.RTT < 10*time.Millisecond || p.MinRTT <= 0 || p.MinRTT > p.RTT ||
		p.Bandwidth <= 0 || p.Share <= 0 || p.Window <= 0 || p.Inside <= 0 || p.Packets == 0 || p.Segments == 0 {
		t.Errorf("while much waits to be sent: %+v", p)
	}
	proceed(s, time.Minute, "end", func() bool { return far.heard() && near.c.out.una == near.c.out.wrote }, near, far)
	p = near.c.Path()
	if p.Queued != 0 || p.Unsent != 0 || p.Inside != 0 || p.Lost == 0 || p.Retransmits == 0 || p.Retransmits >= p.Segments || p.Lost >= p.Packets {
		t.Errorf("at the end: %+v", p)
	}
	if b := far.c.Path(); b.Segments != 0 || b.Retransmits != 0 || b.Packets != 0 {
		t.Errorf("the other end, which says nothing: %+v", b)
	}
	n, path := s.ends[0].path.stats()
	if n != 1 || path != p.Way {
		t.Errorf("%d streams on %+v", n, path)
	}
}

// A sender that the window holds continues as soon as there is room, and is not woken before.
func TestHeldIsWoken(t *testing.T) {
	l := newLink()
	w, other := l.paths[0], l.paths[1]
	near := w.open()
	for near.hasRoom() {
		if err := near.Send(&wire.Frame{Kind: wire.FrameData, Payload: noise[:wire.MaxFramePayload]}); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			l.now += 500 * time.Microsecond
			for _, b := range l.pull(0) {
				if err := other.deliver(l.now, b[len(w.header):]); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	other.flush(l.now)
	if !w.pacing.held {
		t.Fatal("the window holds more than it sends")
	}
	if w.flush(l.now).wake {
		t.Error("it is woken, and nothing has come")
	}
	for _, b := range l.pull(1) {
		if err := w.deliver(l.now, b[len(other.header):]); err != nil {
			t.Fatal(err)
		}
	}
	if !w.flush(l.now).wake {
		t.Error("it is not woken, and all has come")
	}
	if len(l.pull(0)) == 0 {
		t.Error("it does not send on")
	}
}
