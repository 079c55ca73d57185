package trunk

import (
	"context"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// deadline is how long a test waits for what has to come.
const deadline = 20 * time.Second

// leakCheck fails the test if goroutines are left when all cleanups registered
// after it have run.
func leakCheck(t testing.TB) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		until := time.Now().Add(deadline)
		for runtime.NumGoroutine() > before {
			if time.Now().After(until) {
				buf := make([]byte, 1<<20)
				t.Fatalf("goroutines left behind:\n%s", buf[:runtime.Stack(buf, true)])
			}
			runtime.Gosched()
		}
	})
}

// addr is an address of this machine that no other process's tests use.
func addr(i byte) netip.Addr {
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, byte(64 + pid>>8&63), byte(pid), i})
}

var (
	red  = addr(1)
	gray = addr(2)
	blue = addr(3)
)

// node is a Pool whose accepted connections are given to the test.
type node struct {
	*Pool
	tb       testing.TB
	accepted chan *Conn
	change   chan struct{}
	stop     context.CancelFunc
	done     chan error // what Run has returned
}

func newNode(tb testing.TB, self netip.Addr, peers ...netip.Addr) *node {
	n := &node{
		tb: tb, accepted: make(chan *Conn, 2*MaxWarm), change: make(chan struct{}, 1), done: make(chan error, 1),
	}
	n.Pool = New(Config{Self: self, Peers: peers, Accept: func(c *Conn) { n.accepted <- c }})
	n.changed = func() {
		select {
		case n.change <- struct{}{}:
		default:
		}
	}
	return n
}

// run runs the pool until stop or the test's end.
func (n *node) run() *node {
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	go func() { n.done <- n.Run(ctx) }()
	n.tb.Cleanup(n.halt)
	return n
}

// halt ends Run and waits for it. It may be called again.
func (n *node) halt() {
	n.stop()
	select {
	case err := <-n.done:
		if err != nil {
			n.tb.Errorf("Run: %v", err)
		}
		n.done <- nil
	case <-time.After(deadline):
		n.tb.Fatal("Run does not return")
	}
}

// await waits for the counters to be as they ought to.
func (n *node) await(what string, cond func(s Stats) bool) {
	n.tb.Helper()
	timeout := time.After(deadline)
	for !cond(n.Stats()) {
		select {
		case <-n.change:
		case <-timeout:
			n.tb.Fatalf("no %s: %+v", what, n.Stats())
		}
	}
}

func (n *node) awaitWarm(want int) {
	n.tb.Helper()
	n.await("warm connections", func(s Stats) bool { return s.Warm == want })
}

func (n *node) awaitListening() {
	n.tb.Helper()
	n.await("listener", func(s Stats) bool { return s.Listening })
}

// pair makes two nodes of which red keeps connections to gray.
func pair(tb testing.TB) (r, g *node) {
	leakCheck(tb)
	g = newNode(tb, gray, red).run()
	g.awaitListening()
	r = newNode(tb, red, gray)
	r.SetPeers([]netip.Addr{gray})
	r.run()
	r.awaitWarm(DefaultWarm)
	return r, g
}

// dialled takes a connection of red's and gives both of its ends; the first frame
// has been exchanged.
func dialled(tb testing.TB, r, g *node) (near, far *Conn) {
	tb.Helper()
	r.await("connection to take", func(s Stats) bool { return s.Warm > 0 })
	if near = r.Take(gray); near == nil {
		tb.Fatal("took none of those that wait")
	}
	if err := near.Send(&wire.Frame{Kind: wire.FrameOpen}); err != nil {
		tb.Fatal(err)
	}
	select {
	case far = <-g.accepted:
	case <-time.After(deadline):
		tb.Fatal("not accepted")
	}
	var f wire.Frame
	if err := far.Receive(&f); err != nil || f.Kind != wire.FrameOpen {
		tb.Fatalf("received %v, %v", f.Kind, err)
	}
	return near, far
}

// pattern is payload that tells its place.
func pattern(seq uint32, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		at := seq + uint32(i)
		b[i] = byte(at ^ at>>8 ^ at>>16)
	}
	return b
}
