package link

import (
	"fmt"
	"strings"
	"time"

	"github.com/onewaylink/gw/gateway/link/bind"
	"github.com/onewaylink/gw/gateway/link/hello"
)

// PeerStatus is what people see of a peer.
type PeerStatus struct {
	Site, Node string
	State      hello.State
	Since      time.Time // when State began; zero if it never changed
	Refused    string    // why, when State is hello.Refused
	Endpoint   string    // IP:port outside; empty while unknown
	Initiator  bool      // this side dials

	LastHandshake time.Time // zero before the first
	RTT, RTTVar   time.Duration
	// LossOut and LossIn are fractions of the latest hellos.
	LossOut, LossIn float64
	// MTUOut and MTUIn are bytes of inner packet; 0 while unknown.
	MTUOut, MTUIn  int
	TxBytes        uint64 // WireGuard's, outside
	RxBytes        uint64
	Version        string // of the peer's software
	Protocol       uint8  // of its hello; 0 while unknown
	Differences    []Difference
	Omitted        int      // further differences, which are not kept
	Duplicate      []string // endpoints of two processes with the peer's key
	DuplicateSelf  []string // endpoints of two processes with this node's key
	Skew           time.Duration
	ClockBehind    time.Duration // this node's clock is behind its own last handshake
	HellosSent     uint64
	HellosReceived uint64
}

// A Difference is a setting in which both configurations differ.
type Difference struct {
	Attribute string // or the section, when it is missing as a whole
	Kind      string // "differs", "only_here", "only_there"
	Fatal     bool
}

// Stats are counters of the link as a whole.
type Stats struct {
	Bind bind.Stats
	// Control packets dropped: too many waiting for the link, too many hellos
	// waiting, damaged, or to a port without a handler.
	ControlQueueFull, ControlInboxFull, ControlDamaged, ControlUnwanted uint64
	// OutboundWaits and InboundWaits count how often packets had to wait
	// because too many were in flight inside wireguard-go.
	OutboundWaits, InboundWaits uint64
	// OutboundResets counts how often those in flight were taken for lost.
	OutboundResets uint64
	// Undelivered counts datagrams of known sessions that WireGuard dropped.
	Undelivered uint64
}

// Snapshot describes all peers, in the order of the configuration.
func (l *Link) Snapshot() []PeerStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known, _ := l.get() // nothing is known before Run
	now, wall := l.now(), l.wall()
	out := make([]PeerStatus, 0, len(l.peers))
	for _, p := range l.peers {
		h, wg := p.hello.Snapshot(now), known[p.PublicKey]
		s := PeerStatus{
			Site: p.Site, Node: p.Node, State: h.State, Refused: strings.Join(h.Reasons, "; "),
			Endpoint: wg.endpoint, Initiator: p.Dial, LastHandshake: wg.handshake,
			RTT: h.RTT, RTTVar: h.RTTVar, LossOut: h.LossOut, LossIn: h.LossIn,
			MTUOut: h.MTUOut, MTUIn: h.MTUIn, TxBytes: wg.tx, RxBytes: wg.rx,
			Version: h.Software, Protocol: h.Protocol, Skew: h.Skew,
			Omitted:    h.Omitted,
			HellosSent: h.Sent, HellosReceived: h.Received,
		}
		if h.Since > 0 {
			s.Since = wall.Add(h.Since - now)
		}
		if h.State == hello.Down {
			s.MTUOut = 0
			if p.dial.active {
				s.State = hello.Establishing
			}
		}
		if p.dials() {
			s.ClockBehind = l.clock.behind(wall)
		}
		for _, d := range h.Differences {
			s.Differences = append(s.Differences, difference(d))
		}
		if h.Duplicate {
			s.Duplicate = h.DuplicateEndpoints[:]
		}
		if h.DuplicateSelf {
			s.DuplicateSelf = h.DuplicateSelfEndpoints[:]
		}
		out = append(out, s)
	}
	return out
}

func difference(d hello.Difference) Difference {
	out := Difference{Attribute: d.Name, Kind: strings.ReplaceAll(d.Kind.String(), " ", "_"), Fatal: d.Fatal}
	if d.Name == "" {
		out.Attribute = d.Section
	}
	return out
}

// maxNames bounds the differences that a log line names.
const maxNames = 12

// names lists differences for a log line. omitted are those that are not in ds.
func names(ds []hello.Difference, omitted int) []string {
	out := make([]string, 0, maxNames+1)
	for _, d := range ds[:min(len(ds), maxNames)] {
		out = append(out, difference(d).Attribute+" "+d.Kind.String())
	}
	if n := len(ds) - len(out) + omitted; n > 0 {
		out = append(out, fmt.Sprintf("and %d more: see gw status", n))
	}
	return out
}

// Stats returns the link's counters.
func (l *Link) Stats() Stats {
	d := &l.tun.drops
	return Stats{
		Bind:             l.bind.Stats(),
		ControlQueueFull: d.queueFull.Load(), ControlInboxFull: d.inboxFull.Load(),
		ControlDamaged: d.badChecksum.Load(), ControlUnwanted: d.unwanted.Load(),
		OutboundWaits: l.outbound.Waits(), InboundWaits: l.bind.Intake().Waits(),
		OutboundResets: l.outbound.Resets(),
		Undelivered:    l.bind.Intake().Undelivered(),
	}
}

// ControlDropsByName returns the control packets that went no further, by the reason's name. The
// names are those that `gw status` and the metrics show, so they only ever get additions.
func (s *Stats) ControlDropsByName() map[string]uint64 {
	return map[string]uint64{
		"control-queue-full": s.ControlQueueFull, "control-inbox-full": s.ControlInboxFull,
		"control-damaged": s.ControlDamaged, "control-unwanted": s.ControlUnwanted,
	}
}
