package lab

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"
	"time"
)

func TestCapture(t *testing.T) {
	l := Start(t, Config{})
	ctx := ctxFor(t)
	red, gray := l.Red.GW(), l.Gray.GW()
	for _, addr := range []netip.Addr{gray.WAN4, gray.WAN6} {
		var stats TCPStats
		c, err := red.Capture("wan0", CaptureConfig{Each: stats.Each, PCAP: true})
		if err != nil {
			t.Fatal(err)
		}
		before, err := gray.Nstat()
		if err != nil {
			t.Fatal(err)
		}
		// The port is closed: the kernel answers with a reset.
		if conn, err := red.Dial(ctx, "tcp", netip.AddrPortFrom(addr, 9).String()); err == nil {
			conn.Close()
			t.Error("something listens on port 9")
		}
		if _, err := RunTransfer(ctx, TransferConfig{
			From: red.Namespace, To: gray.Namespace, Addr: netip.AddrPortFrom(addr, 0), Bytes: 1<<20 - 1, Back: 10,
		}); err != nil {
			t.Fatal(err)
		}
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
		after, err := gray.Nstat()
		if err != nil {
			t.Fatal(err)
		}
		n := stats.Counts()
		if n.RSTs != 1 || len(n.Resets) != 1 {
			t.Errorf("%s: %d resets %q, want 1", addr, n.RSTs, n.Resets)
		}
		if n.SYNs != 3 || n.FINs != 2 || n.Bytes != 1<<20+10 || n.Retransmits != 0 || n.Sources[addr] == 0 || len(n.Sources) != 2 {
			t.Errorf("%s: counted %+v", addr, n)
		}
		if rst := after.Since(before)["Tcp.OutRsts"]; rst != 1 {
			t.Errorf("%s: the kernel counted %d resets, want 1", addr, rst)
		}
		checkPCAP(t, c.Path, n.Segments)
	}
}

// TestCaptureStampsAtOnce: a packet has the time at which it passed and not that at
// which it was read, from the first one on. Kernels are late now and then only.
func TestCaptureStampsAtOnce(t *testing.T) {
	l := Start(t, Config{})
	red, gray := l.Red.GW(), l.Gray.GW()
	const discard = 9
	packet := UDPPacket(netip.AddrPortFrom(red.WAN4, discard), netip.AddrPortFrom(gray.WAN4, discard), nil)
	for i := range 100 {
		var times []time.Time
		sent := make(chan struct{})
		c, err := red.Capture("wan0", CaptureConfig{Each: func(p Packet) {
			times = append(times, p.Time)
			<-sent
		}})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second one waits in the socket
			if err := red.SendIP(packet); err != nil {
				t.Fatal(err)
			}
		}
		until := time.Now()
		close(sent)
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
		if len(times) < 2 || times[1].After(until) {
			t.Fatalf("capture %d: packets sent before %v have the times %v", i, until, times)
		}
	}
}

// checkPCAP walks through the file and expects at least n records.
func checkPCAP(t *testing.T, path string, n int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = b[24:]
	got := 0
	for len(b) >= 16 {
		kept := int(binary.LittleEndian.Uint32(b[8:]))
		if full := int(binary.LittleEndian.Uint32(b[12:])); kept > full || kept > len(b)-16 {
			t.Fatalf("record %d keeps %d of %d bytes, %d are left in the file", got, kept, full, len(b)-16)
		}
		b = b[16+kept:]
		got++
	}
	if len(b) != 0 || got < n {
		t.Errorf("the file has %d records and %d bytes more, want at least %d records", got, len(b), n)
	}
}

func TestTCPStatsRetransmitsAndStalls(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2")
	var s TCPStats
	at := time.Unix(0, 0)
	for _, step := range []struct {
		after time.Duration
		seq   uint32
		n     int
	}{
		{0, 0xfffffff0, 16},             // up to the wrap
		{time.Millisecond, 0, 10},       // goes on
		{time.Second, 0, 10},            // again
		{time.Millisecond, 20, 10},      // a hole
		{2 * time.Millisecond, 10, 10},  // which is filled: below the highest seen
		{3 * time.Millisecond, 30, 100}, // new
	} {
		at = at.Add(step.after)
		s.Each(Packet{Time: at, Data: TCPPacket(Segment{Src: a, Dst: b, Seq: step.seq, Flags: ACK}, make([]byte, step.n))})
	}
	c := s.Counts()
	if c.Retransmits != 2 || c.LongestStall != time.Second || c.Data != 6 || c.Bytes != 156 {
		t.Errorf("counted %+v", c)
	}
}
