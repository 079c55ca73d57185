package trunk

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// heads are those of what a node sends now, which is lost.
func (l *link) heads(t *testing.T, from int) (list []head) {
	t.Helper()
	for _, b := range l.pull(from) {
		h, _, err := parseHead(l.paths[from].body(b))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, h)
	}
	for i := range l.bufs {
		l.bufs[i] = l.bufs[i][:cap(l.bufs[i])]
	}
	return list
}

func say(t *testing.T, c *Conn) {
	t.Helper()
	if err := c.Send(&wire.Frame{Kind: wire.FrameData, Payload: noise[:100]}); err != nil {
		t.Fatal(err)
	}
}

// A node says its session in each packet until it has heard that the other one knows it,
// and in none after that.
func TestLongUntilKnown(t *testing.T) {
	l := newLink()
	a, b := l.paths[0], l.paths[1]
	near := l.paths[0].open()
	for range 3 {
		say(t, a.open())
		for _, h := range l.heads(t, 0) {
			if h != (head{kind: kindData, count: 1, long: true, from: a.session.local, tag: a.session.local & tagMask}) {
				t.Errorf("before anything is known: %+v", h)
			}
		}
	}
	// The other one has heard of it, and does not know whether it is known.
	say(t, near)
	deliver := func(from int) {
		t.Helper()
		for _, p := range l.pull(from) {
			if err := l.paths[1-from].deliver(l.now, l.paths[from].body(p)); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range l.paths[1-from].flush(l.now).begun {
			c.Admit()
		}
		for i := range l.bufs {
			l.bufs[i] = l.bufs[i][:cap(l.bufs[i])]
		}
	}
	deliver(0)
	l.now += time.Second
	tag := tagOf(a.session.local, b.session.local)
	for _, h := range l.heads(t, 1) {
		if h != (head{kind: kindAck, long: true, from: b.session.local, to: a.session.local, tag: tag}) {
			t.Errorf("to one that says nothing of what it knows: %+v", h)
		}
	}
	say(t, near)
	deliver(0)
	l.now += time.Second
	deliver(1)
	if !a.session.known || b.session.known {
		t.Fatalf("known %v to the one, %v to the other", a.session.known, b.session.known)
	}
	say(t, near)
	if list := l.heads(t, 0); len(list) == 0 || list[0].long || list[0].tag != tag {
		t.Errorf("when it is known: %+v", list)
	}
	say(t, near)
	deliver(0)
	l.now += time.Second
	if list := l.heads(t, 1); len(list) == 0 || list[0].long || list[0].tag != tag {
		t.Errorf("when both are known: %+v", list)
	}
}

// picture is what a path knows, without what tells of the moment.
func picture(w *path) (s struct {
	local, remote  uint32
	known          bool
	next, oldest   uint64
	inside, begun  int
	streams, touch int
	got            string
}) {
	s.local, s.remote, s.known = w.session.local, w.session.remote, w.session.known
	s.next, s.oldest, s.inside = w.flight.next, w.flight.oldest, w.flight.inside
	s.begun, s.streams, s.touch = len(w.begun), len(w.streams), len(w.waiting.touched)
	for _, r := range w.acks.got {
		s.got = string(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte(s.got), r.from), r.to))
	}
	return s
}

// What is spoken to another session is answered by a reset, and changes nothing else. A
// reset is answered by none.
func TestStrangeSession(t *testing.T) {
	const here, there = 5, 9
	for name, c := range map[string]struct {
		remote uint32 // that is known
		head   head
		answer bool
	}{
		"short, and none is known":        {0, head{kind: kindData, count: 1, from: there, to: here}, true},
		"short, its tag that of none":     {0, head{kind: kindData, count: 1, from: 0, to: here}, true},
		"short, to another":               {there, head{kind: kindData, count: 1, from: there, to: 7}, true},
		"short, from a former one":        {there, head{kind: kindData, count: 1, from: 11, to: here}, true},
		"short, its tag is 0":             {there, head{kind: kindData, count: 1}, true},
		"acknowledgement, from a former":  {there, head{kind: kindAck, from: 11, to: here}, true},
		"long, to another":                {there, head{kind: kindData, count: 1, long: true, from: there, to: 7}, true},
		"long, to another with this tag":  {there, head{kind: kindData, count: 1, long: true, from: there, to: 1<<24 + here}, true},
		"long, to another, none is known": {0, head{kind: kindAck, long: true, from: there, to: 7}, true},
		"long, from and to others":        {there, head{kind: kindData, count: 1, long: true, from: 13, to: 7}, true},
		"reset to another":                {there, head{kind: kindReset, long: true, from: there, to: 7}, false},
		"short reset to another":          {there, head{kind: kindReset, from: there, to: 7}, false},
		"short reset, and none is known":  {0, head{kind: kindReset, from: there, to: here}, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLink()
			l.paths[0].session.local, l.paths[1].session.local = here, there
			say(t, l.paths[0].open())
			if c.remote != 0 {
				for len(l.begun[1]) == 0 || !l.paths[0].session.known || l.paths[0].flight.inside > 0 {
					l.pass(t)
				}
			}
			w := l.paths[0]
			before := picture(w)
			b := make([]byte, longSize, 200)
			putHead(b, &c.head)
			b = append(b[:c.head.size()], 0, 0, 0, 5)
			if c.head.kind == kindData {
				b = append(b, make([]byte, chunkSize)...)
				putPiece(b[len(b)-chunkSize:], &piece{stream: 0, flags: flagReset})
			} else {
				b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, 0), 1)
			}
			if err := w.deliver(l.now, b); err != nil {
				t.Fatal(err)
			}
			if got := picture(w); got != before {
				t.Errorf("%+v before, %+v after it", before, got)
			}
			if f := w.flush(l.now); f.wake != c.answer && f.wake != w.pacing.wake {
				t.Errorf("there is something to send: %v", f.wake)
			}
			resets := 0
			for _, h := range l.heads(t, 0) {
				if h.kind != kindReset {
					continue
				}
				if resets++; h != (head{kind: kindReset, long: true, from: here, tag: here}) {
					t.Errorf("answered by %+v", h)
				}
			}
			if resets > 1 || c.answer != (resets == 1) {
				t.Errorf("answered by %d resets", resets)
			}
			for _, h := range l.heads(t, 0) {
				if h.kind == kindReset {
					t.Error("answered twice")
				}
			}
		})
	}
}

// A reset that is due goes, though another one comes meanwhile.
func TestResetStaysDue(t *testing.T) {
	l := newLink()
	b := make([]byte, longSize)
	for _, kind := range []uint8{kindData, kindReset} {
		putHead(b, &head{kind: kind, from: 1, to: 2})
		if err := l.paths[0].deliver(l.now, b[:headSize]); err != nil {
			t.Fatal(err)
		}
	}
	if list := l.heads(t, 0); len(list) != 1 || list[0].kind != kindReset {
		t.Errorf("sent %+v", list)
	}
}

// A reset by the session that is known ends nothing: some of what was spoken to it was to
// another one. From then on the packets say whose they are.
func TestResetByTheSame(t *testing.T) {
	l := newLink()
	near := l.paths[0].open()
	say(t, near)
	for !l.paths[0].session.known || !l.paths[1].session.known {
		l.pass(t)
		say(t, near)
	}
	b := make([]byte, longSize)
	putHead(b, &head{kind: kindReset, long: true, from: l.paths[1].session.local})
	if err := l.paths[0].deliver(l.now, b); err != nil {
		t.Fatal(err)
	}
	if near.err != nil || l.paths[0].session.known {
		t.Fatalf("the stream has ended by %v, known %v", near.err, l.paths[0].session.known)
	}
	say(t, near)
	if list := l.heads(t, 0); len(list) == 0 || !list[0].long || list[0].from != l.paths[0].session.local || list[0].to != l.paths[1].session.local {
		t.Errorf("sent %+v", list)
	}
	for range 100 {
		l.pass(t)
	}
	if !l.paths[0].session.known || near.out.una != near.out.wrote {
		t.Errorf("known again %v, %d of %d bytes are acknowledged", l.paths[0].session.known, near.out.una, near.out.wrote)
	}
}

// That the other node has restarted is seen by its first packet, of whichever kind.
func TestBegunAnewIsSeen(t *testing.T) {
	for name, h := range map[string]head{
		"data":                      {kind: kindData, long: true, from: 99},
		"acknowledgement":           {kind: kindAck, long: true, from: 99},
		"reset":                     {kind: kindReset, long: true, from: 99},
		"one that knows of it":      {kind: kindData, long: true, from: 99, to: 5},
		"reset by who knows of it":  {kind: kindReset, long: true, from: 99, to: 5},
		"acknowledgement, it knows": {kind: kindAck, long: true, from: 99, to: 5},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLink()
			w := l.paths[0]
			w.session.local = 5
			near := w.open()
			say(t, near)
			for len(l.begun[1]) == 0 || !w.session.known {
				l.pass(t)
			}
			say(t, near)
			l.heads(t, 0)
			b := make([]byte, longSize+numSize)
			putHead(b, &h)
			if err := w.deliver(l.now, b); err != nil {
				t.Fatal(err)
			}
			if !errors.Is(near.err, errAnew) || len(w.streams) > 0 || w.flight.inside > 0 || len(w.begun) > 0 {
				t.Errorf("the stream has ended by %v, %d are left, %d bytes under way", near.err, len(w.streams), w.flight.inside)
			}
			if w.session.remote != 99 || w.session.known != (h.to != 0 && h.kind != kindReset) || w.pool.restarted.Load() != 1 {
				t.Errorf("its session is %d, known %v", w.session.remote, w.session.known)
			}
			if err := w.deliver(l.now, b); err != nil || w.pool.restarted.Load() != 1 {
				t.Errorf("when it arrives again: %v, restarted %d times", err, w.pool.restarted.Load())
			}
			say(t, w.open())
			if list := l.heads(t, 0); len(list) == 0 || list[len(list)-1].long == w.session.known {
				t.Errorf("sent %+v", list)
			}
		})
	}
}

// ahead has both ways, on which nothing is under way, have sent so many packets more.
func ahead(t *testing.T, s *simNet, base uint64) {
	t.Helper()
	for i, e := range s.ends {
		f := &e.path.flight
		if f.inside > 0 {
			t.Fatal("something is under way")
		}
		f.oldest, f.next, f.largest, f.gone, f.sent = base, base, base, nil, base
		clear(f.ring)
		s.ends[1-i].path.acks = acks{got: ranges{{base - 1, base}}}
	}
}

// longer has both ends of a stream, of which nothing is under way, have carried so many
// bytes more in both directions.
func longer(t *testing.T, near, far *Conn, by uint64) {
	t.Helper()
	for _, c := range [][2]*Conn{{near, far}, {far, near}} {
		out, in := c[0], c[1]
		if out.out.una != out.out.wrote || in.in.read+uint64(in.taking.handed) != in.in.end || len(out.out.acked)+len(out.out.lost)+len(in.in.got) > 0 {
			t.Fatal("something is under way")
		}
		in.consume(in.taking.handed)
		in.taking.handed = 0
		out.out.una, out.out.sent, out.out.wrote, out.out.limit = out.out.una+by, out.out.sent+by, out.out.wrote+by, out.out.limit+by
		in.in.read, in.in.whole, in.in.end, in.in.advertised = in.in.read+by, in.in.whole+by, in.in.end+by, in.in.advertised+by
	}
}

// Packets and bytes are counted beyond what their numbers on the wire hold, whatever is lost
// or late meanwhile.
func TestBeyondTheWrap(t *testing.T) {
	for _, base := range []uint64{1<<31 - 100, 1<<32 - 100, 3<<31 - 100, 5<<32 - 100, 1<<48 - 100} {
		line := quick
		s := newSim(t, line)
		r := rand.New(rand.NewPCG(40, base))
		near, far := call(s, 0, script(r, 20000), script(r, 20000))
		proceed(s, time.Minute, "words", allDone([]*talk{near, far}), near, far)
		proceed(s, time.Minute, "while", passes(s, 200*time.Millisecond), near, far)
		s.both(func(l *simLine) { l.loss, l.late = 0.03, 0.1 })
		ahead(t, s, base)
		longer(t, near.c, far.c, base&^(blockSize-1)-blockSize)
		near.say, far.say = script(r, 1<<19), script(r, 1<<19)
		near.hear.want, far.hear.want = slices.Clone(far.say), slices.Clone(near.say)
		near.ends, far.ends = true, true
		proceed(s, time.Minute, "end", func() bool { return allDone([]*talk{near, far})() && quiet(s) }, near, far)
		for i, c := range []*Conn{near.c, far.c} {
			if s.ends[i].path.flight.next <= base+100 || c.out.wrote <= base {
				t.Errorf("base %#x: %d packets and %d bytes", base, s.ends[i].path.flight.next, c.out.wrote)
			}
		}
		exchange(s, 1, 0, 1)
	}
}

// So much may be said that the other end's window goes beyond the wrap.
func TestWindowBeyondTheWrap(t *testing.T) {
	s := newSim(t, simLine{delay: time.Millisecond, rate: 500e6, queue: 4 << 20})
	near, far := call(s, 0, []wire.Frame{{Kind: wire.FrameOpen}}, []wire.Frame{{Kind: wire.FrameAccept}})
	proceed(s, time.Second, "frame", allDone([]*talk{near, far}), near, far)
	proceed(s, time.Second, "while", passes(s, 100*time.Millisecond), near, far)
	longer(t, near.c, far.c, 1<<32-2*inWindow)
	for i := range 3 * inWindow / wire.MaxFramePayload {
		near.say = append(near.say, wire.Frame{Kind: wire.FrameData, Fin: true, Ack: uint32(i), Payload: noise[:wire.MaxFramePayload]})
	}
	far.hear.want = slices.Clone(near.say)
	proceed(s, time.Minute, "end", far.heard, near, far)
	if near.c.out.wrote <= 1<<32 || near.c.out.limit <= 1<<32 {
		t.Errorf("%d bytes were sent", near.c.out.wrote)
	}
}

// A restarted node receives packets for streams of its former session, and knows only the low bits
// of their numbers: it acknowledges them nevertheless.
func TestRestartBeyondTheWrap(t *testing.T) {
	for _, base := range []uint64{1<<31 + 5, 1<<32 + 5, 7<<31 + 5, 1<<40 + 5} {
		for _, first := range []int{0, 1} {
			s := newSim(t, quick)
			exchange(s, 1, 0, 1)
			proceed(s, time.Second, "while", passes(s, 200*time.Millisecond))
			ahead(t, s, base)
			underWay(s)
			beginAnew(s, 1)
			proceed(s, time.Second, "while", passes(s, 100*time.Millisecond))
			exchange(s, 2, first)
			exchange(s, 3, 0, 1)
			if w := s.ends[0].path; w.flight.next < base || w.flight.inside > 0 || w.pool.restarted.Load() != 1 {
				t.Errorf("base %#x: %d packets, %d bytes are under way", base, w.flight.next, w.flight.inside)
			}
		}
	}
}

// The numbers of streams that were never used don't fill the memory.
func TestStreamsWithGaps(t *testing.T) {
	l := newLink()
	w := l.paths[0]
	for i := range uint32(3 * maxStreams) {
		id := 4*i + 1 - w.parity
		if c, _ := w.stream(&piece{stream: id, flags: flagReset}); c != nil {
			t.Fatal("a reset begins a stream")
		}
		if c, _ := w.stream(&piece{stream: id, flags: flagOpen, data: noise[:1]}); c != nil {
			t.Fatal("a stream begins again")
		}
	}
	if n := len(w.begun); n > maxBegun {
		t.Errorf("%d ranges are kept", n)
	}
	checkRanges(t, "begun", w.begun)
	if c, _ := w.stream(&piece{stream: 4*(3*maxStreams-1) - 1 - w.parity, flags: flagOpen, data: noise[:1]}); c == nil {
		t.Error("one that was left out is refused")
	}
}

// When all stream numbers are used, both nodes restart the session, and new streams work.
func TestNumbersRunOut(t *testing.T) {
	s := newSim(t, quick)
	r := rand.New(rand.NewPCG(20, 1))
	w := s.ends[0].path
	w.last = 1<<32 - 6
	near, far := call(s, 0, script(r, 1000), nil)
	proceed(s, time.Second, "frames", allDone([]*talk{near, far}), near, far)
	session := w.session.local
	again, there := call(s, 0, script(r, 1000), nil)
	if w.session.local == session || near.c.err == nil {
		t.Fatal("the node does not restart the session")
	}
	proceed(s, 5*time.Second, "frames of the new session", allDone([]*talk{again, there}), again, there)
	if far.c.err == nil {
		t.Error("the other node has not noticed")
	}
}
