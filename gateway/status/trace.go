package status

import (
	"encoding/json"
	"net/netip"
	"time"
)

// TraceVerdict is what becomes of a packet.
type TraceVerdict string

const (
	// TracePasses goes on.
	TracePasses TraceVerdict = "passes"
	// TraceDropped ends here.
	TraceDropped TraceVerdict = "dropped"
	// TraceUnknown means that a node could not be asked.
	TraceUnknown TraceVerdict = "unknown"
)

// Trace says what would become of a packet: on the node that was asked, and on that of the other
// site, which it asks.
type Trace struct {
	Proto           string     `json:"proto"`
	Source          netip.Addr `json:"source"`
	Destination     netip.Addr `json:"destination"`
	SourcePort      uint16     `json:"source_port,omitzero"`
	DestinationPort uint16     `json:"destination_port,omitzero"`
	// Bytes is the size of the IP packet.
	Bytes   int          `json:"bytes"`
	Verdict TraceVerdict `json:"verdict"`
	// Standby is the node that was asked, where that stands by, and Active its sibling, which was
	// asked in its place.
	Standby string `json:"standby,omitempty"`
	Active  string `json:"active,omitempty"`
	// Steps are the nodes on its way, in order. One that follows a drop says what it would say if
	// the packet reached it.
	Steps []TraceStep `json:"steps"`
}

// TraceStep is what one node would do.
type TraceStep struct {
	Node string `json:"node"`
	Site string `json:"site"`
	// From is the side that the packet comes from: host or link.
	From    string       `json:"from"`
	Verdict TraceVerdict `json:"verdict"`
	// Reason is why it is dropped, as in Status.Drops.
	Reason string `json:"reason,omitempty"`
	// VerdictOnly says that the node of another site has withheld everything else: see
	// local.answers there.
	VerdictOnly bool `json:"verdict_only,omitempty"`
	// Unknown says why the node could not be asked.
	Unknown string `json:"unknown,omitempty"`
	// To is the site that it goes to by the link, and Carrier that site's node; both are empty for
	// what goes to the host.
	To      string `json:"to,omitempty"`
	Carrier string `json:"carrier,omitempty"`
	// PassedTo is the sibling that a standby passes it on to, unjudged.
	PassedTo string `json:"passed_to,omitempty"`
	// Rule is the policy rule that allows the flow, RulePos its file:line.
	Rule    string `json:"rule,omitempty"`
	RulePos string `json:"rule_pos,omitempty"`
	// State is where the flow stands, if the node knows it already; OpenedFrom is the address that
	// opened it.
	State      string `json:"state,omitempty"`
	OpenedFrom string `json:"opened_from,omitempty"`
	// Mode is how a TCP connection is carried or would be: raw or relayed; Why says why. Only the
	// node of the one who opens it knows.
	Mode string `json:"mode,omitempty"`
	Why  string `json:"why,omitempty"`
	// LeftOut is a rule that would allow the flow if its site's name covered the gateways' own
	// addresses; empty if there is none.
	LeftOut string `json:"left_out,omitempty"`
	// MTU is the largest packet that the way takes, in bytes, and PathMTU what was measured of it;
	// 0 while nothing was.
	MTU     int `json:"mtu_bytes,omitzero"`
	PathMTU int `json:"path_mtu_bytes,omitzero"`
	// Packets are what goes on, and LargestBytes is the size of the largest of them. MSS is what a
	// SYN says when it leaves.
	Packets      int `json:"packets"`
	LargestBytes int `json:"largest_bytes,omitzero"`
	MSS          int `json:"mss_bytes,omitzero"`
	// Answers are what the sender is told, in words.
	Answers []string `json:"answers"`
}

// MarshalJSON writes empty lists as [], as Status does.
func (s TraceStep) MarshalJSON() ([]byte, error) {
	type plain TraceStep
	s.Answers = notNil(s.Answers)
	return json.Marshal(plain(s))
}

// Packet is a real packet, as the gateway has seen it.
type Packet struct {
	Time time.Time `json:"time"`
	// Side is host or link, Direction in or out of the gateway there.
	Side      string `json:"side"`
	Direction string `json:"direction"`
	// Proto and the ends are missing for what is no IP packet.
	Proto           string     `json:"proto,omitempty"`
	Source          netip.Addr `json:"source,omitzero"`
	Destination     netip.Addr `json:"destination,omitzero"`
	SourcePort      uint16     `json:"source_port,omitzero"`
	DestinationPort uint16     `json:"destination_port,omitzero"`
	// Info is TCP's flags in words, or what an ICMP packet is.
	Info  string `json:"info,omitempty"`
	Bytes int    `json:"bytes"`
	// Verdict is passes or dropped, and Reason why it was dropped.
	Verdict TraceVerdict `json:"verdict"`
	Reason  string       `json:"reason,omitempty"`
	Rule    string       `json:"rule,omitempty"`
	RulePos string       `json:"rule_pos,omitempty"`
	// Note is additional information, such as that a relay has taken it.
	Note string `json:"note,omitempty"`
}
