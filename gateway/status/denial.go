package status

import (
	"net/netip"
	"time"
)

// Denials is what this node knows of packets that it dropped because their senders must not send
// them.
type Denials struct {
	// Top are those with the most packets, at most 8, the most first. A node tells 32 destinations
	// of each source site apart; what goes beyond is one Denial without destination.
	Top []Denial `json:"top"`
	// Totals are the packets since the start.
	Totals []DenialTotal `json:"totals"`
}

// Denial is what one site tried at one destination.
type Denial struct {
	// Site is the site that the packets came from, or unknown.
	Site string `json:"source_site"`
	// Reason is a drop reason, or question for a question about a packet. Proto, Destination and
	// Port, which is the latest port, are left out where they are not known.
	Reason      string     `json:"reason,omitempty"`
	Proto       string     `json:"proto,omitempty"`
	Destination netip.Addr `json:"destination,omitzero"`
	Port        uint16     `json:"latest_port,omitempty"`
	Packets     uint64     `json:"packets"`
	First       time.Time  `json:"first"`
	Last        time.Time  `json:"last"`
}

// DenialTotal is how many packets of a site were denied for one reason.
type DenialTotal struct {
	Site    string `json:"source_site"`
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets_total"`
}
