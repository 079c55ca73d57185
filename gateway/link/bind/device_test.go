package bind_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/curve25519"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"

	"github.com/onewaylink/gw/gateway/link/bind"
)

// deadline is for what must happen, and does so at once on a healthy host.
const deadline = 20 * time.Second

// node is a wireguard-go device over a bind.
type node struct {
	tun    *tuntest.ChannelTUN
	device *device.Device
	bind   conn.Bind
	addr   netip.Addr
	port   uint16
	key    [32]byte
	public [32]byte
}

func newKey(t testing.TB, seed byte) (private, public [32]byte) {
	t.Helper()
	for i := range private {
		private[i] = seed + byte(i)
	}
	private[0] &= 248
	private[31] = private[31]&127 | 64
	p, err := curve25519.X25519(private[:], curve25519.Basepoint)
	if err != nil {
		t.Fatal(err)
	}
	return private, [32]byte(p)
}

// start brings up a device and returns it with the port it listens on. The
// device brings itself up on the TUN's event; waiting for it makes the port known.
func start(t testing.TB, seed byte, b conn.Bind, port uint16) *node {
	t.Helper()
	n := &node{tun: tuntest.NewChannelTUN(), bind: b, addr: netip.AddrFrom4([4]byte{10, 0, 0, seed})}
	n.key, n.public = newKey(t, seed)
	n.device = device.NewDevice(n.tun.TUN(), b, device.NewLogger(device.LogLevelError, fmt.Sprintf("node %d: ", seed)))
	t.Cleanup(n.device.Close)
	n.set(t, fmt.Sprintf("private_key=%s\nlisten_port=%d\n", hex.EncodeToString(n.key[:]), port))
	if err := n.device.Up(); err != nil {
		t.Fatal(err)
	}
	state, err := n.device.IpcGet()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(state) {
		if _, err := fmt.Sscanf(line, "listen_port=%d", &n.port); err == nil {
			break
		}
	}
	return n
}

func (n *node) set(t testing.TB, config string) {
	t.Helper()
	if err := n.device.IpcSet(config); err != nil {
		t.Fatal(err)
	}
}

// peer adds another node as a peer; endpoint may be empty.
func (n *node) peer(t testing.TB, other *node, endpoint string) {
	t.Helper()
	config := fmt.Sprintf("public_key=%s\nreplace_allowed_ips=true\nallowed_ip=%s/32\n", hex.EncodeToString(other.public[:]), other.addr)
	if endpoint != "" {
		config += "endpoint=" + endpoint + "\n"
	}
	n.set(t, config)
}

// exchange sends a packet from one node and waits for it at the other.
func exchange(t testing.TB, from, to *node) {
	t.Helper()
	p := tuntest.Ping(to.addr, from.addr)
	timeout := time.After(deadline)
	select {
	case from.tun.Outbound <- p:
	case <-timeout:
		t.Fatalf("%s took no packet", from.addr)
	}
	select {
	case got := <-to.tun.Inbound:
		if !bytes.Equal(got, p) {
			t.Fatalf("%s got another packet than %s sent", to.addr, from.addr)
		}
	case <-timeout:
		t.Fatalf("a packet from %s to %s didn't arrive", from.addr, to.addr)
	}
}

func run(t testing.TB, b *bind.Bind) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

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

func TestDevices(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "[::1]"} {
		t.Run(ip, func(t *testing.T) {
			leakCheck(t)
			_, redKey := newKey(t, 1)
			_, grayKey := newKey(t, 2)
			redBind := bind.New(bind.Config{
				Peers:    []bind.Peer{{PublicKey: grayKey, MayDial: true}},
				Outbound: bind.NewGate(64), Inbound: bind.NewGate(64),
			})
			grayBind := bind.New(bind.Config{
				Peers:             []bind.Peer{{PublicKey: redKey}},
				AcceptInitiations: true,
				Outbound:          bind.NewGate(64), Inbound: bind.NewGate(64),
			})
			run(t, redBind)
			run(t, grayBind)
			red := start(t, 1, redBind, 0)
			gray := start(t, 2, grayBind, 0)
			gray.peer(t, red, "")
			red.peer(t, gray, fmt.Sprintf("%s:%d", ip, gray.port))
			for range 100 {
				exchange(t, red, gray)
				exchange(t, gray, red)
			}
			for _, b := range []*bind.Bind{redBind, grayBind} {
				s := b.Stats()
				if s.Drops != [bind.NumReasons]uint64{} {
					t.Errorf("drops: %v", s.Drops)
				}
				if s.SentDatagrams < 100 || s.ReceivedDatagrams < 100 {
					t.Errorf("sent %d, received %d datagrams, want at least 100 each", s.SentDatagrams, s.ReceivedDatagrams)
				}
			}
		})
	}
}
