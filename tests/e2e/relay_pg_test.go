package e2e

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/onewaylink/gw/tests/lab"
)

// TestRelayPostgres: a standby streams from the far site's primary, into which
// pgbench writes from the standby's site, over a WAN that loses. Either gateway is
// killed and started again in the middle.
func TestRelayPostgres(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string) {
		n := startRelay(t, mode, farWAN)
		from, to := n.Gray.DB(), n.Red.DB()
		b := &bank{
			name: "bank", primary: n.pgServer(t, from), writer: to,
			writes: from.LAN4, follows: from.LAN6, subscriber: to.LAN6,
		}
		sql(t, b.primary, "postgres", "create database "+b.name)
		b.pgbench(t, b.primary, from, "-i", "-q", "-s", "1")
		var err error
		if b.replica, err = lab.StartStandby(t.Context(), n.Lab, to.Namespace, b.follows); err != nil {
			t.Fatal(err)
		}
		b.replicates = b.connection(t)
		lossy := farWAN
		lossy.Loss = 0.01
		n.Box.SetBoth(lossy)
		n.scenario(t, "physical replication", noReset, func(t *testing.T) {
			var through atomic.Bool
			var writing sync.WaitGroup
			writing.Go(func() { b.write(t, &through) })
			// Also when a kill has failed the test.
			defer writing.Wait()
			defer through.Store(true)
			for _, victim := range []*node{n.red, n.gray} {
				advance(t, []*bank{b})
				victim.kill()
				victim.up()
				advance(t, []*bank{b})
			}
			through.Store(true)
			writing.Wait()
			b.equal(t)
		})
	})
}
