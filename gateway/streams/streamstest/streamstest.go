// Package streamstest has fakes for tests of servers of streams: a listener that accepts what a
// test gives it, and pipes that appear to come from an address.
package streamstest

import (
	"net"
	"net/netip"
)

// Listener accepts the connections that a test sends it. Closing the channel closes it; its own
// Close does nothing, so that a test may still send.
type Listener chan net.Conn

var _ net.Listener = Listener(nil)

// Accept implements net.Listener.
func (l Listener) Accept() (net.Conn, error) {
	conn, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

// Close implements net.Listener.
func (l Listener) Close() error { return nil }

// Addr implements net.Listener.
func (l Listener) Addr() net.Addr { return &net.TCPAddr{} }

// Dial connects to the listener with a pipe that comes from addr. It returns the near end.
func (l Listener) Dial(addr netip.Addr) net.Conn {
	here, there := net.Pipe()
	l <- from{there, addr}
	return here
}

// from is a pipe that appears to come from an address.
type from struct {
	net.Conn
	addr netip.Addr
}

func (f from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.AddrPortFrom(f.addr, 1)) }
