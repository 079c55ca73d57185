// Package health holds what a node knows of its own ability to serve its site: a set of named
// faults. Sources report what is wrong at this moment; the [Board] decides which faults stand.
//
// The state of the Board has one owner, Run, which asks all sources in turn. The election, status,
// readiness, metrics and doctor read the same faults, so that they cannot disagree.
package health

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Fault names one thing that keeps a node from serving its site, or a part of it.
type Fault string

// Part is the part of the node that a fault disables.
type Part uint8

const (
	// None is the part of a fault that is reported but disables nothing: traffic still passes.
	None Part = iota
	// LAN is the way between this node and the site's hosts.
	LAN
	// Plane is the data plane: the device, the kernel's forwarding, and this process.
	Plane
)

// String returns the part for status.
func (p Part) String() string { return [...]string{"none", "lan", "plane"}[p] }

// Finding is what a Source has found wrong.
type Finding struct {
	Fault Fault
	// What was found, as one clause without an end: "the interface lan0 is down".
	What string
	// Do is what an operator should do about it.
	Do string
}

// A Source reports what is wrong now, and nothing when all is well. The Board calls it every
// [Every] on one goroutine; it may block for as long as that.
type Source func() []Finding

// Standing is a fault that stands.
type Standing struct {
	Finding
	Part Part
	// Since is when it was raised.
	Since time.Time
}

const (
	// Every is the pace at which the Board asks its sources.
	Every = 100 * time.Millisecond
	// clearAfter is how long a fault must be absent until it no longer stands. It doubles with each
	// return, up to maxClear, and is forgiven after forgiveAfter without the fault, so that a fault
	// that comes and goes does not move the role each time.
	clearAfter   = time.Second
	maxClear     = 2 * time.Minute
	forgiveAfter = 10 * time.Minute
)

// Config configures a Board.
type Config struct {
	// Now is the wall clock, with a monotonic reading.
	Now    func() time.Time
	Logger hclog.Logger
}

// Board decides which faults stand. A fault is raised as soon as a source reports it: a source
// confirms what it reports. A fault stands until no source has reported it for some time.
//
// All methods but Watch are safe for concurrent use.
type Board struct {
	cfg     Config
	log     hclog.Logger
	sources []Source

	mu     sync.Mutex
	faults map[Fault]*record
}

// record is what is remembered of a fault.
type record struct {
	Standing
	stands bool
	seen   time.Time     // when a source reported it last
	clear  time.Duration // how long it must be absent
	raised uint64
}

// New makes a Board of the faults that [Known] lists.
func New(cfg Config) *Board {
	return &Board{cfg: cfg, log: cfg.Logger.Named("health"), faults: map[Fault]*record{}}
}

// Watch adds a source. It must not be called after Run has begun.
func (b *Board) Watch(s Source) { b.sources = append(b.sources, s) }

// Run asks the sources until ctx ends.
func (b *Board) Run(ctx context.Context) error {
	t := time.NewTicker(Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			b.Look()
		}
	}
}

// Look asks each source once, and raises and clears faults.
func (b *Board) Look() {
	var found []Finding
	for _, s := range b.sources {
		found = append(found, s()...)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.cfg.Now()
	for _, f := range found {
		b.report(now, f)
	}
	for _, r := range b.faults {
		if r.stands && now.Sub(r.seen) >= r.clear {
			r.stands = false
			b.log.Info("fault cleared", "fault", r.Fault, "lasted", now.Sub(r.Since).Round(Every))
		}
	}
}

// report raises the fault of f, or keeps it. It is called with mu held.
func (b *Board) report(now time.Time, f Finding) {
	r := b.faults[f.Fault]
	if r == nil {
		r = &record{clear: clearAfter / 2}
		b.faults[f.Fault] = r
	}
	if !r.stands {
		if r.clear = min(2*r.clear, maxClear); now.Sub(r.seen) >= forgiveAfter {
			r.clear = clearAfter
		}
		r.stands, r.Since = true, now
		r.raised++
		b.log.Warn("fault found", "fault", f.Fault, "what", f.What, "fix", f.Do)
	}
	r.Finding, r.Part, r.seen = f, PartOf(f.Fault), now
}

// Works reports whether no fault disables the LAN, and none the data plane.
func (b *Board) Works() (lan, plane bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lan, plane = true, true
	for _, r := range b.faults {
		lan = lan && !(r.stands && r.Part == LAN)
		plane = plane && !(r.stands && r.Part == Plane)
	}
	return lan, plane
}

// Standing returns the faults that stand, oldest first.
func (b *Board) Standing() []Standing {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Standing
	for _, r := range b.faults {
		if r.stands {
			out = append(out, r.Standing)
		}
	}
	slices.SortFunc(out, func(x, y Standing) int { return x.Since.Compare(y.Since) })
	return out
}

// Raised returns how often each fault of [Known] has been raised.
func (b *Board) Raised() map[Fault]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[Fault]uint64, len(known))
	for _, k := range known {
		out[k.fault] = 0
		if r := b.faults[k.fault]; r != nil {
			out[k.fault] = r.raised
		}
	}
	return out
}
