package netstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const writePart = 32 << 10

// Dial opens a TCP connection to another node. It works while Run runs.
func (h *Host) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	c, err := h.dial(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("dial %s inside the tunnel: %w", to, err)
	}
	return c, nil
}

func (h *Host) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	wq := new(waiter.Queue)
	ep, terr := h.stack.NewEndpoint(tcp.ProtocolNumber, protocolOf(to.Addr()), wq)
	if terr != nil {
		return nil, errors.New(terr.String())
	}
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	terr = ep.Connect(tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(to.Addr().AsSlice()), Port: to.Port()})
	if _, ok := terr.(*tcpip.ErrConnectStarted); ok {
		select {
		case <-ready:
			terr = ep.LastError()
		case <-ctx.Done():
			ep.Abort()
			return nil, context.Cause(ctx)
		case <-h.done:
			return nil, net.ErrClosed
		}
	}
	if terr != nil {
		ep.Close()
		return nil, errors.New(terr.String())
	}
	return newConn(wq, ep), nil
}

// conn is a gonet connection whose Read and Write answer net.ErrClosed after
// Close, and at once, and which keeps nothing of what was written.
type conn struct {
	*gonet.TCPConn
	ep     tcpip.Endpoint
	closed atomic.Bool
	ended  func() // called by Close; may be nil
}

var _ net.Conn = (*conn)(nil)

func newConn(wq *waiter.Queue, ep tcpip.Endpoint) *conn {
	return &conn{TCPConn: gonet.NewTCPConn(wq, ep), ep: ep}
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	return n, c.orClosed(err)
}

// Write writes b by way of a small buffer of its own: a gVisor endpoint keeps a
// reference to what was written last, and may outlive the conn.
func (c *conn) Write(b []byte) (int, error) {
	part := make([]byte, min(len(b), writePart))
	for done := 0; ; {
		n, err := c.TCPConn.Write(part[:copy(part, b[done:])])
		if done += n; err != nil || done == len(b) {
			return done, c.orClosed(err)
		}
	}
}

func (c *conn) orClosed(err error) error {
	if err != nil && c.closed.Load() {
		return net.ErrClosed
	}
	return err
}

// SetLinger is that of net.TCPConn: with 0, Close discards what wasn't sent yet
// and resets the connection, so that nothing of it stays in memory; with a
// negative number, the default, the stack goes on sending.
func (c *conn) SetLinger(sec int) error {
	c.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: sec >= 0, Timeout: time.Duration(max(sec, 0)) * time.Second})
	return nil
}

// Close wakes those who read and write, and ends the connection.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	if c.ended != nil {
		c.ended()
	}
	return errors.Join(c.TCPConn.SetDeadline(time.Unix(1, 0)), c.TCPConn.Close())
}
