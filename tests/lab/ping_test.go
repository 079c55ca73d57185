package lab

import (
	"bytes"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
)

func TestPing(t *testing.T) {
	l := Start(t, Config{})
	ctx := ctxFor(t)
	a, b := l.Red.GW(), l.Gray.GW()
	for _, to := range []netip.Addr{b.WAN4, b.WAN6} {
		for _, size := range []int{0, 56, 8000} {
			if _, err := Ping(ctx, a.Namespace, to, size); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
	}
	// The WAN router has no route there.
	for _, to := range []string{"192.0.2.99", "2001:db8:99::1"} {
		_, err := Ping(ctx, a.Namespace, netip.MustParseAddr(to), 56)
		var unreachable *ICMPError
		if !errors.As(err, &unreachable) {
			t.Fatalf("ping %s: %v, want an ICMP error", to, err)
		}
		if from := unreachable.From; from != l.Red.uplinks[0] && from != l.Red.uplinks[1] {
			t.Errorf("ping %s: %v, want it from the WAN router", to, err)
		}
	}
}

// TestSendIP spoofs a source, which a capture at the other end sees. The
// firewall's connection tracking lets nothing with a wrong checksum pass.
func TestSendIP(t *testing.T) {
	l := Start(t, Config{})
	a, b := l.Red.GW(), l.Gray.GW()
	for _, tt := range []struct{ spoofed, to netip.Addr }{
		{netip.MustParseAddr("198.51.100.77"), b.WAN4},
		{netip.MustParseAddr("2001:db8:1::77"), b.WAN6},
	} {
		src, dst := netip.AddrPortFrom(tt.spoofed, 7), netip.AddrPortFrom(tt.to, 9)
		var tcp TCPStats
		var udp atomic.Int64
		c, err := b.Capture("wan0", CaptureConfig{Each: func(p Packet) {
			tcp.Each(p)
			if bytes.HasSuffix(p.Data, []byte("spoofed")) && !p.Outgoing {
				udp.Add(1)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(
			a.SendIP(TCPPacket(Segment{Src: src, Dst: dst, Seq: 1, Flags: SYN, Window: 1000, Options: []byte{2, 4, 5, 180}}, nil)),
			a.SendIP(UDPPacket(src, dst, []byte("spoofed"))),
		); err != nil {
			t.Fatal(err)
		}
		if err := Until(ctxFor(t), "the spoofed packets", func() (bool, error) {
			return tcp.Counts().Sources[tt.spoofed] > 0 && udp.Load() > 0, nil
		}); err != nil {
			t.Error(err)
		}
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	}
	if err := a.SendIP([]byte{0x45}); err == nil {
		t.Error("a truncated packet was sent")
	}
}
