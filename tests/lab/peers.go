package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Server answers on a TCP or UDP address in a namespace until it is closed.
type Server struct {
	// Addr is where it listens.
	Addr netip.AddrPort

	closer io.Closer
	wg     sync.WaitGroup
	mu     sync.Mutex
	conns  map[net.Conn]struct{} // nil once closed
}

// EchoTCP sends back what it gets, and its FIN when it gets one. Port 0 is any
// free one.
func EchoTCP(ctx context.Context, n *Namespace, addr netip.AddrPort) (*Server, error) {
	return ServeTCP(ctx, n, addr, func(c *net.TCPConn) {
		// Both errors end the connection, which is all there is to do. Without more than
		// Read and Write nothing is spliced, which would take two more files for each.
		_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
		_ = c.CloseWrite()
	})
}

// ServeTCP calls handle for each connection, on a goroutine of its own, and
// closes the connection when it returns.
func ServeTCP(ctx context.Context, n *Namespace, addr netip.AddrPort, handle func(*net.TCPConn)) (*Server, error) {
	l, err := n.Listen(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: l.Addr().(*net.TCPAddr).AddrPort(), closer: l, conns: map[net.Conn]struct{}{}}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if !s.hold(c) {
				c.Close()
				return
			}
			s.wg.Go(func() {
				handle(c.(*net.TCPConn))
				s.release(c)
			})
		}
	})
	return s, nil
}

// EchoUDP sends every datagram back to its sender.
func EchoUDP(ctx context.Context, n *Namespace, addr netip.AddrPort) (*Server, error) {
	c, err := n.ListenPacket(ctx, "udp", addr.String())
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: c.LocalAddr().(*net.UDPAddr).AddrPort(), closer: c, conns: map[net.Conn]struct{}{}}
	s.wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				// A refused port of an earlier datagram may be reported here.
				_, _ = c.WriteTo(buf[:n], from)
			}
		}
	})
	return s, nil
}

func (s *Server) hold(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) release(c net.Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	c.Close()
}

// Close ends the server and its connections and waits until they are gone.
func (s *Server) Close() error {
	err := s.closer.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

// Latency sums up round trips.
type Latency struct {
	Count              int
	Min, P50, P99, Max time.Duration
}

func summarize(d []time.Duration) Latency {
	if len(d) == 0 {
		return Latency{}
	}
	slices.Sort(d)
	return Latency{len(d), d[0], d[len(d)/2], d[len(d)*99/100], d[len(d)-1]}
}

// PingPong measures count round trips of size bytes, one after the other, on a
// connection to an echo server: network is "tcp" or "udp". A lost datagram ends it with an error
// after a second.
func PingPong(ctx context.Context, from *Namespace, network string, to netip.AddrPort, count, size int) (Latency, error) {
	c, err := from.Dial(ctx, network, to.String())
	if err != nil {
		return Latency{}, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	buf := make([]byte, size)
	var all []time.Duration
	for i := range count {
		if network == "udp" {
			if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				return summarize(all), err
			}
		}
		began := time.Now()
		if _, err := c.Write(buf); err != nil {
			return summarize(all), fmt.Errorf("round trip %d to %s: %w", i, to, err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return summarize(all), fmt.Errorf("round trip %d to %s: %w", i, to, err)
		}
		all = append(all, time.Since(began))
	}
	return summarize(all), nil
}

// ConnectRate opens connections to an echo server, exchanges one byte on each and
// closes it, on parallel threads, for about d; it returns connections per second.
func ConnectRate(ctx context.Context, from *Namespace, to netip.AddrPort, parallel int, d time.Duration) (float64, error) {
	var count atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, parallel)
	began := time.Now()
	for i := range parallel {
		wg.Go(func() {
			// Plain blocking calls: a thread that stays in the namespace is a
			// slow place for goroutines.
			errs[i] = from.Do(func() error {
				for time.Since(began) < d && ctx.Err() == nil {
					if err := connectOnce(to); err != nil {
						return fmt.Errorf("connection to %s: %w", to, err)
					}
					count.Add(1)
				}
				return nil
			})
		})
	}
	wg.Wait()
	return float64(count.Load()) / time.Since(began).Seconds(), errors.Join(append(errs, ctx.Err())...)
}

// ConnectTimes opens count connections to an echo server, one after the other and
// one every pause at most, exchanges one byte on each and closes it. The times are
// from before the connect to after the byte.
func ConnectTimes(ctx context.Context, from *Namespace, to netip.AddrPort, count int, pause time.Duration) (Latency, error) {
	all := make([]time.Duration, 0, count)
	err := from.Do(func() error {
		for next := time.Now(); len(all) < count && ctx.Err() == nil; next = next.Add(pause) {
			select {
			case <-time.After(time.Until(next)):
			case <-ctx.Done():
				return ctx.Err()
			}
			began := time.Now()
			if err := connectOnce(to); err != nil {
				return fmt.Errorf("connection %d to %s: %w", len(all), to, err)
			}
			all = append(all, time.Since(began))
		}
		return ctx.Err()
	})
	return summarize(all), err
}

func connectOnce(to netip.AddrPort) error {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())})
	if to.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// A connection that hangs must not hang the test.
	limit := unix.Timeval{Sec: 5}
	if err := errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
	); err != nil {
		return err
	}
	// With a time limit on the socket a signal of Go's scheduler ends these calls. A
	// connect that was interrupted continues; the loop calls it again.
	if _, err := uninterrupted(func() (int, error) { return 0, unix.Connect(fd, sa) }); err != nil && !errors.Is(err, unix.EISCONN) {
		return err
	}
	var b [1]byte
	if _, err := uninterrupted(func() (int, error) { return unix.Write(fd, b[:]) }); err != nil {
		return err
	}
	if n, err := uninterrupted(func() (int, error) { return unix.Read(fd, b[:]) }); err != nil || n != 1 {
		return fmt.Errorf("read %d bytes of the echo: %w", n, err)
	}
	return nil
}

func uninterrupted(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EALREADY) {
			return n, err
		}
	}
}

// Pool is a number of idle connections to an echo server, as an
// application's connection pool does most of the time.
type Pool struct {
	conns []net.Conn
}

// OpenPool opens n connections.
func OpenPool(ctx context.Context, from *Namespace, to netip.AddrPort, n int) (*Pool, error) {
	p := &Pool{}
	for i := range n {
		c, err := from.Dial(ctx, "tcp", to.String())
		if err != nil {
			return nil, errors.Join(fmt.Errorf("connection %d of %d: %w", i, n, err), p.Close())
		}
		p.conns = append(p.conns, c)
	}
	return p, nil
}

// Check sends a byte on every connection and waits at most patience for all the
// echoes. It returns an error that names how many connections are dead.
func (p *Pool) Check(patience time.Duration) error {
	var dead int
	var first error
	failed := make([]bool, len(p.conns))
	note := func(i int, err error) {
		if err != nil && !failed[i] {
			failed[i] = true
			dead++
			if first == nil {
				first = err
			}
		}
	}
	deadline := time.Now().Add(patience)
	for i, c := range p.conns {
		_, err := c.Write([]byte{byte(i)})
		note(i, errors.Join(err, c.SetReadDeadline(deadline)))
	}
	var b [1]byte
	for i, c := range p.conns {
		if failed[i] {
			continue
		}
		_, err := io.ReadFull(c, b[:])
		if err == nil && b[0] != byte(i) {
			err = fmt.Errorf("echoed %d, want %d", b[0], byte(i))
		}
		note(i, err)
	}
	if dead > 0 {
		return fmt.Errorf("%d of %d idle connections are dead, the first: %w", dead, len(p.conns), first)
	}
	return nil
}

// Close closes the connections.
func (p *Pool) Close() error {
	var errs []error
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// HalfClose dials, sends the FIN at once, and only then is sent n bytes by the
// other side, which has seen the FIN. It returns an error unless all arrive.
func HalfClose(ctx context.Context, from, to *Namespace, addr netip.AddrPort, n int64) error {
	var served error
	s, err := ServeTCP(ctx, to, addr, func(c *net.TCPConn) {
		if got, err := io.Copy(io.Discard, c); err != nil || got != 0 {
			served = fmt.Errorf("%d bytes arrived before the FIN, want 0: %w", got, err)
			return
		}
		_, served = io.CopyN(c, zeros{}, n)
	})
	if err != nil {
		return err
	}
	defer s.Close()
	c, err := from.Dial(ctx, "tcp", s.Addr.String())
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	got, err := io.Copy(io.Discard, c)
	// The handler has ended when Close returns.
	if err := errors.Join(err, s.Close(), served); err != nil {
		return fmt.Errorf("half-closed connection to %s: %w", s.Addr, err)
	}
	if got != n {
		return fmt.Errorf("half-closed connection to %s: received %d bytes after the FIN, want %d", s.Addr, got, n)
	}
	return nil
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
