package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/gateway/quiet"
	"github.com/onewaylink/gw/gateway/status"
)

const (
	// sampleEvery is how often the state is looked at, and shown to those who watch.
	sampleEvery = time.Second
	// maxFlows is how many flows the page shows: those that carried most.
	maxFlows = 300
	// flowShare is which part of the time may be spent on looking through the flow table, which
	// waits meanwhile.
	flowShare = 100
	// MaxViewers is how many may watch at once.
	MaxViewers = 16
)

// Judge judges a snapshot as gw doctor does. It must not block.
type Judge interface {
	Checks(status.Status) []doctor.Check
}

// Config is what the page needs.
type Config struct {
	Source status.Source
	// Judge finds what an operator should look at.
	Judge Judge
	// Now is the clock, time.Now but in tests.
	Now    func() time.Time
	Logger hclog.Logger
}

// now is one event of the stream.
type now struct {
	Status status.Status `json:"status"`
	// Problems are the checks of gw doctor that are not well, the worst first.
	Problems []doctor.Check   `json:"problems"`
	Flows    *status.ConnList `json:"flows,omitempty"`
	// Events is the whole timeline, when it has changed.
	Events []Event `json:"events,omitempty"`
}

// Page is the page and its past. Safe for concurrent use.
type Page struct {
	cfg Config
	log *quiet.Logger // each viewer can cause a line

	mu        sync.Mutex
	history   *history
	viewers   map[chan []byte]viewer
	joined    uint64    // how many viewers there have been
	hello     []byte    // the history as an event, until the next sample makes it stale
	flows     []byte    // the last event with flows, for those who come
	flowsNext time.Time // not before then the flow table is looked through again
}

// New makes a page that knows nothing yet. It starts no goroutine.
func New(cfg Config) *Page {
	return &Page{cfg: cfg, log: quiet.New(quiet.Config{Logger: cfg.Logger.Named("web")}), history: newHistory(), viewers: make(map[chan []byte]viewer)}
}

// viewer is one stream of events: where it goes, and its number in the order of joining.
type viewer struct {
	from netip.Prefix
	nth  uint64
}

// Run samples the state until ctx ends, which is no error.
func (p *Page) Run(ctx context.Context) error {
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		if err := p.sample(); err != nil {
			return err
		}
		p.log.Flush()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// sample looks once, and shows what it sees to those who watch. A viewer that has not taken the
// last event yet misses this one.
func (p *Page) sample() error {
	s := p.cfg.Source.Status()
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := p.history.add(&s)
	p.hello = nil
	if len(p.viewers) == 0 {
		p.flows = nil
		return nil
	}
	event, err := p.event(s, changed)
	if err != nil {
		return err
	}
	for v := range p.viewers {
		select {
		case v <- event:
		default:
		}
	}
	return nil
}

// event encodes a snapshot, with the flows when it is time and the timeline when it has changed.
func (p *Page) event(s status.Status, changed bool) ([]byte, error) {
	n := now{Status: s, Problems: problems(p.cfg.Judge.Checks(s))}
	if changed {
		n.Events = p.history.events
	}
	if start := p.cfg.Now(); !start.Before(p.flowsNext) {
		list := status.Select(p.cfg.Source.Conns(), status.Query{Limit: maxFlows})
		n.Flows = &list
		p.flowsNext = start.Add(p.cfg.Now().Sub(start) * flowShare)
	}
	event, err := encode("now", n)
	if n.Flows != nil {
		p.flows = event
	}
	return event, err
}

// problems leaves out the checks that are well.
func problems(checks []doctor.Check) []doctor.Check {
	list := []doctor.Check{}
	for _, level := range []doctor.Level{doctor.Failure, doctor.Warning} {
		for _, c := range checks {
			if c.Level == level {
				list = append(list, c)
			}
		}
	}
	return list
}

// join adds a viewer from an origin and returns what it is to see at once; nil when there are too
// many.
func (p *Page) join(from netip.Prefix) (events chan []byte, first [][]byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.viewers) >= MaxViewers && !p.makeRoom(from) {
		return nil, nil, nil
	}
	if p.hello == nil {
		if p.hello, err = encode("history", p.history.view()); err != nil {
			return nil, nil, err
		}
	}
	first = append(first, p.hello)
	if p.flows == nil && p.history.last != nil {
		if p.flows, err = p.event(*p.history.last, false); err != nil {
			return nil, nil, err
		}
	}
	if p.flows != nil {
		first = append(first, p.flows)
	}
	events = make(chan []byte, 1)
	p.joined++
	p.viewers[events] = viewer{from, p.joined}
	return events, first, nil
}

// makeRoom ends the oldest stream of the origin with the most, unless that is the newcomer's own:
// one address cannot keep the others out.
func (p *Page) makeRoom(from netip.Prefix) bool {
	count := map[netip.Prefix]int{}
	for _, v := range p.viewers {
		count[v.from]++
	}
	var crowded chan []byte
	for events, v := range p.viewers {
		old := p.viewers[crowded]
		if more := count[v.from] - count[old.from]; crowded == nil || more > 0 || more == 0 && v.nth < old.nth {
			crowded = events
		}
	}
	if count[p.viewers[crowded].from] <= count[from] {
		return false
	}
	delete(p.viewers, crowded)
	close(crowded)
	return true
}

func (p *Page) leave(events chan []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.viewers, events)
}

// encode makes a server-sent event (HTML standard, section 9.2). JSON has no line breaks of its
// own.
func encode(name string, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode the web page's %s: %w", name, err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", name, data)
	return b.Bytes(), nil
}
