package e2e

import "testing"

// TestFwMark: routing rules lead the tunnel's datagrams to the other site by their mark. Nothing
// else has a way there.
func TestFwMark(t *testing.T) {
	n := newNetwork(t, setup{local: "fwmark = 51820"})
	n.red.runs(t, "sh", "-ec", `
		for v in -4 -6; do
			ip $v route show default | sed 's/^/route add table 51 /' | ip $v -batch -
			ip $v route del default
			ip $v rule add fwmark 51820 lookup 51
		done`)
	n.start()
	for _, w := range n.ways() {
		carriesBulk(t, w, 64<<10)
	}
	if found := n.red.failures(t); len(found) != 0 {
		t.Errorf("gw doctor finds %v", found)
	}
}
