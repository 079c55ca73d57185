package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/tests/lab"
)

// some is what a scenario moves that is not about bulk.
const some = 1 << 20

// TestRelayOpen: connections open in every way that there is.
func TestRelayOpen(t *testing.T) {
	t.Parallel() // it waits most of the time
	eachMode(t, func(t *testing.T, mode string) {
		n := startRelay(t, mode, farWAN)
		n.eachWay(t, "the server speaks first", noReset, n.speaksFirst)
		n.eachWay(t, "refused", anyReset, refused)
		for _, w := range n.twoWays() {
			n.scenario(t, "third ACK lost before the gateways, "+w.name, noReset, func(t *testing.T) {
				thirdACKLost(t, w, w.from, lab.Out)
			})
			n.scenario(t, "third ACK lost behind the gateways, "+w.name, noReset, func(t *testing.T) {
				thirdACKLost(t, w, w.to, lab.In)
			})
			n.scenario(t, "tuple used again after a reset, "+w.name, anyReset, func(t *testing.T) { n.tupleAfterReset(t, w) })
			n.scenario(t, "tuple used again after a close, "+w.name, noReset, func(t *testing.T) { n.tupleAfterClose(t, w) })
			n.scenario(t, "tuple used again after a reboot, "+w.name, anyReset, func(t *testing.T) { n.tupleAfterReboot(t, w) })
		}
	})
}

func (n *relayNet) speaksFirst(t *testing.T, w way) {
	client, server := meet(t, w, sockets{})
	within(t, patience, client, server)
	all(t,
		func() error { return send(server, stream(1), some) },
		func() error { return expect(client, stream(1), some) },
	)
	n.awake(t, client, server)
	exchange(t, client, server, some)
	if !n.relays() {
		return
	}
	// Captures show what entered a leg and what left one, and its rule.
	for _, nd := range []*node{n.red, n.gray} {
		got, _ := nd.captured(client.LocalAddr().String())
		count := map[string]int{}
		for _, g := range got {
			if !strings.Contains(g, " rule all (") || !strings.Contains(g, "/site.hcl:") {
				t.Errorf("%s: without its rule: %q", nd.name, g)
				break
			}
			dir, _, _ := strings.Cut(g, " rule ")
			_, note, _ := strings.Cut(g, "), ")
			count[dir+", "+note]++
		}
		if count["from gw0, taken by the relay"] == 0 || count["to gw0, from the relay"] == 0 {
			t.Errorf("%s: its legs are not in the capture: %v", nd.name, count)
		}
	}
}

func refused(t *testing.T, w way) {
	for range 3 {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		c, err := w.from.Dial(ctx, "tcp", netip.AddrPortFrom(w.addr, 9).String())
		cancel()
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("dial to a closed port: %v, want refused", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("refused after %v", took)
		}
	}
}

// thirdACKLost: the server's kernel repeats its SYN with an ACK, and speaks first
// once it has been answered.
func thirdACKLost(t *testing.T, w way, at *lab.Host, where lab.Way) {
	const port = 7100
	d, err := at.DropTCP(where, port, lab.ACK)
	if err != nil {
		t.Fatal(err)
	}
	s, err := lab.ServeTCP(t.Context(), w.to.Namespace, netip.AddrPortFrom(w.addr, port), func(c *net.TCPConn) {
		_ = send(c, stream(1), some) // the client sees what is missing
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := w.from.Dial(t.Context(), "tcp", s.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	within(t, patience, c)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := lab.Until(ctx, "a lost ACK", func() (bool, error) {
		n, err := d.Count()
		return n > 0, err
	}); err != nil {
		t.Fatal(err)
	}
	if err := d.Lift(); err != nil {
		t.Fatal(err)
	}
	if err := expect(c, stream(1), some); err != nil {
		t.Error(err)
	}
}

// reuse makes a socket bind a port whose last connection is not forgotten.
func reuse(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }

// again is a connection from the same port to the same port as its predecessors.
func (n *relayNet) again(t *testing.T, w way, port uint16) (client, server *net.TCPConn) {
	t.Helper()
	client, server = meet(t, w, sockets{client: reuse, server: reuse, from: netip.AddrPortFrom(w.source(), clientPort+1000), port: port})
	within(t, patience, client, server)
	n.awake(t, client, server)
	return client, server
}

func (n *relayNet) tupleAfterReset(t *testing.T, w way) {
	for i := range 4 {
		client, server := n.again(t, w, 7201)
		exchange(t, client, server, some)
		first, second := client, server
		if i%2 == 1 {
			first, second = server, client
		}
		if err := sendReset(first); err != nil {
			t.Fatal(err)
		}
		if _, err := second.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("the other end was reset: %v", err)
		}
	}
}

// tupleAfterClose: the server closes first and has the tuple in TIME-WAIT when the
// client reconnects (RFC 6191).
func (n *relayNet) tupleAfterClose(t *testing.T, w way) {
	for range 3 {
		client, server := n.again(t, w, 7202)
		exchange(t, client, server, some)
		for _, c := range []struct{ first, second *net.TCPConn }{{server, client}, {client, server}} {
			if err := c.first.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if err := expectEnd(c.second); err != nil {
				t.Fatal(err)
			}
		}
		all(t, server.Close, client.Close)
	}
}

// tupleAfterReboot: the client's host forgets a connection without a word and
// opens the same again, while the server still has the old one.
func (n *relayNet) tupleAfterReboot(t *testing.T, w way) {
	for range 2 {
		client, server := n.again(t, w, 7203)
		exchange(t, client, server, some)
		forgets(t, client)
		// The old connection still holds the port on the server's side.
		c2, s2 := n.again(t, w, 7203)
		exchange(t, c2, s2, some)
		if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the server's old connection: %v, want reset", err)
		}
		if err := sendReset(c2); err != nil {
			t.Fatal(err)
		}
		if _, err := s2.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(fmt.Errorf("the server's new connection: %w, want reset", err))
		}
	}
}

// forgets makes a connection's socket vanish: in repair mode the kernel sends nothing when
// it is closed.
func forgets(t *testing.T, c *net.TCPConn) {
	t.Helper()
	onFD(t, c, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1) })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}
