package netstack

import (
	"net/netip"
	"sync"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// The shares of one other node in a Host. The host serves few ports, for conversations that take
// seconds at most: several connections at a time are enough, and a node that opens them faster than
// this floods.
const (
	sourceQueue = inQueue / 4 // packets that wait on their way in
	sourceConns = 16          // accepted connections that are not closed
	sourceSYNs  = 32          // connections that it may open at once
	// synEvery is the time after which it may open one more.
	synEvery = 100 * time.Millisecond
	// maxSources bounds how many nodes have shares of their own. The link lets only the addresses
	// of linked nodes through, which are far fewer; further ones share one.
	maxSources = 256
)

// shares keeps any one node from using up a Host. Its methods are safe for concurrent use.
type shares struct {
	now func() time.Time

	mu     sync.Mutex
	source map[netip.Addr]*share
	rest   share // of the nodes beyond maxSources
}

// share is what one node uses.
type share struct {
	queued, conns int
	syns          int       // opened at once: sourceSYNs is none left
	since         time.Time // since when the next one is being returned
}

func newShares(now func() time.Time) *shares {
	return &shares{now: now, source: make(map[netip.Addr]*share)}
}

func (s *shares) of(a netip.Addr) *share {
	if x := s.source[a]; x != nil {
		return x
	}
	if len(s.source) == maxSources {
		return &s.rest
	}
	x := &share{}
	s.source[a] = x
	return x
}

// enqueue takes a place in the queue for a packet of a node, and reports false where the node has
// no more, or opens connections too fast. dequeue returns the place.
func (s *shares) enqueue(a netip.Addr, syn bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.of(a)
	if x.queued == sourceQueue || syn && !x.open(s.now()) {
		return false
	}
	x.queued++
	return true
}

func (s *shares) dequeue(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of(a).queued--
}

// open takes one of the connections that the node may open.
func (x *share) open(now time.Time) bool {
	if back := int(now.Sub(x.since) / synEvery); back > 0 {
		x.syns = max(0, x.syns-back)
		x.since = x.since.Add(time.Duration(back) * synEvery)
	}
	if x.syns == sourceSYNs {
		return false
	}
	if x.syns == 0 {
		x.since = now
	}
	x.syns++
	return true
}

// accept counts an accepted connection of a node, and reports false where it has too many. closed
// counts its end.
func (s *shares) accept(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.of(a)
	if x.conns == sourceConns {
		return false
	}
	x.conns++
	return true
}

func (s *shares) closed(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of(a).conns--
}

// sourceOf returns the source address of an IP packet and whether the packet is a TCP SYN. ok is
// false for what has no IP header.
func sourceOf(b []byte) (a netip.Addr, syn, ok bool) {
	var proto byte
	var at int
	switch {
	case len(b) >= wire.IPv4Header && b[0]>>4 == 4:
		a, proto, at = netip.AddrFrom4([4]byte(b[12:16])), b[9], int(b[0]&15)*4
	case len(b) >= wire.IPv6Header && b[0]>>4 == 6:
		a, proto, at = netip.AddrFrom16([16]byte(b[8:24])), b[6], wire.IPv6Header
	default:
		return a, false, false
	}
	syn = proto == wire.ProtoTCP && len(b) >= at+wire.TCPHeader && b[at+13]&(wire.SYN|wire.ACK) == wire.SYN
	return a, syn, true
}
