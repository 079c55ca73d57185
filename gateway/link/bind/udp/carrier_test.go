package udp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"

	"github.com/onewaylink/gw/gateway/link/bind"
	"github.com/onewaylink/gw/gateway/link/bind/carriertest"
)

const testDeadline = 20 * time.Second

// datagram is one that a tap has received.
type datagram struct {
	m    []byte
	from conn.Endpoint
}

// tap is an open Carrier whose datagrams are kept.
type tap struct {
	*Carrier
	port uint16
	got  chan datagram
}

func openTap(t testing.TB, config Config) *tap {
	t.Helper()
	c := New(config)
	fns, port, err := c.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{Carrier: c, port: port, got: make(chan datagram, 4096)}
	var wg sync.WaitGroup
	for _, receive := range fns {
		wg.Go(func() { p.take(t, receive) })
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		wg.Wait()
	})
	return p
}

func (p *tap) take(t testing.TB, receive conn.ReceiveFunc) {
	bufs := make([][]byte, p.BatchSize())
	for i := range bufs {
		bufs[i] = make([]byte, 1<<16-1)
	}
	sizes := make([]int, len(bufs))
	eps := make([]conn.Endpoint, len(bufs))
	for {
		n, err := receive(bufs, sizes, eps)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("receive: %v", err)
			}
			return
		}
		for i := range n {
			if sizes[i] == 0 {
				continue // as conn.ReceiveFunc says
			}
			p.got <- datagram{bytes.Clone(bufs[i][:sizes[i]]), eps[i]}
		}
	}
}

func (p *tap) next(t testing.TB) datagram {
	t.Helper()
	select {
	case d := <-p.got:
		return d
	case <-time.After(testDeadline):
		t.Fatal("nothing received")
		panic("unreachable")
	}
}

func endpointTo(t testing.TB, ip string, port uint16) *Endpoint {
	t.Helper()
	e, err := newEndpoint(netip.AddrPortFrom(netip.MustParseAddr(ip), port), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// makeMessage makes a datagram that differs from others.
func makeMessage(size, number int) []byte {
	m := make([]byte, size)
	for i := range m {
		m[i] = byte(number + i)
	}
	return m
}

// each family that a test runs over.
var families = []struct {
	name, ip string
	socket   func(*Carrier) *socket
}{
	{"v4", "127.0.0.1", func(c *Carrier) *socket { return c.v4.Load() }},
	{"v6", "::1", func(c *Carrier) *socket { return c.v6.Load() }},
}

// Whatever is sent arrives, in order and cut as it was, with and without the
// kernel's help on either side.
func TestBatches(t *testing.T) {
	repeat := func(size, n int) (sizes []int) {
		for range n {
			sizes = append(sizes, size)
		}
		return sizes
	}
	batches := map[string][]int{
		"one":              {1452},
		"equal":            repeat(1452, 10),
		"with a tail":      append(repeat(1452, 5), 100),
		"growing":          {32, 48, 64, 1452, 1468},
		"falling":          {1468, 1452, 64, 48, 32},
		"runs":             append(append(repeat(1452, 3), repeat(80, 4)...), repeat(600, 2)...),
		"over 64 segments": repeat(100, 128),
		"over 64 KB":       repeat(1452, 128),
		"long":             repeat(9000, 16),
		"longest":          {65488, 65488, 32},
		"over the batch":   repeat(200, 300),
	}
	for _, family := range families {
		for _, segment := range []bool{true, false} {
			for _, coalesce := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/gso=%v/gro=%v", family.name, segment, coalesce), func(t *testing.T) {
					from, to := openTap(t, Config{}), openTap(t, Config{})
					if !family.socket(from.Carrier).segment.Load() {
						t.Fatal("this kernel has no UDP GSO")
					}
					family.socket(from.Carrier).segment.Store(segment)
					setCoalescing(t, family.socket(to.Carrier), coalesce)
					if !coalesce {
						to.Moderate(time.Millisecond) // so many messages have it wait
					}
					ep := endpointTo(t, family.ip, to.port)
					for name, sizes := range batches {
						var bufs [][]byte
						for i, size := range sizes {
							bufs = append(bufs, makeMessage(size, i))
						}
						if err := from.Send(bufs, ep); err != nil {
							t.Fatalf("%s: %v", name, err)
						}
						for i := range bufs {
							d := to.next(t)
							if !bytes.Equal(d.m, bufs[i]) {
								t.Fatalf("%s: datagram %d of %d: got %d bytes, want %d, or others than were sent", name, i, len(bufs), len(d.m), len(bufs[i]))
							}
							if want := fmt.Sprint(netip.AddrPortFrom(ep.DstIP(), from.port)); d.from.DstToString() != want {
								t.Fatalf("%s: from %s, want %s", name, d.from.DstToString(), want)
							}
							if d.from.SrcIP() != ep.DstIP() {
								t.Fatalf("%s: was sent to %s, says %s", name, ep.DstIP(), d.from.SrcIP())
							}
						}
					}
					sent, received := from.Stats(), to.Stats()
					if sent.SentDatagrams != received.ReceivedDatagrams || sent.SentBytes != received.ReceivedBytes {
						t.Errorf("sent %d datagrams, %d bytes; received %d, %d", sent.SentDatagrams, sent.SentBytes, received.ReceivedDatagrams, received.ReceivedBytes)
					}
					if sent.Drops != received.Drops || sent.Drops != [bind.NumReasons]uint64{} {
						t.Errorf("drops: %v, %v", sent.Drops, received.Drops)
					}
				})
			}
		}
	}
}

func setCoalescing(t testing.TB, s *socket, on bool) {
	t.Helper()
	value := 0
	if on {
		value = 1
	}
	var err error
	if errControl := s.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, value)
	}); errControl != nil || err != nil {
		t.Fatal(errControl, err)
	}
}

// A responder with several addresses answers from the one that was dialled.
func TestAnswersFromTheAddressDialled(t *testing.T) {
	red, gray := openTap(t, Config{}), openTap(t, Config{})
	for _, dialled := range []string{"127.0.0.2", "127.0.0.3"} {
		if err := red.Send([][]byte{makeMessage(64, 0)}, endpointTo(t, dialled, gray.port)); err != nil {
			t.Fatal(err)
		}
		d := gray.next(t)
		if d.from.SrcToString() != dialled {
			t.Errorf("was dialled at %s, says %s", dialled, d.from.SrcToString())
		}
		if err := gray.Send([][]byte{makeMessage(64, 0)}, d.from); err != nil {
			t.Fatal(err)
		}
		if got := red.next(t).from.DstIP().String(); got != dialled {
			t.Errorf("dialled %s, %s answers", dialled, got)
		}
	}
}

// An address that went away is no longer answered from.
func TestSourceThatWentAway(t *testing.T) {
	red, gray := openTap(t, Config{}), openTap(t, Config{})
	ep, err := newEndpoint(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), gray.port), netip.MustParseAddr("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	var bufs [][]byte
	for i := range 10 {
		bufs = append(bufs, makeMessage(1452, i))
	}
	if err := red.Send(bufs, ep); err != nil {
		t.Fatal(err)
	}
	for i := range bufs {
		if d := gray.next(t); !bytes.Equal(d.m, bufs[i]) {
			t.Errorf("datagram %d is another than was sent", i)
		}
	}
	if ep.SrcIP().IsValid() {
		t.Error("the source address is still in use")
	}
	if s := red.Stats(); s.Drops != [bind.NumReasons]uint64{} {
		t.Errorf("drops: %v", s.Drops)
	}
}

// An endpoint is allocated once for each peer, and a new one after ClearSrc:
// datagrams must not undo what wireguard-go has decided for the old one.
func TestEndpointsAreInterned(t *testing.T) {
	red, gray := openTap(t, Config{}), openTap(t, Config{})
	receive := func() *Endpoint {
		t.Helper()
		if err := red.Send([][]byte{makeMessage(64, 0)}, endpointTo(t, "127.0.0.1", gray.port)); err != nil {
			t.Fatal(err)
		}
		return gray.next(t).from.(*Endpoint)
	}
	first, second := receive(), receive()
	if first != second {
		t.Error("two endpoints for one peer")
	}
	first.ClearSrc()
	third := receive()
	if third == first || !third.SrcIP().IsValid() || first.SrcIP().IsValid() {
		t.Error("a datagram has changed an endpoint that was cleared")
	}
}

func TestEndpointCacheIsBounded(t *testing.T) {
	var c endpointCache
	for i := range 3 * maxEndpoints {
		key := endpointKey{}
		key.name.Family = unix.AF_INET6
		binary.BigEndian.PutUint32(key.name.Addr[:], uint32(i))
		c.get(&key)
	}
	if len(c.all) > maxEndpoints {
		t.Errorf("remembers %d endpoints", len(c.all))
	}
}

func TestParseEndpoint(t *testing.T) {
	carrier := New(Config{})
	for _, c := range []struct{ in, want string }{
		{"192.0.2.1:51820", "192.0.2.1:51820"},
		{"[::ffff:192.0.2.1]:51820", "192.0.2.1:51820"},
		{"[2001:db8::1]:51820", "[2001:db8::1]:51820"},
		{"[fe80::1%1]:51820", "[fe80::1%1]:51820"},
		{"[fe80::1%lo]:51820", "[fe80::1%lo]:51820"},
		{"[fe80::1%nowhere]:51820", ""},
		{"example.com:51820", ""},
		{"192.0.2.1", ""},
		{"", ""},
	} {
		e, err := carrier.ParseEndpoint(c.in)
		switch {
		case (err == nil) != (c.want != ""):
			t.Errorf("ParseEndpoint(%q): error %v", c.in, err)
		case err == nil && (e.DstToString() != c.want || e.SrcToString() != ""):
			t.Errorf("ParseEndpoint(%q) = %s from %q, want %s", c.in, e.DstToString(), e.SrcToString(), c.want)
		}
	}
}

func TestContract(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		t.Run(host, func(t *testing.T) {
			carriertest.Test(t, host, func() bind.Carrier { return New(Config{}) })
		})
	}
}

// TestPending: what waits in the kernel is pending until it has been received.
func TestPending(t *testing.T) {
	c := New(Config{})
	if c.Pending() {
		t.Error("something is pending while closed")
	}
	fns, port, err := c.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Pending() {
		t.Error("something is pending at first")
	}
	for _, m := range [][]byte{makeMessage(64, 0), makeMessage(65, 0)} {
		if err := c.Send([][]byte{m}, endpointTo(t, "127.0.0.1", port)); err != nil {
			t.Fatal(err)
		}
	}
	if !c.Pending() { // loopback has delivered when Send returns
		t.Error("nothing is pending")
	}
	bufs, sizes, eps := oneBuffer()
	for range 2 {
		if n, err := fns[0](bufs, sizes, eps); n != 1 || err != nil {
			t.Fatalf("receive = %d, %v", n, err)
		}
	}
	if c.Pending() {
		t.Error("still pending")
	}
}

func TestDataPathAllocatesNothing(t *testing.T) {
	from, to := New(Config{}), New(Config{})
	if _, _, err := from.Open(0); err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	fns, port, err := to.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	ep := endpointTo(t, "127.0.0.1", port)
	var bufs, into [][]byte
	for i := range 32 {
		bufs = append(bufs, makeMessage(1452, i))
	}
	for range maxBatchSize {
		into = append(into, make([]byte, 2048))
	}
	sizes, eps := make([]int, len(into)), make([]conn.Endpoint, len(into))
	var failed atomic.Bool
	allocs := testing.AllocsPerRun(100, func() {
		if err := from.Send(bufs, ep); err != nil {
			failed.Store(true)
		}
		for got := 0; got < len(bufs); {
			n, err := fns[0](into, sizes, eps)
			if err != nil {
				failed.Store(true)
				return
			}
			got += n
		}
	})
	if failed.Load() {
		t.Fatal("couldn't send or receive")
	}
	if allocs >= 1 && !raceEnabled { // the race detector empties sync.Pools
		t.Errorf("%v allocations for 32 datagrams", allocs)
	}
}
