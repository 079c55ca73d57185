package e2e

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/tests/lab"
)

// TestRelayClose: connections end in every way that there is.
func TestRelayClose(t *testing.T) {
	t.Parallel() // it waits most of the time
	eachMode(t, func(t *testing.T, mode string) {
		n := startRelay(t, mode, farWAN)
		n.eachWay(t, "the client closes first", noReset, func(t *testing.T, w way) {
			client, server := meet(t, w, sockets{})
			within(t, patience, client, server)
			n.awake(t, client, server)
			closeInTurn(t, client, server)
		})
		n.eachWay(t, "the server closes first", noReset, func(t *testing.T, w way) {
			client, server := meet(t, w, sockets{})
			within(t, patience, client, server)
			n.awake(t, client, server)
			closeInTurn(t, server, client)
		})
		n.eachWay(t, "both close at once", noReset, n.closeAtOnce)
		n.eachWay(t, "half-closed at once", noReset, func(t *testing.T, w way) {
			if err := lab.HalfClose(t.Context(), w.from.Namespace, w.to.Namespace, netip.AddrPortFrom(w.addr, 0), some); err != nil {
				t.Error(err)
			}
		})
		for _, w := range n.twoWays() {
			for _, c := range []struct {
				name string
				do   func(t *testing.T, first, second *net.TCPConn)
			}{
				{"in the middle", func(t *testing.T, a, b *net.TCPConn) { n.resetAmid(t, a, b) }},
				{"right after bytes", resetAfterBytes},
				{"right after bytes that were acknowledged", resetAfterACK},
				{"with a slow reader", resetSlowReader},
				{"by a reader that has unread bytes", resetUnread},
			} {
				n.scenario(t, "reset by the client "+c.name+", "+w.name, anyReset, func(t *testing.T) {
					client, server := meet(t, w, sockets{})
					within(t, patience, client, server)
					n.awake(t, client, server)
					c.do(t, client, server)
				})
				n.scenario(t, "reset by the server "+c.name+", "+w.name, anyReset, func(t *testing.T) {
					client, server := meet(t, w, sockets{})
					within(t, patience, client, server)
					n.awake(t, client, server)
					c.do(t, server, client)
				})
			}
		}
	})
}

// closeInTurn: one end sends all and closes, then the other does the same.
func closeInTurn(t *testing.T, first, second *net.TCPConn) {
	exchange(t, first, second, some/4)
	all(t,
		func() error { return errors.Join(send(first, stream(3), some), first.CloseWrite()) },
		func() error { return errors.Join(expect(second, stream(3), some), expectEnd(second)) },
	)
	all(t,
		func() error { return errors.Join(send(second, stream(4), some), second.CloseWrite()) },
		func() error { return errors.Join(expect(first, stream(4), some), expectEnd(first)) },
	)
	all(t, first.Close, second.Close)
}

func (n *relayNet) closeAtOnce(t *testing.T, w way) {
	for _, bytes := range []int64{0, 1, some} {
		client, server := meet(t, w, sockets{})
		within(t, patience, client, server)
		n.awake(t, client, server)
		all(t,
			func() error { return errors.Join(send(client, stream(1), bytes), client.CloseWrite()) },
			func() error { return errors.Join(send(server, stream(2), bytes), server.CloseWrite()) },
			func() error { return errors.Join(expect(server, stream(1), bytes), expectEnd(server)) },
			func() error { return errors.Join(expect(client, stream(2), bytes), expectEnd(client)) },
		)
		all(t, client.Close, server.Close)
	}
}

// resetAmid: bulk runs both ways when one end resets.
func (n *relayNet) resetAmid(t *testing.T, first, second *net.TCPConn) {
	ended := make(chan error, 2) // of which one reports the reset
	go func() {
		_, err := compare(second, stream(5), bulk)
		ended <- err
	}()
	go func() { ended <- send(second, stream(6), bulk) }()
	go func() { _ = send(first, stream(5), bulk) }() // until it is closed
	if err := expect(first, stream(6), some); err != nil {
		t.Fatal(err)
	}
	n.relayed(t, port(first))
	if err := sendReset(first); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-ended, <-ended); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the other end's connection ended with %v, want reset", err)
	}
}

// bulk is more than any connection moves before it is ended.
const bulk = 1 << 40

// resetAfterBytes: what the kernel had sent before the reset arrives, and then the
// reset. It may have dropped what it had not sent.
func resetAfterBytes(t *testing.T, first, second *net.TCPConn) {
	const n = 64 << 10
	if err := errors.Join(send(first, stream(1), n), sendReset(first)); err != nil {
		t.Fatal(err)
	}
	got, err := compare(second, stream(1), n+1)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, then %v, want reset", got, err)
	}
}

// resetAfterACK: all that was acknowledged can be read, and then the reset.
func resetAfterACK(t *testing.T, first, second *net.TCPConn) {
	const n = 64 << 10
	if err := send(first, stream(1), n); err != nil {
		t.Fatal(err)
	}
	acknowledged(t, first)
	if err := sendReset(first); err != nil {
		t.Fatal(err)
	}
	if err := expect(second, stream(1), n); err != nil {
		t.Error(err)
	}
	if _, err := second.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the bytes: %v, want reset", err)
	}
}

// acknowledged waits until the kernel holds no byte of the connection any more.
func acknowledged(t *testing.T, c *net.TCPConn) {
	t.Helper()
	waitQueue(t, c, "all is acknowledged", func(left int) bool { return left == 0 })
}

// waitQueue waits for how much of a connection is not acknowledged.
func waitQueue(t *testing.T, c *net.TCPConn, what string, cond func(left int) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := lab.Until(ctx, what, func() (bool, error) {
		left := 0
		onFD(t, c, func(fd int) (err error) {
			left, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
			return err
		})
		return cond(left), nil
	}); err != nil {
		t.Fatal(err)
	}
}

// resetSlowReader: the reader has not read, its window is shut, and the sender
// has more when it resets.
func resetSlowReader(t *testing.T, first, second *net.TCPConn) {
	fill(t, first)
	if err := sendReset(first); err != nil {
		t.Fatal(err)
	}
	awaitClosed(t, patience, second)
	got, err := compare(second, stream(1), bulk)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, then %v, want reset", got, err)
	}
}

// fill sends until the kernel accepts no more: the reader's window is shut.
func fill(t *testing.T, c *net.TCPConn) (sent int) {
	t.Helper()
	const roundTrips = 200 // ms, many of them
	s := stream(1)
	buf := make([]byte, 64<<10)
	onFD(t, c, func(fd int) error {
		for {
			_, _ = s.Read(buf)
			for b := buf; len(b) > 0; {
				n, err := unix.Write(fd, b)
				if err == nil {
					sent, b = sent+n, b[n:]
					continue
				}
				if !errors.Is(err, unix.EAGAIN) {
					return err
				}
				ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, roundTrips)
				if err != nil && !errors.Is(err, unix.EINTR) || err == nil && ready == 0 {
					return err
				}
			}
		}
	})
	return sent
}

// awaitClosed waits until the kernel has ended connections by itself, whatever is
// unread, and returns after what time it had ended each.
func awaitClosed(t *testing.T, most time.Duration, conns ...*net.TCPConn) []time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	began := time.Now()
	took := make([]time.Duration, len(conns))
	if err := lab.Until(ctx, "the end of a connection", func() (bool, error) {
		all := true
		for i, c := range conns {
			if took[i] == 0 && tcpInfo(t, c).State == unix.BPF_TCP_CLOSE {
				took[i] = time.Since(began)
			}
			all = all && took[i] > 0
		}
		return all, nil
	}); err != nil {
		t.Fatal(err)
	}
	return took
}

// tcpInfo is the kernel's TCP_INFO of a connection.
func tcpInfo(t *testing.T, c *net.TCPConn) (info *unix.TCPInfo) {
	t.Helper()
	onFD(t, c, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	return info
}

// resetUnread: a close with bytes unread sends RST instead of FIN (RFC 2525
// section 2.17).
func resetUnread(t *testing.T, first, second *net.TCPConn) {
	sent := fill(t, second)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	awaitClosed(t, patience, second)
	if _, err := second.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("after %d unread bytes: %v, want reset", sent, err)
	}
}
