package trunk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// deadline is how long a test waits for what has to come.
const deadline = 20 * time.Second

var noise = func() []byte {
	b := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}()

// payload is n bytes that look like no others.
func payload(r *rand.Rand, n int) []byte {
	at := r.IntN(len(noise) - n)
	return noise[at : at+n]
}

// script is frames to be said: some of all kinds, mostly data, about so many bytes. Most
// go on from those before. No two say the same of the other direction.
func script(r *rand.Rand, size int) (list []wire.Frame) {
	var seq uint32
	for size > 0 {
		f := wire.Frame{Kind: wire.FrameData, Fin: r.IntN(8) == 0, Seq: seq, Ack: uint32(len(list)), Edge: r.Uint32()}
		if r.IntN(8) == 0 {
			f.Seq = r.Uint32()
		}
		n := r.IntN(1 << r.IntN(17))
		if r.IntN(4) == 0 {
			f.Kind = []wire.FrameKind{wire.FrameOpen, wire.FrameAccept, wire.FrameRefuse, wire.FrameClose}[r.IntN(4)]
			n /= 8
		}
		if n > 0 {
			f.Payload = payload(r, n)
		}
		seq = f.Seq + uint32(n)
		list = append(list, f)
		size -= n + wire.FrameHeaderSize
	}
	return list
}

// hearer takes frames that come, and compares them with those that were said.
type hearer struct {
	want []wire.Frame
	part int // bytes of the first of them that have come
}

// take takes one frame. One with data may be a part of one that was said, or several that
// follow each other.
func (h *hearer) take(f *wire.Frame) error {
	inOne(f)
	if len(h.want) == 0 {
		return fmt.Errorf("%v with %d bytes comes, and nothing was said", f.Kind, len(f.Payload))
	}
	w := &h.want[0]
	left := w.Payload[h.part:]
	if f.Kind != w.Kind || f.Seq != w.Seq+uint32(h.part) {
		return fmt.Errorf("%+v comes %d bytes into %+v", headerOf(f), h.part, headerOf(w))
	}
	if (len(f.Payload) == 0) != (len(left) == 0) || f.Kind != wire.FrameData && len(f.Payload) != len(left) {
		return fmt.Errorf("%d bytes of a %v frame come, %d are due", len(f.Payload), f.Kind, len(left))
	}
	for rest := f.Payload; ; {
		n := min(len(rest), len(left))
		if !bytes.Equal(rest[:n], left[:n]) {
			return fmt.Errorf("other bytes come %d bytes into %+v", h.part, headerOf(w))
		}
		rest, left = rest[n:], left[n:]
		h.part += n
		over := len(left) == 0
		if len(rest) == 0 && f.Ack == w.Ack && f.Edge == w.Edge {
			if f.Fin != (w.Fin && over) {
				return fmt.Errorf("%+v comes, %d bytes before the end of %+v", headerOf(f), len(left), headerOf(w))
			}
			if over {
				h.want, h.part = h.want[1:], 0
			}
			return nil
		}
		// What it says is said by a later one, or there are more bytes: it has been joined.
		if !over || w.Fin || len(f.Payload) == 0 || len(h.want) < 2 || h.want[1].Kind != wire.FrameData || h.want[1].Seq != w.Seq+uint32(len(w.Payload)) {
			return fmt.Errorf("%+v with %d bytes comes, and goes beyond %+v", headerOf(f), len(f.Payload), headerOf(w))
		}
		h.want, h.part = h.want[1:], 0
		w = &h.want[0]
		left = w.Payload
	}
}

// headerOf is a frame without its payload.
func headerOf(f *wire.Frame) wire.Frame {
	h := *f
	h.Payload, h.Further = nil, nil
	return h
}

// receiveNow is TryReceive, with the payload in one piece.
func receiveNow(c *Conn, f *wire.Frame) (ok bool, err error) {
	ok, err = c.TryReceive(f)
	inOne(f)
	return ok, err
}

// wantEnded fails the test unless nothing can be sent or received any more, by that error.
func wantEnded(t *testing.T, c *Conn, when string, want error) {
	t.Helper()
	if err := c.Send(&wire.Frame{Kind: wire.FrameData}); !errors.Is(err, want) {
		t.Errorf("sent %s: %v", when, err)
	}
	if _, err := receiveNow(c, new(wire.Frame)); !errors.Is(err, want) {
		t.Errorf("received %s: %v", when, err)
	}
}

// inOne puts a frame's payload into one piece.
func inOne(f *wire.Frame) {
	if len(f.Further) > 0 {
		f.Payload, f.Further = slices.Concat(append([][]byte{f.Payload}, f.Further...)...), nil
	}
}

// talk is one end of a stream in a simNet.
type talk struct {
	sim    *simNet
	at     int // whose end
	c      *Conn
	say    []wire.Frame
	hear   hearer
	ends   bool  // it finishes when it has said all
	deaf   bool  // it does not receive
	err    error // of Receive
	failed error // of Send
}

// call begins a stream at one end of the network, which says something at both.
func call(s *simNet, from int, there, back []wire.Frame) (near, far *talk) {
	near = &talk{sim: s, at: from, c: s.ends[from].path.open(), say: there, hear: hearer{want: back}}
	far = &talk{sim: s, at: 1 - from, say: back, hear: hearer{want: there}}
	return near, far
}

// finishing is call for two ends that finish.
func finishing(s *simNet, from int, there, back []wire.Frame) []*talk {
	near, far := call(s, from, there, back)
	near.ends, far.ends = true, true
	return []*talk{near, far}
}

// goOn does what can be done without waiting.
func (k *talk) goOn(peer *talk) {
	if k.c == nil {
		begun := &k.sim.ends[k.at].begun
		i := slices.IndexFunc(*begun, func(c *Conn) bool { return c.id == peer.c.id })
		if i < 0 {
			return
		}
		k.c = (*begun)[i]
		*begun = slices.Delete(*begun, i, i+1)
	}
	for len(k.say) > 0 && k.failed == nil && k.c.hasRoom() {
		if k.failed = k.c.Send(&k.say[0]); k.failed == nil {
			k.say = k.say[1:]
		}
	}
	var f wire.Frame
	for k.err == nil && !k.deaf {
		ok, err := receiveNow(k.c, &f)
		if k.err = err; err == nil && !ok {
			break
		}
		if ok {
			if err := k.hear.take(&f); err != nil {
				k.sim.t.Fatal(err)
			}
		}
	}
	if k.ends && len(k.say) == 0 && (len(k.hear.want) == 0 || k.err != nil) {
		k.c.Finish()
		k.ends = false
	}
}

// heard reports whether all has come.
func (k *talk) heard() bool { return len(k.hear.want) == 0 }

// atEnd reports whether all has come, and the end.
func (k *talk) atEnd() bool { return k.heard() && errors.Is(k.err, io.EOF) }

// proceed lets time go on until something is so, and the talks with it, which are pairs of
// ends. It fails the test if that takes longer than limit.
func proceed(s *simNet, limit time.Duration, what string, cond func() bool, talks ...*talk) {
	s.t.Helper()
	for until, n := s.now+limit, 0; !cond(); n++ {
		if s.now > until {
			s.t.Fatalf("no %s within %v", what, limit)
		}
		for i, k := range talks {
			k.goOn(talks[i^1])
		}
		s.step()
		if n%64 == 0 {
			check(s.t, s.ends[0].path)
			check(s.t, s.ends[1].path)
		}
	}
	check(s.t, s.ends[0].path)
	check(s.t, s.ends[1].path)
}

// passes is a condition that comes true after a while.
func passes(s *simNet, d time.Duration) func() bool {
	until := s.now + d
	return func() bool { return s.now >= until }
}

// quiet reports whether no stream is left at either end.
func quiet(s *simNet) bool {
	return len(s.ends[0].path.streams)+len(s.ends[1].path.streams) == 0
}

// allDone reports whether all ends have heard all they were to.
func allDone(talks []*talk) func() bool {
	return func() bool {
		for _, k := range talks {
			if !k.heard() {
				return false
			}
		}
		return true
	}
}

// duplicate has some of the packets that are under way come twice.
func duplicate(s *simNet, part float64) {
	for _, e := range s.ends {
		for _, p := range e.fly {
			if s.rand.Float64() < part {
				e.fly = append(e.fly, simPacket{s.now + time.Duration(s.rand.Int64N(int64(20*time.Millisecond))), p.b})
			}
		}
	}
}

// checkRanges fails the test if a set is not in order.
func checkRanges(t testing.TB, what string, r ranges) {
	t.Helper()
	for i, s := range r {
		if s.from >= s.to || i > 0 && s.from <= r[i-1].to {
			t.Fatalf("%s: %v", what, r)
		}
	}
}

// check fails the test if what a path knows contradicts itself.
func check(t testing.TB, w *path) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	inside := 0
	for n := w.flight.oldest; n < w.flight.next; n++ {
		if p := w.flight.at(n); p.state == inFlight {
			inside += p.size
		}
	}
	if w.flight.inside != inside {
		t.Fatalf("%d bytes are under way, not %d", inside, w.flight.inside)
	}
	checkRanges(t, "packets that came", w.acks.got)
	checkRanges(t, "streams begun", w.begun)
	if len(w.acks.got) > maxSpans {
		t.Fatalf("%d ranges of packets are kept", len(w.acks.got))
	}
	n := 0
	for c := w.line.front; c != nil; c = c.line.next {
		if n++; !c.line.queued || c.line.next == nil && c != w.line.back || n > 1<<20 {
			t.Fatal("the streams that have something to send are not in line")
		}
	}
	held, guests, bulk := 0, 0, 0
	for c := w.line.front; c != nil; c = c.line.next {
		if c.line.bulk {
			bulk++
		}
	}
	for id, c := range w.streams {
		held += c.in.buffer.bytes + c.out.buffer.bytes
		if !c.admitted {
			guests++
		}
		if c.id != id || c.forgotten {
			t.Fatalf("stream %d is %d, forgotten %v", id, c.id, c.forgotten)
		}
		if c.hasWork() && !c.line.queued {
			t.Fatalf("stream %d has something to send, and is not in line", id)
		}
		checkConn(t, c)
	}
	if int64(held) != w.memory.used || w.memory.used > w.memory.budget.limit/2 {
		t.Fatalf("%d bytes are held, and %d of %d counted", held, w.memory.used, w.memory.budget.limit)
	}
	if guests != w.guests || guests > maxGuests || bulk != w.line.bulk || len(w.begun) > maxBegun || len(w.flight.gone) > maxGone {
		t.Fatalf("%d streams are not admitted, counted %d; %d are bulk, counted %d; %d ranges of streams, %d lost packets",
			guests, w.guests, bulk, w.line.bulk, len(w.begun), len(w.flight.gone))
	}
}

func checkConn(t testing.TB, c *Conn) {
	t.Helper()
	checkRanges(t, "acknowledged", c.out.acked)
	checkRanges(t, "lost", c.out.lost)
	checkRanges(t, "came", c.in.got)
	if len(c.in.got) > maxGaps || c.out.wrote-c.out.una > inWindow+Backlog+wire.MaxFramePayload+wire.FrameHeaderSize {
		t.Fatalf("%d ranges behind a gap, %d bytes not acknowledged", len(c.in.got), c.out.wrote-c.out.una)
	}
	last := func(r ranges) uint64 { return r[len(r)-1].to }
	switch {
	case c.out.una > c.out.sent || c.out.sent > c.out.wrote || c.err == nil && c.out.sent > c.out.limit:
		t.Fatalf("acknowledged %d, sent %d, wrote %d, limit %d", c.out.una, c.out.sent, c.out.wrote, c.out.limit)
	case len(c.out.acked) > 0 && (c.out.acked[0].from <= c.out.una || last(c.out.acked) > c.out.sent):
		t.Fatalf("acknowledged %d and %v of %d", c.out.una, c.out.acked, c.out.sent)
	case len(c.out.lost) > 0 && (c.out.lost[0].from < c.out.una || last(c.out.lost) > c.out.sent):
		t.Fatalf("lost %v, acknowledged %d of %d", c.out.lost, c.out.una, c.out.sent)
	case c.out.una == c.out.wrote && len(c.out.buffer.blocks) > 0:
		t.Fatalf("%d blocks are kept, and nothing is left to send", len(c.out.buffer.blocks))
	}
	if c.discards {
		if len(c.in.buffer.blocks) > 0 || len(c.in.got) > 0 {
			t.Fatalf("%d blocks and %v are kept of what nobody wants", len(c.in.buffer.blocks), c.in.got)
		}
		return
	}
	switch {
	case c.in.read > c.in.whole || c.in.whole > c.in.end || c.in.end > c.in.advertised || c.in.advertised > c.in.read+inWindow+uint64(c.taking.handed):
		t.Fatalf("read %d, whole %d, end %d, told %d", c.in.read, c.in.whole, c.in.end, c.in.advertised)
	case len(c.in.got) > 0 && (c.in.got[0].from <= c.in.whole || last(c.in.got) > c.in.end):
		t.Fatalf("whole %d, came %v, end %d", c.in.whole, c.in.got, c.in.end)
	case c.in.read == c.in.end && len(c.in.buffer.blocks) > 0:
		t.Fatalf("%d blocks are kept, and all was received", len(c.in.buffer.blocks))
	}
}

// A link is two paths that lead to each other by nothing at all: what is pulled is delivered.
type link struct {
	now   time.Duration
	paths [2]*path
	bufs  [][]byte
	sizes []int
	begun [2][]*Conn
	lies  bool // packets were made up, so that an end may refuse the other's acknowledgements
}

func newLink() *link {
	l := &link{now: time.Second, bufs: make([][]byte, 64), sizes: make([]int, 64)}
	for i := range l.bufs {
		l.bufs[i] = make([]byte, 2048)
	}
	for i := range l.paths {
		l.paths[i] = newPath(New(Config{Self: simNodes[i], Wake: func() {}}), simNodes[i], simNodes[1-i], l.now)
	}
	return l
}

// pull gives the payloads of what one of them sends now, which are valid until it is called
// again.
func (l *link) pull(from int) [][]byte {
	n, _ := l.paths[from].pull(l.now, l.bufs, l.sizes, 0)
	list := l.bufs[:n]
	for i := range list {
		list[i] = list[i][:l.sizes[i]]
	}
	return list
}

// pass carries what both send in the next while.
func (l *link) pass(t testing.TB) {
	l.now += 500 * time.Microsecond
	for i, w := range l.paths {
		other := l.paths[1-i]
		n, _ := w.pull(l.now, l.bufs, l.sizes, 0)
		for j, b := range l.bufs[:n] {
			if err := other.deliver(l.now, b[len(w.header):l.sizes[j]]); err != nil && !l.lies {
				t.Fatal(err)
			}
		}
		f := other.flush(l.now)
		other.call(f.sinks)
		l.begun[1-i] = append(l.begun[1-i], f.begun...)
		for _, c := range f.begun {
			c.Admit()
		}
	}
}
