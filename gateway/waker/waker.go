// Package waker wakes senders after an outage or a takeover: those whose bytes are in flight toward
// a site would otherwise wait for their retransmission timers.
package waker

import (
	"context"
	"slices"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/gateway/sites"
)

// Path is the data path. Both methods wake at a bounded rate until ctx ends, and return how many
// connections they woke: WakeFlows senders of this site, Retell those of another one.
type Path interface {
	WakeFlows(ctx context.Context, site int) int
	Retell(ctx context.Context, site int) int
}

// queueLen bounds the requests that wait: one for each of some sites.
const queueLen = 8

// Waker wakes senders toward the sites that sites.Wake events name.
type Waker struct {
	sites []sites.Site
	path  Path
	log   hclog.Logger
	queue chan string // sites
}

var _ sites.Listener = (*Waker)(nil)

// New returns a Waker that wakes no sender until Run. list is in the order of the flow table's
// sites.
func New(list []sites.Site, path Path, log hclog.Logger) *Waker {
	return &Waker{sites: list, path: path, log: log, queue: make(chan string, queueLen)}
}

// Notice implements sites.Listener. It doesn't block.
func (w *Waker) Notice(e sites.Event) {
	if e.Kind != sites.Wake {
		return
	}
	select {
	case w.queue <- e.Site:
	default: // many rounds are under way, and they wake the same senders
	}
}

// Run wakes senders on both sides until ctx ends. A second request for a site ends the round under
// way and begins again with all senders.
func (w *Waker) Run(ctx context.Context) error {
	var rounds errgroup.Group // none fails
	stop := map[string]context.CancelFunc{}
	defer func() { _ = rounds.Wait() }()
	for {
		var site string
		select {
		case <-ctx.Done():
			return nil
		case site = <-w.queue:
		}
		if end := stop[site]; end != nil {
			end()
		}
		i := slices.IndexFunc(w.sites, func(s sites.Site) bool { return s.Name == site })
		if i < 0 {
			continue
		}
		round, end := context.WithCancel(ctx)
		stop[site] = end
		rounds.Go(func() error {
			defer end()
			retold := w.path.Retell(round, i)
			if n := w.path.WakeFlows(round, i); n+retold > 0 {
				w.log.Info("woke connections with bytes in flight", "site", site, "here", n, "there", retold)
			}
			return nil
		})
	}
}
