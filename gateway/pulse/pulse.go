// Package pulse tells whether the process has been running. A gateway that was
// frozen (SIGSTOP, a paused virtual machine, a host out of memory) and wakes up
// holds packets of a past that its sibling may have carried on without it. If a
// connection has moved on by 2^32 bytes meanwhile, old sequence numbers look new.
// So whatever writes packets asks the pulse first, and after a gap everything
// that waits is discarded before anything is written.
package pulse

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// Gap is how long the process may stand still without being taken for
	// frozen. It is far below the time in which any connection moves 2^32 bytes
	// at 10 Gbit/s (3.4 s), and above what a busy machine does to a scheduler.
	Gap = time.Second
	// beat is how often the pulse is renewed.
	beat = Gap / 8
)

// Pulse is renewed by Run while the process runs. Its methods are safe for
// concurrent use.
type Pulse struct {
	now       func() time.Duration
	last      atomic.Int64
	gaps      atomic.Uint64
	suspended atomic.Bool
}

// New makes a Pulse on a monotonic clock.
func New(now func() time.Duration) *Pulse {
	p := &Pulse{now: now}
	p.last.Store(int64(now()))
	return p
}

// Alive reports whether the process has been running, so that what is at hand
// may be written. It is cheap: a clock and an atomic load.
func (p *Pulse) Alive() bool { return p.now()-time.Duration(p.last.Load()) < Gap }

// Suspend forbids writing, or permits it again. After a gap the election suspends this node until
// it knows that no other node has replaced it.
func (p *Pulse) Suspend(on bool) { p.suspended.Store(on) }

// MayWrite reports whether the process has been running and is not suspended. It is cheap.
func (p *Pulse) MayWrite() bool { return !p.suspended.Load() && p.Alive() }

// Gaps counts how often the process was found to have been frozen.
func (p *Pulse) Gaps() uint64 { return p.gaps.Load() }

// Run renews the pulse until ctx ends. After a gap it calls discard, which discards everything that
// waits to be written; when discard returns, writing may begin again.
func (p *Pulse) Run(ctx context.Context, discard func()) error {
	t := time.NewTicker(beat)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			p.renew(discard)
		}
	}
}

func (p *Pulse) renew(discard func()) {
	if !p.Alive() {
		p.gaps.Add(1)
		discard()
	}
	p.last.Store(int64(p.now()))
}
