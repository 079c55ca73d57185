package link

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/crypto/curve25519"

	"github.com/onewaylink/gw/gateway/link/linktest"
	"github.com/onewaylink/gw/netstack/wire"
)

// key makes a WireGuard key pair.
func key(t testing.TB) (private, public [32]byte) {
	t.Helper()
	rand.Read(private[:])
	private[0] &= 248
	private[31] = private[31]&127 | 64
	p, err := curve25519.X25519(private[:], curve25519.Basepoint)
	if err != nil {
		t.Fatal(err)
	}
	return private, [32]byte(p)
}

// testWriter logs through t until the test ends, and sends each line to lines.
type testWriter struct {
	mu    sync.Mutex
	t     testing.TB
	done  bool
	lines chan string
}

func (w *testWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		w.t.Log(strings.TrimSpace(string(b)))
	}
	select {
	case w.lines <- string(b):
	default:
	}
	return len(b), nil
}

func testLogger(t testing.TB, name string) hclog.Logger {
	log, _ := lineLogger(t, name)
	return log
}

func lineLogger(t testing.TB, name string) (hclog.Logger, <-chan string) {
	w := &testWriter{t: t, lines: make(chan string, 1000)}
	t.Cleanup(func() {
		w.mu.Lock()
		w.done = true
		w.mu.Unlock()
	})
	return hclog.New(&hclog.LoggerOptions{Name: name, Level: hclog.Debug, Output: io.Writer(w)}), w.lines
}

// node is a Link under test.
type node struct {
	*Link
	t       testing.TB
	path    *linktest.Path
	changes chan PeerState
	lines   <-chan string // of its log
	cancel  context.CancelFunc
	ended   chan error
}

// start runs a Link until stop or the test's end.
func start(t testing.TB, c Config, register ...func(*Link)) *node {
	t.Helper()
	return startWith(t, c, func(run func()) { go run() }, register...)
}

// startWith is start where begin starts the goroutine that opens the sockets.
func startWith(t testing.TB, c Config, begin func(run func()), register ...func(*Link)) *node {
	t.Helper()
	n := &node{t: t, changes: make(chan PeerState, 1000), ended: make(chan error, 1)}
	if c.Path == nil {
		n.path = linktest.NewPath(4096)
		c.Path = n.path
	}
	c.TUNMTU, c.Version = 1420, "test"
	c.Logger, n.lines = lineLogger(t, c.Self.Node)
	c.OnChange = func(s PeerState) { n.changes <- s }
	var err error
	if n.Link, err = New(c); err != nil {
		t.Fatal(err)
	}
	for _, r := range register {
		r(n.Link)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	begin(func() { n.ended <- n.Run(ctx) })
	t.Cleanup(n.stop)
	return n
}

func (n *node) stop() {
	n.cancel()
	if err := <-n.ended; err != nil {
		n.t.Errorf("run: %v", err)
	}
	n.ended <- nil
}

// await waits until a change satisfies ok.
func (n *node) await(what string, limit time.Duration, ok func(PeerState) bool) time.Duration {
	n.t.Helper()
	begin := time.Now()
	timeout := time.After(limit)
	for {
		select {
		case s := <-n.changes:
			if ok(s) {
				return time.Since(begin)
			}
		case err := <-n.ended:
			n.ended <- nil
			n.t.Fatalf("%s: the link ended: %v", what, err)
		case <-timeout:
			n.t.Fatalf("%s: not within %v: %+v %+v", what, limit, n.Snapshot(), n.Stats())
		}
	}
}

// awaitLog waits until a line with text was logged.
func (n *node) awaitLog(text string, limit time.Duration) {
	n.t.Helper()
	timeout := time.After(limit)
	for {
		select {
		case line := <-n.lines:
			if strings.Contains(line, text) {
				return
			}
		case <-timeout:
			n.t.Fatalf("%q wasn't logged within %v: %+v", text, limit, n.Snapshot())
		}
	}
}

func isUp(s PeerState) bool   { return s.Up }
func isDown(s PeerState) bool { return !s.Up }

// pair is the configuration of two nodes; red dials.
type pair struct {
	red, gray Config
	port      uint16
}

var (
	redAddr  = netip.MustParseAddr("10.77.1.1")
	grayAddr = netip.MustParseAddr("10.77.2.1")
)

func newPair(t testing.TB) *pair {
	redKey, redPublic := key(t)
	grayKey, grayPublic := key(t)
	p := &pair{port: freePort(t)}
	p.red = Config{
		PrivateKey: redKey, Self: Self{Site: "red", Node: "red-1", Addresses: []netip.Addr{redAddr}},
		Peers: []Peer{{
			PublicKey: grayPublic, Site: "gray", Node: "gray-1", Addresses: []netip.Addr{grayAddr},
			Subnets:  []netip.Prefix{netip.MustParsePrefix("10.77.2.0/24")},
			Endpoint: fmt.Sprintf("127.0.0.1:%d", p.port), Dial: true, Keepalive: 5 * time.Second,
		}},
	}
	p.gray = Config{
		PrivateKey: grayKey, ListenPort: p.port, Self: Self{Site: "gray", Node: "gray-1", Addresses: []netip.Addr{grayAddr}},
		Peers: []Peer{{
			PublicKey: redPublic, Site: "red", Node: "red-1", Addresses: []netip.Addr{redAddr},
			Subnets: []netip.Prefix{netip.MustParsePrefix("10.77.1.0/24")},
		}},
	}
	return p
}

// freePort finds an unused UDP port.
func freePort(t testing.TB) uint16 {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return uint16(c.LocalAddr().(*net.UDPAddr).Port)
}

// packet is a UDP packet between two hosts of the sites.
func packet(src, dst, payload string) []byte {
	return wire.AppendUDP(nil, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst), []byte(payload))
}

// carries sends a packet from one node's host to the other's and waits for it.
func carries(t testing.TB, from, to *node, pkt []byte) {
	t.Helper()
	from.path.In <- pkt
	timeout := time.After(5 * time.Second)
	for {
		select {
		case got := <-to.path.Out:
			if bytes.Equal(got, pkt) {
				return
			}
		case <-timeout:
			t.Fatalf("packet didn't arrive: %+v %+v", from.Stats(), to.Stats())
		}
	}
}
