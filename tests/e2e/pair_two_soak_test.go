//go:build soak

package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// TestPairTwoActiveLong: two gateways that are active for the same relayed
// connections. The active one stands still for just as long as the other takes to
// replace it, too short for it to notice by its own clock; then it continues with all
// that waits in it, until it learns that it was replaced: from its sibling, or only
// from the other site where the siblings are cut off from each other.
func TestPairTwoActiveLong(t *testing.T) {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, impaired: true, mode: modeRelay})
	n.Box.SetBoth(slowWAN)
	n.start()
	rules := watchRepeats(t, n.Lab)
	said := 0
	for i := range 12 {
		cut := i%4 >= 2
		t.Run(fmt.Sprintf("%d, siblings cut off %v", i, cut), func(t *testing.T) {
			said += n.twoActive(t, [][]*node{n.red, n.gray}[i%2], cut)
		})
	}
	endRepeats(t, rules)
	if said == 0 {
		t.Error("two nodes were never active at once: the test has nothing to check")
	}
}

// twoActive is one round. It returns how many segments the replaced node has sent to
// its site's databases after its heir had begun to.
func (n *pairNetwork) twoActive(t *testing.T, site []*node, cut bool) int {
	t.Helper()
	g := n.watch(t)
	runs := n.transfers(t, bulkFor(4*time.Second))
	if err := runs[0].Reached(1 << 20); err != nil {
		t.Fatal(err)
	}
	frozen, heir := active(t, site)
	if relaysNow(frozen) == 0 {
		t.Errorf("%s relays nothing", frozen.name)
	}
	old, now := startSayings(t, frozen), startSayings(t, heir)
	mend := func() {}
	if cut {
		mend = frozen.deaf(t, "lan0")
	}
	if err := frozen.proc.Stop(); err != nil {
		t.Fatal(err)
	}
	heir.waitStatus(heir.name+" takes over", func(s status.Status) bool { return s.HA.Role == status.RoleActive })
	if err := frozen.proc.Cont(); err != nil {
		t.Fatal(err)
	}
	frozen.waitStatus(frozen.name+" knows", func(s status.Status) bool { return s.HA.Role == status.RoleStandby })
	mend()
	n.settled(site)
	n.answersAlone(t, heir)
	stall := n.longest(t, runs)
	first := now.stop(t)
	both := old.stop(t)
	if len(first) == 0 {
		t.Fatalf("%s has sent nothing", heir.name)
	}
	both = slices.DeleteFunc(both, func(at time.Time) bool { return at.Before(first[0]) })
	took := time.Duration(0)
	if len(both) > 0 {
		took = both[len(both)-1].Sub(first[0])
	}
	t.Logf("stall %v; %s sent %d segments after %s had begun, for %v", stall.Round(time.Millisecond), frozen.name, len(both), heir.name, took.Round(time.Millisecond))
	changes := map[*node]int{site[0]: 1}
	g.end(t, changes[n.red[0]], changes[n.gray[0]])
	return len(both)
}

// sayings are the moments when a node sends a TCP segment of the other site's
// databases to its LAN.
type sayings struct {
	c  *lab.Capture
	at []time.Time
}

func startSayings(t *testing.T, nd *node) *sayings {
	t.Helper()
	s := &sayings{}
	c, err := nd.host.Capture("lan0", lab.CaptureConfig{Each: func(p lab.Packet) {
		seg, ok := lab.DecodeTCP(p)
		if !ok || !p.Outgoing || slices.Contains(nd.host.Addrs(), seg.Src.Addr()) {
			return
		}
		s.at = append(s.at, p.Time)
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.c = c
	return s
}

func (s *sayings) stop(t *testing.T) []time.Time {
	t.Helper()
	if err := s.c.Stop(); err != nil {
		t.Fatal(err)
	}
	return s.at
}
