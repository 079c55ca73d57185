package lab_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// A transfer between the databases of the two sites, in which something happens
// after ten megabytes, is watched for resets.
func Example() {
	test := func(t *testing.T) {
		l := lab.Start(t, lab.Config{Impaired: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		l.Box.SetBoth(lab.Impairment{Delay: 20 * time.Millisecond, Rate: 300e6, QueueBytes: 3 << 20, Loss: 0.001})
		if _, _, err := lab.StartPlainTunnel(ctx, l); err != nil {
			t.Fatal(err)
		}
		red, gray := l.Red.DB(), l.Gray.DB()
		var seen lab.TCPStats
		capture, err := red.Capture("lan0", lab.CaptureConfig{Each: seen.Each, PCAP: true})
		if err != nil {
			t.Fatal(err)
		}
		transfer, err := lab.StartTransfer(ctx, lab.TransferConfig{
			From: gray.Namespace, To: red.Namespace, Addr: netip.AddrPortFrom(red.LAN4, 5432), Bytes: 50 << 20, Back: 50 << 20,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := transfer.Reached(10 << 20); err != nil {
			t.Fatal(err)
		}
		l.Box.Cut(true)
		outage, err := red.Nstat()
		if err != nil {
			t.Fatal(err)
		}
		if err := lab.Until(ctx, "a retransmission time-out", func() (bool, error) {
			now, err := red.Nstat()
			return now.Since(outage)["TcpExt.TCPTimeouts"] > 0, err
		}); err != nil {
			t.Fatal(err)
		}
		l.Box.Cut(false)
		if res, err := transfer.Wait(); err != nil || res.Source != gray.LAN4 {
			t.Errorf("from %s: %v", res.Source, err)
		}
		if err := capture.Stop(); err != nil {
			t.Fatal(err)
		}
		if n := seen.Counts(); n.RSTs != 0 {
			t.Errorf("%d resets: %q", n.RSTs, n.Resets)
		}
		if n, err := l.Refused(); err != nil || n != 0 {
			t.Errorf("the firewall refused %d packets, %v", n, err)
		}
	}
	_ = test
}
