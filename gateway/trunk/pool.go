package trunk

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Pool holds the paths to other nodes, and what goes by them. Its methods are safe for
// concurrent use.
type Pool struct {
	cfg   Config
	began time.Time
	timer *time.Timer
	paths atomic.Pointer[[]*path] // changed with mu held

	timerMu sync.Mutex
	fires   time.Duration // when the timer does; 0 is not at all
	turn    int           // Pull's: whose packets come first

	mu    sync.Mutex
	group *errgroup.Group // nil unless Run runs

	budget budget

	opened, accepted, refused, restarted, strange, abandoned atomic.Uint64

	// changed is called after what Stats tells may have changed, without a lock held.
	// Tests wait by it.
	changed func()
}

// New makes a Pool. It starts nothing.
func New(cfg Config) *Pool {
	p := &Pool{cfg: cfg, began: time.Now(), changed: func() {}}
	if p.budget.limit = cfg.Memory; p.budget.limit <= 0 {
		p.budget.limit = DefaultMemory
	}
	p.paths.Store(new([]*path))
	p.timer = time.AfterFunc(time.Hour, p.fire)
	p.timer.Stop()
	return p
}

// Run lets other nodes begin connections until ctx ends. Then it closes all connections,
// also those that somebody has, and returns when all calls of Accept have.
func (p *Pool) Run(ctx context.Context) error {
	group := new(errgroup.Group)
	p.mu.Lock()
	p.group = group
	p.mu.Unlock()
	<-ctx.Done()
	p.mu.Lock()
	p.group = nil
	p.mu.Unlock()
	p.SetPeers(nil)
	return group.Wait()
}

// spawn runs f among Run's goroutines. It reports false if there are none (any more).
func (p *Pool) spawn(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.group == nil {
		return false
	}
	p.group.Go(func() error { f(); return nil })
	return true
}

func (p *Pool) now() time.Duration { return time.Since(p.began) + 1 } // 0 is never

// SetPeers says to which nodes connections are to lead. Those to others end.
func (p *Pool) SetPeers(nodes []netip.Addr) {
	p.mu.Lock()
	var kept, gone []*path
	for _, w := range *p.paths.Load() {
		if slices.Contains(nodes, w.node) {
			kept = append(kept, w)
		} else {
			gone = append(gone, w)
		}
	}
	for _, a := range nodes {
		if !slices.ContainsFunc(kept, func(w *path) bool { return w.node == a }) {
			kept = append(kept, newPath(p, p.cfg.Self, a, p.now()))
		}
	}
	p.paths.Store(&kept)
	p.mu.Unlock()
	for _, w := range gone {
		w.end()
	}
	if len(gone) > 0 {
		p.changed()
	}
}

// path finds the path to a node; nil if there is none.
func (p *Pool) path(node netip.Addr) *path {
	for _, w := range *p.paths.Load() {
		if w.node == node {
			return w
		}
	}
	return nil
}

// SetWay tells of the path to a node: the largest packet inside the tunnel that it takes, in
// bytes, and the round trip as something else has measured it; 0 is unknown.
func (p *Pool) SetWay(node netip.Addr, mtu int, rtt time.Duration) {
	if w := p.path(node); w != nil {
		w.set(p.now(), mtu, rtt)
	}
}

// Take begins a connection to a node, which the caller has to Close or Finish. It returns
// nil if that is no peer. It never waits.
func (p *Pool) Take(node netip.Addr) *Conn {
	w := p.path(node)
	if w == nil {
		return nil
	}
	c := w.open()
	p.opened.Add(1)
	p.changed()
	return c
}

// Pull writes packets for other nodes into bufs, each from offset on, and their sizes into
// sizes. It returns how many, which may be none. One goroutine calls it, whenever it may
// send, and after Wake.
func (p *Pool) Pull(bufs [][]byte, sizes []int, offset int) (n int) {
	paths := *p.paths.Load()
	if len(paths) == 0 {
		return 0
	}
	now := p.now()
	var next time.Duration
	p.turn++
	for i := range paths {
		m, at := paths[(p.turn+i)%len(paths)].pull(now, bufs[n:], sizes[n:], offset)
		n += m
		next = earliest(next, at)
	}
	p.arm(now, next)
	return n
}

// arm has Wake called at a time, unless that is to happen before anyway; 0 is never.
func (p *Pool) arm(now, at time.Duration) {
	if at == 0 {
		return
	}
	p.timerMu.Lock()
	defer p.timerMu.Unlock()
	if p.fires == 0 || at < p.fires {
		p.fires = at
		p.timer.Reset(at - now)
	}
}

func (p *Pool) fire() {
	p.timerMu.Lock()
	p.fires = 0
	p.timerMu.Unlock()
	p.cfg.Wake()
}

// Deliver takes the payload of an IP packet from another node, and keeps nothing of it. It does not
// block. After the last of some datagrams Flush has to be called.
func (p *Pool) Deliver(node netip.Addr, b []byte) {
	w := p.path(node)
	if w == nil {
		w = p.welcome(node)
	}
	if w == nil || w.deliver(w.came(), b) != nil {
		p.strange.Add(1)
	}
}

// welcome makes the path to a node that has something to say, if it may; otherwise it returns
// nil.
func (p *Pool) welcome(node netip.Addr) *path {
	if !slices.Contains(p.cfg.Peers, node) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.path(node); w != nil || p.group == nil {
		return w
	}
	w := newPath(p, p.cfg.Self, node, p.now())
	paths := append(slices.Clone(*p.paths.Load()), w)
	p.paths.Store(&paths)
	return w
}

// Flush has those wait no longer for whom something has come by Deliver.
func (p *Pool) Flush() {
	wake := false
	var next time.Duration
	now := p.now()
	for _, w := range *p.paths.Load() {
		f := w.flush(now)
		for _, c := range f.begun {
			p.accept(c)
		}
		w.call(f.sinks)
		wake = wake || f.wake
		next = earliest(next, f.at)
	}
	if wake {
		p.cfg.Wake()
	} else {
		p.arm(now, next)
	}
}

func (p *Pool) accept(c *Conn) {
	p.accepted.Add(1)
	if !p.spawn(func() { p.cfg.Accept(c) }) {
		c.Close()
	}
	p.changed()
}

// Stats is a snapshot of a Pool.
type Stats struct {
	// InUse counts connections that have not ended.
	InUse int
	// Counters: connections that were begun here and elsewhere, those of the latter that
	// were refused since there were too many, nodes that have restarted, and
	// packets that made no sense or came from no peer.
	Opened, Accepted, Refused, Restarted, Strange uint64
	// Abandoned counts connections that ended since the other node did not open, acknowledge
	// or end them in time, Exhausted those that ended since the memory was used up.
	Abandoned, Exhausted uint64
	// Memory is what the connections hold, in bytes, of MaxMemory.
	Memory, MaxMemory int64
	// Ways is what is known of the path to each peer.
	Ways map[netip.Addr]Way
}

// Stats returns a snapshot.
func (p *Pool) Stats() Stats {
	st := Stats{
		Opened: p.opened.Load(), Accepted: p.accepted.Load(), Refused: p.refused.Load(),
		Restarted: p.restarted.Load(), Strange: p.strange.Load(),
		Abandoned: p.abandoned.Load(), Exhausted: p.budget.refused.Load(),
		Memory: p.budget.used.Load(), MaxMemory: p.budget.limit, Ways: make(map[netip.Addr]Way),
	}
	for _, w := range *p.paths.Load() {
		streams, path := w.stats()
		st.InUse += streams
		st.Ways[w.node] = path
	}
	return st
}
