package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

// TestPairDrain hands over in the middle of transfers, to and fro, at either site.
func TestPairDrain(t *testing.T) { drainPairs(t, modeRoute, 1) }

// TestPairDrainRelayed does so when the connections are relayed.
func TestPairDrainRelayed(t *testing.T) { drainPairs(t, modeRelay, 1) }

// Each of two transfers moves drainBulk bytes each way in three seconds, half of
// what the WAN carries.
const (
	drainBulk = 8 << 20
	drainRate = drainBulk / 3
)

// drainTail is how long after its end a drain may still be felt: a segment that it
// cost is repeated within a round trip, or by the sender's timer.
const drainTail = 400 * time.Millisecond

// drainPairs drains either site's active node so many times, and returns the
// stalls, sorted.
func drainPairs(t *testing.T, mode string, each int) stalls {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, impaired: true, mode: mode})
	n.Box.SetBoth(slowWAN)
	n.start()
	var calm, s stalls
	for range each {
		for _, site := range [][]*node{n.red, n.gray} {
			g := n.watch(t)
			runs := n.paced(t, drainBulk, drainRate)
			if err := runs[0].Reached(drainBulk/4 + rand.Int64N(drainBulk)); err != nil {
				t.Fatal(err)
			}
			from, to := active(t, site)
			before := time.Now()
			f := from.drain(t)
			after := time.Now()
			if !f.Planned || f.From != from.name || f.To != to.name {
				t.Errorf("%s drained, and the answer is %+v", from.name, f)
			}
			n.answersAlone(t, to)
			var quiet, stall time.Duration
			for _, res := range n.results(t, runs) {
				quiet = max(quiet, res.LongestWithin(before.Add(before.Sub(after)-drainTail), before))
				stall = max(stall, res.LongestWithin(before, after.Add(drainTail)))
			}
			calm, s = append(calm, quiet), append(s, stall)
			n.settled(site)
			if h := to.ha(t); h.Role != status.RoleActive || h.LastFailover == nil || !h.LastFailover.Planned || h.Epoch != f.Epoch {
				t.Errorf("after the drain %s reports %+v, last %+v", to.name, h, h.LastFailover)
			}
			t.Logf("drain of %s: stall %v, before it %v, its drops %v, those of %s %v", from.name, stall, quiet, from.allDrops(t), to.name, to.allDrops(t))
			changes := map[*node]int{site[0]: 1}
			g.end(t, changes[n.red[0]], changes[n.gray[0]])
		}
	}
	calm.log(t, "as long a time before the drains")
	s.log(t, "drains")
	return s
}

// drain orders the node to hand over, and returns what it answers.
func (n *node) drain(t *testing.T) (f status.Failover) {
	t.Helper()
	out, err := n.host.Command(t.Context(), n.bin, "ha", "drain", "--json", "--socket", n.socket).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &f); err != nil {
		t.Fatal(err)
	}
	return f
}
