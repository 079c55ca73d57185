package e2e

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/onewaylink/gw/tests/lab"
)

// TestKillAndRestart kills a gateway, or both, in the middle of transfers that
// were opened from either side, and starts it again: the connections go on.
func TestKillAndRestart(t *testing.T) {
	n := start(t, setup{})
	for _, c := range []struct {
		name string
		kill []*node
	}{
		{"red", []*node{n.red}},
		{"gray", []*node{n.gray}},
		{"both", []*node{n.red, n.gray}},
	} {
		t.Run(c.name, func(t *testing.T) {
			red, gray := startWatch(t, n.Red.DB()), startWatch(t, n.Gray.DB())
			const size = 64 << 20
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
			if err := runs[0].Reached(size/4 + rand.Int64N(size/2)); err != nil {
				t.Fatal(err)
			}
			for _, nd := range c.kill {
				nd.kill()
			}
			for _, nd := range c.kill {
				nd.up()
			}
			for i, tr := range runs {
				res, err := tr.Wait()
				if err != nil {
					t.Fatalf("%s: %v", n.ways()[i].name, err)
				}
				t.Logf("%s: longest stall %v", n.ways()[i].name, res.LongestStall)
			}
			red.noResets(t)
			gray.noResets(t)
		})
	}
}
