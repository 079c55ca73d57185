package link

import (
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/await"
)

func TestGatherWithin(t *testing.T) {
	for _, c := range []struct {
		rtt    time.Duration
		trunks bool
		want   time.Duration
	}{
		{0, false, 0},
		{20*time.Millisecond - 20, false, 0},
		{20 * time.Millisecond, false, time.Millisecond},
		{time.Second, false, time.Millisecond},
		{0, true, 0},
		{12*time.Millisecond - 12, true, 0},
		{12 * time.Millisecond, true, time.Millisecond},
		{24 * time.Millisecond, true, 2 * time.Millisecond},
		{time.Second, true, 3 * time.Millisecond},
	} {
		if got := gatherWithin(c.rtt, c.trunks); got != c.want {
			t.Errorf("round trip %v, trunks %t: %v, want %v", c.rtt, c.trunks, got, c.want)
		}
	}
}

// TestMoment: datagrams wait for others only where the other sites are far.
func TestMoment(t *testing.T) {
	for _, c := range []struct {
		name  string
		delay time.Duration // one way
		want  time.Duration
	}{
		{"near", 0, 0},
		{"far", gatherPart*gather/2 + time.Millisecond, gather},
	} {
		t.Run(c.name, func(t *testing.T) {
			await.NoLeaks(t)
			p := newPair(t)
			newProxy(t, p).let(func(bool, []byte) bool {
				time.Sleep(c.delay)
				return true
			})
			gray := start(t, p.gray)
			if _, got := gray.rttAndMoment(); got != 0 {
				t.Errorf("%v before any round trip is known", got)
			}
			red := start(t, p.red)
			for _, n := range []*node{red, gray} {
				n.await("up", 5*time.Second, isUp)
				if c.delay > 0 {
					if rtt, got := n.rttAndMoment(); got != c.want {
						t.Errorf("round trip %v: %v, want %v", rtt, got, c.want)
					}
					continue
				}
				// On a busy machine the first round trips may be long.
				await.True(t, "a measured round trip that is too short to wait", func() bool {
					rtt, got := n.rttAndMoment()
					return rtt > 0 && got == c.want
				})
			}
		})
	}
}

func (n *node) rttAndMoment() (rtt, moment time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	return n.peers[0].hello.Snapshot(now).RTT, n.moment(now)
}
