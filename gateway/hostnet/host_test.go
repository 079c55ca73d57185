package hostnet

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestHost: by either driver, New leaves a host that carries packets, Missed counts from then on,
// Run puts a removed hold back, and Close removes the device and leaves the hold.
func TestHost(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		s := newSpace(t, "a")
		remote := netip.MustParsePrefix("10.77.2.0/24")
		spec := Spec{
			TUN: TUNConfig{Name: "gw0", MTU: testMTU, Driver: driver},
			Net: Config{
				Device: "gw0", Addresses: addrs("10.77.1.1"), Site: []netip.Prefix{netip.MustParsePrefix("10.77.1.0/24")},
				Routes: []Route{{Prefix: remote}},
			},
			Check: CheckConfig{Device: "gw0", MTU: testMTU, Remote: []netip.Prefix{remote}},
		}
		start := func() (h *Host) {
			t.Helper()
			s.do(func() {
				var err error
				if h, err = New(spec, hclog.NewNullLogger()); err != nil {
					t.Fatal(err)
				}
			})
			t.Cleanup(func() { h.Close() })
			return h
		}
		missed := func(h *Host) (n uint64) {
			t.Helper()
			s.do(func() {
				var err error
				if n, err = h.Missed(); err != nil {
					t.Fatal(err)
				}
			})
			return n
		}
		healthy := func(h *Host) (lan, device bool) {
			s.do(func() { lan, device = h.Healthy() })
			return lan, device
		}

		spec.TUN.Persist = true // what its predecessor has missed counts for no other
		h := start()
		if lan, device := healthy(h); !lan || !device || h.Offload() != (driver == DriverOffload) {
			t.Errorf("lan %v, device %v, offload %v", lan, device, h.Offload())
		}
		sock := s.udp("10.77.1.1:7000")
		for range queueLen(memory()) + 100 {
			if _, err := sock.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(10, 77, 2, 9), Port: 9}); err != nil {
				t.Fatal(err)
			}
		}
		if n := missed(h); n < 100 {
			t.Errorf("%d packets were dropped", n)
		}
		h.Close()
		spec.TUN.Persist = false
		h = start()
		if n := missed(h); n != 0 {
			t.Errorf("%d packets were dropped before a packet was sent", n)
		}

		hold := holdFor(remote)
		held := func() (n int) {
			s.do(func() {
				list, err := ownRoutes()
				if err != nil {
					t.Fatal(err)
				}
				for i := range list {
					if isHold(&list[i]) {
						n++
					}
				}
			})
			return n
		}
		if held() != 1 {
			t.Fatalf("%d holds", held())
		}
		updates, subscribed := make(chan netlink.RouteUpdate), make(chan struct{})
		s.do(func() {
			if err := netlink.RouteDel(&hold); err != nil {
				t.Fatal(err)
			}
			if err := netlink.RouteSubscribe(updates, subscribed); err != nil {
				t.Fatal(err)
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go s.do(func() { done <- h.Run(ctx) })
		for u := range updates {
			if u.Type == unix.RTM_NEWROUTE && isHold(&u.Route) && prefixOf(u.Dst) == remote {
				break
			}
		}
		close(subscribed)
		for range updates { // until its goroutine has ended
		}
		cancel()
		if err := <-done; err != nil || held() != 1 {
			t.Errorf("%d holds: %v", held(), err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if lan, device := healthy(h); !lan || device || held() != 1 {
			t.Errorf("closed: lan %v, device %v, %d holds", lan, device, held())
		}
	})
}
