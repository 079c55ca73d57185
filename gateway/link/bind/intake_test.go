package bind

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// line is a pipeline of one socket: what enters comes out in order, or is dropped.
type line struct {
	in     *Intake
	batch  batch
	inside [][]byte
}

func newOpenIntake(limit, lanes int) *Intake {
	in := newIntake(limit)
	in.open(lanes)
	return in
}

func newLine(limit, lanes int) *line {
	return &line{in: newOpenIntake(limit, lanes), batch: newBatch(lanes)}
}

// enter has n datagrams enter a lane in one batch.
func (l *line) enter(lane, n int) {
	for range n {
		buf := make([]byte, 256)
		l.batch.add(buf, 64, lane)
		l.inside = append(l.inside, buf)
	}
	l.in.enter(&l.batch)
}

// drop takes out the first n, and deliver delivers them.
func (l *line) drop(n int) [][]byte {
	gone := l.inside[:n]
	l.inside = l.inside[n:]
	return gone
}

func (l *line) deliver(n int) {
	bufs := l.drop(n)
	for i := range bufs {
		bufs[i] = bufs[i][:32] // as wireguard-go does
	}
	l.in.Leave(bufs)
}

func (l *line) want(t *testing.T, inside int) {
	t.Helper()
	if got := l.in.Inside(); got != inside {
		t.Errorf("%d inside, want %d", got, inside)
	}
}

func TestIntakeLetsInUpToItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(10, 1)
		l.enter(0, 9)
		l.enter(0, 5) // room for one is room for a batch
		var wg sync.WaitGroup
		wg.Go(func() { l.enter(0, 3) })
		synctest.Wait()
		if l.in.Waits() != 1 {
			t.Fatalf("%d waits, want 1", l.in.Waits())
		}
		l.deliver(4) // 10 inside: still full
		synctest.Wait()
		l.want(t, 10)
		l.deliver(1)
		wg.Wait()
		l.want(t, 12)
		if l.in.Undelivered() != 0 {
			t.Errorf("%d undelivered, want 0", l.in.Undelivered())
		}
	})
}

// What is delivered proves that all before it in its lane has left, and nothing about others.
func TestIntakeCountsOutWhatWasDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(1000, 2)
		l.enter(0, 100)
		l.enter(1, 50)
		l.enter(0, 2)
		l.enter(0, 3)
		l.want(t, 155)
		l.drop(151)
		l.deliver(1)
		l.want(t, 53)
		if l.in.Undelivered() != 101 {
			t.Errorf("%d undelivered, want 101", l.in.Undelivered())
		}
		l.in.Leave([][]byte{make([]byte, 32, 256), make([]byte, 4)}) // without a stamp
		l.want(t, 53)
	})
}

// Behind the last one that is delivered, datagrams count for intakeAge at least and twice
// that at most.
func TestIntakeWritesOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(1000, 1)
		l.enter(0, 10)
		time.Sleep(intakeAge - 1)
		l.want(t, 10)
		time.Sleep(intakeAge + 1)
		l.want(t, 0)
		l.enter(0, 7)
		l.deliver(10) // late
		l.want(t, 7)
		l.deliver(7)
		l.want(t, 0)
	})
}

// forgedFlood has datagrams that nobody delivers enter for d at a rate per second, with one
// that is delivered each time that a period is over. It returns how long each of these
// waited to enter.
func (l *line) forgedFlood(d time.Duration, perSecond int, period time.Duration) (waited []time.Duration) {
	start := time.Now()
	next := period
	for i := 0; ; i++ {
		due := time.Duration(i) * time.Second / time.Duration(perSecond)
		if due >= d {
			return waited
		}
		time.Sleep(due - time.Since(start)) // none if it is late: the socket has queued it
		if due >= next {
			next += period
			l.drop(len(l.inside))
			l.enter(0, 1)
			waited = append(waited, time.Since(start)-due)
			l.deliver(1)
		}
		l.enter(0, 1)
		l.drop(len(l.inside))
	}
}

// TestIntakeUnderForgedDatagrams: at rates of forged datagrams far above the goal, whether
// real ones are rare or not, half of them don't wait at all.
func TestIntakeUnderForgedDatagrams(t *testing.T) {
	for _, perSecond := range []int{5000, 20_000} {
		for _, period := range []time.Duration{time.Millisecond, 20 * time.Millisecond, time.Second} {
			synctest.Test(t, func(t *testing.T) {
				l := newLine(128, 2)
				waited := l.forgedFlood(10*time.Second, perSecond, period)
				slices.Sort(waited)
				p50, p90, most := waited[(len(waited)-1)/2], waited[(len(waited)-1)*9/10], waited[len(waited)-1]
				// Until it is known that they are forged, the lane is held to the bound.
				if p50 > 0 || p90 > forgedAge || most > (silentAges+2)*intakeAge {
					t.Errorf("%d forged a second, a real one each %v: waited %v (p50), %v (p90), %v at most", perSecond, period, p50, p90, most)
				}
			})
		}
	}
}

// A pipeline that stands still keeps to the bound for as long as a busy machine may make
// it, also after an attack.
func TestIntakeBoundsAPipelineThatStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, batch = 128, 64
		l := newLine(limit, 1)
		l.forgedFlood(time.Second, 20_000, 20*time.Millisecond)
		for range 100 { // real packets only
			l.enter(0, batch)
			l.deliver(batch)
		}
		start := time.Now()
		for time.Since(start) < intakeAge {
			l.enter(0, batch)
		}
		if n := len(l.inside); n > limit+2*batch {
			t.Errorf("%d are inside after %v", n, time.Since(start))
		}
		for time.Since(start) < 30*time.Millisecond {
			l.enter(0, batch)
		}
		if n := len(l.inside); n > 3*limit {
			t.Errorf("%d are inside after %v", n, time.Since(start))
		}
		// It moves again: the lane is none of forged datagrams, and held to the bound at once.
		for len(l.inside) > 0 {
			l.deliver(min(batch, len(l.inside)))
		}
		start = time.Now()
		for time.Since(start) < intakeAge {
			l.enter(0, batch)
		}
		if n := len(l.inside); n > limit+2*batch {
			t.Errorf("%d are inside after it has moved", n)
		}
	})
}

func TestIntakeCloseUnblocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, other := newLine(1, 2), newLine(1, 2)
		other.in = l.in
		l.enter(0, 1)
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { l.enter(0, 1) })
		wg.Go(func() { other.enter(1, 1) })
		synctest.Wait()
		l.in.Close()
		l.in.Close()
		wg.Wait()
		l.enter(0, 1)
		if d := time.Since(start); d != 0 {
			t.Errorf("blocked for %v after Close", d)
		}
	})
}

func TestNilIntakeIsOpen(t *testing.T) {
	var in *Intake
	b := newBatch(1)
	b.add(make([]byte, 100), 10, 0)
	in.enter(&b)
	in.Leave([][]byte{make([]byte, 100)})
	in.Close()
	if in.Inside() != 0 || in.Waits() != 0 || in.Undelivered() != 0 {
		t.Error("a nil Intake counts")
	}
}

// Two sockets receive for three peers, each delivers in order: the count returns to zero.
func TestIntakeConcurrently(t *testing.T) {
	const peers = 3
	in := newOpenIntake(8, 2*peers)
	var receivers, writers sync.WaitGroup
	var lanes [2 * peers]chan [][]byte
	for i := range lanes {
		lanes[i] = make(chan [][]byte, 1000)
		writers.Go(func() {
			for bufs := range lanes[i] {
				in.Leave(bufs)
			}
		})
	}
	for socket := range 2 {
		receivers.Go(func() {
			b := newBatch(2 * peers)
			random := rand.New(rand.NewPCG(1, uint64(socket)))
			for range 2000 {
				var bufs [2 * peers][][]byte
				for range 1 + random.IntN(5) {
					lane := 2*random.IntN(peers) + socket
					buf := make([]byte, 64)
					b.add(buf, 32, lane)
					if random.IntN(4) > 0 { // the others are dropped
						bufs[lane] = append(bufs[lane], buf[:32])
					}
				}
				in.enter(&b)
				for lane := range bufs {
					if len(bufs[lane]) > 0 {
						lanes[lane] <- bufs[lane]
					}
				}
			}
			for lane := socket; lane < 2*peers; lane += 2 { // one that is delivered, last
				buf := make([]byte, 64)
				b.add(buf, 32, lane)
				in.enter(&b)
				lanes[lane] <- [][]byte{buf[:32]}
			}
		})
	}
	receivers.Wait()
	for i := range lanes {
		close(lanes[i])
	}
	writers.Wait()
	if n := in.Inside(); n != 0 {
		t.Errorf("inside %d, want 0", n)
	}
}

func TestIntakeAllocatesNothing(t *testing.T) {
	in, b := newOpenIntake(1024, 2), newBatch(2)
	buf := make([]byte, 64)
	bufs := [][]byte{buf[:32]}
	if n := testing.AllocsPerRun(100, func() {
		b.add(buf, 32, 1)
		in.enter(&b)
		in.Leave(bufs)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkIntake(b *testing.B) {
	in, ba := newOpenIntake(1024, 2), newBatch(2)
	bufs := make([][]byte, 64)
	for i := range bufs {
		bufs[i] = make([]byte, 65535)[:1452]
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, buf := range bufs {
			ba.add(buf[:cap(buf)], 1452, 0)
		}
		in.enter(&ba)
		in.Leave(bufs)
	}
}
