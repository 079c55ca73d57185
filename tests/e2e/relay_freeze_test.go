package e2e

import (
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// TestRelayFreeze stops a gateway for a while in the middle of bulk. The other one
// does not wait for it with what it holds.
func TestRelayFreeze(t *testing.T) {
	t.Parallel() // it waits most of the time
	eachMode(t, func(t *testing.T, mode string) {
		n := startRelay(t, mode, farWAN)
		for i, victim := range []*node{n.red, n.gray} {
			other := []*node{n.gray, n.red}[i]
			n.scenario(t, victim.name+" is frozen", noReset, func(t *testing.T) { n.freeze(t, victim, other) })
		}
	})
}

func (n *relayNet) freeze(t *testing.T, victim, other *node) {
	const size = 50 << 20
	var runs []*lab.Transfer
	for _, w := range n.twoWays() {
		runs = append(runs, n.transfer(t, w, size))
	}
	for _, r := range runs {
		if err := r.Reached(size / 4); err != nil {
			t.Fatal(err)
		}
		n.relayed(t, r.Addr().Port())
	}
	if err := victim.proc.Stop(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if n.relays() {
		for _, r := range runs {
			n.shows(t, other, r.Addr().Port(), "raw")
		}
		t.Logf("%s has released the connection after %v", other.name, time.Since(began).Round(time.Millisecond))
	}
	<-time.After(frozen - time.Since(began)) // the length of the freeze is what is tried
	if err := victim.proc.Cont(); err != nil {
		t.Fatal(err)
	}
	if stall := n.finish(t, runs...); stall > frozen+patience/2 {
		t.Errorf("a transfer stalled for %v", stall)
	}
}

// frozen is longer than a process may seem to run without having done so.
const frozen = 3 * time.Second
