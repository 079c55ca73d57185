package hello

import "time"

// State says how a peer stands.
type State uint8

const (
	Down         State = iota // no WireGuard session
	Establishing              // a session; no hello of ours has been answered yet
	Up                        // hellos are answered
	Lost                      // they were, and are no longer
	Silent                    // a session, and never a hello: a stock WireGuard peer
	Refused                   // hellos are answered, and say why no data may pass
)

func (s State) String() string {
	return [...]string{"down", "establishing", "up", "lost", "silent", "refused"}[s]
}

// An Event is something that the owner of the link acts on. What it is about
// is in the [Snapshot].
type Event uint8

const (
	EventUp          Event = iota + 1 // the peer answers, and data may pass
	EventLost                         // it no longer answers: renew the session
	EventRestarted                    // another process of the peer speaks
	EventSilent                       // the peer is taken for stock WireGuard
	EventRefused                      // data must not pass, see Snapshot.Reasons
	EventMTU                          // MTUOut has changed
	EventDifferences                  // Differences has changed
	EventDuplicate                    // Duplicate or DuplicateSelf has changed
)

func (e Event) String() string {
	return [...]string{"", "up", "lost", "restarted", "silent", "refused", "mtu", "differences", "duplicate"}[e]
}

// A Snapshot is what is known of a peer. It shares no memory with the Peer.
type Snapshot struct {
	State   State
	Since   time.Duration // when State began, on the caller's clock
	Reasons []string      // why it is refused, for people

	// What the peer says of itself; empty until it was heard.
	Site, Node, Software string
	Protocol             uint8 // 0 until it was heard
	// Boot names the peer's process; 0 until it was heard.
	Boot         uint64
	Capabilities Capabilities
	Keepalive    time.Duration

	RTT, RTTVar time.Duration // smoothed (RFC 6298); 0 until measured
	// LossOut and LossIn are the fractions of the latest hellos that were lost
	// from here to the peer and from the peer to here.
	LossOut, LossIn float64
	// MTUOut is the largest inner packet, in bytes, that is known or believed
	// to reach the peer. MTUIn is what the peer says of its own.
	MTUOut, MTUIn int
	// Skew is the peer's wall clock minus this node's, to within half a round
	// trip and what the peer's clock is worth.
	Skew time.Duration

	// Differences between both configurations, sorted by section and name.
	Differences []Difference
	// Omitted is the number of further differences, which are not kept.
	Omitted int
	// Duplicate says that two processes use the peer's key, from these endpoints.
	Duplicate          bool
	DuplicateEndpoints [2]string
	// DuplicateSelf says that the peer sees this node's key used twice.
	DuplicateSelf          bool
	DuplicateSelfEndpoints [2]string

	Sent, Received uint64 // hellos
	Bad            uint64 // payloads that were refused
}
