package audit

import (
	"net/netip"
	"time"
)

// Event is one line. Empty fields are left out.
type Event struct {
	Time time.Time `json:"time"`
	// Kind is flow_open, flow_end, denied, full, lost, reload, or what an election calls its
	// events.
	Kind string `json:"event"`
	Node string `json:"node"`
	*Flow
	Denied *Denial `json:"denied,omitempty"`
	// Attrs tell more of what is no flow.
	Attrs map[string]string `json:"attrs,omitempty"`
	// Lines is how many lines were lost before this one.
	Lines uint64 `json:"lines,omitempty"`
}

// Flow is who spoke to whom, and by whose leave.
type Flow struct {
	Proto           string         `json:"proto"`
	Source          netip.AddrPort `json:"source"`
	Destination     netip.AddrPort `json:"destination"`
	SourceSite      string         `json:"source_site"`
	DestinationSite string         `json:"destination_site"`
	Rule            string         `json:"rule"`
	RulePos         string         `json:"rule_pos"`
	// Reason is why it ended. One that opens has a reason when it goes on from before: restored,
	// fetched, taken over or resumed. Opened is when it was opened then, as far as that is known.
	Reason string    `json:"reason,omitempty"`
	Opened time.Time `json:"opened,omitzero"`
	// End is nil for a flow that opens.
	*End
}

// End is what came of a flow since the line with which it opened on this node. Bytes are of whole
// IP packets, out of this node's site and into it.
type End struct {
	BytesOut uint64  `json:"bytes_out"`
	BytesIn  uint64  `json:"bytes_in"`
	Duration float64 `json:"duration_seconds"`
	// Carried is raw, or relayed if it was for a time.
	Carried string `json:"carried"`
}

// Denial aggregates packets of one site to one destination that were dropped for one reason. Where
// there were too many destinations to tell apart, one Denial has the rest: without Destination,
// Proto, Reason and ports, and with the least number of destinations.
type Denial struct {
	SourceSite   string       `json:"source_site"`
	Sources      []netip.Addr `json:"sources"`
	MoreSources  bool         `json:"more_sources,omitempty"`
	Proto        string       `json:"proto,omitempty"`
	Destination  netip.Addr   `json:"destination,omitzero"`
	Destinations int          `json:"destinations_at_least,omitempty"`
	// Ports are the lowest destination ports, and PortCount how many there were.
	Ports     []uint16  `json:"ports,omitempty"`
	PortCount int       `json:"port_count,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Packets   uint64    `json:"packets"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
}
