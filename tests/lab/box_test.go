package lab

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestBoxDelay measures round trips through the box, which the network without
// it makes in well under 0.1 ms. Half of them may be late on a busy machine; the
// fastest of a hundred shows what the box itself adds.
func TestBoxDelay(t *testing.T) {
	l := Start(t, Config{Impaired: true})
	ctx := ctxFor(t)
	a, b := l.Red.GW(), l.Gray.GW()
	udp, err := EchoUDP(ctx, b.Namespace, netip.AddrPortFrom(b.WAN4, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, delay := range []time.Duration{0, 2500 * time.Microsecond, 20 * time.Millisecond} {
		l.Box.SetBoth(Impairment{Delay: delay})
		lat, err := PingPong(ctx, a.Namespace, "udp", udp.Addr, 20, 100)
		if err != nil {
			t.Fatal(err)
		}
		if lat.Min < 2*delay-200*time.Microsecond || lat.Min > 2*delay+2*time.Millisecond {
			t.Errorf("delay %s each way: the fastest round trip is %s, want %s and less than 2ms more", delay, lat.Min, 2*delay)
		}
		t.Logf("delay %s each way: fastest %s, 50%% %s, 99%% %s", delay, lat.Min, lat.P50, lat.P99)
	}
}

// TestBoxRate fills a line of 300 Mbit/s; the payload is 1448 of 1500 bytes. A
// busy machine may need longer, but nothing may be faster.
func TestBoxRate(t *testing.T) {
	l := Start(t, Config{Impaired: true})
	ctx := ctxFor(t)
	a, b := l.Red.GW(), l.Gray.GW()
	l.Box.SetBoth(Impairment{Rate: 300e6, QueueBytes: 1 << 20, Delay: time.Millisecond})
	before, err := usage(unix.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	res, err := RunTransfer(ctx, TransferConfig{
		From: a.Namespace, To: b.Namespace, Addr: netip.AddrPortFrom(b.WAN4, 0), Bytes: 30 << 20, Unhashed: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	after, err := usage(unix.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if m := res.Mbps(); m > 300*1448/1500. {
		t.Errorf("%.0f Mbit/s through a line of 300", m)
	}
	t.Logf("%.0f Mbit/s, CPU %s in %s with both ends; %+v", res.Mbps(), after.CPU-before.CPU, res.Duration, l.Box.Stats(RedToGray))
}

// TestBoxLoss sees what is lost repaired, and counted.
func TestBoxLoss(t *testing.T) {
	l := Start(t, Config{Impaired: true})
	ctx := ctxFor(t)
	a, b := l.Red.GW(), l.Gray.GW()
	l.Box.SetBoth(Impairment{Loss: 0.02, Duplicate: 0.01, Reorder: 0.01, ReorderBy: time.Millisecond})
	if _, err := RunTransfer(ctx, TransferConfig{
		From: a.Namespace, To: b.Namespace, Addr: netip.AddrPortFrom(b.WAN6, 0), Bytes: 4 << 20, Back: 4 << 20,
	}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []Direction{RedToGray, GrayToRed} {
		if err := Until(ctx, "the last packets to arrive", func() (bool, error) {
			s := l.Box.Stats(d)
			return s.Delivered == s.Received-s.DroppedLoss+s.Duplicated, nil
		}); err != nil {
			t.Errorf("%v: %+v", err, l.Box.Stats(d))
		}
		if s := l.Box.Stats(d); s.DroppedLoss == 0 || s.Duplicated == 0 || s.Reordered == 0 {
			t.Errorf("direction %d: %+v", d, s)
		}
	}
	n, err := a.Nstat()
	if err != nil {
		t.Fatal(err)
	}
	if n["Tcp.RetransSegs"] == 0 {
		t.Error("the kernel retransmitted nothing")
	}
}

// TestBoxCut cuts the line in the middle of a transfer and mends it again.
func TestBoxCut(t *testing.T) {
	l := Start(t, Config{Impaired: true})
	ctx := ctxFor(t)
	a, b := l.Red.GW(), l.Gray.GW()
	l.Box.SetBoth(Impairment{Delay: time.Millisecond, Rate: 200e6, QueueBytes: 1 << 20})
	tr, err := StartTransfer(ctx, TransferConfig{
		From: a.Namespace, To: b.Namespace, Addr: netip.AddrPortFrom(b.WAN4, 0), Bytes: 8 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Reached(1 << 20); err != nil {
		t.Fatal(err)
	}
	l.Box.Cut(true)
	if err := Until(ctx, "a retransmission time-out", func() (bool, error) {
		n, err := a.Nstat()
		return n["TcpExt.TCPTimeouts"] > 0, err
	}); err != nil {
		t.Fatal(err)
	}
	l.Box.Cut(false)
	res, err := tr.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if res.LongestStall < 100*time.Millisecond {
		t.Errorf("the longest stall was %s, want the sender's first retransmission time-out at least", res.LongestStall)
	}
}

// TestBoxMTU sends datagrams that may not be fragmented through a path that
// drops long ones silently, and through one that answers with ICMP.
func TestBoxMTU(t *testing.T) {
	l := Start(t, Config{Impaired: true})
	ctx := ctxFor(t)
	a, b := l.Red.GW(), l.Gray.GW()
	udp, err := EchoUDP(ctx, b.Namespace, netip.AddrPortFrom(b.WAN4, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	c, err := a.DialWith(ctx, &net.Dialer{Control: dontFragment}, "udp", udp.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const should, shouldNot = 5 * time.Second, 100 * time.Millisecond
	// answered sends an IPv4 packet of n bytes.
	answered := func(n int, patience time.Duration) bool {
		if _, err := c.Write(make([]byte, n-28)); err != nil {
			return false
		}
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		_, err := c.Read(make([]byte, 2000))
		return err == nil
	}
	l.Box.SetBoth(Impairment{MTU: 1380})
	if !answered(1380, should) || answered(1381, shouldNot) || l.Box.Stats(RedToGray).DroppedMTU != 1 {
		t.Errorf("silent limit of 1380: %+v", l.Box.Stats(RedToGray))
	}
	if n := mustNstat(t, a.Namespace)["Icmp.InDestUnreachs"]; n != 0 {
		t.Errorf("the silent limit caused %d ICMP errors, want none", n)
	}
	l.Box.SetBoth(Impairment{})
	if err := l.Box.SetLinkMTU(1300); err != nil {
		t.Fatal(err)
	}
	if !answered(1300, should) || answered(1301, shouldNot) {
		t.Error("a packet passed the link MTU of 1300")
	}
	if n := mustNstat(t, a.Namespace)["Icmp.InDestUnreachs"]; n != 1 {
		t.Errorf("the link's MTU caused %d ICMP errors, want 1", n)
	}
}

func mustNstat(t *testing.T, n *Namespace) Nstat {
	t.Helper()
	s, err := n.Nstat()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dontFragment sets DF without path MTU discovery.
func dontFragment(_, _ string, c syscall.RawConn) error {
	var set error
	err := c.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	})
	return errors.Join(err, set)
}
