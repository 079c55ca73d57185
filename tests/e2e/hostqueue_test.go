package e2e

import (
	"net/netip"
	"testing"

	"github.com/onewaylink/gw/netstack/wire"
)

// TestHostQueue: what a database sends while its gateway stands still waits in the
// kernel, and what is more than may wait there is counted.
func TestHostQueue(t *testing.T) {
	n := newNetwork(t, setup{})
	n.start()
	l, err := n.Red.GW().Netlink().LinkByName("gw0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := n.Red.DB().Dial(t.Context(), "udp", netip.AddrPortFrom(n.Gray.DB().LAN4, 7777).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The port-unreachable error of the first may be reported on any later one.
	const refused = 1
	missed := func(packets int) uint64 {
		t.Helper()
		if err := n.red.proc.Stop(); err != nil {
			t.Fatal(err)
		}
		failed := 0
		for range packets {
			if _, err := c.Write([]byte("x")); err != nil {
				failed++
			}
		}
		if err := n.red.proc.Cont(); err != nil {
			t.Fatal(err)
		}
		if failed > refused {
			t.Fatalf("%d of %d datagrams could not be sent", failed, packets)
		}
		return n.red.drops(wire.HostQueue.String())
	}
	room := l.Attrs().TxQLen
	if got := missed(room / 2); got != 0 {
		t.Errorf("%d packets were missed of half as many as may wait, which are %d", got, room)
	}
	const more = 300
	if got := missed(room + more); got < more-refused || got > more+uint64(room)/100 {
		t.Errorf("%d packets were missed of %d more than the %d that may wait", got, more, room)
	}
}
