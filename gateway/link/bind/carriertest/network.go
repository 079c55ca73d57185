// Package carriertest has a network in memory whose Carriers run a Bind's whole rule set without
// a socket, and Test, which holds any bind.Carrier to its contract.
package carriertest

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.zx2c4.com/wireguard/conn"

	"github.com/onewaylink/gw/gateway/link/bind"
)

const (
	// queueSize is how many datagrams wait at a Carrier; Send drops further ones.
	queueSize = 4096
	batchSize = 64
	// firstFree is the port that Open(0) tries first.
	firstFree = 49152
)

var (
	_ bind.Carrier  = (*Carrier)(nil)
	_ bind.Endpoint = (*Endpoint)(nil)
)

// A Network connects Carriers. Safe for concurrent use.
type Network struct {
	lose func(m []byte) bool

	mu    sync.Mutex // guards the fields below, and each Carrier's
	ports map[netip.AddrPort]*Carrier
	next  uint16
}

// NewNetwork makes a Network, which drops each datagram for which lose returns true. It calls lose
// for one datagram at a time; nil loses none.
func NewNetwork(lose func(m []byte) bool) *Network {
	return &Network{lose: lose, ports: map[netip.AddrPort]*Carrier{}, next: firstFree}
}

// Carrier makes a Carrier on the host at an address.
func (n *Network) Carrier(host netip.Addr) *Carrier {
	return &Carrier{network: n, host: host, eps: map[netip.AddrPort]*Endpoint{}}
}

// A Carrier is a bind.Carrier on a Network. Unlike a UDP socket it has one ReceiveFunc, leaves the
// first buffer of a batch empty, and knows no source address. Safe for concurrent use.
type Carrier struct {
	network *Network
	host    netip.Addr

	// Guarded by network.mu.
	at     netip.AddrPort // invalid while closed
	queue  chan datagram
	closed chan struct{}
	eps    map[netip.AddrPort]*Endpoint
	stats  bind.CarrierStats
}

type datagram struct {
	from netip.AddrPort
	m    []byte
}

// An Endpoint is an address on a Network.
type Endpoint struct {
	at      netip.AddrPort
	session bind.Session
}

// AddrPort returns the address.
func (e *Endpoint) AddrPort() netip.AddrPort { return e.at }

// Session returns the Bind's word.
func (e *Endpoint) Session() *bind.Session { return &e.session }

// ClearSrc does nothing.
func (e *Endpoint) ClearSrc() {}

// SrcToString returns "".
func (e *Endpoint) SrcToString() string { return "" }

// SrcIP returns the invalid address.
func (e *Endpoint) SrcIP() netip.Addr { return netip.Addr{} }

// DstToString returns the address as IP:port.
func (e *Endpoint) DstToString() string { return e.at.String() }

// DstIP returns the IP address.
func (e *Endpoint) DstIP() netip.Addr { return e.at.Addr() }

// DstToBytes returns the address as the cookie's MAC covers it.
func (e *Endpoint) DstToBytes() []byte {
	b, _ := e.at.MarshalBinary() // never fails
	return b
}

// Open opens a port of the host, a free one if 0.
func (c *Carrier) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.at.IsValid() {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	if port == 0 {
		for n.ports[netip.AddrPortFrom(c.host, n.next)] != nil {
			n.next++
		}
		port = n.next
		n.next++
	}
	at := netip.AddrPortFrom(c.host, port)
	if n.ports[at] != nil {
		return nil, 0, fmt.Errorf("open %s: %w", at, syscall.EADDRINUSE)
	}
	n.ports[at] = c
	c.at, c.queue, c.closed = at, make(chan datagram, queueSize), make(chan struct{})
	queue, closed := c.queue, c.closed
	receive := func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		return c.receive(queue, closed, bufs, sizes, eps)
	}
	return []conn.ReceiveFunc{receive}, port, nil
}

// Close closes the port, and drops what waits there.
func (c *Carrier) Close() error {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	if c.at.IsValid() {
		delete(c.network.ports, c.at)
		c.at = netip.AddrPort{}
		close(c.closed)
	}
	return nil
}

// SetMark does nothing.
func (c *Carrier) SetMark(uint32) error { return nil }

// BatchSize is the number of buffers that the ReceiveFunc expects.
func (c *Carrier) BatchSize() int { return batchSize }

// ParseEndpoint makes an endpoint from IP:port.
func (c *Carrier) ParseEndpoint(s string) (conn.Endpoint, error) {
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, err
	}
	return &Endpoint{at: at}, nil
}

// Send copies datagrams into the queue of the Carrier at an endpoint. A port where none is open
// swallows them, and a full queue drops them.
func (c *Carrier) Send(bufs [][]byte, to conn.Endpoint) error {
	ep, ok := to.(*Endpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if !c.at.IsValid() {
		return net.ErrClosed
	}
	receiver := n.ports[ep.at]
	for _, m := range bufs {
		if receiver != nil && (n.lose == nil || !n.lose(m)) {
			select {
			case receiver.queue <- datagram{c.at, bytes.Clone(m)}:
			default:
				c.stats.Drops[bind.SendNoBuffer]++
				continue
			}
		}
		c.stats.SentDatagrams++
		c.stats.SentBytes += uint64(len(m))
	}
	return nil
}

// Stats returns the counters.
func (c *Carrier) Stats() bind.CarrierStats {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	return c.stats
}

func (c *Carrier) receive(queue <-chan datagram, closed <-chan struct{}, bufs [][]byte, sizes []int, eps []conn.Endpoint) (n int, err error) {
	if len(bufs) > 1 {
		sizes[0] = 0 // a Bind must pass over it
		n = 1
	}
	var d datagram
	select {
	case <-closed:
		return 0, net.ErrClosed
	case d = <-queue:
	}
	for {
		c.network.mu.Lock()
		c.stats.ReceivedDatagrams++
		c.stats.ReceivedBytes += uint64(len(d.m))
		ep := c.eps[d.from]
		if ep == nil {
			ep = &Endpoint{at: d.from}
			c.eps[d.from] = ep
		}
		c.network.mu.Unlock()
		sizes[n], eps[n] = copy(bufs[n], d.m), ep
		if n++; n == len(bufs) {
			return n, nil
		}
		select {
		case d = <-queue:
		default:
			return n, nil
		}
	}
}
