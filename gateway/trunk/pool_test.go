package trunk

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/onewaylink/gw/netstack/wire"
)

func TestTakeAndRefill(t *testing.T) {
	r, g := pair(t)
	g.await("connections that wait", func(s Stats) bool { return s.Waiting == DefaultWarm })
	var taken []*Conn
	for range DefaultWarm {
		c := r.Take(gray)
		if c == nil {
			break // what was taken has not been replaced, which Take doesn't wait for
		}
		if c.Remote() != gray {
			t.Errorf("connected to %v", c.Remote())
		}
		taken = append(taken, c)
	}
	if len(taken) == 0 {
		t.Fatal("took none")
	}
	r.await("refill", func(s Stats) bool { return s.Warm >= DefaultWarm && s.InUse == len(taken) })
	for _, c := range taken {
		c.Close()
		c.Close()
	}
	r.await("end of use", func(s Stats) bool { return s.InUse == 0 })
	if s := r.Stats(); s.Failed != 0 || s.Refused != 0 || s.Lost != 0 || s.Congestion == "" {
		t.Errorf("%+v", s)
	}
}

func TestTakeUnknown(t *testing.T) {
	r, _ := pair(t)
	if c := r.Take(blue); c != nil {
		t.Errorf("a connection to %v", c.Remote())
	}
	if s := r.Stats(); s.Missed != 1 {
		t.Errorf("%+v", s)
	}
}

// After a burst more are kept, up to a bound, and fewer again when they aren't
// needed.
func TestBurst(t *testing.T) {
	r, _ := pair(t)
	k := r.keepers[gray]
	for n := range 3 * MaxWarm {
		r.await("connection to take", func(s Stats) bool { return s.Warm > 0 })
		for c := r.Take(gray); c != nil; c = r.Take(gray) {
			c.Close()
		}
		if n > 10 && k.want == MaxWarm {
			break
		}
	}
	r.awaitWarm(MaxWarm)
	for want := MaxWarm / 2; want > DefaultWarm/2; want /= 2 {
		k.sweep() // the first one sees the burst itself
		k.sweep()
		r.awaitWarm(max(k.want, DefaultWarm))
	}
	r.awaitWarm(DefaultWarm)
}

func TestSetPeers(t *testing.T) {
	r, g := pair(t)
	near, far := dialled(t, r, g)
	b := newNode(t, blue, red).run()
	r.SetPeers([]netip.Addr{blue})
	g.await("connections let go", func(s Stats) bool { return s.Waiting == 0 })
	b.await("connections", func(s Stats) bool { return s.Waiting == DefaultWarm })
	if c := r.Take(gray); c != nil {
		t.Error("took a connection to a node that is not listed")
	}
	if err := far.Send(&wire.Frame{Kind: wire.FrameAccept}); err != nil {
		t.Error(err)
	}
	var f wire.Frame
	if err := near.Receive(&f); err != nil || f.Kind != wire.FrameAccept {
		t.Errorf("one in use: %v, %v", f.Kind, err)
	}
	r.SetPeers(nil)
	b.await("connections let go", func(s Stats) bool { return s.Waiting == 0 })
	r.SetPeers([]netip.Addr{gray})
	r.awaitWarm(DefaultWarm)
}

func TestRefusesStrangers(t *testing.T) {
	leakCheck(t)
	g := newNode(t, gray, red).run()
	b := newNode(t, blue)
	b.SetPeers([]netip.Addr{gray})
	b.run()
	g.await("refusal", func(s Stats) bool { return s.Refused > 0 })
	b.await("loss", func(s Stats) bool {
		if c := b.Take(gray); c != nil {
			c.Close() // the RST was not there yet
		}
		return s.Lost > 0
	})
	if s := g.Stats(); s.Accepted != 0 || s.InUse != 0 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}

// What ends while nobody looks is noticed and replaced.
func TestLostWhileWarm(t *testing.T) {
	for name, notice := range map[string]func(r *node){
		"sweep": func(r *node) { r.keepers[gray].sweep(); r.keepers[gray].kick() },
		"take": func(r *node) {
			if c := r.Take(gray); c != nil {
				c.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, g := pair(t)
			g.await("connections that wait", func(s Stats) bool { return s.Waiting == DefaultWarm })
			g.mu.Lock()
			var all []*Conn
			for c := range g.conns {
				all = append(all, c)
			}
			g.mu.Unlock()
			for _, c := range all {
				c.Close()
			}
			r.await("loss noticed", func(s Stats) bool { notice(r); return s.Lost > 0 })
			r.await("replacement", func(s Stats) bool { return s.Warm >= DefaultWarm })
			near, _ := dialled(t, r, g)
			near.Close()
		})
	}
}

// The far node comes up late: dials fail, and succeed later.
func TestDialsAgain(t *testing.T) {
	leakCheck(t)
	r := newNode(t, red, gray)
	r.SetPeers([]netip.Addr{gray})
	r.run()
	r.await("failures", func(s Stats) bool { return s.Failed > 1 })
	newNode(t, gray, red).run()
	r.awaitWarm(DefaultWarm)
}

// The node's own address can't be listened on at first.
func TestListensAgain(t *testing.T) {
	leakCheck(t)
	l, err := net.Listen("tcp", netip.AddrPortFrom(gray, Port).String())
	if err != nil {
		t.Fatal(err)
	}
	var log lines
	g := newNode(t, gray, red)
	g.cfg.Logger = log.logger()
	g.run()
	log.await(t, "can't accept trunks")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r := newNode(t, red, gray)
	r.SetPeers([]netip.Addr{gray})
	r.run()
	r.awaitWarm(DefaultWarm)
	if n := log.count(); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
}

func TestAcceptedAreBounded(t *testing.T) {
	leakCheck(t)
	g := newNode(t, gray, red)
	g.far = maxAccepted - 2
	g.run()
	r := newNode(t, red, gray)
	r.SetPeers([]netip.Addr{gray})
	r.run()
	g.await("refusal", func(s Stats) bool { return s.Accepted >= 2 && s.Refused > 0 })
	if s := g.Stats(); s.Waiting > 2 {
		t.Errorf("%+v", s)
	}
}

// Run closes what somebody has, waits for calls of Accept, and leaves nothing.
func TestRunEnds(t *testing.T) {
	r, g := pair(t)
	near, far := dialled(t, r, g)
	got := make(chan error, 2)
	for _, c := range []*Conn{near, far} {
		go func() { got <- c.Receive(new(wire.Frame)) }()
	}
	r.halt()
	g.halt()
	for range 2 {
		if err := <-got; err == nil {
			t.Error("received a frame")
		}
	}
	for _, n := range []*node{r, g} {
		s := n.Stats()
		if s.Warm+s.Waiting+s.InUse != 0 {
			t.Errorf("%+v", s)
		}
	}
	if r.Take(gray) != nil {
		t.Error("took a connection after Run")
	}
	r.SetPeers(nil)
	near.Finish()
}

func TestAcceptReturnsBeforeRun(t *testing.T) {
	leakCheck(t)
	inside, left := make(chan struct{}), make(chan struct{})
	g := newNode(t, gray, red)
	g.cfg.Accept = func(c *Conn) {
		close(inside)
		for c.Receive(new(wire.Frame)) == nil {
		}
		close(left)
	}
	g.run()
	r := newNode(t, red, gray)
	r.SetPeers([]netip.Addr{gray})
	r.run()
	r.awaitWarm(DefaultWarm)
	if err := r.Take(gray).Send(&wire.Frame{Kind: wire.FrameOpen}); err != nil {
		t.Fatal(err)
	}
	<-inside
	g.halt()
	select {
	case <-left:
	default:
		t.Error("Run has returned before Accept")
	}
}

// A Pool that nobody runs does nothing, and says no.
func TestNotRunning(t *testing.T) {
	leakCheck(t)
	r := newNode(t, red, gray)
	r.SetPeers([]netip.Addr{gray})
	if c := r.Take(gray); c != nil {
		t.Error("took a connection")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
}

// Bound to a device that isn't the one, connections don't come about.
func TestDevice(t *testing.T) {
	leakCheck(t)
	g := newNode(t, gray, red)
	g.socket.device = "lo"
	g.run()
	r := newNode(t, red, gray)
	r.socket.device = "lo"
	r.SetPeers([]netip.Addr{gray})
	r.run()
	r.awaitWarm(DefaultWarm)

	b := newNode(t, blue)
	b.socket.device = "gw-nosuch"
	b.SetPeers([]netip.Addr{gray})
	b.run()
	b.await("failures", func(s Stats) bool { return s.Failed > 1 })
}
