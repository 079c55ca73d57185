package e2e

import (
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// slowWAN makes transfers last as long as a fault: two of bulk bytes each way
// fill it for about a second by each 5 MB.
var slowWAN = lab.Impairment{Rate: 80e6, QueueBytes: 400 << 10, Delay: 5 * time.Millisecond}

// bulkFor is what each of two transfers has to move each way to last that long.
func bulkFor(d time.Duration) int64 { return int64(d.Seconds() * 5e6) }

// TestPairFreeze stops the active node's process in the middle of transfers, and
// thaws it when it has long been replaced, or not yet.
func TestPairFreeze(t *testing.T) {
	freezePairs(t, modeRoute, 100*time.Millisecond, 1500*time.Millisecond, 3*time.Second)
}

func freezePairs(t *testing.T, mode string, times ...time.Duration) {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, impaired: true, mode: mode})
	n.Box.SetBoth(slowWAN)
	n.start()
	for i, d := range times {
		t.Run(d.String(), func(t *testing.T) {
			site := [][]*node{n.red, n.gray}[i%2]
			g := n.watch(t)
			runs := n.transfers(t, bulkFor(d+2*time.Second))
			if err := runs[0].Reached(1 << 20); err != nil {
				t.Fatal(err)
			}
			frozen, other := active(t, site)
			if err := frozen.proc.Stop(); err != nil {
				t.Fatal(err)
			}
			<-time.After(d) // the length of the freeze is what is tried
			if err := frozen.proc.Cont(); err != nil {
				t.Fatal(err)
			}
			thawed := time.Now()
			n.settled(site)
			t.Logf("one is active %v after the thaw", time.Since(thawed).Round(time.Millisecond))
			now, _ := active(t, site)
			if d >= 500*time.Millisecond && now != other {
				t.Errorf("%s was frozen for %v, and %s is active", frozen.name, d, now.name)
			}
			n.answersAlone(t, now)
			t.Logf("stall %v", n.longest(t, runs).Round(time.Millisecond))
			if drops := frozen.drops("frozen"); d > time.Second && drops == 0 {
				t.Errorf("%s was frozen for %v and discarded no packet, want some", frozen.name, d)
			} else {
				t.Logf("%d packets discarded as of before the freeze", drops)
			}
			if h := frozen.ha(t); now != frozen && (h.Role != status.RoleStandby || h.VIP.Held) {
				t.Errorf("the frozen %s reports role %s, address held %v", frozen.name, h.Role, h.VIP.Held)
			}
			want := 1
			if d < 500*time.Millisecond { // so short that either is right
				want = min(want, g.changes(site))
			}
			changes := map[*node]int{site[0]: want}
			g.end(t, changes[n.red[0]], changes[n.gray[0]])
		})
	}
}
