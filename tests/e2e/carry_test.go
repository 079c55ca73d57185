package e2e

import (
	"net/netip"
	"testing"

	"github.com/onewaylink/gw/tests/lab"
)

// TestCarriesBothWays: bulk in both directions at once on connections opened
// from either side, hashes compared by the lab, the caller's own address seen,
// and nothing from gray through the firewall.
func TestCarriesBothWays(t *testing.T) {
	n := start(t, setup{})
	for _, w := range n.ways() {
		t.Run(w.name, func(t *testing.T) {
			res, err := lab.RunTransfer(t.Context(), lab.TransferConfig{
				From: w.from.Namespace, To: w.to.Namespace, Addr: netip.AddrPortFrom(w.addr, 5432),
				Bytes: 20 << 20, Back: 20 << 20,
			})
			if err != nil {
				t.Fatal(err)
			}
			want := w.from.LAN4
			if w.addr.Is6() {
				want = w.from.LAN6
			}
			if res.Source != want {
				t.Errorf("the called side saw %v, want the caller's own %v", res.Source, want)
			}
			t.Logf("%.0f Mbit/s", res.Mbps())
		})
	}
	refused, err := n.Refused()
	if err != nil {
		t.Fatal(err)
	}
	if refused != 0 {
		t.Errorf("gray tried %d times to dial through the firewall", refused)
	}
}
