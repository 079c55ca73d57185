package lab

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestRepeatsOnRealWires: kernels' TCP through plain WireGuard, over a WAN that
// loses, doubles and reorders, breaks no rule; one packet of a liar does.
func TestRepeatsOnRealWires(t *testing.T) {
	l := Start(t, Config{Impaired: true})
	ctx := ctxFor(t)
	if _, _, err := StartPlainTunnel(ctx, l); err != nil {
		t.Fatal(err)
	}
	l.Box.SetBoth(Impairment{
		Rate: 200e6, QueueBytes: 1 << 20, Delay: 5 * time.Millisecond,
		Loss: 0.01, Duplicate: 0.01, Reorder: 0.01, ReorderBy: 3 * time.Millisecond,
	})
	redDB, grayDB := l.Red.DB(), l.Gray.DB()
	r, err := WatchRepeats(redDB, grayDB)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range []TransferConfig{
		{From: redDB.Namespace, To: grayDB.Namespace, Addr: netip.AddrPortFrom(grayDB.LAN4, 0)},
		{From: grayDB.Namespace, To: redDB.Namespace, Addr: netip.AddrPortFrom(redDB.LAN6, 0)},
	} {
		c.Bytes, c.Back, c.Flows = 2<<20, 2<<20, 4
		if _, err := RunTransfer(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	echo, err := EchoTCP(ctx, grayDB.Namespace, netip.AddrPortFrom(grayDB.LAN4, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	c, err := redDB.Dial(ctx, "tcp", echo.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lie := TCPPacket(Segment{
		Src: echo.Addr, Dst: netip.MustParseAddrPort(c.LocalAddr().String()), Seq: 1, Ack: 1, Flags: RST | ACK,
	}, nil)
	if err := l.Red.GW().SendIP(lie); err != nil {
		t.Fatal(err)
	}
	if settled, err := r.Settle(ctx); err != nil || settled.Broken != 1 {
		t.Errorf("settled with %d violations, want the one that was forged: %v", settled.Broken, err)
	}
	report, err := r.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Err(); report.Broken != 1 || !strings.Contains(err.Error(), "a RST that the other had not sent") {
		t.Errorf("one packet was forged: %v", err)
	}
	if report.Connections != 9 || report.Bytes < 32<<20 || len(report.Resets) != 0 {
		t.Errorf("saw %d connections, %d bytes, resets %q", report.Connections, report.Bytes, report.Resets)
	}
	t.Logf("judged %v segments, %d bytes", report.Judged, report.Bytes)
}
