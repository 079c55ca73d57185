package e2e

import "testing"

// TestWaterDriver: the portable TUN driver carries the same, with the other kind
// at the far end and without.
func TestWaterDriver(t *testing.T) {
	for _, c := range []struct {
		name  string
		water func(*network) []*node
	}{
		{"red", func(n *network) []*node { return []*node{n.red} }},
		{"gray", func(n *network) []*node { return []*node{n.gray} }},
		{"both", func(n *network) []*node { return []*node{n.red, n.gray} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNetwork(t, setup{tun: `driver = "offload"`})
			for _, nd := range c.water(n) {
				nd.edit(`driver = "offload"`, `driver = "water"`)
			}
			n.start()
			for _, w := range n.ways() {
				carriesBulk(t, w, 4<<20)
				echoesDatagrams(t, w)
				pings(t, w)
			}
			for _, nd := range c.water(n) {
				red, gray := startWatch(t, n.Red.DB()), startWatch(t, n.Gray.DB())
				runs := n.startTransfers(t, 8<<20)
				if err := runs[0].Reached(1 << 20); err != nil {
					t.Fatal(err)
				}
				nd.kill()
				nd.up()
				n.finishTransfers(t, runs, patience)
				red.noResets(t)
				gray.noResets(t)
			}
			n.noneThrough(t)
		})
	}
}
