package bind

import (
	"sync"
	"sync/atomic"
	"time"
)

// gatePatience is how long a full Gate waits while nothing leaves before it
// lets one caller pass anyway; and once it has done so for each of these
// in a row and is still full, it takes what is inside for lost. The first is
// longer than a batch takes on an idle machine. All together are longer than a
// pipeline stands still on a busy one, where a goroutine waits for others that
// run for 10 ms each: what is taken for lost there comes out later, and the
// bound was none.
var gatePatience = [...]time.Duration{2 * time.Millisecond, 4 * time.Millisecond, 8 * time.Millisecond, 16 * time.Millisecond}

// gateIdle is how long nothing must have entered for what is still inside to
// count as lost.
const gateIdle = 100 * time.Millisecond

// A Gate bounds the number of packets inside a pipeline that has no bound of
// its own, as wireguard-go's queues and pools have none.
//
// The one who puts packets in calls Enter, the one who takes them out calls Leave.
// Packets that the pipeline drops never leave. A Gate that was idle takes them
// for lost, and one that they have filled lets a caller pass every few
// milliseconds until it is sure of that: a leak can slow the pipeline down and
// never stall it.
//
// All methods may be called concurrently, and none allocates. A nil *Gate is
// always open.
type Gate struct {
	limit   int64
	start   time.Time
	inside  atomic.Int64
	left    atomic.Uint64 // Leave calls: the sign of progress
	entered atomic.Int64  // when Enter was last called, from start
	resets  atomic.Uint64
	waits   atomic.Uint64

	waiting atomic.Bool
	turn    chan struct{} // holds the token of the one caller that waits
	wake    chan struct{}
	timer   *time.Timer  // owned by the holder of turn
	strikes atomic.Int32 // of gatePatience, since there was room

	closed    chan struct{}
	closeOnce sync.Once
}

// NewGate makes a Gate that lets packets in while fewer than limit are inside.
// One Enter of n packets may therefore take the count to limit+n-1. What is in
// flight inside wireguard-go should stay in the processor's caches: with few
// hundred packets it is faster than without a Gate (BenchmarkDevices).
func NewGate(limit int) *Gate {
	if limit < 1 {
		panic("bind: a gate needs a limit of at least one packet")
	}
	return &Gate{
		limit:  int64(limit),
		start:  time.Now(),
		turn:   make(chan struct{}, 1),
		wake:   make(chan struct{}, 1),
		closed: make(chan struct{}),
	}
}

// Enter counts n packets in. It blocks while limit packets or more are inside,
// until enough have left, nothing has left for 2 to 16 ms, or the Gate is
// closed.
func (g *Gate) Enter(n int) {
	if g == nil || n <= 0 {
		return
	}
	now := int64(time.Since(g.start))
	if now-g.entered.Load() > int64(gateIdle) {
		g.inside.Store(0)
	}
	if g.inside.Load() >= g.limit {
		g.wait()
		now = int64(time.Since(g.start))
	} else if g.strikes.Load() != 0 {
		g.strikes.Store(0)
	}
	g.entered.Store(now)
	g.inside.Add(int64(n))
}

// Leave counts n packets out. It never blocks.
func (g *Gate) Leave(n int) {
	if g == nil || n <= 0 {
		return
	}
	g.left.Add(1)
	for {
		was := g.inside.Load()
		// Packets taken for lost may turn up after all.
		is := max(0, was-int64(n))
		if g.inside.CompareAndSwap(was, is) {
			if is < g.limit && g.waiting.Load() {
				g.signal()
			}
			return
		}
	}
}

// Inside returns how many packets are counted as inside at this moment.
func (g *Gate) Inside() int {
	if g == nil {
		return 0
	}
	return int(g.inside.Load())
}

// Waits returns how often Enter had to block.
func (g *Gate) Waits() uint64 {
	if g == nil {
		return 0
	}
	return g.waits.Load()
}

// Resets returns how often a full Gate has taken what was inside for lost.
func (g *Gate) Resets() uint64 {
	if g == nil {
		return 0
	}
	return g.resets.Load()
}

// Close opens the Gate for good: no Enter blocks any more.
func (g *Gate) Close() {
	if g != nil {
		g.closeOnce.Do(func() { close(g.closed) })
	}
}

func (g *Gate) signal() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// wait returns when there is room, or when the caller may pass without. One
// caller waits at a time, the others queue for turn, so that one timer serves
// them all.
func (g *Gate) wait() {
	select {
	case <-g.closed:
		return
	case g.turn <- struct{}{}:
	}
	defer func() { <-g.turn }()
	if g.inside.Load() < g.limit {
		return // left while this caller queued
	}
	g.waits.Add(1)
	g.waiting.Store(true)
	defer g.waiting.Store(false)
	patience := gatePatience[g.strikes.Load()]
	if g.timer == nil {
		g.timer = time.NewTimer(patience)
	} else {
		g.timer.Reset(patience)
	}
	defer g.timer.Stop()
	seen := g.left.Load()
	for g.inside.Load() >= g.limit {
		select {
		case <-g.closed:
			return
		case <-g.wake:
		case <-g.timer.C:
			if now := g.left.Load(); now != seen {
				seen = now
				g.timer.Reset(patience)
				continue
			}
			if int(g.strikes.Add(1)) < len(gatePatience) {
				return
			}
			g.inside.Store(0)
			g.resets.Add(1)
		}
	}
	g.strikes.Store(0)
}
