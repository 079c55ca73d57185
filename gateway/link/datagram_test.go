package link

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/tests/await"
)

type gram struct {
	node    string
	port    uint16
	payload string
}

// threeNodes starts red with two gray nodes, of which gray-1 carries the subnet
// in red's configuration.
func threeNodes(t *testing.T) (red, gray1, gray2 *node, grams chan gram) {
	t.Helper()
	p := newPair(t)
	key2, public2 := key(t)
	gray := p.gray
	gray.PrivateKey, gray.ListenPort = key2, freePort(t)
	gray.Self = Self{Site: "gray", Node: "gray-2", Addresses: []netip.Addr{netip.MustParseAddr("10.77.2.2")}}
	peer := p.red.Peers[0]
	peer.PublicKey, peer.Node, peer.Addresses, peer.Subnets = public2, "gray-2", gray.Self.Addresses, nil
	peer.Endpoint = fmt.Sprintf("127.0.0.1:%d", gray.ListenPort)
	p.red.Peers = append(p.red.Peers, peer)

	grams = make(chan gram, 16)
	gray1, gray2 = start(t, p.gray), start(t, gray, func(l *Link) {
		for _, port := range []uint16{wire.HAPort, wire.StrayPort} {
			l.Handle(port, func(node string, port uint16, payload []byte) { grams <- gram{node, port, string(payload)} })
		}
	})
	red = start(t, p.red)
	up := map[string]bool{}
	red.await("both up", 5*time.Second, func(s PeerState) bool {
		up[s.Node] = s.Up
		return up["gray-1"] && up["gray-2"]
	})
	return red, gray1, gray2, grams
}

// TestMoveSubnets: what red sends goes to the carrier, and what the former
// carrier sends with the site's addresses is no longer accepted.
func TestMoveSubnets(t *testing.T) {
	await.NoLeaks(t)
	red, gray1, gray2, _ := threeNodes(t)
	out := packet("10.77.1.10:1000", "10.77.2.10:2000", "out")
	back := packet("10.77.2.10:2000", "10.77.1.10:1000", "back")
	carries(t, red, gray1, out)
	carries(t, gray1, red, back)

	subnets := []netip.Prefix{netip.MustParsePrefix("10.77.2.0/24")}
	for range 2 { // the second changes nothing
		if err := red.MoveSubnets("gray-2", subnets); err != nil {
			t.Fatal(err)
		}
		carries(t, red, gray2, out)
		carries(t, gray2, red, back)
	}
	// The deposed node's packet travels before one with its own address, which
	// is still accepted.
	gray1.path.In <- packet("10.77.2.10:2000", "10.77.1.10:1000", "stale")
	own := packet("10.77.2.1:2000", "10.77.1.10:1000", "own")
	gray1.path.In <- own
	for got := range red.path.Out {
		if bytes.Contains(got, []byte("stale")) {
			t.Fatal("red took a packet from the deposed carrier")
		}
		if bytes.Equal(got, own) {
			break
		}
	}
	if err := red.MoveSubnets("gray-9", subnets); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("unknown node: %v", err)
	}
}

func TestMoveSubnetsBeforeRun(t *testing.T) {
	p := newPair(t)
	p.red.Path = nil
	p.red.Peers = append(p.red.Peers, Peer{PublicKey: [32]byte{1}, Site: "gray", Node: "gray-2", Addresses: []netip.Addr{netip.MustParseAddr("10.77.2.2")}})
	c := p.red
	c.Path, c.Logger, c.TUNMTU = nopPath{}, testLogger(t, "red"), 1420
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.MoveSubnets("gray-2", p.red.Peers[0].Subnets); err != nil {
		t.Fatal(err)
	}
	if n, m := len(l.cfg.Peers[0].Subnets), len(l.cfg.Peers[1].Subnets); n != 0 || m != 1 {
		t.Errorf("gray-1 carries %d subnets and gray-2 %d", n, m)
	}
	if len(p.red.Peers[0].Subnets) != 1 {
		t.Error("the caller's configuration was changed")
	}
}

type nopPath struct{}

func (nopPath) Read([][]byte, []int, int) (int, error) { return 0, nil }
func (nopPath) Write(b [][]byte, _ int) (int, error)   { return len(b), nil }
func (nopPath) Wake()                                  {}

func TestDatagrams(t *testing.T) {
	await.NoLeaks(t)
	red, _, _, grams := threeNodes(t)
	// Strays are taken from the sibling only, so what arrives first is the second datagram.
	for _, port := range []uint16{wire.StrayPort, wire.HAPort} {
		if err := red.SendDatagram("gray-2", port, []byte("hear")); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case g := <-grams:
		if g != (gram{"red-1", wire.HAPort, "hear"}) {
			t.Errorf("got %+v", g)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the datagram didn't arrive")
	}
	if err := red.SendDatagram("gray-9", wire.HAPort, nil); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("unknown node: %v", err)
	}
}
