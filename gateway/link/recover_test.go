package link

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/link/bind"
)

// upAgain waits for down and then up.
func (n *node) upAgain(limit time.Duration) time.Duration {
	n.t.Helper()
	return n.await("down", limit, isDown) + n.await("up again", limit, isUp)
}

// A responder that was restarted has no keys and may not dial. Its nudge makes
// the dialler renew the session, long before wireguard-go's 15 s.
func TestResponderRestart(t *testing.T) {
	for _, busy := range []bool{false, true} {
		t.Run(map[bool]string{false: "idle", true: "busy"}[busy], func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			gray := start(t, p.gray)
			red := start(t, p.red)
			red.await("up", 5*time.Second, isUp)
			gray.stop()
			if busy {
				feed(t, red, packet("10.77.1.10:1000", "10.77.2.10:2000", "traffic"))
			}
			began := time.Now()
			gray = start(t, p.gray)
			gray.await("gray up", 10*time.Second, isUp)
			took := time.Since(began)
			t.Logf("up %v after the start of the new process", took)
			if took > 5*time.Second || busy && took > 2500*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			red.upAgain(5 * time.Second)
			carries(t, red, gray, packet("10.77.1.10:1000", "10.77.2.10:2000", "after the restart"))
			if red.Stats().Bind.NudgesReceived == 0 {
				t.Error("no nudge was heard")
			}
		})
	}
}

// feed sends a packet every 5 ms until the test ends.
func feed(t *testing.T, n *node, pkt []byte) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				n.path.In <- pkt
			case <-quit:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(quit)
		<-done
	})
}

func TestInitiatorRestart(t *testing.T) {
	p := newPair(t)
	gray := start(t, p.gray)
	red := start(t, p.red)
	gray.await("up", 5*time.Second, isUp)
	red.stop()
	began := time.Now()
	red = start(t, p.red)
	red.await("up", 5*time.Second, isUp)
	took := time.Since(began)
	t.Logf("up after %v", took)
	if took > 2500*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	gray.upAgain(5 * time.Second)
	carries(t, gray, red, packet("10.77.2.10:2000", "10.77.1.10:1000", "after the restart"))
}

// A handshake packet that is lost, in either direction, is sent again long
// before wireguard-go's 5 s.
func TestLostHandshakePackets(t *testing.T) {
	for _, tt := range []struct {
		name    string
		fromRed bool
		lost    int32
	}{
		{"first initiation", true, 1},
		{"two initiations", true, 2},
		{"first response", false, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			x := newProxy(t, p)
			var left atomic.Int32
			left.Store(tt.lost)
			x.let(func(fromRed bool, b []byte) bool { return fromRed != tt.fromRed || left.Add(-1) < 0 })
			start(t, p.gray)
			red := start(t, p.red)
			took := red.await("up", 4*time.Second, isUp)
			t.Logf("up after %v", took)
			if took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// The way is cut and comes back: the loss is noticed in three hellos, and the
// link is up again soon after the return.
func TestCutAndReturn(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	x := newProxy(t, p)
	gray := start(t, p.gray)
	red := start(t, p.red)
	red.await("up", 5*time.Second, isUp)
	gray.await("up", 5*time.Second, isUp)
	x.let(nothing)
	noticed := red.await("loss noticed", 6*time.Second, isDown)
	gray.await("loss noticed", 6*time.Second, isDown)
	x.let(nil)
	took := red.await("up again", 10*time.Second, isUp)
	gray.await("up again", 5*time.Second, isUp)
	t.Logf("loss noticed after %v, up %v after the return", noticed, took)
	if noticed > 4500*time.Millisecond || took > 4*time.Second {
		t.Errorf("noticed after %v, up after %v", noticed, took)
	}
	carries(t, gray, red, packet("10.77.2.10:2000", "10.77.1.10:1000", "after the cut"))
}

// A path that swallows big datagrams without a word is measured from inside.
func TestPathMTUBlackHole(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	x := newProxy(t, p)
	gray := start(t, p.gray)
	red := start(t, p.red)
	at := func(mtu int) func(PeerState) bool { return func(s PeerState) bool { return s.MTU == mtu } }
	red.await("full", 5*time.Second, at(1420))
	gray.await("full", 5*time.Second, at(1420))
	// An outer path MTU of 1380: 1352 bytes of UDP payload, of which WireGuard
	// takes 32 and pads to 16.
	x.let(func(_ bool, b []byte) bool { return len(b) <= 1380-28 })
	began := time.Now()
	red.await("shrunk", 5*time.Second, at(1312))
	gray.await("shrunk", 5*time.Second, at(1312))
	t.Logf("both know the path after %v", time.Since(began))
}

// wireguard-go makes initiations on the responder's side, too. They must not
// get out.
func TestResponderNeverDials(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	x := newProxy(t, p)
	gray := start(t, p.gray)
	red := start(t, p.red)
	gray.await("up", 5*time.Second, isUp)
	red.stop()
	var initiations atomic.Int32
	x.let(func(fromRed bool, b []byte) bool {
		if !fromRed && b[0] == 1 {
			initiations.Add(1)
		}
		return false
	})
	// What its timer does 15 s after the last answer.
	gray.mu.Lock()
	wg := gray.dev.LookupPeer(p.gray.Peers[0].PublicKey)
	gray.mu.Unlock()
	wg.ExpireCurrentKeypairs()
	if err := wg.SendHandshakeInitiation(false); err != nil {
		t.Fatal(err)
	}
	if n := gray.Stats().Bind.Drops[bind.SendMayNotDial]; n == 0 {
		t.Error("the initiation wasn't dropped by the bind")
	}
	if n := initiations.Load(); n != 0 {
		t.Errorf("%d initiations got out", n)
	}
}

// names resolves to what the test says.
type nameTable struct {
	mu    sync.Mutex
	addrs []netip.Addr
	asked int
}

func (n *nameTable) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	return n.addrs, nil
}

// The peer's name points to another address after a while.
func TestAddressChanges(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	names := &nameTable{addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	_, port, _ := cutPort(p.red.Peers[0].Endpoint)
	p.red.Peers[0].Endpoint = "gray.example:" + port
	p.red.Resolver = names
	gray := start(t, p.gray)
	red := start(t, p.red)
	red.await("up", 5*time.Second, isUp)
	// Loopback answers on all of 127.0.0.0/8: gray moves to 127.0.0.2.
	gray.stop()
	names.mu.Lock()
	names.addrs = []netip.Addr{netip.MustParseAddr("127.0.0.2")}
	names.mu.Unlock()
	red.await("lost", 6*time.Second, isDown)
	start(t, p.gray)
	red.await("up at the new address", 8*time.Second, isUp)
	if got := red.Snapshot()[0].Endpoint; got != "127.0.0.2:"+port {
		t.Errorf("endpoint %s", got)
	}
}
