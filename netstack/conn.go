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
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// backlog bounds the connections that wait for Accept. The other gateways are
// few; gonet's own 4,096 would be a gift to one that went mad.
const backlog = 16

var (
	_ net.Listener = (*listener)(nil)
	_ net.Conn     = (*conn)(nil)
)

// Listen listens on a TCP port of all the host's addresses.
func (h *Host) Listen(port uint16) (net.Listener, error) {
	protocol := ipv4.ProtocolNumber
	if h.v6 {
		protocol = ipv6.ProtocolNumber // takes IPv4 too
	}
	wq := new(waiter.Queue)
	ep, err := h.stack.NewEndpoint(tcp.ProtocolNumber, protocol, wq)
	if err != nil {
		return nil, fmt.Errorf("listen on port %d: %s", port, err)
	}
	// As package net does: connections of a former listener don't stand in the way.
	ep.SocketOptions().SetReuseAddress(true)
	if err = ep.Bind(tcpip.FullAddress{NIC: nicID, Port: port}); err == nil {
		err = ep.Listen(backlog)
	}
	if err != nil {
		ep.Close()
		return nil, fmt.Errorf("listen on port %d: %s", port, err)
	}
	return &listener{TCPListener: gonet.NewTCPListener(h.stack, wq, ep)}, nil
}

// Dial opens a TCP connection to another node.
func (h *Host) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	addr := tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(to.Addr().AsSlice()), Port: to.Port()}
	c, err := gonet.DialContextTCP(ctx, h.stack, addr, protocolOf(to.Addr()))
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("dial %s inside the tunnel: %w", to, err)
	}
	return &conn{TCPConn: c}, nil
}

// listener makes Accept answer net.ErrClosed after Close, as package net's do.
type listener struct {
	*gonet.TCPListener
	closed atomic.Bool
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.TCPListener.Accept()
	if l.closed.Load() {
		if err == nil {
			c.Close()
		}
		return nil, fmt.Errorf("accept: %w", net.ErrClosed)
	}
	if err != nil {
		return nil, err
	}
	return &conn{TCPConn: c.(*gonet.TCPConn)}, nil
}

func (l *listener) Close() error {
	l.closed.Store(true)
	l.TCPListener.Shutdown() // wakes Accept, which Close alone doesn't
	return l.TCPListener.Close()
}

// conn makes Read and Write answer net.ErrClosed after Close, and at once.
type conn struct {
	*gonet.TCPConn
	closed atomic.Bool
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	return n, c.orClosed(err)
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	return n, c.orClosed(err)
}

func (c *conn) orClosed(err error) error {
	if err != nil && c.closed.Load() {
		return net.ErrClosed
	}
	return err
}

func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	return errors.Join(c.TCPConn.SetDeadline(time.Unix(1, 0)), c.TCPConn.Close())
}
