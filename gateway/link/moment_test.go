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
	}{
		{"near", 0},
		{"far", gatherPart*gather/2 + time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			leakCheck(t)
			p := newPair(t)
			newProxy(t, p).let(func(bool, []byte) bool {
				time.Sleep(c.delay)
				return true
			})
			gray := start(t, p.gray)
			if _, got := gray.rttAndMoment(); got != 0 {
				t.Errorf("%v before anything is known", got)
			}
			red := start(t, p.red)
			for _, n := range []*node{red, gray} {
				n.await("up", 5*time.Second, isUp)
				rtt, got := n.rttAndMoment()
				want := time.Duration(0)
				if c.delay > 0 || rtt >= gatherPart*gather { // a machine may be too busy to be near
					want = gather
				}
				if got != want {
					t.Errorf("%v away: %v, want %v", rtt, got, want)
				}
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
