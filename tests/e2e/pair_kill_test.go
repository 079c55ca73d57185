package e2e

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

// pairBulk is what each connection of a transfer moves in each direction.
const pairBulk = 50 << 20

// TestPairKill kills the active node at random moments of transfers.
func TestPairKill(t *testing.T) { killPairs(t, modeRoute, 7, 3) }

// TestPairKillRelayed does so when the connections are relayed.
func TestPairKillRelayed(t *testing.T) { killPairs(t, modeRelay, 2, 1) }

// killPairs kills the active node of either site so many times, and those of both
// within a second, in the middle of transfers. The dead are started again as
// standbys.
func killPairs(t *testing.T, mode string, each, both int) (all stalls) {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, mode: mode})
	n.start()
	for _, c := range []struct {
		name   string
		rounds int
		sites  [][]*node
	}{
		{"red", each, [][]*node{n.red}},
		{"gray", each, [][]*node{n.gray}},
		{"both", both, [][]*node{n.red, n.gray}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s stalls
			for range c.rounds {
				s = append(s, n.killAmidTransfers(t, c.sites))
			}
			s.log(t, "kills of "+c.name)
			all = append(all, s...)
		})
	}
	all.log(t, "all kills")
	return all // sorted
}

// killAmidTransfers is one round. It returns the longest stall of any reader.
func (n *pairNetwork) killAmidTransfers(t *testing.T, sites [][]*node) time.Duration {
	t.Helper()
	g := n.watch(t)
	changes := map[*node]int{}
	runs := n.transfers(t, pairBulk)
	if err := runs[0].Reached(pairBulk/8 + rand.Int64N(pairBulk)); err != nil {
		t.Fatal(err)
	}
	var dead, heirs []*node
	for i, site := range sites {
		if i > 0 { // the second dies while the first is missed, taken over, or after that
			<-time.After(rand.N(time.Second))
		}
		d, h := active(t, site)
		d.kill()
		dead, heirs = append(dead, d), append(heirs, h)
		changes[site[0]]++
	}
	for _, h := range heirs {
		n.answersAlone(t, h)
	}
	stall := n.longest(t, runs)
	for i, h := range heirs {
		v := h.ha(t)
		if v.Role != status.RoleActive || v.Unplanned != 1 || v.LastFailover == nil {
			t.Errorf("%s reports role %s, %d unplanned failovers, last %+v", h.name, v.Role, v.Unplanned, v.LastFailover)
			continue
		}
		t.Logf("kill of %s: stall %v, phases %+v, drops of the heir %v", dead[i].name, stall.Round(time.Millisecond), v.LastFailover.Phases, h.allDrops(t))
	}
	for _, d := range dead {
		d.up()
	}
	for _, site := range sites {
		n.settled(site)
	}
	g.end(t, changes[n.red[0]], changes[n.gray[0]])
	return stall
}

// allDrops is every reason for which the node has dropped packets.
func (n *node) allDrops(t *testing.T) map[string]uint64 {
	t.Helper()
	s, err := n.status()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint64{}
	for _, d := range s.Drops {
		if d.Packets > 0 {
			out[d.Reason] = d.Packets
		}
	}
	return out
}
