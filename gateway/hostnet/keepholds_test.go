package hostnet

import (
	"context"
	"net/netip"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// While a gateway runs, a hold that another program removes is put back, and so is one that went
// before; other routes are nothing to it.
func TestKeepHolds(t *testing.T) {
	s := newSpace(t, "a")
	updates, done := make(chan netlink.RouteUpdate), make(chan struct{})
	s.do(func() {
		if err := netlink.RouteSubscribe(updates, done); err != nil {
			t.Fatal(err)
		}
	})
	// added waits until the kernel reports that the hold of a prefix is there.
	added := func(p string) {
		t.Helper()
		for u := range updates {
			if u.Type == unix.RTM_NEWROUTE && isHold(&u.Route) && prefixOf(u.Dst) == netip.MustParsePrefix(p) {
				return
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go s.do(func() {
		ended <- keepHolds(ctx, prefixes("10.77.2.0/24", "fd77:2::/64"), hclog.NewNullLogger())
	})
	added("10.77.2.0/24")
	added("fd77:2::/64")
	s.do(func() {
		s.sh("ip route add blackhole 10.9.0.0/16 proto 103 metric 12", "ip route del blackhole 10.9.0.0/16 proto 103 metric 12")
		s.sh("ip route flush proto 103")
	})
	added("10.77.2.0/24")
	s.do(func() { s.sh("ip -6 route flush proto 103") })
	added("fd77:2::/64")
	s.do(func() { s.sh("ip link set lo down") })
	added("fd77:2::/64")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	close(done)
	for range updates {
	}
	s.want("kept", []string{"10.77.2.0/24 blackhole metric 12", "fd77:2::/64 blackhole metric 12"}, nil)
}
