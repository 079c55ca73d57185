//go:build !race

// The race detector has nothing to find in simulations, which are of one goroutine, and makes
// minutes of them: make unit runs them without it.

package trunk

import (
	"slices"
	"testing"
	"time"
)

// carries is what a line carries of payload in packets of the sim's size, in Mbit/s.
func (l simLine) carries() float64 {
	const packet, payload = 1420 + 60, 1420 - 20 - headSize - numSize - chunkSize
	return l.rate * 8 / 1e6 * payload / packet * (1 - l.loss)
}

// wan is a line of so many Mbit/s, with a queue of so many milliseconds.
func wan(delay time.Duration, mbit float64, queue float64, loss float64) simLine {
	rate := mbit * 1e6 / 8
	return simLine{delay: delay, rate: rate, queue: int(rate * queue / 1000), loss: loss}
}

// start makes a sim in which both ends know how long the path is, as they do.
func start(t *testing.T, line simLine) *simNet {
	s := newSim(t, line)
	for _, e := range s.ends {
		e.path.set(s.now, 1420, 2*line.delay)
	}
	return s
}

// TestFills: one stream takes what the line carries, whatever is lost, loses little of it
// in the queue, and keeps next to none.
func TestFills(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name string
		line simLine
		want float64 // the part of what it carries
	}{
		{"long", wan(20*ms, 300, 40, 0), 0.96},
		{"long, loss 0.1 %", wan(20*ms, 300, 40, 0.001), 0.95},
		{"long, loss 1 %", wan(20*ms, 300, 40, 0.01), 0.9},
		{"long, loss 5 %", wan(20*ms, 300, 40, 0.05), 0.75},
		{"short", wan(ms/2, 500, 10, 0), 0.9},
		{"slow", wan(10*ms, 5, 100, 0), 0.9},
		{"very long", wan(150*ms, 100, 100, 0.001), 0.9},
		{"little queue", wan(20*ms, 100, 5, 0), 0.85},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, c.line)
			st := s.stream(0)
			s.run(2*time.Second+20*c.line.delay, 0, st)
			e := s.ends[0]
			sent, lost := e.sent, e.lost
			got := s.run(4*time.Second, 0, st)[0] / c.line.carries()
			if got < c.want {
				t.Errorf("%.2f of what the line carries, want %.2f", got, c.want)
			}
			if part := float64(e.lost-lost) / float64(e.sent-sent); part > 1.3*c.line.loss+0.05 {
				t.Errorf("%.1f %% of the packets are lost, of which the line loses %.1f %%", 100*part, 100*c.line.loss)
			}
			t.Logf("%.3f of %.0f Mbit/s, round trip %v", got, c.line.carries(), e.path.flight.rtt)
		})
	}
}

// TestStarts: what the line carries is found soon, and what is lost by that is little.
func TestStarts(t *testing.T) {
	line := wan(20*time.Millisecond, 300, 40, 0)
	s := start(t, line)
	st := s.stream(0)
	s.run(300*time.Millisecond, 0, st)
	if lost := s.ends[0].lost; lost > 600 {
		t.Errorf("%d packets are lost", lost)
	}
	if got := s.run(200*time.Millisecond, 0, st)[0]; got < 0.9*line.carries() {
		t.Errorf("%.0f Mbit/s after 300 ms", got)
	}
}

// TestStartsSecond: a direction that had little to say while the other one carried bulk, so
// that its acknowledgements came by a queue, is as fast as another when it has more.
func TestStartsSecond(t *testing.T) {
	line := wan(20*time.Millisecond, 300, 40, 0)
	s := start(t, line)
	first, second := s.stream(0), s.stream(1)
	second.size = 100
	for until := s.now + time.Second; s.now < until; {
		if s.now%(7*time.Millisecond) == 0 {
			second.limit = second.seq + second.size
		}
		first.fill()
		second.fill()
		s.step()
		first.drain(t, s, 1)
		second.drain(t, s, 0)
	}
	second.limit, second.size = 0, simFrame
	s.run(300*time.Millisecond, 1, second)
	if got := s.run(200*time.Millisecond, 1, second)[0]; got < 0.9*line.carries() {
		t.Errorf("%.0f Mbit/s after 300 ms", got)
	}
}

// TestStartsWrong: what was known of the path's length is wrong, by which the round trip
// seems to have a queue in it from the start.
func TestStartsWrong(t *testing.T) {
	for _, known := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 34 * time.Millisecond, 200 * time.Millisecond} {
		t.Run(known.String(), func(t *testing.T) {
			line := wan(20*time.Millisecond, 300, 40, 0)
			s := newSim(t, line)
			s.ends[0].path.set(s.now, 1420, known)
			st := s.stream(0)
			s.run(2500*time.Millisecond, 0, st)
			if got := s.run(time.Second, 0, st)[0]; got < 0.7*line.carries() {
				t.Errorf("%.0f Mbit/s of %.0f", got, line.carries())
			}
		})
	}
}

// TestFair: streams to one node get the same, also those that begin late, with and without
// loss.
func TestFair(t *testing.T) {
	for _, loss := range []float64{0, 0.001, 0.01} {
		line := wan(20*time.Millisecond, 300, 40, loss)
		s := start(t, line)
		var all []*simStream
		for range 4 {
			all = append(all, s.stream(0))
		}
		s.run(time.Second, 0, all...)
		for range 4 {
			all = append(all, s.stream(0))
		}
		s.run(time.Second, 0, all...)
		rates := s.run(3*time.Second, 0, all...)
		sum := 0.0
		for _, r := range rates {
			sum += r
		}
		if sum < 0.9*line.carries() || slices.Max(rates) > 1.3*slices.Min(rates) {
			t.Errorf("loss %.1f %%: %.0f Mbit/s of %.0f: %.1f", 100*loss, sum, line.carries(), rates)
		}
	}
}

// TestBothWays: bulk in one direction leaves that in the other alone.
func TestBothWays(t *testing.T) {
	line := wan(20*time.Millisecond, 300, 40, 0.001)
	s := start(t, line)
	out, back := s.stream(0), s.stream(1)
	var got [2]float64
	for until := s.now + 6*time.Second; s.now < until; {
		if s.now < until-4*time.Second {
			got = [2]float64{float64(out.got), float64(back.got)}
		}
		out.fill()
		back.fill()
		s.step()
		out.drain(t, s, 1)
		back.drain(t, s, 0)
	}
	for i, st := range []*simStream{out, back} {
		if mbit := (float64(st.got) - got[i]) * 8 / 1e6 / 4; mbit < 0.88*line.carries() {
			t.Errorf("from %d: %.0f Mbit/s of %.0f", i, mbit, line.carries())
		}
	}
}

// TestChanges: the path becomes longer, narrower or wider in mid-stream.
func TestChanges(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name         string
		before, then simLine
		settle       time.Duration
		want         float64
	}{
		{"longer", wan(ms/2, 300, 40, 0), wan(20*ms, 300, 40, 0), 3 * time.Second, 0.85},
		{"longer by half", wan(20*ms, 300, 40, 0), wan(30*ms, 300, 40, 0), 13 * time.Second, 0.9},
		{"shorter", wan(20*ms, 300, 40, 0), wan(2*ms, 300, 40, 0), time.Second, 0.9},
		{"narrower", wan(20*ms, 300, 40, 0), wan(20*ms, 50, 100, 0), 2 * time.Second, 0.9},
		{"wider", wan(20*ms, 50, 40, 0), wan(20*ms, 300, 40, 0), 3 * time.Second, 0.85},
		{"lossy", wan(20*ms, 300, 40, 0), wan(20*ms, 300, 40, 0.02), time.Second, 0.85},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, c.before)
			st := s.stream(0)
			s.run(3*time.Second, 0, st)
			s.both(func(l *simLine) { *l = c.then })
			s.run(c.settle, 0, st)
			if got := s.run(2*time.Second, 0, st)[0] / c.then.carries(); got < c.want {
				t.Errorf("%.2f of what the way carries now, want %.2f", got, c.want)
			}
		})
	}
}

// TestKeepsNoQueue: the round trip stays about what it is without bulk, so that a database
// that measures it sees no full path.
func TestKeepsNoQueue(t *testing.T) {
	line := wan(20*time.Millisecond, 300, 100, 0)
	s := start(t, line)
	st := s.stream(0)
	s.run(2*time.Second, 0, st)
	var sum time.Duration
	n := 0
	for range 60 {
		s.run(50*time.Millisecond, 0, st)
		sum += s.ends[0].path.flight.last
		n++
	}
	if mean := sum / time.Duration(n); mean > 2*line.delay+line.delay/2 {
		t.Errorf("the round trip is %v on the average, %v without a queue", mean, 2*line.delay)
	}
}

// TestShortBesideBulk: what is short does not wait for bulk of other streams.
func TestShortBesideBulk(t *testing.T) {
	line := wan(20*time.Millisecond, 300, 40, 0)
	s := start(t, line)
	bulk := []*simStream{s.stream(0), s.stream(0), s.stream(0)}
	s.run(2*time.Second, 0, bulk...)
	short := s.stream(0)
	short.size = 100
	var worst time.Duration
	for range 40 {
		short.limit = short.seq + 100
		began := s.now
		all := append(slices.Clone(bulk), short)
		for short.got < short.limit {
			s.run(simStep, 0, all...)
			if s.now-began > time.Second {
				t.Fatal("it does not arrive")
			}
		}
		worst = max(worst, s.now-began)
		s.run(7*time.Millisecond, 0, bulk...)
	}
	if worst > 2*line.delay+5*time.Millisecond {
		t.Errorf("%v one way, %v without bulk", worst, line.delay)
	}
}

// TestBearsStalls: where the processor is kept from the sender for a third of the time,
// what the path carries is not taken for less and less.
func TestBearsStalls(t *testing.T) {
	line := wan(20*time.Millisecond, 300, 40, 0)
	s := start(t, line)
	st := s.stream(0)
	s.run(time.Second, 0, st)
	e := s.ends[0]
	before := st.got
	began := s.now
	for s.now-began < 5*time.Second {
		// 20 of each 60 ms.
		e.stalled = (s.now/(20*time.Millisecond))%3 == 0
		s.run(simStep, 0, st)
	}
	e.stalled = false
	if got := float64(st.got-before) * 8 / 1e6 / 5; got < 0.8*line.carries() {
		t.Errorf("%.0f Mbit/s of %.0f", got, line.carries())
	}
}

// TestLastLost: the last packets of a stream, after which nothing comes that could tell of
// their loss, are sent again in time.
func TestLastLost(t *testing.T) {
	line := wan(20*time.Millisecond, 300, 40, 0)
	s := start(t, line)
	st := s.stream(0)
	st.limit = 100_000
	s.run(time.Second, 0, st)
	for range 5 {
		st.limit += 1000
		s.ends[0].line.down = true
		s.run(2*time.Millisecond, 0, st)
		s.ends[0].line.down = false
		s.run(300*time.Millisecond, 0, st)
		if st.got != st.limit {
			t.Fatalf("%d of %d bytes have arrived after 300 ms", st.got, st.limit)
		}
	}
}
