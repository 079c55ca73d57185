package netstack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/netstack/stacktest"
)

var (
	red4, gray4 = netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("10.77.2.1")
	red6, gray6 = netip.MustParseAddr("fd77:1::1"), netip.MustParseAddr("fd77:2::1")
)

// cable carries packets to another host and loses some.
type cable struct {
	to      atomic.Pointer[Host]
	loss    float64
	rng     *rand.Rand
	largest atomic.Int64
	lost    atomic.Int64
}

func (w *cable) SendPacket(pkt []byte) {
	w.largest.Store(max(w.largest.Load(), int64(len(pkt))))
	if w.rng.Float64() < w.loss {
		w.lost.Add(1)
		return
	}
	if to := w.to.Load(); to != nil {
		to.Inject(pkt)
	}
	clear(pkt) // the host doesn't keep it
}

// connect returns two hosts wired together and running, and what stops them.
func connect(t testing.TB, loss float64) (red, gray *Host, wires [2]*cable, stop func()) {
	t.Helper()
	var hosts [2]*Host
	for i, addrs := range [][]netip.Addr{{red4, red6}, {gray4, gray6}} {
		wires[i] = &cable{loss: loss, rng: rand.New(rand.NewPCG(uint64(i), 4))}
		h, err := New(Config{Addresses: addrs, MTU: 1400, Output: wires[i], Logger: hclog.NewNullLogger()})
		if err != nil {
			t.Fatal(err)
		}
		hosts[i] = h
	}
	wires[0].to.Store(hosts[1])
	wires[1].to.Store(hosts[0])
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, h := range hosts {
		wg.Go(func() {
			if err := h.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		for _, h := range hosts {
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Cleanup(stop)
	return hosts[0], hosts[1], wires, stop
}

// exchange sends size bytes each way at once over one connection.
func exchange(t *testing.T, from, to *Host, addr netip.Addr, size int) {
	l, err := to.Listen(9771)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	carry := func(c net.Conn, mine, theirs uint64) {
		defer c.Close()
		deadline, _ := ctx.Deadline()
		c.SetDeadline(deadline)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Write(stacktest.Noise(mine, size)); err != nil {
				t.Errorf("write: %v", err)
			}
		})
		got := make([]byte, size)
		if _, err := io.ReadFull(c, got); err != nil {
			t.Errorf("read: %v", err)
		} else if sha256.Sum256(got) != sha256.Sum256(stacktest.Noise(theirs, size)) {
			t.Error("something else arrived")
		}
		wg.Wait()
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		if ap := netip.MustParseAddrPort(c.RemoteAddr().String()); ap.Addr().Unmap() != from.cfg.Addresses[0] &&
			ap.Addr() != from.cfg.Addresses[1] {
			t.Errorf("came from %s", ap)
		}
		carry(c, 1, 2)
	})
	c, err := from.Dial(ctx, netip.AddrPortFrom(addr, 9771))
	if err != nil {
		t.Error(err)
		l.Close()
	} else {
		carry(c, 2, 1)
	}
	wg.Wait()
}

func TestTransferBothWays(t *testing.T) {
	for name, c := range map[string]struct {
		addr netip.Addr
		loss float64
		size int
	}{
		"v4":       {gray4, 0, 1 << 20},
		"v6":       {gray6, 0, 1 << 20},
		"v4 lossy": {gray4, 0.01, 10 << 20},
		"v6 lossy": {gray6, 0.03, 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			red, gray, wires, stop := connect(t, c.loss)
			exchange(t, red, gray, c.addr, c.size)
			stop()
			stacktest.CheckLeaks(t)
			for _, w := range wires {
				if n := w.largest.Load(); n > 1400 {
					t.Errorf("a packet of %d bytes", n)
				}
			}
			t.Logf("lost %d and %d packets on the wire; red %+v, gray %+v", wires[0].lost.Load(), wires[1].lost.Load(), red.Stats(), gray.Stats())
		})
	}
}

func TestMemoryComesBack(t *testing.T) {
	red, gray, _, stop := connect(t, 0)
	exchange(t, red, gray, gray4, 1<<20) // fills the pools
	before := stacktest.Heap()
	for range 5 {
		exchange(t, red, gray, gray4, 1<<20)
	}
	after := stacktest.Heap()
	t.Logf("heap of both hosts: %d KiB, then %d KiB", before>>10, after>>10)
	if after > before+1<<20 {
		t.Errorf("heap grew from %d to %d bytes", before, after)
	}
	stop()
}

// No router solicitation, address detection or group report may go to a peer.
func TestSaysNothingUnasked(t *testing.T) {
	red, gray, _, stop := connect(t, 0)
	stop()
	if a, b := red.Stats(), gray.Stats(); a.Sent+b.Sent > 0 || red.link.NumQueued()+gray.link.NumQueued() > 0 {
		t.Errorf("sent without a connection: %+v, %+v", a, b)
	}
}

func TestCloseEndsWhatWaits(t *testing.T) {
	red, gray, _, _ := connect(t, 0)
	l, err := gray.Listen(9771)
	if err != nil {
		t.Fatal(err)
	}
	c, err := red.Dial(t.Context(), netip.AddrPortFrom(gray4, 9771))
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()

	reading, accepting := make(chan error), make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		reading <- err
	}()
	go func() {
		_, err := l.Accept()
		accepting <- err
	}()
	c.Close()
	if err := <-reading; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	l.Close()
	if err := <-accepting; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the far end reads %d, %v", n, err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write: %v", err)
	}
	if _, err := gray.Listen(9771); err != nil {
		t.Errorf("listening again: %v", err)
	}
}

func TestHostCloseEndsConnections(t *testing.T) {
	red, gray, _, stop := connect(t, 0)
	l, err := gray.Listen(9771)
	if err != nil {
		t.Fatal(err)
	}
	c, err := red.Dial(t.Context(), netip.AddrPortFrom(gray6, 9771))
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 3)
	go func() {
		_, err := l.Accept()
		errs <- err
	}()
	for _, c := range []net.Conn{c, far} {
		go func() {
			_, err := c.Read(make([]byte, 1))
			errs <- err
		}()
	}
	stop()
	for range cap(errs) {
		if err := <-errs; err == nil {
			t.Error("a read or accept went on")
		}
	}
	stacktest.CheckLeaks(t)
}

// A peer that asks for much, takes nothing and comes again must not pile up what
// was queued for it.
func TestLingerZeroKeepsNothing(t *testing.T) {
	red, gray, _, _ := connect(t, 0)
	l, err := gray.Listen(9771)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before := stacktest.Heap()
	for range 30 {
		c, err := red.Dial(t.Context(), netip.AddrPortFrom(gray6, 9771))
		if err != nil {
			t.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		written := make(chan error)
		go func() {
			_, err := far.Write(make([]byte, 8<<20))
			written <- err
		}()
		if _, err := io.ReadFull(c, make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
		if err := far.(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		far.Close()
		if err := <-written; !errors.Is(err, net.ErrClosed) {
			t.Errorf("write: %v", err)
		}
		for err = nil; err == nil; {
			_, err = c.Read(make([]byte, 64<<10))
		}
		if err == io.EOF {
			t.Error("the end looks like a good one")
		}
		c.Close()
	}
	if after := stacktest.Heap(); after > before+2<<20 {
		t.Errorf("heap grew from %d to %d bytes", before, after)
	}
}

func TestDialFails(t *testing.T) {
	red, _, wires, _ := connect(t, 0)
	if _, err := red.Dial(t.Context(), netip.AddrPortFrom(gray4, 9771)); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody listens: %v", err)
	}
	wires[0].to.Store(nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := red.Dial(ctx, netip.AddrPortFrom(gray4, 9771)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody hears: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"no address":   {MTU: 1400},
		"zero address": {MTU: 1400, Addresses: []netip.Addr{{}}},
		"unspecified":  {MTU: 1400, Addresses: []netip.Addr{netip.IPv4Unspecified()}},
		"multicast":    {MTU: 1400, Addresses: []netip.Addr{netip.IPv6LinkLocalAllNodes()}},
		"small mtu":    {MTU: 500, Addresses: []netip.Addr{red4}},
		"small for v6": {MTU: 1279, Addresses: []netip.Addr{red4, red6}},
		"twice":        {MTU: 1400, Addresses: []netip.Addr{red4, red4}},
		"v4 mapped":    {MTU: 1400, Addresses: []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")}},
		"no mtu":       {MTU: 0, Addresses: []netip.Addr{red6}},
	} {
		c.Logger, c.Output = hclog.NewNullLogger(), &cable{}
		if h, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
			h.Close()
		}
	}
	stacktest.CheckLeaks(t)
}

func TestInjectDropsWhenFull(t *testing.T) {
	h, err := New(Config{Addresses: []netip.Addr{red4}, MTU: 1400, Output: &cable{}, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	h.Inject(nil)
	h.Inject([]byte("hello"))
	for i := range inQueue + 10 { // nobody runs it
		b := bytes.Repeat([]byte{0x45}, 40)
		b[15] = byte(i % 8) // of 8 nodes
		h.Inject(b)
	}
	if st := h.Stats(); st.Received != inQueue+12 || st.Dropped != 12 {
		t.Errorf("%+v", st)
	}
	h.Close()
	h.Inject(bytes.Repeat([]byte{0x45}, 40))
	if st := h.Stats(); st.Dropped != 13 {
		t.Errorf("after close: %+v", st)
	}
	stacktest.CheckLeaks(t)
}
