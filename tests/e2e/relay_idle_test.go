package e2e

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/tests/lab"
)

// TestRelayIdle: connections on which nothing moves for a while, and those whose
// far database is gone.
func TestRelayIdle(t *testing.T) {
	t.Parallel() // it waits most of the time
	eachMode(t, func(t *testing.T, mode string) { relayIdle(t, mode, 4*time.Second) })
}

func relayIdle(t *testing.T, mode string, pause time.Duration) {
	n := startRelay(t, mode, farWAN)
	for _, w := range n.twoWays() {
		n.scenario(t, "a reader that stops, "+w.name, noReset, func(t *testing.T) { readerStops(t, w, pause) })
		n.scenario(t, "bursts with pauses between, "+w.name, noReset, func(t *testing.T) { bursts(t, w) })
	}
	n.scenario(t, "keepalives", anyReset, func(t *testing.T) { keepalives(t, n.twoWays()) })
	n.scenario(t, "databases that are gone", anyReset, func(t *testing.T) { gone(t, n.twoWays()) })
}

// readerStops: the window is shut for a while, at both ends, and then all arrives.
func readerStops(t *testing.T, w way, pause time.Duration) {
	client, server := meet(t, w, sockets{})
	within(t, pause+2*patience, client, server)
	const n = 16 << 20
	sent := make(chan error, 2)
	go func() { sent <- errors.Join(send(client, stream(1), n), client.CloseWrite()) }()
	go func() { sent <- errors.Join(send(server, stream(2), n), server.CloseWrite()) }()
	for _, c := range []*net.TCPConn{client, server} {
		waitQueue(t, c, "bytes that nobody takes", func(left int) bool { return left > 256<<10 })
	}
	<-time.After(pause) // the length of the pause is what is tried
	all(t,
		func() error { return errors.Join(expect(server, stream(1), n), expectEnd(server)) },
		func() error { return errors.Join(expect(client, stream(2), n), expectEnd(client)) },
		func() error { return <-sent },
		func() error { return <-sent },
	)
	all(t, client.Close, server.Close)
}

// bursts: a gateway may forget what it holds of a connection in the pauses.
func bursts(t *testing.T, w way) {
	client, server := meet(t, w, sockets{})
	within(t, patience, client, server)
	for range 4 {
		exchange(t, client, server, some)
		<-time.After(400 * time.Millisecond) // longer than a gateway waits for more
	}
	exchange(t, client, server, 1)
	all(t, client.Close, server.Close)
}

const (
	probeEvery = time.Second // the kernel's shortest
	probes     = 3
)

// probing makes a socket send keepalives (RFC 9293 section 3.8.4).
func probing(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(probeEvery.Seconds())),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(probeEvery.Seconds())),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, probes),
	)
}

// keepalives are answered by the far database, and after its death not at all.
func keepalives(t *testing.T, ways []way) {
	heard := make([]atomic.Int64, len(ways))
	var clients, servers []*net.TCPConn
	for i, w := range ways {
		c, err := w.to.Capture("lan0", lab.CaptureConfig{Each: func(p lab.Packet) {
			if s, ok := lab.DecodeTCP(p); ok && !p.Outgoing && s.Src.Addr() == w.source() && s.Len == 0 && s.Flags == lab.ACK {
				heard[i].Add(1)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Stop()
		client, server := meet(t, w, sockets{client: probing})
		within(t, time.Minute, client, server)
		exchange(t, client, server, some)
		acknowledged(t, client)
		acknowledged(t, server)
		heard[i].Store(0)
		clients, servers = append(clients, client), append(servers, server)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i := range ways {
		if err := lab.Until(ctx, "keepalives at the far database", func() (bool, error) {
			return heard[i].Load() > probes, nil // more than may go unanswered
		}); err != nil {
			t.Fatal(err)
		}
	}
	for i, w := range ways {
		exchange(t, clients[i], servers[i], some)
		// A kernel that waits for an acknowledgement sends no keepalives.
		acknowledged(t, clients[i])
		d, err := w.to.DropTCP(lab.InAndOut, port(clients[i]), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Lift()
	}
	for i, took := range awaitClosed(t, time.Minute, clients...) {
		// From the last answer on: idle, and a pause behind each probe.
		if most := (1+probes)*probeEvery + time.Second; took > most {
			t.Errorf("%s: the client's connection ended after %v, want at most %v", ways[i].name, took, most)
		}
		if _, err := clients[i].Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("%s: the connection ended with %v, want timed out", ways[i].name, err)
		}
		t.Logf("%s: the client's connection ended after %v", ways[i].name, took.Round(time.Millisecond))
	}
}

// gone has the far databases vanish in two situations, each on two connections, of
// which one is raw in any case. The client learns of it on both after the same time:
// what the far database does not acknowledge, no gateway acknowledges, and probes of a shut
// window are answered by it alone.
func gone(t *testing.T, ways []way) {
	type pair struct {
		name           string
		client, server *net.TCPConn
	}
	var shut, flowing []pair
	for _, w := range ways {
		hasty(t, w.from)
		for i, to := range []*[]pair{&shut, &flowing} {
			for _, port := range []uint16{plainPort + uint16(i), 0} {
				client, server := meet(t, w, sockets{port: port})
				within(t, 3*time.Minute, client, server)
				exchange(t, client, server, some)
				*to = append(*to, pair{w.name, client, server})
			}
		}
	}
	// The longer a window has been shut, the rarer are the probes: all at once.
	var probed []uint32
	for _, p := range shut {
		fill(t, p.client)
		probed = append(probed, tcpInfo(t, p.client).Segs_in)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i, p := range shut {
		if err := lab.Until(ctx, "answers to probes", func() (bool, error) {
			info := tcpInfo(t, p.client)
			if info.Notsent_bytes == 0 { // a loss had looked like a shut window
				fill(t, p.client)
				probed[i] = tcpInfo(t, p.client).Segs_in
				return false, nil
			}
			return info.Segs_in >= probed[i]+2, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range flowing {
		go func() { _ = send(p.client, stream(3), bulk) }() // until it gives up
		if err := expect(p.server, stream(3), some); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, p.server) }() // until it is closed
	}
	all := append(shut, flowing...)
	var clients []*net.TCPConn
	for i, p := range all {
		d, err := ways[i/2%2].to.DropTCP(lab.InAndOut, port(p.client), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Lift()
		clients = append(clients, p.client)
	}
	took := awaitClosed(t, 2*time.Minute, clients...)
	for i := 0; i < len(took); i += 2 {
		what := "bytes under way"
		if i < len(shut) {
			what = "a shut window"
		}
		raw, other := took[i].Round(time.Millisecond), took[i+1].Round(time.Millisecond)
		t.Logf("%s, with %s: the client's connection ended after %v on a raw connection, %v on the other", all[i].name, what, raw, other)
		// Timers double from the round trip that each has measured.
		if other > 2*raw+time.Second {
			t.Errorf("%s, with %s: the client's connection ended after %v, and on a raw connection after %v", all[i].name, what, other, raw)
		}
	}
}

// hasty makes a host's kernel give up after a few tries, and wait a second between
// them at most if it is new enough (Linux 6.15).
func hasty(t *testing.T, h *lab.Host) {
	t.Helper()
	for _, s := range []struct{ name, now, usual string }{
		{"ipv4/tcp_retries2", "3", "15"}, {"ipv4/tcp_rto_max_ms", "1000", "120000"},
	} {
		if err := h.Sysctl(s.name, s.now); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := h.Sysctl(s.name, s.usual); err != nil {
				t.Error(err)
			}
		})
	}
}
