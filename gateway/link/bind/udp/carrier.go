package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"

	"github.com/onewaylink/gw/gateway/link/bind"
)

var _ bind.Carrier = (*Carrier)(nil)

// Config configures a Carrier.
type Config struct {
	// OnTooBig is called when the kernel has refused a datagram as longer than the
	// interface's MTU. Path MTU probes end here, too. It is called from within Send, while
	// wireguard-go may hold its locks: it must not block, nor call the device or the
	// Carrier. May be nil.
	OnTooBig func()
}

// A Carrier carries datagrams over one UDP socket for IPv4 and one for IPv6 on the same port.
// All methods are safe for concurrent use. A ReceiveFunc is for one goroutine.
type Carrier struct {
	config   Config
	counters counters

	moment atomic.Int64 // set by Moderate; a time.Duration

	v4, v6 atomic.Pointer[socket]

	mu     sync.Mutex    // Open and Close
	closed chan struct{} // closed by Close; nil while not open
}

// New makes a Carrier, which is closed until Open.
func New(config Config) *Carrier { return &Carrier{config: config} }

// Moderate lets datagrams that arrive in great numbers wait up to a moment for more to be
// received with them, which costs less processor time for each; 0 is none. Datagrams that
// arrive now and then never wait.
func (c *Carrier) Moderate(moment time.Duration) { c.moment.Store(int64(moment)) }

// Open opens the sockets on a port, any free one if 0, and returns a ReceiveFunc for each and
// the port. It may be called again after Close.
func (c *Carrier) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	v4, v6, err := openSockets(port)
	if err != nil {
		return nil, 0, err
	}
	c.closed = make(chan struct{})
	var fns []conn.ReceiveFunc
	if v4 != nil {
		c.v4.Store(v4)
		fns = append(fns, newReceiver(c, v4, c.closed).receive)
		port = v4.port
	}
	if v6 != nil {
		c.v6.Store(v6)
		fns = append(fns, newReceiver(c, v6, c.closed).receive)
		port = v6.port
	}
	return fns, port, nil
}

// Close closes the sockets: every ReceiveFunc returns net.ErrClosed. Close of a closed Carrier
// does nothing.
func (c *Carrier) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed == nil {
		return nil
	}
	close(c.closed)
	c.closed = nil
	var errs []error
	for _, at := range []*atomic.Pointer[socket]{&c.v4, &c.v6} {
		if s := at.Swap(nil); s != nil {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}

// SetMark does nothing: gw's datagrams carry no firewall mark.
func (c *Carrier) SetMark(uint32) error { return nil }

// BatchSize is the number of buffers that a ReceiveFunc expects.
func (c *Carrier) BatchSize() int { return maxBatchSize }

// ParseEndpoint makes an endpoint from IP:port. It resolves no names.
func (c *Carrier) ParseEndpoint(s string) (conn.Endpoint, error) {
	dst, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q is not IP:port: %w", s, err)
	}
	return newEndpoint(dst, netip.Addr{})
}

// Send sends datagrams to an endpoint. A datagram that the kernel refuses counts as dropped
// and is no error; errors are a closed Carrier, an endpoint of another carrier, and an address
// family that the host lacks.
func (c *Carrier) Send(bufs [][]byte, to conn.Endpoint) error {
	ep, ok := to.(*Endpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	s, err := c.socketFor(ep)
	if err != nil {
		return err
	}
	segment := s.segment.Load()
	o := newOutgoing(ep)
	defer o.free()
	for _, m := range bufs {
		if o.full() {
			if err := c.send(s, o); err != nil {
				return err
			}
			o.reset()
		}
		o.add(m, segment)
	}
	return c.send(s, o)
}

// socketFor returns the socket of an endpoint's address family.
func (c *Carrier) socketFor(to *Endpoint) (*socket, error) {
	at := &c.v4
	if to.dst.Addr().Is6() {
		at = &c.v6
	}
	if s := at.Load(); s != nil {
		return s, nil
	}
	if c.v4.Load() == nil && c.v6.Load() == nil {
		return nil, net.ErrClosed
	}
	return nil, fmt.Errorf("send to %s: this host lacks its address family: %w", to.dst, unix.EAFNOSUPPORT)
}

// Pending reports whether datagrams wait in the kernel.
func (c *Carrier) Pending() bool {
	for _, at := range []*atomic.Pointer[socket]{&c.v4, &c.v6} {
		s := at.Load()
		if s == nil {
			continue
		}
		var n int
		// A socket that was closed since holds nothing.
		if err := s.raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ) }); err == nil && n > 0 {
			return true
		}
	}
	return false
}
