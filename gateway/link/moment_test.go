package link

import (
	"testing"
	"time"
)

// Datagrams wait for others only where the other sites are far.
func TestMoment(t *testing.T) {
	for _, c := range []struct {
		name  string
		delay time.Duration // one way
		want  time.Duration
	}{
		{"near", 0, 0},
		{"far", farAway/2 + time.Millisecond, gatherFor},
	} {
		t.Run(c.name, func(t *testing.T) {
			leakCheck(t)
			p := newPair(t)
			newProxy(t, p).let(func(bool, []byte) bool {
				time.Sleep(c.delay)
				return true
			})
			gray := start(t, p.gray)
			if got := gray.momentNow(); got != 0 {
				t.Errorf("%v before anything is known", got)
			}
			red := start(t, p.red)
			for _, n := range []*node{red, gray} {
				n.await("up", 5*time.Second, isUp)
				if rtt := n.Snapshot()[0].RTT; c.want == 0 && rtt > farAway/2 {
					t.Skipf("a round trip of %v on loopback", rtt)
				}
				if got := n.momentNow(); got != c.want {
					t.Errorf("to %s, %v away: %v, want %v", n.Snapshot()[0].Node, n.Snapshot()[0].RTT, got, c.want)
				}
			}
		})
	}
}

func (n *node) momentNow() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.moment(n.now())
}
