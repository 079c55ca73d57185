package trunk

import (
	"testing"
	"time"
)

// pipe is a way with a queue, and trunks that would each keep a window full.
type pipe struct {
	rate    float64 // bytes per second
	base    time.Duration
	foreign time.Duration // what others' packets make each of ours wait
	jitter  time.Duration // by how much more or less a round trip seems to be, at most
	stall   int           // each so many rounds nothing is sent for half of one; 0 is never
	queue   float64
	windows []float64
	wants   []float64 // bytes per second that each has to send; 0 is all it can

	share share
	now   time.Duration
	sent  []float64 // in the last round, bytes per second
}

const simRound = 100 * time.Millisecond

func (p *pipe) rtt() time.Duration {
	return p.base + p.foreign + time.Duration(p.queue/p.rate*float64(time.Second))
}

// run lets rounds pass, and returns the mean of what arrived in the last half of them.
func (p *pipe) run(rounds int) (arrived float64) {
	const steps = 20
	dt := simRound.Seconds() / steps
	busy := make([]sample, len(p.windows))
	for r := range rounds {
		clear(busy)
		stalls := p.stall > 0 && r%p.stall == 0
		for step := range steps {
			rtt, all := p.rtt().Seconds(), 1e-9 // it is divided by
			p.sent = p.sent[:0]
			for i, w := range p.windows {
				x := w / rtt
				if stalls && step < steps/2 {
					x = 0
				}
				if p.wants[i] > 0 {
					x = min(x, p.wants[i])
				}
				if p.share.pace > 0 {
					x = min(x, p.share.pace)
				}
				p.sent = append(p.sent, x)
				all += x
			}
			out := min(all+p.queue/dt, p.rate)
			p.queue = max(0, p.queue+(all-out)*dt)
			for i, x := range p.sent {
				busy[i].rate += x / all * out / steps
			}
		}
		p.now += simRound
		for i := range busy {
			busy[i].rtt = p.rtt() + p.jitter*time.Duration(r%7-3)/3
			if stalls {
				busy[i].rtt += simRound / 2
			}
			busy[i].waiting = p.wants[i] == 0
		}
		p.share.round(p.now, p.base, busy)
		if r >= rounds/2 {
			for _, b := range busy {
				arrived += b.rate / float64(rounds-rounds/2)
			}
		}
	}
	return arrived
}

// unequal are windows as bbr and cubic leave them: some have come too late.
func unequal() *pipe {
	return &pipe{
		rate: 37.5e6, base: 40 * time.Millisecond,
		windows: []float64{3e6, 2e6, 1.5e6, 1e6, 4e5, 3e5, 3e5, 2.5e5}, wants: make([]float64, 8),
	}
}

// Trunks that would keep a long queue, and very different rates, keep next to none and
// get the same.
func TestShareIsFair(t *testing.T) {
	p := unequal()
	p.windows[7] = 3e5
	arrived := p.run(100)
	if q := p.rtt() - p.base; q > 2*leastQueue {
		t.Errorf("packets wait %v", q)
	}
	if arrived < 0.85*p.rate {
		t.Errorf("%.0f of %.0f bytes per second arrive", arrived, p.rate)
	}
	lo, hi := p.sent[0], p.sent[0]
	for _, x := range p.sent {
		lo, hi = min(lo, x), max(hi, x)
	}
	if hi > 1.5*lo {
		t.Errorf("the fastest sends %.0f, the slowest %.0f", hi, lo)
	}
}

// One alone whose bbr would fill the queue over and over fills the way, and no queue.
func TestShareAlone(t *testing.T) {
	p := unequal()
	p.windows, p.wants = []float64{2.9 * p.rate * p.base.Seconds()}, make([]float64, 1)
	arrived := p.run(100)
	if q := p.rtt() - p.base; q > 2*leastQueue {
		t.Errorf("packets wait %v", q)
	}
	if arrived < 0.95*p.rate {
		t.Errorf("%.0f of %.0f bytes per second arrive", arrived, p.rate)
	}
}

// What one can't use, the others get.
func TestShareLeavesTheRest(t *testing.T) {
	p := unequal()
	p.windows = []float64{3e6, 3e6, 3e6}
	p.wants = []float64{1e6, 0, 0}
	p.run(100)
	if p.sent[0] < 1e6 || p.sent[1] < 15e6 || p.sent[2] < 15e6 {
		t.Errorf("they send %.0f bytes per second", p.sent)
	}
}

// A way that becomes narrower has no queue soon, and one that becomes wider is used.
func TestShareFollows(t *testing.T) {
	p := unequal()
	p.run(100)
	p.rate /= 3
	p.run(100)
	if q := p.rtt() - p.base; q > 4*leastQueue {
		t.Errorf("on a narrower way packets wait %v", q)
	}
	p.rate *= 3
	if arrived := p.run(100); arrived < 0.8*p.rate {
		t.Errorf("on a wider way %.0f of %.0f bytes per second arrive", arrived, p.rate)
	}
}

// A queue that others keep is no reason to leave them the way.
func TestSharePushes(t *testing.T) {
	p := unequal()
	p.run(100)
	p.foreign = 50 * time.Millisecond
	if arrived := p.run(200); arrived < 0.8*p.rate {
		t.Errorf("%.0f of %.0f bytes per second arrive", arrived, p.rate)
	}
}

// Busy processors make round trips longer, too: that must not make the trunks slower
// and slower. Nor must a way that has become longer.
func TestShareBearsDelay(t *testing.T) {
	for _, c := range []struct{ foreign, jitter time.Duration }{
		{foreign: 6 * time.Millisecond}, {foreign: 60 * time.Millisecond}, {8 * time.Millisecond, 8 * time.Millisecond},
	} {
		for _, windows := range [][]float64{{6e6}, {3e6, 2e6, 1e6, 3e5}} {
			p := unequal()
			p.windows, p.wants = windows, make([]float64, len(windows))
			p.run(20)
			p.foreign, p.jitter = c.foreign, c.jitter
			if arrived := p.run(600); arrived < 0.7*p.rate {
				t.Errorf("%v more and %v of jitter, %d trunks: %.0f of %.0f bytes per second arrive", c.foreign, c.jitter, len(windows), arrived, p.rate)
			}
		}
	}
}

// A processor that is kept from the gateway for a moment, now and then: what arrives
// then is not what the way carries.
func TestShareBearsStalls(t *testing.T) {
	for stall := 3; stall <= 10; stall++ {
		for _, base := range []time.Duration{11 * time.Millisecond, 40 * time.Millisecond} {
			for _, windows := range [][]float64{{6e6}, {3e6, 2e6, 1e6, 3e5}} {
				p := &pipe{rate: 9e6, base: base, jitter: 4 * time.Millisecond, stall: stall, windows: windows, wants: make([]float64, len(windows))}
				most := p.rate * (1 - 0.5/float64(stall))
				if arrived := p.run(600); arrived < 0.85*most {
					t.Errorf("each %d rounds, %v, %d trunks: %.2f of what could arrive does", stall, base, len(windows), arrived/most)
				}
			}
		}
	}
}

// Trunks on a way that they don't fill have no bounds.
func TestShareUnbounded(t *testing.T) {
	p := unequal()
	for i := range p.windows {
		p.windows[i] = 5e4
	}
	p.run(50)
	if p.share.pace != 0 {
		t.Errorf("small ones may send %.0f bytes per second each", p.share.pace)
	}
}

// The bound is what max-min fairness says, whoever comes in which order.
func TestShareDivides(t *testing.T) {
	for _, c := range []struct {
		total float64
		busy  []sample
		pace  float64
	}{
		{10e6, []sample{{0, 9e6, true}, {0, 1e6, true}}, 5e6},
		{10e6, []sample{{0, 0.8e6, false}, {0, 9e6, true}}, 9e6},
		{10e6, []sample{{0, 9e6, true}, {0, 0.8e6, false}, {0, 9e6, true}}, 4.5e6},
		{10e6, []sample{{0, 0.8e6, false}, {0, 0.8e6, false}}, 9e6},
		{100, []sample{{0, 50, true}, {0, 50, true}}, minPace},
	} {
		s := share{total: c.total}
		s.divide(c.busy)
		if diff := s.pace - c.pace; diff > 1 || diff < -1 {
			t.Errorf("of %.0f %+v each may send %.0f, want %.0f", c.total, c.busy, s.pace, c.pace)
		}
	}
}

func TestLeast(t *testing.T) {
	var l least
	if l.value() != 0 {
		t.Error(l.value())
	}
	l.see(0, 30)
	l.see(1, 20)
	l.see(leastFor/2+1, 40)
	if v := l.value(); v != 20 {
		t.Errorf("%d, want what was seen in the half before", v)
	}
	l.see(leastFor+2, 50)
	if v := l.value(); v != 40 {
		t.Errorf("%d, want the oldest forgotten", v)
	}
}
