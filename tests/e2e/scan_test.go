package e2e

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/onewaylink/gw/tests/lab"
)

// incoming counts what arrives at a database from outside its LAN.
func incoming(t *testing.T, h *lab.Host) (stop func() int64) {
	t.Helper()
	var n atomic.Int64
	c, err := h.Capture("lan0", lab.CaptureConfig{Each: func(p lab.Packet) {
		if !p.Outgoing && source(p.Data).IsGlobalUnicast() && !isNeighbour(p.Data) {
			n.Add(1)
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

// source is a packet's source address.
func source(b []byte) netip.Addr {
	if b[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(b[12:16]))
	}
	return netip.AddrFrom16([16]byte(b[8:24]))
}

// isNeighbour reports whether a packet is neighbour discovery (RFC 4861 section 4),
// which is the LAN's own.
func isNeighbour(b []byte) bool {
	return b[0]>>4 == 6 && len(b) > 40 && b[6] == 58 && b[40] >= 133 && b[40] <= 137
}

// TestScans: what belongs to no connection and can't open one gets no answer at
// all, not even from a database that would send a RST.
func TestScans(t *testing.T) {
	n := start(t, setup{})
	for _, w := range n.ways() {
		t.Run(w.name, func(t *testing.T) {
			near := n.red
			if w.from == n.Gray.DB() {
				near = n.gray
			}
			scans := []struct {
				flags  uint8
				reason []string
			}{
				{lab.ACK, []string{"no-flow", "grace"}}, // grace in the first half minute
				{lab.SYN | lab.ACK, []string{"no-flow", "grace"}},
				{lab.RST, []string{"no-flow", "grace"}},
				{lab.FIN | lab.ACK, []string{"no-flow", "grace"}},
				{lab.FIN, []string{"bad-flags"}},
				{0, []string{"bad-flags"}},
				{lab.FIN | lab.PSH | lab.URG, []string{"bad-flags"}},
				{lab.SYN | lab.FIN, []string{"bad-flags"}},
			}
			heard, reached := incoming(t, w.from), incoming(t, w.to)
			for _, s := range scans {
				before := near.anyDrops(s.reason...)
				const ports = 20
				for p := range uint16(ports) {
					err := w.from.SendIP(lab.TCPPacket(lab.Segment{
						Src: netip.AddrPortFrom(w.source(), 40000), Dst: netip.AddrPortFrom(w.addr, 5430+p),
						Seq: 1, Ack: 1, Flags: s.flags, Window: 1000,
					}, nil))
					if err != nil {
						t.Fatal(err)
					}
				}
				near.waitDrops(before+ports, s.reason...)
			}
			if got := reached(); got != 0 {
				t.Errorf("%d packets reached the database, want none", got)
			}
			if got := heard(); got != 0 {
				t.Errorf("the scanner received %d answers, want none", got)
			}
		})
	}
}

// TestSpoofedSources: a host on the LAN may use only addresses of its own site.
func TestSpoofedSources(t *testing.T) {
	n := start(t, setup{})
	red, gray := n.Red.DB(), n.Gray.DB()
	// A packet for the own site reaches the gateway's device only by a
	// misconfigured route.
	stray4, stray6 := netip.MustParseAddr("10.77.1.200"), netip.MustParseAddr("fd77:1::200")
	for i, a := range []netip.Addr{stray4, stray6} {
		if err := red.Route(netip.PrefixFrom(a, a.BitLen()), n.Red.Routers[i], "lan0"); err != nil {
			t.Fatal(err)
		}
		if err := n.Red.GW().Route(netip.PrefixFrom(a, a.BitLen()), netip.Addr{}, "gw0"); err != nil {
			t.Fatal(err)
		}
	}
	outside4, outside6 := netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("2001:db8:77::1")
	reached := incoming(t, gray)
	for _, c := range []struct {
		what, reason string
		src, dst     netip.Addr
	}{
		{"the other site's address", "spoofed", gray.LAN4, gray.LAN4},
		{"the other site's address, IPv6", "spoofed", n.Gray.GW().LAN6, gray.LAN6},
		{"an outside address", "spoofed", outside4, gray.LAN4},
		{"an outside address, IPv6", "spoofed", outside6, gray.LAN6},
		{"the own site", "loop", red.LAN4, stray4},
		{"the own site, IPv6", "loop", red.LAN6, stray6},
	} {
		t.Run(c.what, func(t *testing.T) {
			before := n.red.drops(c.reason)
			for _, b := range [][]byte{
				lab.UDPPacket(netip.AddrPortFrom(c.src, 4000), netip.AddrPortFrom(c.dst, 5432), []byte("x")),
				lab.TCPPacket(lab.Segment{
					Src: netip.AddrPortFrom(c.src, 4000), Dst: netip.AddrPortFrom(c.dst, 5432),
					Seq: 1, Flags: lab.SYN, Window: 1000,
				}, nil),
			} {
				if err := red.SendIP(b); err != nil {
					t.Fatal(err)
				}
			}
			n.red.waitDrops(before+2, c.reason)
		})
	}
	if got := reached(); got != 0 {
		t.Errorf("%d packets reached the other site, want none", got)
	}
}
