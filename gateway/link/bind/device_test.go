package bind_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/curve25519"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/tun/tuntest"

	"github.com/onewaylink/gw/gateway/link/bind"
	"github.com/onewaylink/gw/tests/await"
)

// deadline is for what must happen, and does so at once on a healthy host.
const deadline = 20 * time.Second

// node is a wireguard-go device over a bind.
type node struct {
	tun    *tuntest.ChannelTUN
	device *device.Device
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

// start brings up a device and returns it with the port it listens on.
func start(t testing.TB, seed byte, b conn.Bind, port uint16) *node {
	t.Helper()
	channel := tuntest.NewChannelTUN()
	n := startOn(t, channel.TUN(), b, seed, port, device.NewLogger(device.LogLevelError, fmt.Sprintf("node %d: ", seed)))
	n.tun = channel
	return n
}

// startOn does the same on a TUN of the caller's.
func startOn(t testing.TB, tun tun.Device, b conn.Bind, seed byte, port uint16, logger *device.Logger) *node {
	t.Helper()
	n := &node{addr: netip.AddrFrom4([4]byte{10, 0, 0, seed})}
	n.key, n.public = newKey(t, seed)
	n.device = device.NewDevice(tun, b, logger)
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

func TestDevices(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		await.NoLeaks(t)
		_, redKey := newKey(t, 1)
		_, grayKey := newKey(t, 2)
		redBind := bind.New(bind.Config{
			PublicKey: redKey, Peers: []bind.Peer{{PublicKey: grayKey, MayDial: true}},
			Outbound: bind.NewGate(64), InboundLimit: 64,
		}, n.carrier())
		grayBind := bind.New(bind.Config{
			PublicKey: grayKey, Peers: []bind.Peer{{PublicKey: redKey, DialsIn: true}},
			Outbound: bind.NewGate(64), InboundLimit: 64,
		}, n.carrier())
		run(t, redBind)
		run(t, grayBind)
		red := start(t, 1, redBind, 0)
		gray := start(t, 2, grayBind, 0)
		gray.peer(t, red, "")
		red.peer(t, gray, n.at(gray.port))
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

// pair returns Binds for red, which dials, and gray, which may not.
func pair(t testing.TB, n *network, onNudge func(netip.AddrPort)) (red, gray *bind.Bind) {
	_, redKey := newKey(t, 1)
	_, grayKey := newKey(t, 2)
	red = bind.New(bind.Config{PublicKey: redKey, Peers: []bind.Peer{{PublicKey: grayKey, MayDial: true}}, OnNudge: onNudge}, n.carrier())
	gray = bind.New(bind.Config{PublicKey: grayKey, Peers: []bind.Peer{{PublicKey: redKey, DialsIn: true}}}, n.carrier())
	run(t, red)
	run(t, gray)
	return red, gray
}

// Gray has a packet for red and knows where red is; still it waits for red.
func TestOnlyTheInitiatorDials(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		redBind, grayBind := pair(t, n, nil)
		red, gray := start(t, 1, redBind, 0), start(t, 2, grayBind, 0)
		gray.peer(t, red, n.at(red.port))
		red.peer(t, gray, "")

		p := tuntest.Ping(red.addr, gray.addr)
		gray.tun.Outbound <- p
		await.True(t, "gray tries to dial", func() bool { return grayBind.Stats().Drops[bind.SendMayNotDial] > 0 })
		if n := grayBind.Stats().SentDatagrams; n != 0 {
			t.Errorf("gray has sent %d datagrams", n)
		}

		red.set(t, fmt.Sprintf("public_key=%s\nendpoint=%s\n", hex.EncodeToString(gray.public[:]), n.at(gray.port)))
		if err := red.device.LookupPeer(gray.public).SendHandshakeInitiation(false); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-red.tun.Inbound:
			if !bytes.Equal(got, p) {
				t.Error("red got another packet than gray sent")
			}
		case <-time.After(deadline):
			t.Fatal("the packet that waited for red didn't arrive")
		}
		exchange(t, red, gray)
	})
}

// Red takes no initiations, not even from a gray that breaks the rule.
func TestNobodyDialsTheInitiator(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		redBind, _ := pair(t, n, nil)
		red := start(t, 1, redBind, 0)
		gray := start(t, 2, n.stock(), 0)
		gray.peer(t, red, n.at(red.port))
		red.peer(t, gray, "")
		gray.tun.Outbound <- tuntest.Ping(red.addr, gray.addr)
		await.True(t, "red drops an initiation", func() bool { return redBind.Stats().Drops[bind.ReceiveInitiation] > 0 })
		if n := redBind.Stats().SentDatagrams; n != 0 {
			t.Errorf("red has answered with %d datagrams", n)
		}
	})
}

// A stock peer is none the wiser.
func TestStockPeer(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		redBind, _ := pair(t, n, nil)
		red := start(t, 1, redBind, 0)
		gray := start(t, 2, n.stock(), 0)
		gray.peer(t, red, "")
		red.peer(t, gray, n.at(gray.port))
		exchange(t, red, gray)
		exchange(t, gray, red)
	})
}

// wireguard-go closes and opens the Bind when the device goes down and up, and
// when its port changes.
func TestReopening(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		await.NoLeaks(t)
		redBind, grayBind := pair(t, n, nil)
		red, gray := start(t, 1, redBind, 0), start(t, 2, grayBind, 0)
		gray.peer(t, red, "")
		red.peer(t, gray, n.at(gray.port))
		// Before there are any keys, for it takes them: an initiation within 17 ms
		// of the last has the same timestamp and is rejected.
		for _, d := range []*node{red, gray} {
			if err := d.device.Down(); err != nil {
				t.Fatal(err)
			}
			if err := d.device.Up(); err != nil {
				t.Fatal(err)
			}
		}
		exchange(t, red, gray)
		red.set(t, "listen_port=0\n")
		exchange(t, red, gray)
		exchange(t, gray, red) // gray has followed
	})
}

// Gray loses its keys. Red, sending into the void, hears of it at once.
func TestNudge(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		nudges := make(chan netip.AddrPort, 1)
		redBind, grayBind := pair(t, n, func(peer netip.AddrPort) { nudges <- peer })
		red, gray := start(t, 1, redBind, 0), start(t, 2, grayBind, 0)
		gray.peer(t, red, "")
		red.peer(t, gray, n.at(gray.port))
		exchange(t, red, gray)

		gray.device.Close()
		_, grayBind = pair(t, n, nil)
		gray = start(t, 2, grayBind, gray.port)
		gray.peer(t, red, "")
		red.tun.Outbound <- tuntest.Ping(gray.addr, red.addr)
		select {
		case peer := <-nudges:
			if want := netip.MustParseAddrPort(n.at(gray.port)); peer != want {
				t.Errorf("nudged by %s, want %s", peer, want)
			}
		case <-time.After(deadline):
			t.Fatal("red got no nudge")
		}
		peer := red.device.LookupPeer(gray.public)
		peer.ExpireCurrentKeypairs()
		if err := peer.SendHandshakeInitiation(false); err != nil {
			t.Fatal(err)
		}
		exchange(t, red, gray)
		exchange(t, gray, red)
		if s := grayBind.Stats(); s.NudgesSent != 1 || s.UnknownSessions != 1 {
			t.Errorf("gray sent %d nudges for %d packets, want 1 for 1", s.NudgesSent, s.UnknownSessions)
		}
	})
}

// forging is a Bind that sends forged datagrams before each packet: copies with the session's
// index and plausible counters, but another content.
type forging struct {
	*bind.Bind
	each int
}

func (f *forging) Send(bufs [][]byte, to conn.Endpoint) error {
	for _, m := range bufs {
		if m[0] != 4 || len(m) == device.MessageKeepaliveSize {
			continue
		}
		forged := bytes.Clone(m)
		for i := range f.each {
			forged[len(forged)-1]++
			binary.LittleEndian.PutUint64(forged[8:], binary.LittleEndian.Uint64(m[8:])+uint64(i%3))
			if err := f.Bind.Send([][]byte{forged}, to); err != nil {
				return err
			}
		}
	}
	return f.Bind.Send(bufs, to)
}

// leaving is a tun.Device that tells the Intake what is delivered.
type leaving struct {
	tun.Device
	intake *bind.Intake
}

func (l *leaving) Write(bufs [][]byte, offset int) (int, error) {
	l.intake.Leave(bufs)
	return l.Device.Write(bufs, offset)
}

// TestForgedDatagramsLeaveTheIntake: wireguard-go keeps the stamps in its buffers and the
// order of datagrams up to Write, so each packet that is delivered counts out the forged
// ones before it, and no receiver ever waits.
func TestForgedDatagramsLeaveTheIntake(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		_, redKey := newKey(t, 1)
		_, grayKey := newKey(t, 2)
		const each, packets, limit = 50, 100, 128
		redBind := &forging{bind.New(bind.Config{PublicKey: redKey, Peers: []bind.Peer{{PublicKey: grayKey, MayDial: true}}}, n.carrier()), each}
		grayBind := bind.New(bind.Config{PublicKey: grayKey, Peers: []bind.Peer{{PublicKey: redKey, DialsIn: true}}, InboundLimit: limit}, n.carrier())
		red := start(t, 1, redBind, 0)
		channel := tuntest.NewChannelTUN()
		gray := startOn(t, &leaving{channel.TUN(), grayBind.Intake()}, grayBind, 2, 0, device.NewLogger(device.LogLevelError, "gray: "))
		gray.tun = channel
		gray.peer(t, red, "")
		red.peer(t, gray, n.at(gray.port))
		exchange(t, red, gray)
		for range packets {
			exchange(t, red, gray)
			if n := grayBind.Intake().Inside(); n > each {
				t.Fatalf("%d datagrams count as inside after a packet was delivered", n)
			}
		}
		if n := grayBind.Intake().Undelivered(); n < each*packets {
			t.Errorf("%d datagrams were not delivered, want %d at least", n, each*packets)
		}
		if n := grayBind.Intake().Waits(); n != 0 {
			t.Errorf("the receiver waited %d times", n)
		}
	})
}

// TestOnlyDiallersAreAnswered: gray, which has valid keys but may not dial red, gets no
// response from red, whom another peer may dial.
func TestOnlyDiallersAreAnswered(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		_, redKey := newKey(t, 1)
		_, grayKey := newKey(t, 2)
		_, siblingKey := newKey(t, 3)
		redBind := bind.New(bind.Config{PublicKey: redKey, Peers: []bind.Peer{
			{PublicKey: grayKey, MayDial: true}, {PublicKey: siblingKey, DialsIn: true}}}, n.carrier())
		red := start(t, 1, redBind, 0)
		gray := start(t, 2, n.stock(), 0)
		sibling := start(t, 3, n.stock(), 0)
		for _, d := range []*node{gray, sibling} {
			d.peer(t, red, n.at(red.port))
			red.peer(t, d, "")
		}
		gray.tun.Outbound <- tuntest.Ping(red.addr, gray.addr)
		await.True(t, "red drops a response", func() bool { return redBind.Stats().Drops[bind.SendMayNotAnswer] > 0 })
		if n := redBind.Stats().SentDatagrams; n != 0 {
			t.Errorf("red has answered with %d datagrams", n)
		}
		exchange(t, sibling, red)
	})
}

// TestBadMACIsDropped: handshake messages for another node's key go no further.
func TestBadMACIsDropped(t *testing.T) {
	overNetworks(t, nil, func(t *testing.T, n *network) {
		_, redKey := newKey(t, 1)
		_, grayKey := newKey(t, 2)
		grayBind := bind.New(bind.Config{PublicKey: redKey /* not gray's */, Peers: []bind.Peer{{PublicKey: redKey, DialsIn: true}}}, n.carrier())
		redBind := bind.New(bind.Config{PublicKey: redKey, Peers: []bind.Peer{{PublicKey: grayKey, MayDial: true}}}, n.carrier())
		red, gray := start(t, 1, redBind, 0), start(t, 2, grayBind, 0)
		gray.peer(t, red, "")
		red.peer(t, gray, n.at(gray.port))
		red.tun.Outbound <- tuntest.Ping(gray.addr, red.addr)
		await.True(t, "gray drops an initiation", func() bool { return grayBind.Stats().Drops[bind.ReceiveBadMAC] > 0 })
		if n := grayBind.Stats().SentDatagrams; n != 0 {
			t.Errorf("gray has answered with %d datagrams", n)
		}
	})
}
