package netstack

import (
	"fmt"
	"net"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// backlog bounds the connections that wait for Accept. The other gateways are
// few; gonet's own 4,096 would be a gift to one that went mad.
const backlog = 16

// listener is a net.Listener on a gVisor endpoint. It isn't gonet's because a
// conn needs the endpoint that Accept gives, and because its Accept is to answer
// net.ErrClosed as package net's do.
type listener struct {
	ep    tcpip.Endpoint
	wq    *waiter.Queue
	host  *Host
	close func() error
	done  chan struct{}
	addr  net.Addr
}

var _ net.Listener = (*listener)(nil)

// Listen listens on a TCP port of all the host's addresses. Accept fails with
// net.ErrClosed once the listener or the host is closed.
func (h *Host) Listen(port uint16) (net.Listener, error) {
	protocol, all := ipv4.ProtocolNumber, netip.IPv4Unspecified()
	if h.v6 {
		protocol, all = ipv6.ProtocolNumber, netip.IPv6Unspecified() // takes IPv4 too
	}
	l := &listener{
		wq:   new(waiter.Queue),
		host: h,
		done: make(chan struct{}),
		addr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(all, port)),
	}
	var err tcpip.Error
	l.ep, err = h.stack.NewEndpoint(tcp.ProtocolNumber, protocol, l.wq)
	if err != nil {
		return nil, fmt.Errorf("listen on port %d: %s", port, err)
	}
	// As package net does: connections of a former listener don't stand in the way.
	l.ep.SocketOptions().SetReuseAddress(true)
	if err = l.ep.Bind(tcpip.FullAddress{NIC: nicID, Port: port}); err == nil {
		err = l.ep.Listen(backlog)
	}
	if err != nil {
		l.ep.Close()
		return nil, fmt.Errorf("listen on port %d: %s", port, err)
	}
	l.close = sync.OnceValue(func() error {
		close(l.done)
		l.ep.Close()
		return nil
	})
	return l, nil
}

func (l *listener) Accept() (net.Conn, error) {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
	l.wq.EventRegister(&entry)
	defer l.wq.EventUnregister(&entry)
	for {
		select {
		case <-l.done:
			return nil, fmt.Errorf("accept: %w", net.ErrClosed)
		case <-l.host.done:
			return nil, fmt.Errorf("accept: %w", net.ErrClosed)
		default:
		}
		ep, wq, err := l.ep.Accept(nil)
		if err == nil {
			if c := l.admit(newConn(wq, ep)); c != nil {
				return c, nil
			}
			continue
		}
		if _, ok := err.(*tcpip.ErrWouldBlock); !ok {
			select {
			case <-l.done: // in between
				continue
			case <-l.host.done:
				continue
			default:
				return nil, fmt.Errorf("accept: %s", err)
			}
		}
		select {
		case <-ready:
		case <-l.done:
		case <-l.host.done:
		}
	}
}

// admit returns the connection, or nil where its node has too many: then it is reset.
func (l *listener) admit(c *conn) net.Conn {
	var from netip.Addr
	if ap, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		from = ap.Addr().Unmap()
	}
	if !l.host.shares.accept(from) {
		l.host.limited.Add(1)
		c.ep.Abort()
		return nil
	}
	c.ended = func() { l.host.shares.closed(from) }
	return c
}

func (l *listener) Close() error   { return l.close() }
func (l *listener) Addr() net.Addr { return l.addr }
