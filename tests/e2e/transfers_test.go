package e2e

import (
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// startTransfers moves size bytes each way on a connection in each of the ways.
func (n *network) startTransfers(t *testing.T, size int64) []*lab.Transfer {
	t.Helper()
	var runs []*lab.Transfer
	for i, w := range n.ways() {
		tr, err := lab.StartTransfer(t.Context(), lab.TransferConfig{
			From: w.from.Namespace, To: w.to.Namespace, Addr: netip.AddrPortFrom(w.addr, uint16(6000+i)),
			Bytes: size, Back: size,
		})
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, tr)
	}
	return runs
}

// finishTransfers waits for the end of what startTransfers began, and fails the
// test for hashes that differ and for a stall longer than most.
func (n *network) finishTransfers(t *testing.T, runs []*lab.Transfer, most time.Duration) {
	t.Helper()
	for i, tr := range runs {
		name := n.ways()[i].name
		res, err := tr.Wait()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if res.LongestStall > most {
			t.Errorf("%s: stalled for %v, want under %v", name, res.LongestStall, most)
		}
		t.Logf("%s: longest stall %v", name, res.LongestStall.Round(time.Millisecond))
	}
}

// received is the sum of what all transfers have received.
func received(runs []*lab.Transfer) (sum int64) {
	for _, tr := range runs {
		sum += tr.Received()
	}
	return sum
}
