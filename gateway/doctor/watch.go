package doctor

import (
	"context"
	"sync"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

const (
	// sampleEvery is the time between two snapshots that a Watch keeps, and samples how many it
	// keeps. Together they are the time over which counters are judged: what went wrong earlier is
	// over.
	sampleEvery = 30 * time.Second
	samples     = 10
)

// Watch keeps earlier snapshots of a gateway, so that its counters are judged by what they counted
// lately and not since the start. Its methods are safe for concurrent use.
type Watch struct {
	source status.StatusSource

	mu   sync.Mutex
	kept []status.Status // the oldest first
}

// NewWatch makes a Watch that has kept nothing yet.
func NewWatch(source status.StatusSource) *Watch { return &Watch{source: source} }

// Run keeps a snapshot every 30 s until ctx ends, which is no error.
func (w *Watch) Run(ctx context.Context) error {
	t := time.NewTicker(sampleEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			w.keep(w.source.Status())
		}
	}
}

func (w *Watch) keep(s status.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.kept) == samples {
		w.kept = append(w.kept[:0], w.kept[1:]...)
	}
	w.kept = append(w.kept, s)
}

// Checks judges a snapshot as Running does, against the oldest one that is kept. A gateway that has
// just started is judged by all that it has counted.
func (w *Watch) Checks(s status.Status) []Check {
	w.mu.Lock()
	before := status.Status{Time: s.Started}
	if len(w.kept) > 0 {
		before = w.kept[0]
	}
	w.mu.Unlock()
	return Running(s, before)
}
