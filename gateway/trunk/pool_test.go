package trunk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/tests/await"
)

var (
	red  = netip.MustParseAddr("10.77.1.1")
	gray = netip.MustParseAddr("10.77.2.1")
	blue = netip.MustParseAddr("10.77.3.1")
)

// node is a Pool whose accepted connections are given to the test.
type node struct {
	*Pool
	tb       testing.TB
	kick     chan struct{} // holds a token when the test must pull
	cut      atomic.Bool   // what it sends is lost,
	loss     float64       // or this part of it
	accepted chan *Conn
	change   chan struct{}
	stop     context.CancelFunc
	done     chan error // what Run has returned
}

func newNode(tb testing.TB, self netip.Addr, peers ...netip.Addr) *node {
	n := &node{
		tb: tb, kick: make(chan struct{}, 1), accepted: make(chan *Conn, 100), change: make(chan struct{}, 1), done: make(chan error, 1),
	}
	n.Pool = New(Config{Self: self, Wake: func() { signal(n.kick) }, Accept: func(c *Conn) { c.Admit(); n.accepted <- c }})
	n.changed = func() { signal(n.change) }
	n.SetPeers(peers)
	return n
}

// run runs the pool until halt or the test's end.
func (n *node) run() *node {
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	go func() { n.done <- n.Run(ctx) }()
	await.True(n.tb, "Run has begun", func() bool { return n.spawn(func() {}) })
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

func (n *node) awaitEnd() {
	n.tb.Helper()
	n.await("end of use", func(s Stats) bool { return s.InUse == 0 })
}

// accept waits for a connection.
func (n *node) accept() *Conn {
	n.tb.Helper()
	select {
	case c := <-n.accepted:
		return c
	case <-time.After(deadline):
		n.tb.Fatal("not accepted")
		return nil
	}
}

// send carries what n sends to another node, until the test's end.
func (n *node) send(to *node) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		bufs, sizes := make([][]byte, 32), make([]int, 32)
		for i := range bufs {
			bufs[i] = make([]byte, 2048)
		}
		for {
			select {
			case <-n.kick:
			case <-end:
				return
			}
			const offset = 16
			for m := -1; m != 0; {
				m = n.Pull(bufs, sizes, offset)
				for i := range m {
					var p wire.Packet
					if r := wire.Parse(&p, bufs[i][offset:offset+sizes[i]]); r != wire.OK || p.Proto != wire.ProtoTrunk {
						n.tb.Errorf("a packet of %d bytes: %v", sizes[i], r)
					}
					if !n.cut.Load() && rand.Float64() >= n.loss {
						to.Deliver(n.cfg.Self, p.B[p.L4:])
					}
				}
				to.Flush()
			}
			signal(n.change)
			signal(to.change)
		}
	})
	n.tb.Cleanup(func() { close(end); wg.Wait() })
}

// pair is two nodes that reach each other.
func pair(tb testing.TB) (r, g *node) {
	await.NoLeaks(tb)
	r, g = newNode(tb, red, gray), newNode(tb, gray, red)
	join(r, g)
	return r, g
}

// join has two nodes reach each other, and runs them.
func join(a, b *node) [2]*node {
	a.send(b)
	b.send(a)
	return [2]*node{a.run(), b.run()}
}

// begun takes a connection of red's and gives both of its ends; the first frame has been
// exchanged, and acknowledged.
func begun(tb testing.TB, r, g *node) (near, far *Conn) {
	tb.Helper()
	if near = r.Take(gray); near == nil {
		tb.Fatal("no connection")
	}
	if err := near.Send(&wire.Frame{Kind: wire.FrameOpen}); err != nil {
		tb.Fatal(err)
	}
	far = g.accept()
	var f wire.Frame
	if err := far.Receive(&f); err != nil || f.Kind != wire.FrameOpen {
		tb.Fatalf("received %v, %v", f.Kind, err)
	}
	// Without a round trip, what is lost is missed late.
	r.await("round trip", func(s Stats) bool { return s.Ways[gray].RTT > 0 })
	return near, far
}

func TestTakeAndAccept(t *testing.T) {
	r, g := pair(t)
	near, far := begun(t, r, g)
	if near.Remote() != gray || far.Remote() != red {
		t.Errorf("connections to %v and %v", near.Remote(), far.Remote())
	}
	if err := far.Send(&wire.Frame{Kind: wire.FrameAccept}); err != nil {
		t.Fatal(err)
	}
	var f wire.Frame
	if err := near.Receive(&f); err != nil || f.Kind != wire.FrameAccept {
		t.Errorf("received %v, %v", f.Kind, err)
	}
	if s := r.Stats(); s.InUse != 1 || s.Opened != 1 || s.Accepted != 0 {
		t.Errorf("%+v where it was begun", s)
	}
	if s := g.Stats(); s.InUse != 1 || s.Opened != 0 || s.Accepted != 1 {
		t.Errorf("%+v where it was accepted", s)
	}
	near.Finish()
	if err := far.Receive(&f); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	far.Finish()
	for _, n := range []*node{r, g} {
		n.awaitEnd()
		if s := n.Stats(); s.Refused+s.Restarted+s.Strange != 0 || len(s.Ways) != 1 {
			t.Errorf("%+v", s)
		}
	}
}

// Many connections, begun by both nodes, carry frames in both directions at once.
func TestManyAtOnce(t *testing.T) {
	for name, loss := range map[string]float64{"good": 0, "losses": 0.03} {
		t.Run(name, func(t *testing.T) {
			await.NoLeaks(t)
			r, g := newNode(t, red, gray), newNode(t, gray, red)
			r.loss, g.loss = loss, loss
			nodes := join(r, g)
			var wg sync.WaitGroup
			var all []*Conn
			for i := range 16 {
				a, b := nodes[i%2], nodes[1-i%2]
				near := a.Take(b.cfg.Self)
				random := rand.New(rand.NewPCG(30, uint64(i)))
				there, back := script(random, 1<<(10+i%8)), script(random, 1<<(17-i%8))
				saying(t, &wg, near, there)
				far := b.accept()
				saying(t, &wg, far, back)
				hearing(t, &wg, far, there)
				hearing(t, &wg, near, back)
				all = append(all, near, far)
			}
			wg.Wait()
			for _, c := range all {
				c.Finish()
			}
			r.awaitEnd()
			g.awaitEnd()
		})
	}
}

func saying(t *testing.T, wg *sync.WaitGroup, c *Conn, list []wire.Frame) {
	wg.Go(func() {
		for i := range list {
			if err := c.Send(&list[i]); err != nil {
				t.Error(err)
			}
		}
	})
}

func hearing(t *testing.T, wg *sync.WaitGroup, c *Conn, list []wire.Frame) {
	wg.Go(func() {
		h := hearer{want: list}
		var f wire.Frame
		for len(h.want) > 0 {
			err := c.Receive(&f)
			if err == nil {
				err = h.take(&f)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
}

// Frames that several goroutines send arrive whole, and in the order of each.
func TestSendIsShared(t *testing.T) {
	r, g := pair(t)
	near, far := begun(t, r, g)
	const senders, each = 4, 50
	var wg sync.WaitGroup
	for i := range uint32(senders) {
		wg.Go(func() {
			for n := range uint32(each) {
				// The end of the last part says where the frame ends.
				f := wire.Frame{Kind: wire.FrameData, Fin: true, Ack: i, Edge: n, Payload: bytes.Repeat([]byte{byte(i)}, int(1+n*311))}
				if err := near.Send(&f); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var next [senders]uint32
	for range senders * each {
		var f wire.Frame
		for size := uint32(0); !f.Fin; size += uint32(len(f.Payload)) {
			if err := far.Receive(&f); err != nil {
				t.Fatal(err)
			}
			inOne(&f)
			if f.Edge != next[f.Ack] || len(bytes.Trim(f.Payload, string(rune(f.Ack)))) > 0 {
				t.Fatalf("frame %d of sender %d, want %d, or others' bytes", f.Edge, f.Ack, next[f.Ack])
			}
			if all := size + uint32(len(f.Payload)); f.Fin && all != 1+f.Edge*311 {
				t.Fatalf("frame %d of sender %d has %d bytes", f.Edge, f.Ack, all)
			}
		}
		next[f.Ack]++
	}
	wg.Wait()
	near.Finish()
	far.Finish()
	g.awaitEnd()
}

// fillUp sends in a goroutine until Send waits for room.
func fillUp(t *testing.T, n *node, c *Conn) (done chan error) {
	t.Helper()
	n.cut.Store(true)
	done = make(chan error, 1)
	go func() {
		f := wire.Frame{Kind: wire.FrameData, Payload: noise[:100000]}
		for {
			if err := c.Send(&f); err != nil {
				done <- err
				return
			}
		}
	}()
	await.True(t, "Send waits for room", func() bool { return c.Path().Unsent >= Backlog })
	return done
}

// returns waits for what ought to return an error.
func returns(t *testing.T, what string, ch <-chan error, want error) {
	t.Helper()
	select {
	case err := <-ch:
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	case <-time.After(deadline):
		t.Fatalf("%s does not return", what)
	}
}

func receiving(c *Conn) chan error {
	got := make(chan error, 1)
	go func() {
		var f wire.Frame
		for {
			if err := c.Receive(&f); err != nil {
				got <- err
				return
			}
		}
	}()
	return got
}

// Send and Receive return when the connection ends.
func TestEndWakes(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(r *node, near *Conn)
		want error // at the other end
	}{
		"Close":    {func(_ *node, c *Conn) { c.Close() }, errReset},
		"Finish":   {func(_ *node, c *Conn) { c.Finish() }, io.EOF},
		"SetPeers": {func(r *node, _ *Conn) { r.SetPeers(nil) }, nil},
		"Run":      {func(r *node, _ *Conn) { r.halt() }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, g := pair(t)
			near, far := begun(t, r, g)
			here, there := receiving(near), receiving(far)
			sending := fillUp(t, r, near)
			second := make(chan error, 1)
			go func() { second <- near.Send(&wire.Frame{Kind: wire.FrameData}) }()
			c.end(r, near)
			returns(t, "Send", sending, net.ErrClosed)
			returns(t, "another Send", second, net.ErrClosed)
			returns(t, "Receive", here, net.ErrClosed)
			r.cut.Store(false)
			if c.want != nil {
				returns(t, "the other end's Receive", there, c.want)
			}
			far.Close()
			if c.want == nil {
				returns(t, "Receive after Close", there, net.ErrClosed)
			}
			r.awaitEnd()
		})
	}
}

// A node that is no peer any more has no connections, and is told so by the first packet
// when it is one again.
func TestSetPeers(t *testing.T) {
	r, g := pair(t)
	near, far := begun(t, r, g)
	r.SetPeers([]netip.Addr{gray, blue})
	if err := near.Send(&wire.Frame{Kind: wire.FrameData}); err != nil {
		t.Errorf("another peer more: %v", err)
	}
	if err := far.Receive(new(wire.Frame)); err != nil {
		t.Errorf("another peer more: %v", err)
	}
	r.SetPeers([]netip.Addr{blue})
	if err := near.Receive(new(wire.Frame)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("received %v from a node that is no peer", err)
	}
	if c := r.Take(gray); c != nil {
		t.Error("took a connection to a node that is no peer")
	}
	if s := r.Stats(); s.InUse != 0 || len(s.Ways) != 1 {
		t.Errorf("%+v", s)
	}
	near.Close()
	near.Finish()
	r.SetPeers([]netip.Addr{gray, gray})
	if n := len(r.Stats().Ways); n != 1 {
		t.Errorf("%d ways to one peer", n)
	}
	near, again := begun(t, r, g)
	if err := far.Receive(new(wire.Frame)); !errors.Is(err, errAnew) {
		t.Errorf("the former connection: %v", err)
	}
	far.Close()
	near.Finish()
	again.Finish()
	r.awaitEnd()
	g.awaitEnd()
	if s := g.Stats(); s.Restarted != 1 {
		t.Errorf("%+v", s)
	}
}

func TestStrangers(t *testing.T) {
	r, g := pair(t)
	near, far := begun(t, r, g)
	g.Deliver(blue, make([]byte, 100))
	for _, b := range [][]byte{nil, make([]byte, headSize-1)} {
		g.Deliver(red, b)
	}
	g.Flush()
	if s := g.Stats(); s.Strange != 3 {
		t.Errorf("%+v", s)
	}
	if g.Take(blue) != nil {
		t.Error("took a connection to a stranger")
	}
	if err := near.Send(&wire.Frame{Kind: wire.FrameData}); err != nil {
		t.Error(err)
	}
	if err := far.Receive(new(wire.Frame)); err != nil {
		t.Error(err)
	}
	near.Close()
	g.awaitEnd()
}

// Run closes what somebody has, and leaves nothing.
func TestRunEnds(t *testing.T) {
	r, g := pair(t)
	near, far := begun(t, r, g)
	here, there := receiving(near), receiving(far)
	r.halt()
	g.halt()
	returns(t, "Receive", here, net.ErrClosed)
	returns(t, "Receive", there, net.ErrClosed)
	for _, n := range []*node{r, g} {
		if s := n.Stats(); s.InUse != 0 || len(s.Ways) != 0 {
			t.Errorf("%+v", s)
		}
	}
	if r.Take(gray) != nil {
		t.Error("took a connection after Run")
	}
	near.Finish()
	far.Close()
}

// Run returns after all calls of Accept have, which it ends.
func TestAcceptReturnsBeforeRun(t *testing.T) {
	await.NoLeaks(t)
	const calls = 5
	inside := make(chan struct{}, calls)
	var left atomic.Int32
	r, g := newNode(t, red, gray), newNode(t, gray, red)
	g.cfg.Accept = func(c *Conn) {
		defer c.Close()
		inside <- struct{}{}
		for c.Receive(new(wire.Frame)) == nil {
		}
		left.Add(1)
	}
	join(r, g)
	for range calls {
		if err := r.Take(gray).Send(&wire.Frame{Kind: wire.FrameOpen}); err != nil {
			t.Fatal(err)
		}
		<-inside
	}
	g.halt()
	if n := left.Load(); n != calls {
		t.Errorf("%d of %d calls have returned before Run", n, calls)
	}
}

// A Pool that nobody runs takes no connections, and says so.
func TestNotRunning(t *testing.T) {
	await.NoLeaks(t)
	r, g := newNode(t, red, gray), newNode(t, gray, red)
	r.send(g)
	g.send(r)
	r.run()
	wantRefused(t, r, g)
}

// wantRefused fails the test unless g takes no connection that r begins, and says so.
func wantRefused(t *testing.T, r, g *node) {
	t.Helper()
	c := r.Take(g.cfg.Self)
	if err := c.Send(&wire.Frame{Kind: wire.FrameOpen}); err != nil {
		t.Error(err)
	}
	returns(t, "Receive", receiving(c), errReset)
	c.Close()
	g.awaitEnd()
}

// Who uses a Pool in whichever way, from as many goroutines, finds it whole.
func TestConcurrentUse(t *testing.T) {
	r, g := pair(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 20 {
				c := r.Take(gray)
				if c == nil {
					continue
				}
				_ = c.Send(&wire.Frame{Kind: wire.FrameData, Payload: noise[:1000*n]}) // it may have ended
				c.Path()
				if (n+i)%2 == 0 {
					c.Finish()
				}
				c.Close()
			}
		})
	}
	wg.Go(func() {
		for n := range 20 {
			r.SetPeers([]netip.Addr{gray, blue}[:1+n%2])
			r.SetWay(gray, 1000+n, time.Millisecond)
			r.Stats()
			if n%10 == 9 {
				r.SetPeers(nil)
				r.SetPeers([]netip.Addr{gray})
			}
		}
	})
	end := make(chan struct{})
	var ender sync.WaitGroup
	ender.Go(func() {
		for {
			select {
			case c := <-g.accepted:
				c.Close()
			case <-end:
				return
			}
		}
	})
	wg.Wait()
	r.awaitEnd()
	wantRefused(t, r, g)
	close(end)
	ender.Wait()
}

// A configured node may begin before this one has found out that it carries its site; any
// other one may not.
func TestPeersMayBegin(t *testing.T) {
	await.NoLeaks(t)
	r, g := newNode(t, red, gray), newNode(t, gray)
	g.cfg.Peers = []netip.Addr{red}
	join(r, g)
	near, far := begun(t, r, g)
	g.Deliver(blue, make([]byte, longSize))
	if s := g.Stats(); s.Strange != 1 || len(s.Ways) != 1 {
		t.Errorf("%+v", s)
	}
	near.Close()
	far.Close()
}
