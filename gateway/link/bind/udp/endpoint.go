package udp

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/gateway/link/bind"
)

var _ bind.Endpoint = (*Endpoint)(nil)

// An Endpoint is where a peer is reached, and the local address it is reached
// from: the one that the peer has dialled, or unset to leave it to the routing
// table. But for the source, which can be cleared, it never changes; so a
// datagram with a forged address can't alter one that wireguard-go has
// authenticated. Safe for concurrent use.
type Endpoint struct {
	dst     netip.AddrPort
	src     netip.Addr
	cleared atomic.Bool // src is not to be used any more

	session bind.Session // the Bind's; see bind.Endpoint

	// The same for the kernel.
	name          unix.RawSockaddrInet6 // or a RawSockaddrInet4 in its place
	nameLen       uint32
	sourceControl [sourceControlSpace]byte
	sourceLen     int
}

func newEndpoint(dst netip.AddrPort, src netip.Addr) (*Endpoint, error) {
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	e := &Endpoint{dst: dst, src: src}
	if dst.Addr().Is4() {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&e.name))
		sa.Family = unix.AF_INET
		putPort(&sa.Port, dst.Port())
		sa.Addr = dst.Addr().As4()
		e.nameLen = unix.SizeofSockaddrInet4
	} else {
		scope, err := scopeID(dst.Addr().Zone())
		if err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", dst, err)
		}
		e.name.Family = unix.AF_INET6
		putPort(&e.name.Port, dst.Port())
		e.name.Addr = dst.Addr().As16()
		e.name.Scope_id = scope
		e.nameLen = unix.SizeofSockaddrInet6
	}
	if src.IsValid() {
		e.sourceLen = len(appendSource(e.sourceControl[:0], src))
	}
	return e, nil
}

// AddrPort returns the peer's address.
func (e *Endpoint) AddrPort() netip.AddrPort { return e.dst }

// Session returns the word that a Bind keeps with the endpoint; see bind.Endpoint.
func (e *Endpoint) Session() *bind.Session { return &e.session }

// ClearSrc leaves the source address to the routing table from now on.
func (e *Endpoint) ClearSrc() { e.cleared.Store(true) }

// SrcIP returns the local address, invalid if the routing table chooses it.
func (e *Endpoint) SrcIP() netip.Addr {
	if e.cleared.Load() {
		return netip.Addr{}
	}
	return e.src
}

// SrcToString returns the local address, "" if the routing table chooses it.
func (e *Endpoint) SrcToString() string {
	if src := e.SrcIP(); src.IsValid() {
		return src.String()
	}
	return ""
}

// DstIP returns the peer's IP address.
func (e *Endpoint) DstIP() netip.Addr { return e.dst.Addr() }

// DstToString returns the peer's address as IP:port.
func (e *Endpoint) DstToString() string { return e.dst.String() }

// DstToBytes returns the peer's address as the cookie's MAC covers it.
func (e *Endpoint) DstToBytes() []byte {
	b, _ := e.dst.MarshalBinary() // never fails
	return b
}

// source returns the control message for the local address, empty if the
// routing table chooses it.
func (e *Endpoint) source() []byte {
	if e.cleared.Load() {
		return nil
	}
	return e.sourceControl[:e.sourceLen]
}

// maxEndpoints bounds the endpoints remembered by a socket. Anyone can make up
// source addresses; when the cache is full it is cleared, which costs a
// living peer one allocation.
const maxEndpoints = 1024

// endpointKey is the kernel's words for a peer's address and ours.
type endpointKey struct {
	name  unix.RawSockaddrInet6
	local [16]byte
}

// endpointCache interns endpoints, so that receiving allocates none. Not safe
// for concurrent use: each socket's receiver has its own.
type endpointCache struct {
	lastKey endpointKey
	last    *Endpoint
	all     map[endpointKey]*Endpoint
}

func (c *endpointCache) get(key *endpointKey) *Endpoint {
	if c.last != nil && c.lastKey == *key && !c.last.cleared.Load() {
		return c.last
	}
	e := c.all[*key]
	if e == nil || e.cleared.Load() {
		// An Endpoint that was cleared stays so: its holder knows why.
		if c.all == nil || len(c.all) >= maxEndpoints {
			c.all = make(map[endpointKey]*Endpoint)
		}
		e = key.endpoint()
		c.all[*key] = e
	}
	c.lastKey, c.last = *key, e
	return e
}

func (k *endpointKey) endpoint() *Endpoint {
	var dst, src netip.Addr
	port := k.name.Port
	if k.name.Family == unix.AF_INET {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&k.name))
		dst = netip.AddrFrom4(sa.Addr)
		src = netip.AddrFrom4([4]byte(k.local[:4]))
	} else {
		dst = netip.AddrFrom16(k.name.Addr)
		src = netip.AddrFrom16(k.local)
		if k.name.Scope_id != 0 {
			dst = dst.WithZone(strconv.Itoa(int(k.name.Scope_id)))
		}
	}
	if src.IsUnspecified() {
		src = netip.Addr{}
	}
	e, err := newEndpoint(netip.AddrPortFrom(dst, getPort(&port)), src)
	if err != nil {
		panic(err) // the zone is a number
	}
	return e
}

// scopeID returns the index of the interface that a zone names.
func scopeID(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, err
	}
	return uint32(i.Index), nil
}

// A port in a socket address is in network byte order.
func putPort(p *uint16, port uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(p))[:], port)
}

func getPort(p *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:])
}
