package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// TestDatagrams: UDP and ICMP of all sizes, in fragments where they don't fit,
// and the errors that a database's kernel answers with.
func TestDatagrams(t *testing.T) {
	n := start(t, setup{})
	for _, w := range n.ways() {
		t.Run("udp "+w.name, func(t *testing.T) { echoesDatagrams(t, w) })
		t.Run("ping "+w.name, func(t *testing.T) { pings(t, w) })
		t.Run("closed port "+w.name, func(t *testing.T) {
			took, err := refusal(t, w, "udp", 9)
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("a datagram to a closed port: %v, want ECONNREFUSED by the database's ICMP", err)
			}
			t.Logf("refused after %v", took)
		})
	}
	n.noneThrough(t)
}

// echoesDatagrams: each returns whole. The first of a size may be lost or be
// refused for its size: that is how a sender learns of a smaller MTU behind its own.
func echoesDatagrams(t *testing.T, w way) {
	echo, err := lab.EchoUDP(t.Context(), w.to.Namespace, netip.AddrPortFrom(w.addr, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	c, err := w.from.Dial(t.Context(), "udp", echo.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, size := range []int{1, 100, 1392, 1393, 1473, 3000, 9000, 60000} {
		lost := 0
		for want := 3; want > 0; {
			err := echoOnce(c, size, byte(want))
			switch {
			case err == nil:
				want--
			case (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.EMSGSIZE)) && lost < 2:
				lost++
			default:
				t.Fatalf("%d bytes, after %d lost: %v", size, lost, err)
			}
		}
		if lost > 0 {
			t.Logf("%d bytes: %d lost", size, lost)
		}
	}
}

// lostAfter is when a datagram is given up.
const lostAfter = 500 * time.Millisecond

// echoOnce sends a datagram and waits for its echo.
func echoOnce(c net.Conn, size int, fill byte) error {
	b := bytes.Repeat([]byte{fill}, size)
	if _, err := c.Write(b); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(lostAfter)); err != nil {
		return err
	}
	got := make([]byte, 65536)
	n, err := c.Read(got)
	if err != nil {
		return err
	}
	if !bytes.Equal(got[:n], b) {
		return fmt.Errorf("%d bytes came back, not the %d that were sent", n, size)
	}
	return nil
}

func pings(t *testing.T, w way) {
	for _, size := range []int{56, 1392, 20000} {
		var err error
		for range 2 { // the first may teach the sender the MTU
			ctx, cancel := context.WithTimeout(t.Context(), lostAfter)
			_, err = lab.Ping(ctx, w.from.Namespace, w.addr, size)
			cancel()
			if err == nil {
				break
			}
		}
		if err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// refusal is the error of a dial to a closed port, and how soon it arrives.
// Without an error for 5 s there is a time-out.
func refusal(t *testing.T, w way, network string, port uint16) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	c, err := w.from.Dial(ctx, network, netip.AddrPortFrom(w.addr, port).String())
	if err != nil || network == "tcp" {
		if err == nil {
			c.Close()
		}
		return time.Since(began), err
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		return time.Since(began), err
	}
	if err := c.SetReadDeadline(began.Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = c.Read(make([]byte, 1))
	return time.Since(began), err
}
