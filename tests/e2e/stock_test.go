package e2e

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// stockGray starts a plain wireguard-go in gray's place, with gray's key.
func (n *network) stockGray(t *testing.T, allowed []netip.Prefix) *lab.Proc {
	t.Helper()
	gw := n.Gray.GW()
	p, err := lab.StartWG(t.Context(), gw.Namespace, lab.WGConfig{
		PrivateKey: n.gray.key, ListenPort: lab.PlainPort,
		Addresses: []netip.Prefix{netip.PrefixFrom(gw.Node4, 32), netip.PrefixFrom(gw.Node6, 128)},
		Routes:    n.Red.Subnets,
		Peers:     []lab.WGPeer{{PublicKey: n.red.key.Public(), AllowedIPs: allowed}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestStockPeer: a stock WireGuard, without gw's hello, reaches what policy
// allows and nothing else, and is reached so.
func TestStockPeer(t *testing.T) {
	t.Parallel() // it waits most of the time
	n := newNetwork(t, setup{rules: replication})
	n.stockGray(t, n.Red.Subnets)
	n.red.up()
	n.red.waitState(status.LinkSilent)
	for _, w := range n.ways() {
		carriesBulk(t, w, 4<<20)
		for _, network := range []string{"tcp", "udp"} {
			before := n.red.drops("denied")
			denied(t, w, network, 5999)
			if n.red.drops("denied") <= before {
				t.Errorf("%s %s: nothing is counted", w.name, network)
			}
		}
		took, err := refusal(t, w, "udp", 5432)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: a closed port: %v after %v, want ECONNREFUSED", w.name, err, took)
		}
	}
	// Killed, red resumes from its file alone: no other node has records.
	pools := n.openPools5432(t)
	n.red.waitRecords()
	n.red.kill()
	n.red.up()
	for i, p := range pools {
		if err := p.Check(2 * patience); err != nil {
			t.Errorf("%s: %v", n.ways()[i].name, err)
		}
	}
	n.noneThrough(t)
}

// openPools5432 is openPools on the port that the policy replication allows.
func (n *network) openPools5432(t *testing.T) (pools []*lab.Pool) {
	t.Helper()
	for _, w := range n.ways() {
		echo, err := lab.EchoTCP(t.Context(), w.to.Namespace, netip.AddrPortFrom(w.addr, 5432))
		if err != nil {
			t.Fatal(err)
		}
		pool, err := lab.OpenPool(t.Context(), w.from.Namespace, echo.Addr, 10)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pool.Close(); echo.Close() })
		pools = append(pools, pool)
	}
	return pools
}
