package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"github.com/onewaylink/gw/tests/await"
	"github.com/onewaylink/gw/tests/lab"
)

// ends are both ends of a connection.
type ends struct {
	way            way
	listener       net.Listener
	client, server *net.TCPConn
}

// listen opens the called side.
func (e *ends) listen(ctx context.Context) (err error) {
	e.listener, err = e.way.to.Listen(ctx, "tcp", netip.AddrPortFrom(e.way.addr, 0).String())
	return err
}

// dial opens the connection, from a port if it isn't 0.
func (e *ends) dial(ctx context.Context, port uint16) error {
	d := &net.Dialer{Control: lab.OnSocket(reuse)}
	d.SetMultipathTCP(false)
	if port != 0 {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(e.way.source(), port))
	}
	c, err := e.way.from.DialWith(ctx, d, "tcp", e.listener.Addr().String())
	if err != nil {
		return err
	}
	s, err := e.listener.Accept()
	if err != nil {
		return errors.Join(err, c.Close())
	}
	e.client, e.server = c.(*net.TCPConn), s.(*net.TCPConn)
	deadline, _ := ctx.Deadline()
	return errors.Join(c.SetDeadline(deadline), s.SetDeadline(deadline))
}

func (e *ends) close() {
	for _, c := range []*net.TCPConn{e.client, e.server} {
		if c != nil {
			c.Close()
		}
	}
	if e.listener != nil {
		e.listener.Close()
	}
}

// crosses sends bytes from one end to the other.
func crosses(from, to *net.TCPConn) error {
	sent := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
	var wrote error
	var writing sync.WaitGroup
	writing.Go(func() { _, wrote = from.Write(sent) })
	got := make([]byte, len(sent))
	_, err := io.ReadFull(to, got)
	writing.Wait()
	if err == nil && wrote == nil && !bytes.Equal(got, sent) {
		err = errors.New("the received bytes differ from those sent")
	}
	return errors.Join(err, wrote)
}

// ended expects an end of file.
func ended(c *net.TCPConn) error {
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return fmt.Errorf("read %d bytes and %v, want the end", n, err)
	}
	return nil
}

// reset expects that the other end has reset the connection. The first write that follows the reset
// reports it.
func reset(c *net.TCPConn) error {
	var err error
	await.Within(patience, func() bool {
		_, err = c.Write([]byte("x"))
		return err != nil
	})
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		return fmt.Errorf("the connection ended with %v, want a reset", err)
	}
	return nil
}

// TestPairStates kills the active node while connections are in each state of
// TCP: they continue, or end, as if nothing had happened. Each case states when it
// is ready for the death, and waits for it.
func TestPairStates(t *testing.T) {
	n := newPairNetwork(t, pairSetup{redPair: true})
	n.start()
	for _, c := range []struct {
		name   string
		resets bool // the case itself resets
		do     func(ctx context.Context, e *ends, death func()) error
	}{
		{name: "SYN lost", do: func(ctx context.Context, e *ends, death func()) error {
			death()
			if err := e.dial(ctx, 0); err != nil {
				return err
			}
			return errors.Join(crosses(e.client, e.server), crosses(e.server, e.client))
		}},
		{name: "open and silent", do: func(ctx context.Context, e *ends, death func()) error {
			if err := e.dial(ctx, 0); err != nil {
				return err
			}
			death()
			return errors.Join(crosses(e.server, e.client), crosses(e.client, e.server))
		}},
		{name: "FIN lost", do: func(ctx context.Context, e *ends, death func()) error {
			if err := e.dial(ctx, 0); err != nil {
				return err
			}
			death()
			if err := e.client.CloseWrite(); err != nil {
				return err
			}
			return errors.Join(ended(e.server), e.server.CloseWrite(), ended(e.client))
		}},
		{name: "FIN after data lost", do: func(ctx context.Context, e *ends, death func()) error {
			if err := e.dial(ctx, 0); err != nil {
				return err
			}
			death()
			if err := errors.Join(crosses(e.client, e.server), e.client.CloseWrite()); err != nil {
				return err
			}
			return errors.Join(ended(e.server), crosses(e.server, e.client), e.server.CloseWrite(), ended(e.client))
		}},
		{name: "half closed by the caller", do: func(ctx context.Context, e *ends, death func()) error {
			if err := e.dial(ctx, 0); err != nil {
				return err
			}
			if err := errors.Join(e.client.CloseWrite(), ended(e.server)); err != nil {
				return err
			}
			death()
			return errors.Join(crosses(e.server, e.client), e.server.CloseWrite(), ended(e.client))
		}},
		{name: "half closed by the called", do: func(ctx context.Context, e *ends, death func()) error {
			if err := e.dial(ctx, 0); err != nil {
				return err
			}
			if err := errors.Join(e.server.CloseWrite(), ended(e.client)); err != nil {
				return err
			}
			death()
			return errors.Join(crosses(e.client, e.server), e.client.CloseWrite(), ended(e.server))
		}},
		{name: "RST lost", resets: true, do: func(ctx context.Context, e *ends, death func()) error {
			if err := e.dial(ctx, 0); err != nil {
				return err
			}
			death()
			if err := errors.Join(e.client.SetLinger(0), e.client.Close()); err != nil {
				return err
			}
			return reset(e.server)
		}},
		{name: "RST before", resets: true, do: func(ctx context.Context, e *ends, death func()) error {
			if err := e.dial(ctx, 0); err != nil {
				return err
			}
			err := errors.Join(e.server.SetLinger(0), e.server.Close(), reset(e.client), e.client.Close())
			if err != nil {
				return err
			}
			port := e.client.LocalAddr().(*net.TCPAddr).AddrPort().Port()
			death()
			if err := e.dial(ctx, port); err != nil { // the same ports once more
				return err
			}
			return errors.Join(crosses(e.client, e.server), crosses(e.server, e.client))
		}},
		{name: "TIME_WAIT", do: func(ctx context.Context, e *ends, death func()) error {
			if err := e.dial(ctx, 0); err != nil {
				return err
			}
			// The called end closes first, so that TIME_WAIT is there.
			if err := errors.Join(e.server.Close(), ended(e.client), e.client.Close()); err != nil {
				return err
			}
			port := e.client.LocalAddr().(*net.TCPAddr).AddrPort().Port()
			death()
			// The port is in use until the last FIN has been acknowledged.
			var err error
			await.Within(patience, func() bool {
				err = e.dial(ctx, port)
				return !errors.Is(err, syscall.EADDRNOTAVAIL)
			})
			if err != nil {
				return err
			}
			return errors.Join(crosses(e.client, e.server), crosses(e.server, e.client))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := n.watch(t)
			dead, _ := active(t, n.red)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var ready, all sync.WaitGroup
			killed := make(chan struct{})
			for _, w := range n.ways() {
				e := &ends{way: w}
				defer e.close()
				if err := e.listen(ctx); err != nil {
					t.Fatal(err)
				}
				stop := context.AfterFunc(ctx, func() { e.listener.Close() }) // ends Accept
				defer stop()
				ready.Add(1)
				all.Go(func() {
					met := sync.OnceFunc(ready.Done)
					defer met()
					if err := c.do(ctx, e, func() { met(); <-killed }); err != nil {
						t.Errorf("%s: %v", w.name, err)
					}
				})
			}
			ready.Wait()
			dead.kill()
			close(killed)
			all.Wait()
			dead.up()
			n.settled(n.red)
			if c.resets {
				g.red.stop(t)
				g.gray.stop(t)
				return
			}
			g.end(t, 1, 0)
		})
	}
}
