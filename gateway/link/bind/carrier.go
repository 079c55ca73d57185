package bind

import (
	"net/netip"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/conn"
)

// A Carrier sends and receives datagrams for a Bind and knows no rule about what is in them.
// It is wireguard-go's conn.Bind, with these additions to the contract:
//
//   - The endpoints that ParseEndpoint makes and the ReceiveFuncs return are Endpoints.
//   - Each ReceiveFunc returns datagrams of one peer in the order in which they arrived. It may
//     return a size of 0, which the Bind and wireguard-go pass over.
//   - Send keeps no buffer after it returned. It counts a datagram that cannot be sent and
//     returns no error for it. Errors are net.ErrClosed, conn.ErrWrongEndpointType, and an
//     endpoint that no datagram can reach.
//   - Close may be called at any time, also of a closed Carrier.
type Carrier interface {
	conn.Bind
	// Stats returns the counters. It may be called at any time.
	Stats() CarrierStats
}

// An Endpoint is a peer's address at a Carrier. Safe for concurrent use.
type Endpoint interface {
	conn.Endpoint
	// AddrPort returns the peer's address, by which the rules know it. Two endpoints with
	// one address reach the same peer.
	AddrPort() netip.AddrPort
	// Session returns what the Bind keeps with the endpoint, zero in a new one. The carrier
	// only stores it.
	Session() *Session
}

// A Session is the session index that the Bind last sent to at an Endpoint. The zero Session is
// none. Safe for concurrent use.
type Session struct {
	last atomic.Uint64 // the index, plus one
}

// Is reports whether the Session is that of an index.
func (s *Session) Is(index uint32) bool { return s.last.Load() == uint64(index)+1 }

// Set makes the Session that of an index.
func (s *Session) Set(index uint32) { s.last.Store(uint64(index) + 1) }

// CarrierStats is a snapshot of a Carrier's counters, which live as long as the Carrier.
type CarrierStats struct {
	SentDatagrams     uint64
	SentBytes         uint64 // of WireGuard messages
	ReceivedDatagrams uint64 // dropped ones included
	ReceivedBytes     uint64 // of WireGuard messages

	// Drops counts datagrams that the Carrier dropped, indexed by Reason.
	Drops [NumReasons]uint64

	// ReceiveErrors counts system calls that failed on receive. No datagram is
	// known to be lost by them.
	ReceiveErrors uint64
	// SplitSends counts coalesced sends that the kernel refused as a whole and
	// that were sent again one datagram at a time.
	SplitSends uint64
}
