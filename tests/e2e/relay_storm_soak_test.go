//go:build soak

package e2e

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// narrowWAN is a WAN on which each of eighty connections has a segment or two in flight.
var narrowWAN = lab.Impairment{Rate: 60e6, QueueBytes: 600 << 10, Delay: farDelay}

// crowd is how many connections are opened from each side.
const crowd = 40

// TestRelayCrowdLong: far more connections than a way has room for, all of them busy.
func TestRelayCrowdLong(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string) {
		n := startRelay(t, mode, narrowWAN)
		n.scenario(t, "crowd", anyReset, func(t *testing.T) { n.finish(t, n.crowd(t, 1<<20)...) })
		n.tell(t)
	})
}

// TestRelayStormLong: the crowd, while the link ends and returns and gateways freeze.
// Old segments reach closed sockets, so resets are expected.
func TestRelayStormLong(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string) {
		n := startRelay(t, mode, narrowWAN)
		n.scenario(t, "storm", anyReset, func(t *testing.T) {
			runs := n.crowd(t, 4<<20)
			n.storm(t, time.Minute)
			n.finish(t, runs...)
		})
		n.tell(t)
	})
}

// crowd begins transfers of size bytes each way on connections opened from both sides.
func (n *relayNet) crowd(t *testing.T, size int64) (runs []*lab.Transfer) {
	t.Helper()
	for i, w := range n.twoWays() {
		cfg := transferOf(w, size)
		cfg.Flows, cfg.Addr = crowd, netip.AddrPortFrom(w.addr, uint16(6000+i))
		r, err := lab.StartTransfer(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, r)
	}
	return runs
}

// storm has things go wrong for a time.
func (n *relayNet) storm(t *testing.T, d time.Duration) {
	t.Helper()
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	last := func(most time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rnd.Int64N(int64(most)))): // how long it lasts is what is tried
		}
	}
	for ctx.Err() == nil {
		if victim := rnd.IntN(3); victim == 0 {
			n.Box.Cut(true)
			last(5 * time.Second)
			n.Box.Cut(false)
		} else {
			nd := []*node{n.red, n.gray}[victim-1]
			if err := nd.proc.Stop(); err != nil {
				t.Fatal(err)
			}
			last(5 * time.Second)
			if err := nd.proc.Cont(); err != nil {
				t.Fatal(err)
			}
		}
		last(5 * time.Second)
	}
}

// tell logs how the relays ended.
func (n *relayNet) tell(t *testing.T) {
	t.Helper()
	for _, nd := range []*node{n.red, n.gray} {
		s, err := nd.status()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d relays begun, ends %v", nd.name, s.Relay.Begun, s.Relay.Ends)
	}
}
