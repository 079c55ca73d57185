package flow

import (
	"net/netip"
	"time"

	"github.com/onewaylink/gw/gateway/denials"
	"github.com/onewaylink/gw/netstack/wire"
)

// Rule is what the table keeps of the policy rule that allowed a flow.
type Rule struct {
	// Name is the rule's name in the configuration, Pos its file:line.
	Name, Pos string
	// Mode is how it wants TCP connections to be carried.
	Mode Mode
}

// Judge decides who may open a flow to whom. It is asked once for each flow, in
// the direction of its opening. It must be safe for concurrent use.
type Judge interface {
	// Judge returns the rule that allows the flow, or nil. port is the
	// destination's, and 0 for protocols without ports.
	Judge(src, dst netip.Addr, proto uint8, port uint16) *Rule
}

// Recorder keeps what is needed to carry a flow on after a restart. Calls come
// from the data path: they must not block, and must not keep the slices.
type Recorder interface {
	Put(key, value []byte)
	Delete(key []byte)
}

// Host is the device through which the host's packets come and go.
type Host interface {
	// Read reads one packet, which may be a super-segment, into b.
	Read(b []byte) (int, wire.Offload, error)
	// TryRead is Read, but returns 0 at once when no packet is there.
	TryRead(b []byte) (int, wire.Offload, error)
	// Write writes the packet that vec makes up. It must be safe for concurrent use.
	Write(vec [][]byte, o wire.Offload) error
	// SetReadDeadline makes a blocked Read return os.ErrDeadlineExceeded.
	SetReadDeadline(time.Time) error
	// Pending reports whether packets wait to be read.
	Pending() bool
	// Offload reports whether Write takes super-segments and unfinished checksums.
	Offload() bool
}

// Site is one of the sites of the network, as the table sees it.
type Site struct {
	Name string
	// Prefixes hold the site's subnets and its nodes' own addresses.
	Prefixes []netip.Prefix
	// Linked says that this node's site has a link to it.
	Linked bool
}

// Config is what a Table is made of.
type Config struct {
	// Self is the index of this node's own site in Sites.
	Self  int
	Sites []Site
	// Nodes holds the own addresses of all nodes of all sites. No host may send packets between
	// them that only gateways send.
	Nodes []netip.Addr
	// Voice holds the addresses that the gateway's own ICMP errors come from,
	// the node's own. A family without one takes the address that the packet
	// was sent to, so that the sender accepts the error.
	Voice []netip.Addr
	// MTU is that of the TUN device: no inner packet is larger.
	MTU      int
	Judge    Judge
	Recorder Recorder // may be nil
	Observer Observer // may be nil
	// Denials counts the attempts among the dropped packets, by index in Sites; may be nil.
	Denials *denials.Ledger
	// Now is a monotonic clock, counted from any fixed moment.
	Now func() time.Duration
	// Alive reports whether the process has been running. While it says no,
	// packets are dropped, since they may be of a past that the sibling has
	// carried on without this node. nil is always.
	Alive func() bool
	// Grace is how long after the start packets of unknown connections are
	// counted as waiting for a record rather than as stray.
	Grace time.Duration
	// MaxFlows bounds the table. One site may fill no more than three quarters
	// of it, so that it can't keep the others out.
	MaxFlows int
	// MaxFragmentBytes bounds the memory of fragments that wait for the rest, each
	// way; 0 is the Reassembler's default. One source may fill a quarter of it.
	MaxFragmentBytes int
}

// DefaultMaxFlows is a bound that costs about 64 MB when it is reached, and on a
// standby a fifth of that.
const DefaultMaxFlows = 131072

// The time-outs, since the last packet of a flow. They are generous: a flow
// kept too long costs memory, one forgotten too early costs a connection.
const (
	timeoutUDP      = 30 * time.Second // nothing has come back yet
	timeoutUDPReply = 5 * time.Minute  // RFC 4787 REQ-5
	timeoutICMP     = 60 * time.Second // RFC 5508 REQ-2
	timeoutRevoked  = 5 * time.Minute  // a sender that still tries does so every two (RFC 6298 section 2.5)
	timeoutOther    = 10 * time.Minute //
	sweepEvery      = 2 * time.Second  // how often the table is searched for what has timed out
	recordBytes     = uint32(64 << 20) // a record's positions are never older than this many bytes
)
