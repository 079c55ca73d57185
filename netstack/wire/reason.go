package wire

// Reason is why a packet was dropped. Each dropped packet has exactly one,
// and a counter counts it; OK is no reason.
type Reason uint8

// The reasons of the data path. Their names are part of what `gw status`
// prints and of the metrics, so they only ever get additions.
const (
	OK Reason = iota

	// What is wrong with the packet itself.

	Short          // cut off before its headers end
	BadVersion     // neither IPv4 nor IPv6
	BadHeader      // a length or an offset in the IP header is invalid
	BadChecksum    // a checksum does not hold
	SourceRoute    // asks for a source route (RFC 7126 section 4.3, RFC 5095)
	BadExtension   // an IPv6 extension header that is malformed, or too many
	BadTransport   // a TCP, UDP or ICMP header that is invalid
	BadFlags       // TCP flags that no TCP sends together
	FragmentBad    // a fragment that overlaps, is inconsistent or too small
	FragmentLimit  // the space or the time for reassembly is used up
	TooBig         // larger than the path MTU; answered with ICMP
	MartianAddress // multicast, loopback, unspecified or another address not routed

	// What is wrong with its source or destination.

	Spoofed     // the source does not belong to the side that it came from
	Impostor    // a host's, in the name of a gateway: between nodes' addresses, on their ports or protocol
	Loop        // it would leave on the side that it came from
	NoRoute     // no site of this network owns the destination
	LinkDown    // the link toward the other site is down
	LinkRefused // the link is up, but refused until its configuration is mended

	// What the flow table decides.

	Denied      // policy allows nothing of the kind; answered with ICMP
	Revoked     // of a flow that policy no longer allows; answered with ICMP
	NoFlow      // belongs to no flow known, and can't open one
	Unconfirmed // its flow is known only from another site, and the local end has not confirmed it
	Grace       // the same, in the time after the start in which records may arrive
	OutOfState  // the flow's state does not allow it
	OutWindow   // outside the TCP windows of its flow
	TableFull   // no room for another flow
	SiteFull    // no room for another flow opened by that site
	Unmatched   // an ICMP error that quotes no flow known
	ICMPType    // an ICMP type that gateways do not forward; see Packet.ForwardsICMP

	// What the pair decides.

	Frozen  // it waited while the process stood still
	Standby // it reached the node that is not active, and could not be passed on

	// What the machine could not do.

	HostWrite // the host's TUN device refused it
	QueueFull // a queue of the gateway's own packets was full
	HostQueue // the kernel dropped it, for the TUN device was not read in time

	NumReasons
)

var reasonNames = [NumReasons]string{
	OK:             "ok",
	Short:          "short",
	BadVersion:     "bad-version",
	BadHeader:      "bad-header",
	BadChecksum:    "bad-checksum",
	SourceRoute:    "source-route",
	BadExtension:   "bad-extension",
	BadTransport:   "bad-transport",
	BadFlags:       "bad-flags",
	FragmentBad:    "fragment-bad",
	FragmentLimit:  "fragment-limit",
	TooBig:         "too-big",
	MartianAddress: "martian-address",
	Spoofed:        "spoofed",
	Impostor:       "impostor",
	Loop:           "loop",
	NoRoute:        "no-route",
	LinkDown:       "link-down",
	LinkRefused:    "link-refused",
	Denied:         "denied",
	Revoked:        "revoked",
	NoFlow:         "no-flow",
	Unconfirmed:    "unconfirmed",
	Grace:          "grace",
	OutOfState:     "out-of-state",
	OutWindow:      "out-of-window",
	TableFull:      "table-full",
	SiteFull:       "site-full",
	Unmatched:      "unmatched-icmp",
	ICMPType:       "icmp-type",
	Frozen:         "frozen",
	Standby:        "standby",
	HostWrite:      "host-write",
	QueueFull:      "queue-full",
	HostQueue:      "host-queue",
}

// Prohibited reports whether policy refuses the packet; the gateway then answers its sender.
func (r Reason) Prohibited() bool { return r == Denied || r == Revoked }

// String returns the name that counters and people use.
func (r Reason) String() string {
	if r < NumReasons {
		return reasonNames[r]
	}
	return "unknown"
}
