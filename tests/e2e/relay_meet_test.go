package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// meet opens a connection and returns both its ends. They are closed with the test.
func meet(t *testing.T, w way, opts sockets) (client, server *net.TCPConn) {
	t.Helper()
	if opts.port == 0 {
		opts.port = uint16(firstPort + nextPort.Add(1)%(clientPort-firstPort))
	}
	lc := net.ListenConfig{Control: lab.OnSocket(opts.server)}
	lc.SetMultipathTCP(opts.multipath)
	l, err := w.to.ListenWith(t.Context(), &lc, "tcp", netip.AddrPortFrom(w.addr, opts.port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			accepted <- c
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d := net.Dialer{Control: lab.OnSocket(opts.client), KeepAlive: -1}
	d.SetMultipathTCP(opts.multipath)
	if opts.from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(opts.from)
	}
	var c net.Conn
	if err := lab.Until(ctx, "the client's port", func() (bool, error) {
		// The last acknowledgement of the tuple's last connection may be under way.
		c, err = w.from.DialWith(ctx, &d, "tcp", l.Addr().String())
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			return false, nil
		}
		return true, err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	select {
	case s := <-accepted:
		t.Cleanup(func() { s.Close() })
		return c.(*net.TCPConn), s.(*net.TCPConn)
	case <-ctx.Done():
		t.Fatal("the client is connected, but the server has not accepted")
	}
	return nil, nil
}

// sockets sets what is unusual about the ends of a connection.
type sockets struct {
	client, server func(fd int) error // on the sockets before they connect and listen
	from           netip.AddrPort     // the client's address
	port           uint16             // the server's
	multipath      bool
}

// nextPort is for servers without a port of their own. It lies below those that
// the kernel gives to clients.
var nextPort atomic.Uint32

const (
	firstPort  = 8000
	clientPort = 32768
)

// port is the server's port of a connection, of which c is either end.
func port(c net.Conn) uint16 {
	local, remote := c.LocalAddr().(*net.TCPAddr).AddrPort().Port(), c.RemoteAddr().(*net.TCPAddr).AddrPort().Port()
	return min(local, remote)
}

// stream is an endless sequence of bytes, the same for the same seed.
func stream(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{'r', 'e', 'l', 'a', 'y', seed}) }

// send writes the next n bytes of a stream.
func send(c net.Conn, s io.Reader, n int64) error {
	if got, err := io.CopyN(c, s, n); err != nil {
		return fmt.Errorf("send %d bytes: after %d: %w", n, got, err)
	}
	return nil
}

// expect reads n bytes, which must be the next ones of a stream.
func expect(c net.Conn, s io.Reader, n int64) error {
	got, err := compare(c, s, n)
	if err == nil && got < n {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("receive %d bytes: after %d: %w", n, got, err)
	}
	return nil
}

// expectEnd expects the end of the other side's bytes.
func expectEnd(c net.Conn) error {
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %d bytes, %v, want the end", n, err)
	}
	return nil
}

// compare reads up to n bytes and returns how many there were until the end, an error
// or a byte that is not the stream's.
func compare(c net.Conn, s io.Reader, n int64) (got int64, err error) {
	buf, want := make([]byte, 64<<10), make([]byte, 64<<10)
	for got < n {
		k, err := c.Read(buf[:min(int64(len(buf)), n-got)])
		if _, err := io.ReadFull(s, want[:k]); err != nil {
			return got, err
		}
		if !bytes.Equal(buf[:k], want[:k]) {
			return got, fmt.Errorf("the received bytes differ from those sent within the next %d", k)
		}
		got += int64(k)
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

// all runs things at once and fails the test for each error.
func all(t *testing.T, do ...func() error) {
	t.Helper()
	errs := make([]error, len(do))
	var wg sync.WaitGroup
	for i, fn := range do {
		wg.Go(func() { errs[i] = fn() })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// exchange moves n bytes each way at once.
func exchange(t *testing.T, client, server net.Conn, n int64) {
	t.Helper()
	all(t,
		func() error { return send(client, stream(1), n) },
		func() error { return expect(server, stream(1), n) },
		func() error { return send(server, stream(2), n) },
		func() error { return expect(client, stream(2), n) },
	)
}

// within bounds all further waiting on connections.
func within(t *testing.T, d time.Duration, conns ...net.Conn) {
	t.Helper()
	for _, c := range conns {
		if err := c.SetDeadline(time.Now().Add(d)); err != nil {
			t.Fatal(err)
		}
	}
}

// onFD does something with a connection's socket.
func onFD(t *testing.T, c *net.TCPConn, fn func(fd int) error) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		err = lab.WithFD(raw, fn)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// sendReset makes the end of a connection a RST.
func sendReset(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }
