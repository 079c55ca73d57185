package carriertest

import (
	"net/netip"
	"testing"

	"github.com/onewaylink/gw/gateway/link/bind"
)

func TestContract(t *testing.T) {
	n := NewNetwork(nil)
	Test(t, "192.0.2.1", func() bind.Carrier { return n.Carrier(netip.MustParseAddr("192.0.2.1")) })
}

// TestLoss: a Network drops what it is asked to, and what finds a full queue.
func TestLoss(t *testing.T) {
	host := netip.MustParseAddr("192.0.2.1")
	n := NewNetwork(func(m []byte) bool { return m[0] == 1 })
	near, far := n.Carrier(host), open(t, n.Carrier(host))
	open(t, near)
	if err := near.Send([][]byte{{1}, {2}}, far.endpoint(t, host.String(), far.port)); err != nil {
		t.Fatal(err)
	}
	if got := <-far.got; got.m[0] != 2 {
		t.Errorf("datagram %d arrives", got.m[0])
	}

	silent := n.Carrier(host)
	_, port, err := silent.Open(0) // and never receives
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	to := far.endpoint(t, host.String(), port)
	for range queueSize {
		if err := near.Send([][]byte{{2}}, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := near.Send([][]byte{{2}, {2}}, to); err != nil {
		t.Fatal(err)
	}
	if got := near.Stats().Drops[bind.SendNoBuffer]; got != 2 {
		t.Errorf("%d dropped at a full queue, want 2", got)
	}
}
