package e2e

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// transfers starts a bulk transfer on a connection opened from either side, one
// in each family.
func (n *pairNetwork) transfers(t *testing.T, size int64, port uint16) []*lab.Transfer {
	t.Helper()
	var runs []*lab.Transfer
	red, gray := n.Red.DB(), n.Gray.DB()
	for i, w := range []way{
		{"red to gray, IPv4", red, gray, gray.LAN4}, {"gray to red, IPv6", gray, red, red.LAN6},
	} {
		tr, err := lab.StartTransfer(t.Context(), lab.TransferConfig{
			From: w.from.Namespace, To: w.to.Namespace, Addr: netip.AddrPortFrom(w.addr, port+uint16(i)), Bytes: size, Back: size,
		})
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, tr)
	}
	return runs
}

// longest waits for the transfers, whose hashes the lab compares, and returns
// the longest stall that a reader saw.
func longest(t *testing.T, runs []*lab.Transfer) (stall time.Duration) {
	t.Helper()
	for _, tr := range runs {
		res, err := tr.Wait()
		if err != nil {
			t.Fatal(err)
		}
		stall = max(stall, res.LongestStall)
	}
	return stall
}

// kills is how often the active node is killed in `make test`; `make soak` does
// it more often.
const kills = 6

// TestPairKill kills the active node at random moments of transfers, and starts
// it again as the standby.
func TestPairKill(t *testing.T) {
	n := newPairNetwork(t, pairSetup{redPair: true})
	n.start()
	red, gray := startWatch(t, n.Red.DB()), startWatch(t, n.Gray.DB())
	var stalls []time.Duration
	const size = 50 << 20
	for i := range kills {
		dead, heir := active(t, n.red)
		runs := n.transfers(t, size, uint16(6000+10*i))
		if err := runs[0].Reached(size/8 + rand.Int64N(size)); err != nil {
			t.Fatal(err)
		}
		dead.kill()
		stalls = append(stalls, longest(t, runs))
		if h := heir.ha(t); h.LastFailover != nil {
			t.Logf("kill of %s: stall %v, phases %+v", dead.name, stalls[i], h.LastFailover.Phases)
		}
		dead.up()
		n.settled(n.red)
	}
	red.noResets(t)
	gray.noResets(t)
	slices.Sort(stalls)
	t.Logf("stalls: p50 %v, max %v", stalls[len(stalls)/2], stalls[len(stalls)-1])
}
