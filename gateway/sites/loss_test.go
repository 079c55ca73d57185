package sites

import (
	"testing"
	"time"
)

// A sample counts when it is large enough, and for a while.
func TestLossSamples(t *testing.T) {
	var s lossSample
	const start = time.Hour
	for _, tt := range []struct {
		name          string
		packets, lost uint64
		now           time.Duration
		want          float64
	}{
		{"too small a sample", leastPackets - 1, 5, start, 0},
		{"5 in 500", leastPackets, 5, start, 0.01},
		{"while it counts", 2*leastPackets - 1, 10, start + lossKept - time.Second, 0.01},
		{"when it is old", 2*leastPackets - 1, 10, start + lossKept, 0},
		{"20 more in 1000 more", 3 * leastPackets, 25, start + lossKept, 0.02},
		{"fewer are lost than was thought", 4 * leastPackets, 15, start + lossKept, 0},
		{"none is lost", 5 * leastPackets, 15, start + lossKept, 0},
		{"the counters began again", leastPackets, 50, start + lossKept, 0.1},
	} {
		s.add(Counters{Packets: tt.packets, Lost: tt.lost}, tt.now)
		if got := s.ratioAt(tt.now); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// What arrived late was not lost.
func TestLateIsNotLost(t *testing.T) {
	var s lossSample
	s.add(Counters{Packets: leastPackets, Lost: 15, Late: 10}, 0)
	if got := s.ratioAt(0); got != 0.01 {
		t.Errorf("%v of 5 in 500", got)
	}
}
