package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"github.com/onewaylink/gw/gateway/status"
)

// TestPairDrain hands over in the middle of transfers, to and fro, at either site.
// The WAN is what limits them, since on a machine that is busy with nothing else
// a reader waits for the processor for longer than a drain takes.
func TestPairDrain(t *testing.T) { drainPairs(t, modeRoute, 2) }

// TestPairDrainRelayed does so when the connections are relayed.
func TestPairDrainRelayed(t *testing.T) { drainPairs(t, modeRelay, 1) }

const drainBulk = 8 << 20

// drainPairs drains either site's active node so many times, and returns the
// stalls, sorted.
func drainPairs(t *testing.T, mode string, each int) stalls {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, impaired: true, mode: mode})
	n.Box.SetBoth(slowWAN)
	n.start()
	var calm stalls
	for range 3 {
		calm = append(calm, n.longest(t, n.transfers(t, drainBulk)))
	}
	calm.log(t, "undisturbed")
	var s stalls
	for range each {
		for _, site := range [][]*node{n.red, n.gray} {
			g := n.watch(t)
			runs := n.transfers(t, drainBulk)
			if err := runs[0].Reached(drainBulk/4 + rand.Int64N(drainBulk)); err != nil {
				t.Fatal(err)
			}
			from, to := active(t, site)
			f := from.drain(t)
			if !f.Planned || f.From != from.name || f.To != to.name {
				t.Errorf("%s drained, and the answer is %+v", from.name, f)
			}
			n.answersAlone(t, to)
			s = append(s, n.longest(t, runs))
			n.settled(site)
			if h := to.ha(t); h.Role != status.RoleActive || h.LastFailover == nil || !h.LastFailover.Planned || h.Epoch != f.Epoch {
				t.Errorf("after the drain %s says %+v, last %+v", to.name, h, h.LastFailover)
			}
			t.Logf("drain of %s: stall %v, its drops %v, those of %s %v", from.name, s[len(s)-1], from.allDrops(t), to.name, to.allDrops(t))
			changes := map[*node]int{site[0]: 1}
			g.end(t, changes[n.red[0]], changes[n.gray[0]])
		}
	}
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
