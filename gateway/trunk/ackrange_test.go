package trunk

import (
	"encoding/binary"
	"errors"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// within fails the test if do does not return: what hangs would hold the path's lock for good.
func within(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(deadline):
		t.Fatalf("%s does not return", what)
	}
}

// packetFor makes a packet for one end of a link in the sessions of both, with body behind its
// head.
func packetFor(l *link, to int, kind uint8, count int, body []byte) []byte {
	b := make([]byte, longSize, longSize+len(body))
	putHead(b, &head{kind: kind, count: count, long: true, from: l.paths[1-to].session.local, to: l.paths[to].session.local})
	return append(b, body...)
}

// ackFor makes an acknowledgement of any ranges, in the order given.
func ackFor(l *link, to int, spans ...span) []byte {
	body := make([]byte, numSize, numSize+len(spans)*spanSize)
	for _, s := range spans {
		body = binary.BigEndian.AppendUint64(body, s.from)
		body = binary.BigEndian.AppendUint64(body, s.to)
	}
	return packetFor(l, to, kindAck, 0, body)
}

// wrapping is two ranges in order. The low bits of the first are those of next; moved by as much
// as the first has to be, the second ends just below 1<<64.
func wrapping(next uint64) []span {
	end := ^uint64(0) - 1<<32 + 1 + uint64(uint32(next))
	return []span{{end - 1, end}, {0, end - next - 1000}}
}

// A peer acknowledges what was never sent: the packet is malformed, and changes nothing,
// whether packets are remembered or not.
func TestAckOutsideTheFlight(t *testing.T) {
	for _, shrunk := range []bool{false, true} {
		l := newLink()
		w := l.paths[0]
		near := w.open()
		say(t, near)
		for range 100 {
			l.pass(t)
		}
		if shrunk {
			near.Close()
			for range 100 {
				l.pass(t)
			}
			l.now += 2 * forgetAfter
			if w.set(l.now, 1400, 20*time.Millisecond); w.flight.ring != nil {
				t.Fatal("the ring is kept")
			}
		}
		next := w.flight.next
		for _, spans := range [][]span{
			wrapping(next),
			{{next, next + 1}},
			{{0, next + 1}},
			{{next - 1, next + 1<<40}},
			{{0, ^uint64(0)}},
			{{next + 1<<32 - 1, next + 1<<32}, {0, 1 << 31}}, // the second begins below 0
			{{next + 1<<31, next + 1<<31 + 1}},
		} {
			before := w.flight
			within(t, "deliver", func() {
				if err := w.deliver(l.now, ackFor(l, 0, spans...)); !errors.Is(err, errPacket) {
					t.Errorf("shrunk %v, %d packets sent, %v acknowledged: %v", shrunk, next, spans, err)
				}
			})
			if f := &w.flight; f.inside != before.inside || f.oldest != before.oldest || f.next != before.next || f.largest != before.largest {
				t.Errorf("shrunk %v: %v changes the flight", shrunk, spans)
			}
		}
		// The connection still works.
		c := w.open()
		if err := c.Send(&wire.Frame{Kind: wire.FrameData, Payload: noise[:100]}); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			l.pass(t)
		}
		if c.out.una != c.out.wrote {
			t.Errorf("shrunk %v: %d of %d bytes are acknowledged", shrunk, c.out.una, c.out.wrote)
		}
	}
}

// meant is what ranges mean for a flight, by arithmetic that cannot wrap: nil if one of them is
// outside. The end of the first is the nearest number with its low bits, at or below next.
func meant(next uint64, spans []span) (list [][2]*big.Int) {
	number := func(n uint64) *big.Int { return new(big.Int).SetUint64(n) }
	shift := new(big.Int).Sub(number(next), number(spans[0].to))
	low := new(big.Int).Mod(shift, number(1<<32)) // how far below next it is
	if low.Cmp(number(1<<31)) >= 0 {
		return nil
	}
	shift.Sub(shift, low)
	for i, s := range spans {
		from, to := new(big.Int).Add(number(s.from), shift), new(big.Int).Add(number(s.to), shift)
		if s.from >= s.to || i > 0 && s.to > spans[i-1].from || from.Sign() < 0 || to.Cmp(number(next)) > 0 {
			return nil
		}
		list = append(list, [2]*big.Int{from, to})
	}
	return list
}

// Whatever numbers a peer sends, an acknowledgement concerns packets that are under way and in
// its ranges, and no others.
func TestAckTouchesOnlyTheFlight(t *testing.T) {
	within(t, "an acknowledgement", func() { ackAnything(t) })
}

func ackAnything(t *testing.T) {
	accepted, refused := 0, 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(13, seed))
		f := &flight{reorder: reorderAtFirst}
		f.next = []uint64{0, 1<<31 - 50, 1<<32 - 50, 1<<40 + 3, r.Uint64() >> (1 + r.IntN(63))}[r.IntN(5)]
		f.oldest, f.largest = f.next, f.next
		now := time.Second
		state := map[uint64]uint8{} // of the packets that were sent
		settled := func(p *packet, ok bool) {
			n := p.chunk[0].span.from
			if s, sent := state[n]; !sent || s == arrived || !ok && s == lost {
				t.Fatalf("seed %d: packet %d is settled, sent %v, in state %d", seed, n, sent, s)
			}
			if state[n] = lost; ok {
				state[n] = arrived
			}
		}
		for range 60 {
			now += time.Duration(r.IntN(int(5 * time.Millisecond)))
			switch r.IntN(6) {
			case 0:
				for range r.IntN(200) {
					f.slot().chunk[0] = chunk{span: span{f.next, f.next}}
					state[f.next] = inFlight
					f.add(now, 1, 1000)
				}
				continue
			case 1:
				f.probe(now, settled)
				continue
			case 2:
				f.abandon()
				f.shrink()
				for n, s := range state {
					if s == inFlight {
						state[n] = lost
					}
				}
				continue
			}
			spans := anyRanges(r, f)
			want := meant(f.next, spans)
			sent := append([]span(nil), spans...)
			was := map[uint64]uint8{}
			for n := f.oldest; n < f.next; n++ {
				was[n] = state[n]
			}
			if ok := f.expand(spans) && f.valid(spans); ok != (want != nil) {
				t.Fatalf("seed %d: %d of %d: accepted %v, means %v", seed, sent, f.next, ok, want)
			}
			if want == nil {
				refused++
				continue
			}
			accepted++
			f.ack(now, time.Duration(r.Uint32()), spans, settled)
			for n, s := range was {
				in := false
				for _, b := range want {
					at := new(big.Int).SetUint64(n)
					in = in || b[0].Cmp(at) <= 0 && at.Cmp(b[1]) < 0
				}
				if s == inFlight && in != (state[n] == arrived) {
					t.Fatalf("seed %d: packet %d is in state %d after %v of %d", seed, n, state[n], sent, f.next)
				}
			}
		}
	}
	if accepted < 1000 || refused < 1000 {
		t.Errorf("%d acknowledgements accepted, %d refused: the test shows little", accepted, refused)
	}
}

// anyRanges is ranges of numbers of all sizes, many of them near those that count.
func anyRanges(r *rand.Rand, f *flight) []span {
	number := func() uint64 {
		switch r.IntN(24) {
		case 0:
			return r.Uint64()
		case 1:
			return r.Uint64() >> r.IntN(64)
		case 2:
			return -(r.Uint64() >> r.IntN(64))
		}
		n := f.oldest + uint64(r.IntN(int(f.next-f.oldest)+2))
		if r.IntN(8) == 0 {
			n += uint64(r.IntN(5)) << (31 + r.IntN(3))
		}
		return n
	}
	spans := make([]span, 1+r.IntN(3))
	for i := range spans {
		spans[i] = span{number(), number()}
		if s := &spans[i]; r.IntN(20) > 0 && s.from > s.to {
			s.from, s.to = s.to, s.from
		}
	}
	if r.IntN(20) > 0 {
		// In order, as the parser wants them.
		for i := range spans {
			for j := range i {
				if spans[i].to > spans[j].to {
					spans[i], spans[j] = spans[j], spans[i]
				}
			}
			if i > 0 && spans[i].to > spans[i-1].from && r.IntN(4) > 0 {
				spans[i].to = spans[i-1].from
			}
		}
	}
	return spans
}
