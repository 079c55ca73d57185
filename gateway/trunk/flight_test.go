package trunk

import (
	"math/rand/v2"
	"testing"
	"time"
)

// fleet is a flight, and what is known of its packets by number.
type fleet struct {
	flight
	t     *testing.T
	now   time.Duration
	all   []flown
	saved int // packets that were late only
}

type flown struct {
	size  int
	state uint8
	came  bool // it may be acknowledged
}

func newFleet(t *testing.T) *fleet {
	return &fleet{t: t, now: time.Second, flight: flight{reorder: reorderAtFirst}}
}

// send sends packets of a size.
func (f *fleet) send(count, size int) {
	for range count {
		f.slot().chunk[0] = chunk{span: span{from: uint64(len(f.all))}}
		f.add(f.now, 1, size)
		f.all = append(f.all, flown{size: size})
	}
	f.check()
}

// tell acknowledges ranges, highest first, of which all have come.
func (f *fleet) tell(spans ...span) news {
	for _, s := range spans {
		for n := s.from; n < s.to; n++ {
			f.all[n].came = true
		}
	}
	return f.take(0, spans)
}

func (f *fleet) take(delay time.Duration, spans []span) news {
	n := f.ack(f.now, delay, spans, f.settled)
	f.check()
	return n
}

func (f *fleet) settled(p *packet, hasArrived bool) {
	f.t.Helper()
	n := p.chunk[0].span.from
	w := &f.all[n]
	switch {
	case hasArrived && (w.state == arrived || !w.came):
		f.t.Fatalf("packet %d arrives in state %d, came %v", n, w.state, w.came)
	case hasArrived && w.state == lost:
		f.saved++
	case !hasArrived && w.state != inFlight:
		f.t.Fatalf("packet %d is lost in state %d", n, w.state)
	}
	if w.state = lost; hasArrived {
		w.state = arrived
	}
}

// check compares what the flight knows with what was said of each packet.
func (f *fleet) check() {
	f.t.Helper()
	inside := 0
	for n, w := range f.all {
		if w.state == inFlight {
			inside += w.size
			if uint64(n) < f.oldest || f.at(uint64(n)).state != inFlight {
				f.t.Fatalf("packet %d is under way, and the flight does not know", n)
			}
		}
	}
	if f.inside != inside || f.next != uint64(len(f.all)) || f.sent != f.next {
		f.t.Fatalf("%d bytes are under way, not %d, of %d packets, not %d", inside, f.inside, len(f.all), f.next)
	}
}

// count counts the packets in a state.
func (f *fleet) count(state uint8) (n int) {
	for _, w := range f.all {
		if w.state == state {
			n++
		}
	}
	return n
}

// Packets may be acknowledged in any order: in the end all have arrived.
func TestFlightInAnyOrder(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(4, seed))
		f := newFleet(t)
		f.send(20, 1000)
		f.now += 20 * time.Millisecond
		f.tell(span{0, 20}) // the round trip is known
		f.send(100, 1000)
		f.now += 20 * time.Millisecond
		for _, i := range r.Perm(100) {
			f.now += time.Microsecond
			f.tell(span{uint64(20 + i), uint64(21 + i)})
		}
		if n := f.count(arrived); n != 120 || f.inside != 0 {
			t.Fatalf("seed %d: %d of 120 have arrived, %d bytes are under way", seed, n, f.inside)
		}
		if f.lostAll-f.late != 0 || f.late != uint64(f.saved) {
			t.Fatalf("seed %d: %d lost, %d of them late, want %d", seed, f.lostAll, f.late, f.saved)
		}
	}
}

func TestFlightLossByNumber(t *testing.T) {
	f := newFleet(t)
	f.send(10, 1000)
	f.now += 20 * time.Millisecond
	if n := f.tell(span{2, reorderAtFirst}); n.lost != 0 {
		t.Errorf("%d bytes are lost, and fewer than %d packets sent later have come", n.lost, reorderAtFirst)
	}
	n := f.tell(span{2, reorderAtFirst + 1})
	if n.lost != 1000 || n.delivered != 1000 || f.all[0].state != lost || f.all[1].state != inFlight {
		t.Errorf("%d bytes are lost, %d delivered", n.lost, n.delivered)
	}
}

func TestFlightLossByTime(t *testing.T) {
	const rtt = 40 * time.Millisecond
	f := newFleet(t)
	f.send(1, 1000)
	f.now += rtt
	f.tell(span{0, 1})
	f.send(2, 1000)
	f.now += rtt
	if n := f.tell(span{2, 3}); n.lost != 0 {
		t.Fatal("one that was sent at the same time is lost")
	}
	f.send(1, 1000)
	f.now += 2 * rtt
	if n := f.tell(span{3, 4}); n.lost != 1000 || f.all[1].state != lost {
		t.Errorf("%d bytes are lost, three round trips later", n.lost)
	}
}

// A packet that was late only is taken back, and the same order is no loss again.
func TestFlightLate(t *testing.T) {
	const far = 10
	f := newFleet(t)
	for turn := range 2 {
		first := f.next
		f.send(far+1, 1000)
		f.now += 20 * time.Millisecond
		f.tell(span{first + 1, first + far + 1})
		if state := f.all[first].state; turn == 0 && state != lost || turn == 1 && state != inFlight {
			t.Fatalf("turn %d: the state is %d", turn, state)
		}
		f.now += time.Millisecond
		f.tell(span{first, first + far + 1})
		if f.all[first].state != arrived || f.inside != 0 {
			t.Fatalf("turn %d: one that is late is not taken back", turn)
		}
	}
	if f.late != 1 || f.lostAll != 1 {
		t.Errorf("%d were late, %d lost", f.late, f.lostAll)
	}
	// However late one was, one of which nothing is heard is lost some time.
	first := f.next
	f.send(3*maxReorder, 1000)
	f.now += 20 * time.Millisecond
	f.tell(span{first + 1, f.next})
	f.tell(span{first, f.next})
	first = f.next
	f.send(maxReorder+2, 1000)
	f.now += 20 * time.Millisecond
	if f.tell(span{first + 1, f.next}); f.late != 2 || f.all[first].state != lost {
		t.Errorf("%d were late, and the state of one that has not come is %d", f.late, f.all[first].state)
	}
}

// Where a packet comes so late that another one has its place, the other one has not come.
func TestFlightVeryLate(t *testing.T) {
	f := newFleet(t)
	f.send(10, 1000)
	f.now += 20 * time.Millisecond
	f.tell(span{5, 10})
	for f.at(0).state == lost && f.at(0).chunk[0].span.from == 0 {
		f.send(10, 1000)
		f.now++
		if n := f.next; f.at(0).chunk[0].span.from == 0 {
			f.tell(span{n - 10, n})
		} else {
			f.tell(span{n - 5, n}) // that which has the place is lost, too
		}
		if f.next > 1000 {
			t.Fatal("its place is never taken")
		}
	}
	if n := f.at(0).chunk[0].span.from; f.all[n].state != lost {
		t.Fatalf("packet %d is in state %d", n, f.all[n].state)
	}
	f.tell(span{f.next - 1, f.next}, span{0, 5})
}

// While nothing is acknowledged, the oldest packets are sent again, less and less often.
func TestFlightProbe(t *testing.T) {
	for _, rtt := range []time.Duration{0, 100 * time.Microsecond, 40 * time.Millisecond, 3 * time.Second} {
		f := newFleet(t)
		if at := f.due(ackDelay); at != 0 {
			t.Fatalf("nothing is under way, and a probe is due at %v", at)
		}
		if rtt > 0 {
			f.send(1, 1000)
			f.now += rtt
			f.tell(span{0, 1})
		}
		f.send(20, 1000)
		first := f.due(ackDelay) - f.now
		if first <= rtt && rtt < maxProbe || first <= 0 || first > maxProbe {
			t.Errorf("round trip %v: the first probe after %v", rtt, first)
		}
		last := first
		for range 8 {
			oldest := f.oldest
			before := f.count(lost)
			f.now = f.due(ackDelay)
			f.probe(f.now, f.settled)
			f.check()
			again := f.count(lost) - before
			if again == 0 || f.all[oldest].state != lost {
				t.Fatalf("round trip %v: a probe of %d packets", rtt, again)
			}
			f.send(again, 1000)
			wait := f.due(ackDelay) - f.now
			if wait < last || wait > maxProbe || last < maxProbe && wait == last {
				t.Errorf("round trip %v: a probe after %v, the next after %v", rtt, last, wait)
			}
			last = wait
		}
		if last != maxProbe {
			t.Errorf("round trip %v: a probe after %v at the most", rtt, last)
		}
		f.tell(span{f.next - 1, f.next})
		f.send(1, 1000)
		if wait := f.due(ackDelay) - f.now; rtt < maxProbe/8 && wait > maxProbe/2 {
			t.Errorf("round trip %v: when something has come, the next probe after %v", rtt, wait)
		}
	}
}

// The time since something was acknowledged, which says that the other end is gone, does not
// go on while nothing is under way: also if that was given up at last.
func TestFlightIsIdleAfterProbe(t *testing.T) {
	f := newFleet(t)
	f.send(1, 1000)
	f.now += 20 * time.Millisecond
	f.tell(span{0, 1})
	f.send(1, 1000) // of a stream that ends meanwhile
	f.now = f.due(ackDelay)
	f.probe(f.now, f.settled)
	f.now += time.Hour
	f.send(1, 1000)
	if f.now-f.progress > deadAfter {
		t.Errorf("nothing has come for %v, as it seems, to what has just been sent", f.now-f.progress)
	}
}

// What comes when it has long been taken for lost says that the path is longer, and that the
// other end is there.
func TestFlightLongerThanWaited(t *testing.T) {
	const rtt = 1500 * time.Millisecond
	f := newFleet(t)
	f.send(1, 1000)
	f.now += 10 * time.Millisecond
	f.tell(span{0, 1})
	f.now += time.Second
	f.send(1, 1000)
	began := f.now
	for f.due(ackDelay) < began+rtt {
		f.now = f.due(ackDelay)
		f.probe(f.now, f.settled)
		f.send(1, 1000)
	}
	if f.all[1].state != lost || f.progress != began {
		t.Fatalf("the packet is in state %d, there was progress %v later", f.all[1].state, f.progress-began)
	}
	f.now = began + rtt + 5*time.Millisecond
	f.all[1].came = true
	n := f.take(5*time.Millisecond, []span{{1, 2}})
	if n.rtt != rtt || n.lost != 0 || f.progress != f.now || f.probes != 0 || f.late != 1 || f.all[1].state != arrived {
		t.Errorf("it tells of %+v, %d late, progress %v ago, %d probes", n, f.late, f.now-f.progress, f.probes)
	}
	// The same once more tells nothing.
	f.now += time.Second
	if n := f.take(0, []span{{1, 2}}); n != (news{}) || f.progress == f.now || f.late != 1 {
		t.Errorf("told again, it tells of %+v", n)
	}
}

// A probe that empties the flight leaves the next one as far off as it would have been.
func TestFlightKeepsBackoff(t *testing.T) {
	f := newFleet(t)
	f.send(1, 1000)
	f.now += 20 * time.Millisecond
	f.tell(span{0, 1})
	f.send(1, 1000)
	var last time.Duration
	for range 4 {
		wait := f.due(ackDelay) - f.now
		if wait <= last {
			t.Errorf("a probe after %v, the next after %v", last, wait)
		}
		last = wait
		f.now = f.due(ackDelay)
		f.probe(f.now, f.settled)
		if f.inside != 0 || f.due(ackDelay) != 0 {
			t.Fatalf("%d bytes are under way, another probe is due at %v", f.inside, f.due(ackDelay))
		}
		before := f.now - f.progress
		f.now += time.Hour
		f.send(1, 1000)
		if f.now-f.progress != before {
			t.Errorf("the flight has been idle, and nothing has come for %v instead of %v", f.now-f.progress, before)
		}
	}
}

// A flight gives its memory back while nothing is under way, and only then, and goes on
// with the same numbers.
func TestFlightShrinks(t *testing.T) {
	f := newFleet(t)
	f.send(100, 1000)
	f.now += 20 * time.Millisecond
	if f.shrink(); f.ring == nil {
		t.Fatal("it forgets what is under way")
	}
	f.tell(span{10, 100}) // the others are lost
	if f.shrink(); f.ring != nil || f.gone != nil {
		t.Errorf("%d packets are kept", len(f.ring))
	}
	f.ack(f.now, 0, []span{{0, 100}}, func(*packet, bool) { t.Error("a packet is heard of that was forgotten") })
	if f.due(ackDelay) != 0 {
		t.Error("a probe is due")
	}
	f.send(10, 1000)
	f.now += 20 * time.Millisecond
	if n := f.tell(span{100, 110}); n.delivered != 10000 || n.rtt != 20*time.Millisecond || f.inside != 0 {
		t.Errorf("then %+v, %d bytes are under way", n, f.inside)
	}
}

func TestFlightNeverSent(t *testing.T) {
	f := newFleet(t)
	for range 2 {
		for _, spans := range [][]span{nil, {{f.next, f.next + 1}}, {{0, f.next + 1}}, {{f.next + 100, ^uint64(0)}, {0, f.next}}} {
			before := f.flight
			n := f.ack(f.now, 0, spans, func(*packet, bool) { t.Errorf("%v of %d tells of a packet", spans, f.next) })
			if n != (news{}) || f.inside != before.inside || f.largest != before.largest || f.delivered != before.delivered ||
				f.rtt != before.rtt || f.progress != before.progress || f.oldest != before.oldest {
				t.Errorf("%v of %d changes something: %+v", spans, f.next, n)
			}
		}
		f.send(5, 1000)
		f.now += time.Millisecond
	}
}

// The time that an acknowledgement was held back is no part of the round trip, which is
// more than nothing whatever they say.
func TestFlightRTT(t *testing.T) {
	f := newFleet(t)
	f.send(10, 1000)
	f.now += 25 * time.Millisecond
	f.all[9].came = true
	if n := f.take(5*time.Millisecond, []span{{9, 10}}); n.rtt != 20*time.Millisecond || f.rtt != n.rtt {
		t.Errorf("the round trip is %v, smoothed %v", n.rtt, f.rtt)
	}
	// Of several, it is that of the newest.
	f.send(1, 1000)
	f.now += 10 * time.Millisecond
	f.send(1, 1000)
	f.now += 20 * time.Millisecond
	if n := f.tell(span{10, 12}); n.rtt != 20*time.Millisecond {
		t.Errorf("the round trip of two is %v", n.rtt)
	}
	f.send(1, 1000)
	f.all[8].came = true
	if n := f.take(0, []span{{10, 12}, {8, 10}}); n.rtt != 0 {
		t.Errorf("a round trip of %v by what was acknowledged before", n.rtt)
	}
	f.all[12].came = true
	if n := f.take(time.Hour, []span{{12, 13}}); n.rtt <= 0 || f.rtt <= 0 {
		t.Errorf("a round trip of %v, smoothed %v", n.rtt, f.rtt)
	}
}

// What was under way when all was given up is of no more interest.
func TestFlightAbandon(t *testing.T) {
	f := newFleet(t)
	f.send(5, 1000)
	f.now += 20 * time.Millisecond
	f.tell(span{4, 5})
	f.abandon()
	if f.inside != 0 || f.due(ackDelay) != 0 {
		t.Errorf("%d bytes are under way, a probe is due at %v", f.inside, f.due(ackDelay))
	}
	for i := range f.ring {
		if f.ring[i] != (packet{}) {
			t.Fatalf("packet %d is kept, and its streams: %+v", i, f.ring[i])
		}
	}
	for n := range f.all {
		f.all[n].state = lost
	}
	f.send(5, 1000)
	f.now += 20 * time.Millisecond
	f.ack(f.now, 0, []span{{0, 5}}, func(*packet, bool) { t.Error("a packet is heard of that was given up") })
	f.check()
	f.tell(span{5, 10})
	if f.inside != 0 {
		t.Errorf("%d bytes are under way", f.inside)
	}
}

// Whatever comes in whichever order, each packet is settled once, apart from those that are
// late, and what is under way is what was not settled.
func TestFlightRandom(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(5, seed))
		f := newFleet(t)
		var a acks
		var path []uint64      // that have not come
		var back [][]span      // acknowledgements that have not come
		rare := 5 * r.IntN(40) // how rare it is that all is given up
		for range 600 {
			f.now += time.Duration(r.IntN(int(2 * time.Millisecond)))
			switch r.IntN(6) {
			case 0, 1:
				for range 1 + r.IntN(8) {
					path = append(path, f.next)
					f.send(1, 1+r.IntN(1500))
				}
			case 2, 3:
				for range min(len(path), 1+r.IntN(8)) {
					i := min(r.IntN(1+r.IntN(12)), len(path)-1)
					n := path[i]
					path = append(path[:i], path[i+1:]...)
					if r.IntN(10) == 0 {
						continue
					}
					f.all[n].came = true
					a.see(f.now, n, 1000)
				}
				back = append(back, backward(a.got))
			case 4:
				if len(back) == 0 {
					break
				}
				i := r.IntN(min(len(back), 4))
				spans := back[i]
				if back = append(back[:i], back[i+1:]...); r.IntN(5) > 0 {
					f.take(time.Duration(r.IntN(int(ackDelay))), spans)
				}
			case 5:
				if at := f.due(ackDelay); at > 0 && (at <= f.now || r.IntN(20) == 0) {
					f.now = max(f.now, at)
					f.probe(f.now, f.settled)
				}
				if r.IntN(1+rare) == 0 {
					f.abandon()
					for n := range f.all {
						if f.all[n].state == inFlight {
							f.all[n].state = lost
						}
					}
				}
			}
			f.check()
		}
		f.now += time.Minute
		f.send(1, 1)
		f.now += time.Millisecond
		if f.tell(span{f.next - 1, f.next}); f.inside != 0 {
			t.Fatalf("seed %d: %d bytes are under way, and what was sent last has come", seed, f.inside)
		}
	}
}
