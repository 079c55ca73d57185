package web

import (
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

const (
	// step is the time between two points of a plot, and points how many are kept: an hour.
	step   = 10 * time.Second
	points = 360
	// maxLinks bounds the plots, and maxEvents the timeline.
	maxLinks  = 64
	maxEvents = 100
)

// Point is what a link was like during one step: the worst of the snapshots in it. What was not
// measured is nil.
type Point struct {
	// RTT is in seconds, LossOut and LossIn are ratios.
	RTT     *float64 `json:"rtt"`
	LossOut *float64 `json:"out"`
	LossIn  *float64 `json:"in"`
	// Up is false when any snapshot found the link not to carry packets.
	Up bool `json:"up"`
	// Tx and Rx are the WireGuard counters at the end of the step, in bytes.
	Tx uint64 `json:"tx"`
	Rx uint64 `json:"rx"`
}

// Event is an entry of the timeline.
type Event struct {
	At time.Time `json:"at"`
	// Kind is failover, carrier, role or link.
	Kind string `json:"kind"`
	Text string `json:"text"`
	// Bad marks what an operator should look at.
	Bad bool `json:"bad,omitempty"`
	// Failover has the phases, where this node knows them.
	Failover *status.Failover `json:"failover,omitempty"`
}

// History is the last hour as the page gets it: for each peer the points up to End, the oldest
// first, nil where there was none.
type History struct {
	End    time.Time           `json:"end"`
	Step   status.Seconds      `json:"step_seconds"`
	Points int                 `json:"points"`
	Links  map[string][]*Point `json:"links"`
	Events []Event             `json:"events"`
}

// history samples snapshots. It is for one goroutine at a time.
type history struct {
	slot   int64 // the step that is being filled, counted from 1970
	links  map[string]*[points]*Point
	events []Event // the oldest first
	last   *status.Status
	// changed is whether the last snapshot has changed the events.
	changed bool
}

func newHistory() *history { return &history{links: make(map[string]*[points]*Point)} }

// add takes a snapshot in. Snapshots come in the order of their times; one from before the last,
// after the clock was set back, restarts the plots, which is what an operator then sees
// everywhere else. It returns whether the timeline has changed.
func (h *history) add(s *status.Status) (changed bool) {
	h.changed = false
	slot := s.Time.UnixNano() / int64(step)
	switch {
	case h.last != nil && slot < h.slot, slot-h.slot >= points:
		clear(h.links)
	default:
		for old := h.slot + 1; old <= slot; old++ {
			for _, ring := range h.links {
				ring[old%points] = nil
			}
		}
	}
	h.slot = slot
	for i := range s.Links {
		h.point(&s.Links[i])
	}
	h.compare(s)
	h.last = s
	return h.changed
}

func (h *history) point(l *status.Link) {
	ring := h.links[l.Peer]
	if ring == nil {
		if len(h.links) >= maxLinks {
			return
		}
		ring = new([points]*Point)
		h.links[l.Peer] = ring
	}
	p := ring[h.slot%points]
	if p == nil {
		p = &Point{Up: true}
		ring[h.slot%points] = p
	}
	p.Up = p.Up && l.State.Carries()
	p.Tx, p.Rx = l.TxBytes, l.RxBytes
	if l.Measured() {
		p.RTT = worse(p.RTT, l.RTT.Float())
		p.LossOut, p.LossIn = worse(p.LossOut, l.LossOut), worse(p.LossIn, l.LossIn)
	}
}

func worse(old *float64, v float64) *float64 {
	if old != nil && *old > v {
		return old
	}
	return &v
}

// compare tells what has changed since the last snapshot. A failover that lies before the first one
// is told too: the pair remembers it.
func (h *history) compare(s *status.Status) {
	var before status.Status
	if h.last != nil {
		before = *h.last
	}
	if s.HA != nil {
		h.compareHA(s, before.HA)
	}
	was := make(map[string]status.LinkState, len(before.Links))
	for _, l := range before.Links {
		was[l.Peer] = l.State
	}
	for _, l := range s.Links {
		if old, known := was[l.Peer]; known && old != l.State {
			h.tell(Event{At: s.Time, Kind: "link", Text: l.Peer + ": " + string(old) + " → " + string(l.State), Bad: !l.State.Carries()})
		}
	}
}

func (h *history) compareHA(s *status.Status, before *status.HA) {
	if f := s.HA.LastFailover; f != nil && (before == nil || before.LastFailover == nil || *before.LastFailover != *f) {
		text := f.To + " took over"
		if f.From != "" {
			text += " from " + f.From
		}
		h.tell(Event{At: f.At, Kind: "failover", Text: text + ": " + f.Reason, Bad: !f.Planned, Failover: f})
	}
	if before == nil {
		return
	}
	if before.Role != s.HA.Role {
		h.tell(Event{At: s.Time, Kind: "role", Text: s.Node + ": " + string(before.Role) + " → " + string(s.HA.Role)})
	}
	was := make(map[string]string, len(before.Carriers))
	for _, c := range before.Carriers {
		was[c.Site] = c.Node
	}
	for _, c := range s.HA.Carriers {
		if old := was[c.Site]; old != "" && c.Node != "" && old != c.Node && c.Site != s.Site {
			h.tell(Event{At: s.Time, Kind: "carrier", Text: "site " + c.Site + ": " + old + " → " + c.Node})
		}
	}
}

func (h *history) tell(e Event) {
	h.changed = true
	// The later phases of a failover become known while the earlier ones are shown.
	for i := range h.events {
		if old := h.events[i].Failover; old != nil && e.Failover != nil && old.To == e.Failover.To && old.Epoch == e.Failover.Epoch {
			h.events[i] = e
			return
		}
	}
	if len(h.events) == maxEvents {
		h.events = append(h.events[:0], h.events[1:]...)
	}
	h.events = append(h.events, e)
}

// view lays the rings out.
func (h *history) view() History {
	v := History{
		End: time.Unix(0, (h.slot+1)*int64(step)).UTC(), Step: status.Seconds(step), Points: points,
		Links: make(map[string][]*Point, len(h.links)), Events: append([]Event{}, h.events...),
	}
	for peer, ring := range h.links {
		list := make([]*Point, points)
		for i := range list {
			list[i] = ring[(h.slot+1+int64(i))%points]
		}
		v.Links[peer] = list
	}
	return v
}
