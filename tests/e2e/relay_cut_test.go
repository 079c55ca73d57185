package e2e

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// TestRelayCut: a link that is cut for some seconds in the middle of bulk.
func TestRelayCut(t *testing.T) {
	t.Parallel() // it waits most of the time
	eachMode(t, func(t *testing.T, mode string) { relayCut(t, mode, 8*time.Second) })
}

// relayCut cuts the WAN with bytes in flight. Relayed connections move within a
// second of its return; a raw one beside them shows what that is worth.
func relayCut(t *testing.T, mode string, cut time.Duration) {
	n := startRelay(t, mode, farWAN)
	const size = 40 << 20
	n.scenario(t, "cut for "+cut.String(), noReset, func(t *testing.T) {
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
		// It starts late: its kernels' TCP takes the larger part of the WAN, and it is to
		// be under way when that is cut.
		beside := transferOf(n.ways()[0], size)
		beside.Addr = netip.AddrPortFrom(beside.Addr.Addr(), plainPort)
		plain, err := lab.StartTransfer(t.Context(), beside)
		if err != nil {
			t.Fatal(err)
		}
		if err := plain.Reached(size / 16); err != nil {
			t.Fatal(err)
		}
		all := append(runs, plain)
		n.Box.Cut(true)
		<-time.After(cut) // the length of the outage is what is tried
		n.red.waitState(status.LinkLost)
		before := make([]int64, len(all))
		for i, r := range all {
			if before[i] = r.Received(); before[i] == 2*size {
				t.Fatalf("connection %d had moved all before the cut", i)
			}
		}
		n.Box.Cut(false)
		back := time.Now()
		// The kernels' retransmission timers decide when a raw connection's ends try
		// again: after an outage of d that is at most another d (RFC 6298 section 5.5).
		ctx, cancel := context.WithTimeout(t.Context(), cut+patience)
		defer cancel()
		moved := make([]time.Duration, len(all))
		if err := lab.Until(ctx, "first progress of all", func() (bool, error) {
			done := true
			for i, r := range all {
				if moved[i] == 0 && r.Received() > before[i] {
					moved[i] = time.Since(back)
				}
				done = done && moved[i] > 0
			}
			return done, nil
		}); err != nil {
			t.Fatalf("%v: moved after %v", err, moved)
		}
		n.red.waitState(status.LinkUp)
		for i, m := range moved {
			t.Logf("connection %d moved %v after the return", i, m.Round(time.Millisecond))
			if n.relays() && all[i] != plain && m > time.Second {
				t.Errorf("connection %d, which was relayed, moved %v after the return, want at most a second", i, m)
			}
		}
		n.finish(t, all...)
	})
}
