package link

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/link/bind"
	"github.com/onewaylink/gw/tests/await"
)

// TestDialVariation: when the local port changes, and when a pause begins and ends.
func TestDialVariation(t *testing.T) {
	var moves []int
	for n := range 100 {
		if movesAt(n) {
			moves = append(moves, n)
		}
	}
	if want := []int{5, 9, 17, 33, 65, 97}; !slices.Equal(moves, want) {
		t.Errorf("another port at attempts %v, want %v", moves, want)
	}
	d := newDialling("192.0.2.1:51820")
	d.random = func() float64 { return 0.5 } // no jitter of the waits
	d.start(0)
	var pauses []time.Duration
	for now := time.Duration(0); now < 2*time.Hour; now = d.nextAt {
		if _, ok := d.due(now); !ok {
			t.Fatalf("not due at %v", now)
		}
		if !pausesAt(d.attempts) {
			continue
		}
		pauses = append(pauses, now)
		d.pause(now)
		if until, ok := d.paused(now); !ok || until-now < 180*time.Second || d.next() != until {
			t.Errorf("pause until %v, next %v", until, d.next())
		}
		if _, ok := d.paused(d.nextAt); ok {
			t.Error("the pause does not end")
		}
	}
	if len(pauses) < 3 || pauses[0] < 5*time.Minute || pauses[1]-pauses[0] < 30*time.Minute {
		t.Errorf("pauses at %v, want the first after 5 min and the second 30 min later", pauses)
	}
	d.pause(3 * time.Hour)
	d.resolved(3*time.Hour, ports("192.0.2.2:51820"))
	if _, ok := d.due(3 * time.Hour); !ok {
		t.Error("a new address does not end a pause")
	}
}

// set changes the dialling of a node's peer.
func (n *node) set(change func(d *dialling)) {
	n.mu.Lock()
	change(&n.peers[0].dial)
	n.mu.Unlock()
	select {
	case n.renewed <- struct{}{}:
	default:
	}
}

// TestDeadEntry: a NAT drops all that comes from red's port from now on. Red is up again from
// another one.
func TestDeadEntry(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	x := newProxy(t, p)
	start(t, p.gray)
	red := start(t, p.red)
	red.await("up", 5*time.Second, isUp)
	var dead netip.AddrPort
	x.mu.Lock()
	dead = x.red
	x.pass = func(bool, []byte) bool { return x.red != dead } // called with x.mu held
	x.mu.Unlock()
	before := red.ListenPort()
	red.await("down", 6*time.Second, isDown)
	red.set(func(d *dialling) { d.attempts = moveFirst - 1 })
	red.awaitLog("dialling from another local port", 5*time.Second)
	red.await("up again", 5*time.Second, isUp)
	if port := red.ListenPort(); port == before || port == 0 {
		t.Errorf("port %d became %d", before, port)
	}
	if s := red.Snapshot()[0]; s.Dialing != nil {
		t.Errorf("still dialing: %+v", s.Dialing)
	}
}

// TestDialPause: with a configured port red pauses. Nothing leaves meanwhile, whatever hosts send.
func TestDialPause(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.red.ListenPort = freePort(t)
	x := newProxy(t, p)
	start(t, p.gray)
	red := start(t, p.red)
	red.await("up", 5*time.Second, isUp)
	var fromRed atomic.Int32
	x.let(func(red bool, _ []byte) bool {
		if red {
			fromRed.Add(1)
		}
		return false
	})
	red.await("down", 6*time.Second, isDown)
	red.set(func(d *dialling) { d.attempts, d.nextAt = pauseFirst-1, 0 })
	red.awaitLog("not dialling for longer", 5*time.Second)
	s := red.Snapshot()[0]
	if s.Dialing == nil || s.Dialing.LocalPort != p.red.ListenPort || time.Until(s.Dialing.Paused) < 3*time.Minute {
		t.Errorf("%+v", s.Dialing)
	}
	sent := fromRed.Load()
	red.path.In <- packet("10.77.1.10:1000", "10.77.2.10:2000", "in the pause")
	red.mu.Lock()
	wg := red.dev.LookupPeer(p.red.Peers[0].PublicKey)
	red.mu.Unlock()
	await.True(t, "wireguard-go's own initiation is dropped", func() bool {
		wg.ExpireCurrentKeypairs()
		if err := wg.SendHandshakeInitiation(false); err != nil {
			t.Fatal(err)
		}
		return red.Stats().Bind.Drops[bind.SendPaused] > 0
	})
	if n := fromRed.Load(); n > sent+1 { // one may have been under way
		t.Errorf("%d datagrams left in the pause", n-sent)
	}
	x.let(nil)
	red.set(func(d *dialling) { d.nextAt = 0 })
	red.await("up after the pause", 5*time.Second, isUp)
}
