package trunk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

func TestHead(t *testing.T) {
	b := make([]byte, longSize)
	for _, h := range []head{
		{kind: kindData, count: 4, long: true, from: 1}, {kind: kindAck, long: true, from: 1 << 31, to: 77},
		{kind: kindReset, long: true, from: ^uint32(0), to: ^uint32(0)}, {kind: kindMask, count: 15, long: true, from: 1 << 24, to: 1},
		{kind: kindData, count: 3, from: 0x12345678, to: 0x87654321}, {kind: kindMask, count: 15, from: 1, to: 2}, {kind: kindAck, from: 5, to: 5},
	} {
		size := h.size()
		copy(b, noise) // none of it is left
		putHead(b, &h)
		want := h
		if want.tag = tagOf(h.from, h.to); !h.long {
			want.from, want.to = 0, 0
		}
		got, rest, err := parseHead(append(slices.Clone(b[:size]), "end"...))
		if err != nil || got != want || string(rest) != "end" || got.size() != size {
			t.Errorf("%+v is read as %+v, %d bytes behind it, %v", h, got, len(rest), err)
		}
		for n := range size {
			if _, _, err := parseHead(b[:n]); !errors.Is(err, errPacket) {
				t.Errorf("%+v, cut to %d bytes: %v", h, n, err)
			}
		}
		// One bit of the tag is another.
		b[3] ^= 1
		if got, _, err := parseHead(b[:size]); h.long != errors.Is(err, errPacket) || !h.long && got.tag != want.tag^1 {
			t.Errorf("%+v with another tag is read as %+v, %v", h, got, err)
		}
	}
	// Nobody has the session 0.
	putHead(b, &head{kind: kindData, long: true, to: 7})
	if _, _, err := parseHead(b); !errors.Is(err, errPacket) {
		t.Errorf("from no session: %v", err)
	}
}

// What goes between two sessions has one tag in both directions, and another one than
// before if either of them has been replaced.
func TestTag(t *testing.T) {
	if tagOf(0xab123456, 0xcd654321) != tagOf(0xcd654321, 0xab123456) {
		t.Error("the tags of both directions differ")
	}
	if a := tagOf(3, 5); a == tagOf(7, 5) || a == tagOf(3, 9) || tagOf(^uint32(0), 0) > tagMask {
		t.Error("the tag does not tell sessions apart")
	}
}

// expandSlow is expand as it is defined: of all numbers with these low bits, the one that is
// nearest, and the lower one if there are two.
func expandSlow(low uint32, near uint64) uint64 {
	at := near>>32<<32 | uint64(low)
	best := at
	for _, n := range []uint64{at - 1<<32, at + 1<<32} {
		if n-at > 1<<63 && n > at || n-at < 1<<63 && n < at {
			continue // beyond the first or the last one
		}
		apart := func(n uint64) uint64 { return max(n, near) - min(n, near) }
		if apart(n) < apart(best) || apart(n) == apart(best) && n < best {
			best = n
		}
	}
	return best
}

func TestExpand(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 1))
	nears := []uint64{0, 1, 1<<31 - 1, 1 << 31, 1<<31 + 1, 1<<32 - 1, 1 << 32, 1<<32 + 1, 3 << 31, 1 << 40, 1<<62 + 12345}
	for range 2000 {
		nears = append(nears, r.Uint64()>>(1+r.IntN(63)))
	}
	for _, near := range nears {
		lows := []uint32{0, 1, 1<<31 - 1, 1 << 31, ^uint32(0), uint32(near), uint32(near) + 1<<31, uint32(near) + 1<<31 - 1, uint32(near) + 1<<31 + 1}
		for range 20 {
			lows = append(lows, r.Uint32(), uint32(near)+uint32(r.IntN(1000))-500)
		}
		for _, low := range lows {
			if got, want := expand(low, near), expandSlow(low, near); got != want {
				t.Fatalf("%#x near %#x is %#x, want %#x", low, near, got, want)
			}
		}
	}
}

func TestPiece(t *testing.T) {
	for _, p := range []piece{
		{0, 0, 0, []byte("x")},
		{^uint32(0), flagOpen | flagFin, 1<<31 + 5, []byte("all of it")},
		{7, flagWindow, ^uint32(0), nil},
		{8, flagReset, 0, nil},
		{9, 0, ^uint32(0) - 1000, noise[:2000]}, // its end is beyond the wrap
		{10, 15, 1, noise[:maxChunk]},
	} {
		b := append(make([]byte, 0, chunkSize+len(p.data)+3), noise[:chunkSize]...)
		putPiece(b, &p)
		b = append(append(b, p.data...), "end"...)
		got, rest, err := parsePiece(b)
		if err != nil || got.stream != p.stream || got.flags != p.flags || got.offset != p.offset || !bytes.Equal(got.data, p.data) || string(rest) != "end" {
			t.Errorf("stream %d: %+v, %d bytes behind it, %v", p.stream, got, len(rest), err)
		}
		for n := range len(b) - len("end") {
			if _, _, err := parsePiece(b[:n]); !errors.Is(err, errPacket) {
				t.Fatalf("stream %d, cut to %d bytes: %v", p.stream, n, err)
			}
		}
	}
}

// backward is ranges as an acknowledgement tells them.
func backward(r ranges) []span {
	list := slices.Clone([]span(r))
	slices.Reverse(list)
	return list
}

func TestAck(t *testing.T) {
	var many ranges
	for n := range uint64(100) {
		many = append(many, span{10 * n, 10*n + 9})
	}
	b := make([]byte, 2000)
	for _, c := range []struct {
		got    ranges
		waited time.Duration
		room   int // for ranges
		told   ranges
	}{
		{nil, time.Microsecond, 50, nil},
		{ranges{{0, 1}}, 0, 50, ranges{{0, 1}}},
		{ranges{{0, 1}, {2, 7}, {1 << 40, 1<<64 - 1}}, 1234 * time.Microsecond, 50, ranges{{0, 1}, {2, 7}, {1 << 40, 1<<64 - 1}}},
		{many, time.Second, 100, many[100-maxSpans:]},
		{many, time.Second, 3, many[97:]},
		{ranges{{0, 1}}, -time.Second, 50, ranges{{0, 1}}}, // it came while others were written
	} {
		size := putAck(b[:numSize+c.room*spanSize+spanSize-1], c.waited, c.got)
		waited, spans, err := parseAck(b[:size], nil)
		if err != nil || waited != max(c.waited, 0) || !slices.Equal(spans, backward(c.told)) {
			t.Errorf("%v after %v is read as %v after %v, %v", c.told, c.waited, spans, waited, err)
		}
		for n := range size {
			// What is cut between two ranges tells of fewer.
			_, spans, err := parseAck(b[:n], nil)
			if whole := n >= numSize && (n-numSize)%spanSize == 0; whole != (err == nil) || !whole && !errors.Is(err, errPacket) {
				t.Fatalf("cut to %d bytes: %v", n, err)
			} else if whole && !slices.Equal(spans, backward(c.told)[:(n-numSize)/spanSize]) {
				t.Fatalf("cut to %d bytes: %v", n, spans)
			}
		}
	}
	// More than there may be, though all of them are in order.
	size := numSize
	for i := range maxSpans + 1 {
		size += copy(b[size:], binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(1000-10*i)), uint64(1001-10*i)))
	}
	if _, spans, err := parseAck(b[:size-spanSize], nil); err != nil || len(spans) != maxSpans {
		t.Errorf("as many as there may be: %d, %v", len(spans), err)
	}
	if _, _, err := parseAck(b[:size], nil); !errors.Is(err, errPacket) {
		t.Errorf("one more than there may be: %v", err)
	}
	// A delay that is longer than the field can hold is not encoded as a short one.
	size = putAck(b, 1<<32*time.Microsecond, ranges{{0, 1}})
	if waited, _, err := parseAck(b[:size], nil); err != nil || waited < 30*time.Minute {
		t.Errorf("very long is read as %v, %v", waited, err)
	}
}

// Ranges that are empty, overlap, touch or ascend are none.
func TestAckRefuses(t *testing.T) {
	for name, list := range map[string]ranges{
		"empty": {{5, 5}}, "backward": {{5, 4}}, "touching": {{1, 3}, {3, 5}}, "overlapping": {{1, 4}, {3, 5}},
		"the same": {{1, 2}, {1, 2}}, "ascending": {{7, 8}, {1, 2}},
	} {
		b := make([]byte, 200)
		size := putAck(b, 0, list)
		if _, _, err := parseAck(b[:size], nil); !errors.Is(err, errPacket) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseAck(f *testing.F) {
	b := make([]byte, 200)
	for _, list := range []ranges{nil, {{0, 1}}, {{1, 3}, {5, 9}, {1 << 40, 1 << 41}}, {{3, 3}}} {
		f.Add(slices.Clone(b[:putAck(b, time.Millisecond, list)]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		waited, spans, err := parseAck(b, nil)
		if err != nil {
			return
		}
		if numSize+len(spans)*spanSize != len(b) || waited < 0 {
			t.Fatalf("%d ranges of %d bytes, after %v", len(spans), len(b), waited)
		}
		checkRanges(t, "acknowledged", backward(spans))
		again := make([]byte, len(b))
		size := putAck(again, waited, backward(spans))
		second, list, err := parseAck(again[:size], nil)
		if err != nil || !slices.Equal(list, spans) || second != min(waited, 1<<31*time.Microsecond) {
			t.Fatalf("%v after %v is read as %v after %v, %v", spans, waited, list, second, err)
		}
	})
}

// spoken is what a fuzzed packet comes in the midst of: a stream that both ends have said
// something on, with packets under way in both directions. All that was said to the first
// end is said as pieces.
func spoken(t *testing.T) (l *link, near, far *Conn, want []wire.Frame, said []piece) {
	l = newLink()
	l.paths[0].session.local, l.paths[1].session.local = 1, 3
	near = l.paths[0].open()
	send := func(c *Conn, n int) {
		f := wire.Frame{Kind: wire.FrameData, Fin: true, Payload: noise[n : 2*n]}
		from := c.out.wrote
		if err := c.Send(&f); err != nil {
			t.Fatal(err)
		}
		if c == near {
			return
		}
		p := piece{stream: c.id, offset: uint32(from), data: make([]byte, c.out.wrote-from)}
		c.out.buffer.get(from, p.data)
		said, want = append(said, p), append(want, f)
	}
	send(near, 100)
	for range 2 {
		l.pass(t)
	}
	far = l.begun[1][0]
	send(far, 3000)
	for range 20 {
		l.pass(t)
	}
	send(near, 5000)
	send(far, 4000)
	l.pull(0)
	l.pull(1) // and they are lost
	return l, near, far, want, said
}

// readAll gives what has come of all streams, up to an error, to take.
func readAll(w *path, take func(*Conn, *wire.Frame)) {
	for _, c := range w.streams {
		var f wire.Frame
		for {
			if ok, err := receiveNow(c, &f); err != nil || !ok {
				break
			}
			take(c, &f)
		}
	}
}

// Whatever comes makes no path contradict itself, and nothing is received that nobody has
// said. What belongs to other sessions changes nothing.
func FuzzPacket(f *testing.F) {
	type form struct {
		long bool
		from uint32
		to   uint32
	}
	short, long, first, other, stale := form{false, 3, 1}, form{true, 3, 1}, form{true, 3, 0}, form{true, 9, 1}, form{true, 3, 7}
	packet := func(a form, kind uint8, count int) []byte {
		b := make([]byte, longSize, 2000)
		h := head{kind: kind, count: count, long: a.long, from: a.from, to: a.to}
		putHead(b, &h)
		return b[:h.size()]
	}
	data := func(a form, number uint32, list ...piece) []byte {
		b := binary.BigEndian.AppendUint32(packet(a, kindData, len(list)), number)
		for _, p := range list {
			at := len(b)
			b = append(b, make([]byte, chunkSize)...)
			putPiece(b[at:], &p)
			b = append(b, p.data...)
		}
		return b
	}
	ack := func(a form, got ...span) []byte {
		b := make([]byte, 200)
		return append(packet(a, kindAck, 0), b[:putAck(b, time.Millisecond, got)]...)
	}
	for _, a := range []form{short, long, first, other, stale} {
		for _, b := range [][]byte{
			packet(a, kindReset, 0), packet(a, kindReset, 0)[:3], packet(a, 5, 1),
			ack(a, span{0, 3}), ack(a, span{0, 1}, span{2, 4}), ack(a, span{0, 1 << 60}), ack(a, span{1 << 32, 1<<32 + 3}), ack(a)[:13:13],
			data(a, 2, piece{0, flagOpen, 0, []byte("abc")}), data(a, 3, piece{0, 0, 3020, []byte("later")}, piece{0, flagFin, 50, nil}),
			data(a, 1<<32-2, piece{1, flagOpen, 0, noise[:50]}, piece{3, flagReset, 0, nil}), data(a, 1<<32-1),
			data(a, 5, piece{0, flagWindow, 1 << 31, nil}, piece{0, flagReset, 7, nil}, piece{5, flagOpen | flagFin, 0, nil}),
			data(a, 4, piece{2, flagOpen, 0, noise[:3]}, piece{7, flagOpen, 100000, noise[:40]}, piece{7, 0, inWindow - 1, noise[:9]}),
			data(a, 4, piece{9, flagOpen, 0, noise[:40]}, piece{11, flagOpen, 0, noise[:40]})[:60],
		} {
			f.Add(b, true)
			f.Add(b, false)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, known bool) {
		l, near, far, want, said := spoken(t)
		w := l.paths[0]
		admitted := false
		if h, rest, err := parseHead(b); err == nil {
			if known {
				b = slices.Clone(b)
				again := head{kind: h.kind, count: h.count, long: h.long, from: 3, to: 1}
				putHead(b, &again)
				h, rest, _ = parseHead(b)
			}
			admitted = h.tag == tagOf(1, 3)
			if h.long {
				admitted = h.to == 0 || h.to == 1
			}
			if rest := rest[min(len(rest), numSize):]; admitted && h.kind == kindData {
				for range h.count {
					p, more, err := parsePiece(rest)
					if err != nil {
						break
					}
					said, rest = append(said, p), more
				}
			}
		}
		l.lies = admitted
		for range 2 {
			_ = w.deliver(l.now, b)
			for _, c := range w.flush(l.now).begun {
				if !c.far() {
					t.Fatal("the other end has begun a stream of this one's")
				}
			}
			check(t, w)
		}
		for _, c := range w.streams {
			if c.discards {
				continue
			}
			got := make([]byte, c.in.whole-c.in.read)
			c.in.buffer.get(c.in.read, got)
			for i := range got {
				if !slices.ContainsFunc(said, func(p piece) bool {
					at := uint32(c.in.read) + uint32(i) - p.offset
					return p.stream == c.id && at < uint32(len(p.data)) && p.data[at] == got[i]
				}) {
					t.Fatalf("stream %d has byte %x at %d, which nobody has said", c.id, got[i], c.in.read+uint64(i))
				}
			}
		}
		h := hearer{want: want}
		for i := 0; i < 100 || i < 5000 && !admitted && len(h.want) > 0; i++ {
			l.pass(t)
			readAll(w, func(c *Conn, f *wire.Frame) {
				if !admitted {
					if err := h.take(f); err != nil {
						t.Fatal(err)
					}
				}
			})
			readAll(l.paths[1], func(*Conn, *wire.Frame) {})
		}
		check(t, w)
		check(t, l.paths[1])
		if !admitted && (len(h.want) > 0 || near.err != nil || far.err != nil || far.out.una != far.out.wrote) {
			t.Fatalf("a packet of no session: %v and %v, %d frames are missing", near.err, far.err, len(h.want))
		}
	})
}
