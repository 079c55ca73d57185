package e2e

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// lossyWAN is what cubic can't live with.
var lossyWAN = lab.Impairment{Rate: 300e6, QueueBytes: 2 << 20, Delay: 25 * time.Millisecond, Loss: 0.02}

// TestRelayLoss: behind the relay, loss on the WAN is not the sender's business:
// its kernel resends next to nothing, and gets several times what it gets raw.
func TestRelayLoss(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string) {
		n := startRelay(t, mode, lossyWAN)
		for i, w := range n.twoWays() {
			n.scenario(t, w.name, anyReset, func(t *testing.T) { // they are broken off
				plain, _ := n.pace(t, w, plainPort+uint16(i))
				rate, resent := n.pace(t, w, 7300+uint16(i))
				t.Logf("%.1f Mbit/s raw; %.1f Mbit/s with mode %s, %d segments retransmitted", plain, rate, n.mode, resent)
				if !n.relays() {
					return
				}
				if rate < 5*plain {
					t.Errorf("%.1f Mbit/s, want five times the %.1f of a raw connection", rate, plain)
				}
				if resent > 20 {
					t.Errorf("the sender's kernel retransmitted %d segments, want nearly none", resent)
				}
			})
		}
	})
}

// TestRelayNearLoss: what is lost between a database and its gateway, its kernel finds as
// soon as behind a path without a relay: by what the far database selects, not by its timer.
func TestRelayNearLoss(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string) {
		n := startRelay(t, mode, lab.Impairment{Rate: 300e6, QueueBytes: 2 << 20, Delay: 25 * time.Millisecond})
		const losses, each = 4, 4 << 20
		lossy := func(t *testing.T, w way) {
			cfg := transferOf(w, (losses+1)*each)
			cfg.Addr, cfg.Back = netip.AddrPortFrom(w.addr, 7310), 0
			r, err := lab.StartTransfer(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			gateway := n.Red.GW()
			if w.from == n.Gray.DB() {
				gateway = n.Gray.GW()
			}
			before, err := w.from.Nstat()
			if err != nil {
				t.Fatal(err)
			}
			lost := uint64(0)
			for i := range losses {
				if err := r.Reached(int64(i+1) * each); err != nil {
					t.Fatal(err)
				}
				lost += loseSome(t, gateway, cfg.Addr.Port())
			}
			n.finish(t, r)
			after, err := w.from.Nstat()
			if err != nil {
				t.Fatal(err)
			}
			d := after.Since(before)
			t.Logf("%d segments lost, %d retransmitted, %d timeouts", lost, d["Tcp.RetransSegs"], d["TcpExt.TCPTimeouts"])
			if d["TcpExt.TCPTimeouts"] > losses/2 || d["Tcp.RetransSegs"] == 0 {
				t.Errorf("the sender's timer fired %d times, it retransmitted %d segments", d["TcpExt.TCPTimeouts"], d["Tcp.RetransSegs"])
			}
		}
		for _, w := range n.twoWays() {
			n.scenario(t, w.name, noReset, func(t *testing.T) { lossy(t, w) })
		}
	})
}

// loseSome has a gateway's host lose segments with payload of a port, until it
// has lost one, and returns how many it did.
func loseSome(t *testing.T, gateway *lab.Host, port uint16) uint64 {
	t.Helper()
	d, err := gateway.DropTCP(lab.Through, port, lab.PSH|lab.ACK)
	if err != nil {
		t.Fatal(err)
	}
	var n uint64
	if err := lab.Until(t.Context(), "a segment that is lost", func() (bool, error) {
		n, err = d.Count()
		return n > 0, err
	}); err != nil {
		t.Fatal(err)
	}
	if err := d.Lift(); err != nil {
		t.Fatal(err)
	}
	return n
}

// pace is the rate at which one connection moves bulk once it runs, in Mbit/s, and
// how many segments its sender's kernel retransmits in that time.
func (n *relayNet) pace(t *testing.T, w way, port uint16) (rate float64, resent uint64) {
	t.Helper()
	const start, measure = 3 * time.Second, 3 * time.Second
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := transferOf(w, 0)
	cfg.Addr, cfg.Bytes, cfg.Unhashed = netip.AddrPortFrom(w.addr, port), bulk, true
	r, err := lab.StartTransfer(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(start)
	if port >= plainPort+plainPorts {
		n.relayed(t, port)
	}
	before, err := w.from.Nstat()
	if err != nil {
		t.Fatal(err)
	}
	from, began := r.Received(), time.Now()
	select {
	case <-r.Done():
		_, err := r.Wait()
		t.Fatalf("the transfer ended early: %v", err)
	case <-time.After(measure):
	}
	rate = float64(r.Received()-from) * 8 / 1e6 / time.Since(began).Seconds()
	after, err := w.from.Nstat()
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_, _ = r.Wait() // it was broken off
	return rate, after.Since(before)["Tcp.RetransSegs"]
}
