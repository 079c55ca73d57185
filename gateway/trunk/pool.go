package trunk

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Pool holds the connections of one node: those that it has dialled and that wait
// to be taken, and all others until they are closed. Its methods are safe for
// concurrent use.
type Pool struct {
	cfg    Config
	socket socket
	peers  map[netip.Addr]bool // from which connections are accepted

	mu      sync.Mutex
	group   *errgroup.Group // nil unless Run has goroutines
	ctx     context.Context // of Run
	keepers map[netip.Addr]*keeper
	conns   map[*Conn]struct{} // all that are not closed
	far     int                // those of them that other nodes have dialled
	ways    map[netip.Addr]*way
	began   time.Time // the clock of ways

	listening bool

	dialled, accepted, refused, failed, lost, missed, stale uint64

	// changed is called after what Stats tells has changed, without a lock held.
	// Tests wait by it.
	changed func()
}

// New makes a Pool. It opens nothing and starts nothing.
func New(cfg Config) *Pool {
	p := &Pool{
		cfg: cfg.withDefaults(), socket: socket{device: cfg.Device},
		peers:   make(map[netip.Addr]bool, len(cfg.Peers)),
		keepers: make(map[netip.Addr]*keeper), conns: make(map[*Conn]struct{}),
		ways: make(map[netip.Addr]*way), began: time.Now(),
		changed: func() {},
	}
	for _, a := range cfg.Peers {
		p.peers[a] = true
	}
	return p
}

// Run listens and dials until ctx ends. Then it closes all connections, also those
// that somebody has, and returns when what they run in has ended, calls of Accept
// included.
func (p *Pool) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	p.mu.Lock()
	p.group, p.ctx = group, ctx
	for _, k := range p.keepers {
		p.start(k)
	}
	p.mu.Unlock()
	group.Go(func() error {
		<-ctx.Done()
		p.end()
		return nil
	})
	group.Go(func() error { p.listen(ctx); return nil })
	group.Go(func() error { p.runPace(ctx); return nil })
	return group.Wait()
}

// spawn runs f among Run's goroutines. It reports false if there are none (any
// more).
func (p *Pool) spawn(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.group == nil {
		return false
	}
	// Run waits for the group only after end, which has taken the lock.
	p.group.Go(func() error { f(); return nil })
	return true
}

// end closes everything. Nothing is spawned or added from then on.
func (p *Pool) end() {
	p.mu.Lock()
	p.group = nil
	conns := make([]*Conn, 0, len(p.conns))
	for c := range p.conns {
		conns = append(conns, c)
	}
	for _, k := range p.keepers {
		k.idle = nil
	}
	p.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// SetPeers says to which nodes connections are kept. Those that wait for a node that
// isn't listed any more are closed; those that somebody has are not.
func (p *Pool) SetPeers(nodes []netip.Addr) {
	var idle []*Conn
	p.mu.Lock()
	for a, k := range p.keepers {
		if !slices.Contains(nodes, a) {
			delete(p.keepers, a)
			idle = append(idle, k.stop()...)
		}
	}
	for _, a := range nodes {
		if p.keepers[a] == nil {
			k := newKeeper(p, a)
			p.keepers[a] = k
			p.start(k)
		}
	}
	p.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
	p.changed()
}

// start runs a keeper if Run does; the caller has the lock.
func (p *Pool) start(k *keeper) {
	if p.group == nil {
		return
	}
	ctx, cancel := context.WithCancel(p.ctx)
	k.cancel = cancel
	p.group.Go(func() error { k.run(ctx); return nil })
}

// Take gives a connection to a node, which the caller has to Close or Finish, or nil
// if none is ready. It never waits. Another one is dialled in its place.
func (p *Pool) Take(node netip.Addr) *Conn {
	p.mu.Lock()
	k := p.keepers[node]
	if k == nil {
		p.missed++
		p.mu.Unlock()
		p.changed()
		return nil
	}
	c, dead := k.take()
	p.mu.Unlock()
	for _, d := range dead {
		d.Close()
	}
	k.kick()
	p.changed()
	return c
}

// add takes in a new connection, or reports that it can't.
func (p *Pool) add(c *Conn) bool {
	if p.group == nil {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

// forget is called when a connection has been closed.
func (p *Pool) forget(c *Conn) {
	p.mu.Lock()
	_, known := p.conns[c]
	delete(p.conns, c)
	if known && c.far {
		p.far--
	}
	p.mu.Unlock()
	p.changed()
}
