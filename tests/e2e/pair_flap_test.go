package e2e

import (
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// TestPairFlap has each database change its next hop ten times a second between
// the two gateways of its site, in the middle of relayed transfers: the standby
// gets half of what is sent, in pieces.
func TestPairFlap(t *testing.T) {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, impaired: true, mode: modeRelay})
	n.Box.SetBoth(slowWAN)
	n.start()
	g := n.watch(t)
	rules := watchRepeats(t, n.Lab)
	const flaps, every = 20, 100 * time.Millisecond
	runs := n.paced(t, 4*drainRate, drainRate) // longer than all flaps
	if err := runs[0].Reached(1 << 20); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(every) // the pace is what is tried
	defer tick.Stop()
	relayed := 0
	for i := range flaps {
		<-tick.C
		n.route(t, n.Red, n.Gray, i)
		n.route(t, n.Gray, n.Red, i+i/2) // now together, now in turn
		if first, _ := active(t, n.red); i%5 == 4 && relaysNow(first) > 0 {
			relayed++
		}
	}
	t.Logf("stall %v, relayed at %d of 4 looks, drops %v and %v", n.longest(t, runs).Round(time.Millisecond), relayed,
		n.red[0].allDrops(t), n.red[1].allDrops(t))
	if relayed == 0 {
		t.Error("nothing was relayed, want some: the test has no relay to check")
	}
	endRepeats(t, rules)
	g.end(t, 0, 0)
}

// route makes the other site's subnets lead to the site's gateway with number i,
// counted around.
func (n *pairNetwork) route(t *testing.T, from, to *lab.Site, i int) {
	t.Helper()
	gw := from.Gateways[i%len(from.Gateways)]
	for j, via := range gw.Addrs() {
		if err := from.DB().Route(to.Subnets[j], via, "lan0"); err != nil {
			t.Fatal(err)
		}
	}
}

// relaysNow counts the connections that the node relays.
func relaysNow(nd *node) (sum int) {
	for _, c := range nd.conns() {
		if c.Relay != nil {
			sum++
		}
	}
	return sum
}
