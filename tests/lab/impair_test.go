package lab

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var epoch = time.Unix(1000, 0)

func newShaper() *shaper { return &shaper{rnd: rand.New(rand.NewPCG(1, 2))} }

// TestShaperRate sends at once what the line needs ten milliseconds for.
func TestShaperRate(t *testing.T) {
	s := newShaper()
	imp := &Impairment{Rate: 8_000_000, Delay: 5 * time.Millisecond} // 1000 bytes are a millisecond
	for i := range 10 {
		due, n := s.admit(epoch, 1000, imp)
		if want := epoch.Add(time.Duration(i+1+5) * time.Millisecond); n != 1 || !due[0].Equal(want) {
			t.Errorf("packet %d: %d copies at %s, want 1 at %s", i, n, due[0], want)
		}
	}
}

func TestShaperQueue(t *testing.T) {
	for name, imp := range map[string]*Impairment{
		"bytes":   {Rate: 8_000_000, QueueBytes: 3000},
		"packets": {Rate: 8_000_000, QueuePackets: 3},
	} {
		s := newShaper()
		passed := func(now time.Time) (n int) {
			for range 10 {
				_, c := s.admit(now, 1000, imp)
				n += c
			}
			return n
		}
		if n := passed(epoch); n != 3 || s.stats.DroppedQueue != 7 {
			t.Errorf("%s: an empty queue accepted %d of 10 and dropped %d, want 3 and 7", name, n, s.stats.DroppedQueue)
		}
		if n := passed(epoch.Add(2 * time.Millisecond)); n != 2 {
			t.Errorf("%s: two packets later the queue accepted %d, want 2", name, n)
		}
	}
}

// TestShaperChances holds each probability within five standard deviations.
func TestShaperChances(t *testing.T) {
	s := newShaper()
	imp := &Impairment{Loss: 0.01, Duplicate: 0.02, Reorder: 0.05, ReorderBy: time.Millisecond}
	const n = 100_000
	for i := range n {
		s.admit(epoch.Add(time.Duration(i)), 100, imp)
	}
	for _, tt := range []struct {
		name string
		got  uint64
		p    float64
	}{
		{"lost", s.stats.DroppedLoss, imp.Loss},
		{"duplicated", s.stats.Duplicated, 0.99 * imp.Duplicate},
		{"reordered", s.stats.Reordered, 0.99 * imp.Reorder},
	} {
		if d := math.Abs(float64(tt.got) - n*tt.p); d > 5*math.Sqrt(n*tt.p) {
			t.Errorf("%s %d of %d, want about %.0f", tt.name, tt.got, n, n*tt.p)
		}
	}
}

// TestShaperJitterKeepsOrder also holds the mean delay.
func TestShaperJitterKeepsOrder(t *testing.T) {
	s := newShaper()
	imp := &Impairment{Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond}
	var last time.Time
	var sum time.Duration
	const n = 1000
	for i := range n {
		now := epoch.Add(time.Duration(i) * 20 * time.Millisecond)
		due, _ := s.admit(now, 100, imp)
		if due[0].Before(last) {
			t.Fatalf("packet %d overtakes the one before it", i)
		}
		last = due[0]
		d := due[0].Sub(now)
		if d < imp.Delay-imp.Jitter || d > imp.Delay+imp.Jitter {
			t.Fatalf("packet %d is delayed by %s", i, d)
		}
		sum += d
	}
	if mean := sum / n; mean < 19*time.Millisecond || mean > 21*time.Millisecond {
		t.Errorf("the mean delay is %s, want %s", mean, imp.Delay)
	}
}

func TestShaperReorderLetsOvertake(t *testing.T) {
	s := newShaper()
	late, _ := s.admit(epoch, 100, &Impairment{Reorder: 1, ReorderBy: time.Millisecond})
	next, _ := s.admit(epoch, 100, &Impairment{})
	if !next[0].Before(late[0]) {
		t.Errorf("the next packet leaves at %s, not before the late one at %s", next[0], late[0])
	}
}

func TestShaperDrops(t *testing.T) {
	for name, imp := range map[string]*Impairment{"cut": {Cut: true}, "mtu": {MTU: 1399}, "loss": {Loss: 1}} {
		s := newShaper()
		if _, n := s.admit(epoch, 1400, imp); n != 0 {
			t.Errorf("%s: the packet passed", name)
		}
		if _, n := s.admit(epoch, 1399, &Impairment{MTU: 1399}); n != 1 {
			t.Errorf("%s: a packet that fits doesn't pass afterwards", name)
		}
	}
}
