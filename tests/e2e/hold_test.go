package e2e

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/onewaylink/gw/tests/lab"
)

// leaks counts packets to the other site's subnets that leave a gateway's host by
// its default route.
func leaks(t *testing.T, from *lab.Host, to *lab.Site) (stop func() int64) {
	t.Helper()
	var n atomic.Int64
	c, err := from.Capture("wan0", lab.CaptureConfig{Each: func(p lab.Packet) {
		for _, s := range to.Subnets {
			if p.Outgoing && s.Contains(destination(p.Data)) {
				n.Add(1)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return func() int64 {
		t.Helper()
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
		return n.Load()
	}
}

// destination is the address that a packet goes to.
func destination(b []byte) netip.Addr {
	if b[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(b[16:20]))
	}
	return netip.AddrFrom16([16]byte(b[24:40]))
}

// TestNothingLeaks: while a gateway is dead, what is for the other site waits or
// fails, and does not go out unencrypted by the default route. After an orderly
// end nothing of the gateway is left on the host.
func TestNothingLeaks(t *testing.T) {
	n := start(t, setup{})
	gray := n.Gray.DB()
	send := func() {
		for _, h := range []*lab.Host{n.Red.DB(), n.Red.GW()} {
			for i, dst := range gray.Addrs() {
				src := h.Addrs()[i]
				// The gateway's own host has a route that refuses; nothing else
				// is to be said of the error.
				_ = h.SendIP(lab.UDPPacket(netip.AddrPortFrom(src, 4000), netip.AddrPortFrom(dst, 5432), []byte("x")))
				_ = h.SendIP(lab.TCPPacket(lab.Segment{
					Src: netip.AddrPortFrom(src, 4000), Dst: netip.AddrPortFrom(dst, 5432), Seq: 1, Flags: lab.SYN, Window: 1000,
				}, nil))
			}
		}
		// What was sent before this has been through the host by its answer.
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := lab.Ping(ctx, n.Red.GW().Namespace, netip.MustParseAddr("198.51.100.1"), 56); err != nil {
			t.Fatal(err)
		}
	}
	echo, err := lab.EchoTCP(t.Context(), gray.Namespace, netip.AddrPortFrom(gray.LAN4, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	pool, err := lab.OpenPool(t.Context(), n.Red.DB().Namespace, echo.Addr, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()

	leaked := leaks(t, n.Red.GW(), n.Gray)
	n.red.kill()
	send()
	if got := leaked(); got != 0 {
		t.Errorf("%d packets for gray left by the default route while the gateway was dead", got)
	}
	n.red.up()
	if err := pool.Check(patience); err != nil {
		t.Errorf("after the gateway's death and return: %v", err)
	}

	n.red.term()
	if _, err := n.Red.GW().Netlink().LinkByName("gw0"); err == nil {
		t.Error("the device is still there after an orderly end")
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := n.Red.GW().Netlink().RouteList(nil, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			if r.Protocol == 0x67 {
				t.Errorf("a route is still there after an orderly end: %v", r)
			}
		}
	}
	leaked = leaks(t, n.Red.GW(), n.Gray)
	send()
	if got := leaked(); got == 0 {
		t.Error("nothing leaves by the default route even without the gateway: the test shows nothing")
	}
}
