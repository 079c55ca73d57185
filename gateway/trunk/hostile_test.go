package trunk

import (
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// dataFor makes a packet with data for one end of a link, in the sessions of both.
func dataFor(l *link, to int, number uint32, list ...piece) []byte {
	body := binary.BigEndian.AppendUint32(nil, number)
	for i := range list {
		at := len(body)
		body = append(body, make([]byte, chunkSize)...)
		putPiece(body[at:], &list[i])
		body = append(body, list[i].data...)
	}
	return packetFor(l, to, kindData, len(list), body)
}

// hostile is a peer that speaks to one end of a link whatever it likes.
type hostile struct {
	*testing.T
	*link
	w      *path // the victim's
	number uint32
	sent   int // bytes
	before uint64
}

func newHostile(t *testing.T) *hostile {
	l := newLink()
	return &hostile{T: t, link: l, w: l.paths[0], before: heap()}
}

// stream is the number of a stream that the peer begins.
func (h *hostile) stream(i int) uint32 { return uint32(2*i) + 1 - h.w.parity }

// say sends a packet with chunks, and lets the victim answer now and then.
func (h *hostile) say(list ...piece) {
	h.Helper()
	h.deliver(dataFor(h.link, 0, h.number, list...))
	if h.number++; h.number%64 == 0 {
		h.rest(time.Millisecond)
	}
}

func (h *hostile) deliver(b []byte) {
	h.Helper()
	h.sent += len(b)
	if err := h.w.deliver(h.now, b); err != nil {
		h.Fatal(err)
	}
}

// rest lets time go on, and gives what the victim sends.
func (h *hostile) rest(d time.Duration) (sent int) {
	for _, c := range h.w.flush(h.now).begun {
		h.begun[0] = append(h.begun[0], c)
	}
	h.now += d
	for n := len(h.bufs); n == len(h.bufs); {
		n = len(h.pull(0))
		for i := range h.bufs {
			h.bufs[i] = h.bufs[i][:cap(h.bufs[i])]
		}
		sent += n
	}
	return sent
}

// ack acknowledges the newest of some ranges, which ascend and may touch.
func (h *hostile) ack(list []span) {
	h.Helper()
	var got ranges
	for _, s := range list {
		got.add(s)
	}
	if got = got[max(0, len(got)-maxSpans):]; len(got) > 0 {
		h.deliver(ackFor(h.link, 0, backward(got)...))
	}
}

// grown is how much memory is kept for what was sent, in bytes.
func (h *hostile) grown() int {
	n := int(heap() - h.before)
	runtime.KeepAlive(h)
	return max(n, 0)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // the second one empties the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// fair fails the test if more memory is kept than a peer may cause.
func (h *hostile) fair(what string, most int) {
	h.Helper()
	check(h, h.w)
	n := h.grown()
	h.Logf("%s: %d KB are kept for %d KB of packets, %d streams", what, n>>10, h.sent>>10, len(h.w.streams))
	if n > most {
		h.Errorf("%s: %d KB are kept for %d KB of packets, at most %d KB may be", what, n>>10, h.sent>>10, most>>10)
	}
}

const manyStreams = 15 * 1400

// A peer begins more streams than there may be: those that are refused leave nothing, and those
// that are not admitted end after a while. It is told, but not as often as it asks.
func TestRefusedStreamsLeaveNothing(t *testing.T) {
	for name, first := range map[string][]byte{"empty": nil, "one byte": {1}, "a header": noise[:wire.FrameHeaderSize-1]} {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t)
			for i := 0; i < manyStreams; i += 15 {
				var list []piece
				for j := range 15 {
					list = append(list, piece{stream: h.stream(i + j), flags: flagOpen, data: first})
				}
				h.say(list...)
			}
			h.fair("before they are given up", 4<<20)
			if n := len(h.w.streams); n > maxGuests {
				t.Errorf("%d streams are kept", n)
			}
			if got, want := h.w.pool.refused.Load(), uint64(manyStreams-maxGuests); first != nil && got != want {
				t.Errorf("%d are refused, want %d", got, want)
			}
			if len(h.begun[0]) > 0 {
				t.Errorf("%d streams without a frame are handed over", len(h.begun[0]))
			}
			sent := h.rest(openWithin)
			for range 100 {
				sent += h.rest(time.Second)
			}
			if n := len(h.w.streams); n > 0 || h.w.memory.used > 0 {
				t.Errorf("%d streams are left, %d bytes", n, h.w.memory.used)
			}
			if sent > 2000 {
				t.Errorf("%d packets answer them", sent)
			}
			if n := h.w.pool.abandoned.Load(); first != nil && n != maxGuests {
				t.Errorf("%d are given up", n)
			}
		})
	}
}

// The first frame of a stream never ends, or never begins: after a while the stream is given up,
// and nobody has waited for it.
func TestHalfOpen(t *testing.T) {
	open := wire.AppendFrameHeader(nil, &wire.Frame{Kind: wire.FrameOpen}, 40)
	huge := wire.AppendFrameHeader(nil, &wire.Frame{Kind: wire.FrameOpen}, wire.MaxFramePayload)
	for name, first := range map[string][]byte{
		"a part of a header": open[:7], "a part of a frame": append(slices.Clone(open), noise[:39]...), "a part of a huge one": append(huge, noise[:4000-len(huge)]...),
	} {
		h := newHostile(t)
		h.say(piece{stream: h.stream(0), flags: flagOpen, data: first})
		h.rest(openWithin - time.Millisecond)
		if len(h.w.streams) != 1 || len(h.begun[0]) > 0 {
			t.Errorf("%s: %d streams, %d handed over", name, len(h.w.streams), len(h.begun[0]))
		}
		h.rest(time.Millisecond)
		if len(h.w.streams) > 0 || h.w.memory.used > 0 || len(h.begun[0]) > 0 {
			t.Errorf("%s: %d streams are left, %d bytes, %d handed over", name, len(h.w.streams), h.w.memory.used, len(h.begun[0]))
		}
	}
}

// Bytes here and there of a stream cost no more than a small multiple of what has come, whether
// the stream is admitted or not.
func TestSparse(t *testing.T) {
	for _, c := range []struct {
		name   string
		admit  bool
		offset uint32
		most   int // bytes for a stream
	}{
		{"behind a gap", false, 1, 0},
		{"not admitted", false, 0, 4 << 10},
		{"admitted", true, 0, spareBlocks*blockSize + 64<<10},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHostile(t)
			const streams = 40
			for i := range streams {
				id := h.stream(i)
				if c.offset == 0 {
					h.say(piece{stream: id, flags: flagOpen, data: wire.AppendFrameHeader(nil, &wire.Frame{Kind: wire.FrameOpen}, 0)})
				}
				h.rest(0)
				for _, c2 := range h.begun[0] {
					if c.admit {
						c2.Admit()
					}
				}
				h.begun[0] = nil
				for at := c.offset; at < inWindow; {
					var list []piece
					for ; at < inWindow && len(list) < 15; at += blockSize {
						list = append(list, piece{stream: id, flags: flagOpen, offset: at + 100, data: []byte{1}})
					}
					h.say(list...)
				}
			}
			if n := h.w.memory.used; n > int64(streams*c.most) {
				t.Errorf("%d streams hold %d KB", streams, n>>10)
			}
			h.fair("sparse", streams*c.most+1<<20)
		})
	}
}

// A peer sends a range behind each gap: their number has a bound, so that each costs the same.
func TestManyGaps(t *testing.T) {
	h := newHostile(t)
	id := h.stream(0)
	h.say(piece{stream: id, flags: flagOpen, data: wire.AppendFrameHeader(nil, &wire.Frame{Kind: wire.FrameOpen}, 0)})
	h.rest(0)
	c := h.begun[0][0]
	c.Admit()
	for at := uint32(100); at < 1<<16; at += 30 {
		var list []piece
		for ; at < 1<<16 && len(list) < 15; at += 2 {
			list = append(list, piece{stream: id, offset: at, data: []byte{1}})
		}
		h.say(list...)
	}
	if n := len(c.in.got); n != maxGaps {
		t.Errorf("%d ranges are kept, want %d", n, maxGaps)
	}
	// What fills the gaps is still taken.
	for at := uint32(0); at < 1<<16; at += 4000 {
		h.say(piece{stream: id, offset: wire.FrameHeaderSize + at, data: noise[:4000]})
	}
	if len(c.in.got) > 0 || c.in.whole < 1<<16 {
		t.Errorf("%d ranges are kept, %d bytes are there", len(c.in.got), c.in.whole)
	}
}

// A peer acknowledges everything but the first byte: what is kept for it to be sent again has a
// bound, and the stream is given up.
func TestNeverTheFirst(t *testing.T) {
	h := newHostile(t)
	c, other := h.w.open(), h.w.open()
	said := 0
	for i := 0; c.err == nil; i++ {
		if i > 100000 {
			t.Fatal("the stream is never given up")
		}
		for c.err == nil && c.hasRoom() {
			if room, err := c.Begin(60000); err != nil || !room {
				break
			}
			_, _ = c.Write(noise[:60000])
			if err := c.Commit(&wire.Frame{Kind: wire.FrameData}); err != nil {
				break
			}
			said += 60000
		}
		say(t, other) // which is acknowledged, so that the node counts as heard
		h.say(piece{stream: c.id, flags: flagWindow, offset: uint32(c.out.sent + 1<<30)})
		from := h.w.flight.next
		h.rest(2 * time.Millisecond)
		if h.w.memory.used > inWindow+2*(Backlog+wire.MaxFramePayload) {
			t.Fatalf("%d MB are held", h.w.memory.used>>20)
		}
		var spans []span
		for n := from; n < h.w.flight.next; n++ {
			p := h.w.flight.at(n)
			if !slices.ContainsFunc(p.chunk[:p.chunks], func(k chunk) bool { return k.conn == c && k.span.from == 0 }) {
				spans = append(spans, span{n, n + 1})
			}
		}
		h.ack(spans)
	}
	if !errors.Is(c.err, errStuck) || c.out.buffer.bytes > 0 || other.err != nil {
		t.Errorf("it ends by %v, %d bytes are held; the other one ends by %v", c.err, c.out.buffer.bytes, other.err)
	}
	t.Logf("given up after %d MB and %v", said>>20, h.now)
}

// A peer never lets a finished stream send, or never acknowledges that one was closed: both are
// forgotten. One that goes on, however slowly, is not.
func TestEndsAreForgotten(t *testing.T) {
	for _, name := range []string{"finished", "closed"} {
		h := newHostile(t)
		c := h.w.open()
		c.out.limit = 0 // as if the other end had no window
		if err := c.Send(&wire.Frame{Kind: wire.FrameData, Payload: noise[:1000]}); err != nil {
			t.Fatal(err)
		}
		if name == "finished" {
			c.Finish()
		} else {
			c.Close()
		}
		for range 2*endWithin/time.Second + 1 {
			h.rest(time.Second)
			// All but the resets has come.
			var spans []span
			for n := h.w.flight.oldest; n < h.w.flight.next; n++ {
				if p := h.w.flight.at(n); p.chunk[0].flags&flagReset == 0 {
					spans = append(spans, span{n, n + 1})
				}
			}
			h.ack(spans)
		}
		if len(h.w.streams) > 0 || h.w.memory.used > 0 {
			t.Errorf("%s: %d streams are left, %d bytes", name, len(h.w.streams), h.w.memory.used)
		}
	}
	// Slowly.
	h := newHostile(t)
	c := h.w.open()
	c.out.limit = 0
	if err := c.Send(&wire.Frame{Kind: wire.FrameData, Payload: noise[:1000]}); err != nil {
		t.Fatal(err)
	}
	c.Finish()
	for i := range 10 {
		h.say(piece{stream: c.id, flags: flagWindow, offset: uint32(100 * (i + 1))})
		h.rest(endWithin * 3 / 4)
		if next := h.w.flight.next; next > h.w.flight.oldest {
			h.deliver(ackFor(h.link, 0, span{h.w.flight.oldest, next}))
		}
	}
	if c.out.una != 1000 || c.forgotten {
		t.Errorf("%d of 1020 bytes are acknowledged, forgotten %v", c.out.una, c.forgotten)
	}
}

// A node that restarts with every packet, after much was sent to it, makes no work.
func TestRestartsCostLittle(t *testing.T) {
	h := newHostile(t)
	h.w.flight.ring = make([]packet, 1<<15)
	restart := func(i uint32) {
		b := make([]byte, longSize)
		putHead(b, &head{kind: kindAck, long: true, from: 1000 + i, to: h.w.session.local})
		_ = h.w.deliver(h.now, append(b, 0, 0, 0, 0))
	}
	restart(0)
	c := h.w.open()
	say(t, c)
	h.rest(time.Millisecond)
	for i := range uint32(3) {
		restart(1 + i)
	}
	if n := len(h.w.flight.ring); n > maxKept {
		t.Errorf("%d packets' memory is kept, and cleared each time", n)
	}
}

// Small packets, of which many fit a window, are bounded by their number.
func TestManySmallPackets(t *testing.T) {
	f := flight{reorder: reorderAtFirst}
	for range maxPackets {
		if !f.hasRoom(mostWindow) {
			t.Fatal("no room")
		}
		f.slot()
		f.add(time.Second, 0, 40)
	}
	if f.hasRoom(mostWindow) {
		t.Error("there is room for more packets than may be remembered")
	}
	f.probe(2*time.Second, func(*packet, bool) {})
	for n := f.oldest; n+10 < f.next; n++ {
		f.lose(n, func(*packet, bool) {})
	}
	if len(f.gone) > maxGone {
		t.Errorf("%d lost packets are remembered", len(f.gone))
	}
}
