package ha

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// maxNodes is how many nodes a world may have.
const maxNodes = 5

// world is two sites, or three, on a virtual network, in virtual time.
type world struct {
	seed  uint64
	rng   *rand.Rand
	now   time.Duration
	queue []due // a heap
	slots []simEvent
	free  []int // of slots
	order uint64
	nodes []*node
	sites []Site
	path  [maxNodes][maxNodes]path
	rough bool      // packets get lost
	bad   []float64 // loss of each spell of bad network that lasts
	pool  [][]byte

	records  bool // there are records to replicate
	tells    bool // hosts say when a process is gone: no firewall drops the word
	version  uint64
	removed  map[string]uint64 // version at which a record was removed
	holds    [maxNodes]promise // what each standby has acknowledged
	claimed  map[Claim]bool
	turns    [3]int // activations by site
	trace    *strings.Builder
	failures []string
}

// path is one direction between two nodes.
type path struct {
	cut           int // nested
	loss, dup     float64
	delay, jitter time.Duration
}

// promise is the state that was acknowledged by a standby since its boot.
type promise struct {
	boot    uint64
	records map[string]uint64
}

type eventKind uint8

const (
	evTick eventKind = iota
	evDeliver
	evCall
)

type simEvent struct {
	kind    eventKind
	node    int
	from    int
	payload []byte
	call    func()
}

// due is an event's place in the queue: a value without pointers, which moves fast.
type due struct {
	at    time.Duration
	order uint64
	slot  int // in world.slots
}

func (d due) before(o due) bool { return d.at < o.at || d.at == o.at && d.order < o.order }

func (w *world) push(at time.Duration, ev simEvent) {
	w.order++
	slot := len(w.slots)
	if n := len(w.free); n > 0 {
		slot, w.free = w.free[n-1], w.free[:n-1]
		w.slots[slot] = ev
	} else {
		w.slots = append(w.slots, ev)
	}
	w.queue = append(w.queue, due{at, w.order, slot})
	h := w.queue
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h[i].before(h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (w *world) pop() (time.Duration, simEvent) {
	h := w.queue
	top := h[0]
	n := len(h) - 1
	last := h[n]
	h = h[:n]
	w.queue = h
	for i := 0; n > 0; {
		down := 2*i + 1
		if down+1 < n && h[down+1].before(h[down]) {
			down++
		}
		if down >= n || !h[down].before(last) {
			h[i] = last
			break
		}
		h[i] = h[down]
		i = down
	}
	ev := w.slots[top.slot]
	w.slots[top.slot] = simEvent{}
	w.free = append(w.free, top.slot)
	return top.at, ev
}

// node is one process, with what its owner would do.
type node struct {
	w        *world
	index    int
	site     int
	id       NodeID
	m        *Machine
	r        *Replicator
	store    map[string]uint64
	boot     uint64
	zero     time.Duration // the world's time at which its monotonic clock was 0
	tickAt   time.Duration
	up       bool
	frozen   bool
	busy     bool
	frozenAt time.Duration
	gone     bool // while it was frozen, it was told that its sibling's process is gone
	queue    []simEvent

	hostile *hostile // nil on an honest node

	seen      uint64  // survives
	skew      int64   // of the wall clock, ms
	drift     float64 // of the monotonic clock
	active    bool
	suspended bool
	epoch     uint64 // of the last activation, ever
	fallen    uint64 // the epoch at the last deactivation
	assign    [3]NodeID
	health    Health
}

// keyOf is the key of a site's siblings. The hash costs the simulation less than a
// real one; that hostile nodes can't compute it is a rule of the simulation.
type keyOf uint64

func (k keyOf) Tag(statement []byte) (t Tag) {
	h := uint64(k)*0x9e3779b97f4a7c15 + uint64(len(statement))
	mix := func(v uint64) {
		h ^= v
		h *= 0xff51afd7ed558ccd
		h ^= h >> 32
	}
	for len(statement) >= 8 {
		mix(binary.LittleEndian.Uint64(statement))
		statement = statement[8:]
	}
	for _, c := range statement {
		mix(uint64(c))
	}
	binary.LittleEndian.PutUint64(t[:], h)
	return t
}

func (n *node) name() string { return fmt.Sprintf("%s-%d", n.w.sites[n.site].Name, n.index%2+1) }

// Value, Apply and Remove are the Store.
func (n *node) Value(b, key []byte) ([]byte, bool) {
	v, ok := n.store[string(key)]
	if !ok {
		return b, false
	}
	for i := 56; i >= 0; i -= 8 {
		b = append(b, byte(v>>i))
	}
	return b, true
}

func (n *node) Apply(key, value []byte) {
	var v uint64
	for _, c := range value {
		v = v<<8 | uint64(c)
	}
	n.store[string(key)] = v
}

func (n *node) Remove(key []byte) { delete(n.store, string(key)) }

func (w *world) between(d time.Duration, e time.Duration) time.Duration {
	return d + time.Duration(w.rng.Int64N(int64(e-d)+1))
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

func (w *world) logf(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%9.3fms  ", float64(w.now)/float64(time.Millisecond))
		fmt.Fprintf(w.trace, format+"\n", args...)
	}
}

func (w *world) failf(format string, args ...any) {
	w.logf("FAILED: "+format, args...)
	w.failures = append(w.failures, fmt.Sprintf("at %v: ", w.now)+fmt.Sprintf(format, args...))
}

// start boots a node; what it knew is lost but for the epoch.
func (n *node) start() {
	w := n.w
	n.boot = w.rng.Uint64() | 1
	n.zero = w.now - w.between(0, time.Hour)
	n.up, n.frozen, n.active, n.suspended = true, false, false, false
	n.queue = n.queue[:0]
	n.assign = [3]NodeID{}
	n.store = map[string]uint64{}
	n.health = Health{LAN: true, Plane: true}
	m, err := New(n.mono(), Config{
		Self: n.id, Sites: w.sites, Boot: n.boot, Seen: n.seen, Auth: keyOf(n.site),
		Wall: func() int64 { return 1_700_000_000_000 + int64(w.now/time.Millisecond) + n.skew },
	})
	if err != nil {
		panic(err)
	}
	n.m = m
	n.r = nil
	if w.records {
		n.r = NewReplicator(n.mono(), ReplicatorConfig{Boot: n.boot, Store: n})
	}
	w.logf("%s starts, seen %d", n.name(), n.seen)
	n.tick()
}

func (n *node) kill() {
	n.w.logf("%s dies", n.name())
	n.up, n.active, n.suspended = false, false, false
}

// mono is the node's own clock, which may run fast or slow.
func (n *node) mono() time.Duration {
	d := n.w.now - n.zero
	return d + time.Duration(float64(d)*n.drift)
}

func (n *node) tick() {
	n.do(n.m.Tick(n.mono()))
	if n.r != nil {
		n.replicate(n.r.Tick(n.mono()))
	}
	n.plan()
}

func (n *node) plan() {
	next := n.m.Next()
	if n.r != nil {
		next = min(next, n.r.Next())
	}
	at := max(n.zero+time.Duration(float64(next)/(1+n.drift)), n.w.now+100*time.Microsecond)
	if n.tickAt <= n.w.now || at < n.tickAt {
		n.tickAt = at
		n.w.push(at, simEvent{kind: evTick, node: n.index})
	}
}

func (n *node) handle(ev *simEvent) {
	if string(ev.payload[:3]) == ReplicaMagic {
		if n.r == nil || n.w.nodes[ev.from].site != n.site {
			return
		}
		out, err := n.r.Handle(n.mono(), ev.payload)
		if err != nil {
			n.w.failf("%s can't read replication: %v", n.name(), err)
		}
		n.replicate(out)
		n.plan()
		return
	}
	out, err := n.m.Handle(n.mono(), n.w.nodes[ev.from].id, ev.payload)
	if err != nil && err != ErrOld {
		n.w.failf("%s can't read a message: %v", n.name(), err)
	}
	n.do(out)
	n.plan()
}

// do carries outputs out, and holds them to what must never happen.
func (n *node) do(out []Output) {
	w := n.w
	n.busy = true
	defer func() { n.busy = false }()
	for i := range out {
		o := &out[i]
		if o.Kind != Send && o.Kind != Knock && w.trace != nil {
			if o.Kind == Report {
				w.logf("%s: %v role=%v reason=%q epoch=%d", n.name(), o.Event.Kind, o.Event.Role, o.Event.Reason, o.Event.Epoch)
			} else {
				w.logf("%s: %v site=%s node=%s epoch=%d", n.name(), o.Kind, o.Site, w.nameOf(o.Node), o.Epoch)
			}
		}
		switch o.Kind {
		case Send:
			for j := range w.nodes {
				if w.nodes[j].id == o.To {
					w.send(n.index, j, o.Payload)
				}
			}
		case Knock:
			w.knock(n, o.Node)
		case Persist:
			if o.Epoch <= n.seen {
				w.failf("%s persists epoch %d after %d", n.name(), o.Epoch, n.seen)
			}
			n.seen = o.Epoch
			ahead := len(w.sites) == 3 && n.site == 1 // its sibling is hostile
			if wall := n.m.wall(); !ahead && n.seen > wall+uint64(8*time.Hour/time.Millisecond) {
				w.failf("%s persists epoch %d, which is %d ms ahead of its clock", n.name(), n.seen, n.seen-wall)
			}
		case Activate:
			c := Claim{o.Epoch, n.id}
			if o.Epoch != n.seen || o.Epoch <= n.epoch || w.claimed[c] {
				w.failf("%s activates with epoch %d, persisted %d, used %d", n.name(), o.Epoch, n.seen, n.epoch)
			}
			w.claimed[c] = true
			if !n.active {
				w.turns[n.site]++
				n.adopt()
			}
			n.epoch, n.active, n.suspended = o.Epoch, true, false
		case Deactivate:
			if !n.active {
				w.failf("%s is deactivated and was not active", n.name())
			}
			n.active, n.suspended = false, false
			if n.r != nil {
				n.replicate(n.r.Follow(n.mono()))
			}
		case Suspend:
			if !n.active || n.suspended {
				w.failf("%s is suspended and was not active", n.name())
			}
			n.suspended = true
		case Resume:
			if !n.active || !n.suspended {
				w.failf("%s is resumed and was not suspended", n.name())
			}
			n.suspended = false
		case Assign:
			for s := range w.sites {
				if w.sites[s].Name == o.Site {
					n.assign[s] = o.Node
				}
			}
			if n.r != nil && o.Node == n.id {
				n.replicate(n.r.Lead(n.mono(), o.Epoch))
			}
		}
	}
}

// knock asks the host of a node whether its process is there.
func (w *world) knock(n *node, id NodeID) {
	for _, o := range w.nodes {
		there, back := &w.path[n.index][o.index], &w.path[o.index][n.index]
		if o.id != id || o.up || !w.tells || there.cut > 0 || back.cut > 0 || there.loss > 0 && w.chance(there.loss) {
			continue
		}
		boot := n.boot
		w.after(there.delay+back.delay, func() {
			if !n.up || n.boot != boot {
				return
			}
			if n.frozen { // it is read when the process runs again
				n.gone = true
				return
			}
			n.do(n.m.Gone(n.mono(), id))
			n.plan()
		})
	}
}

func (w *world) nameOf(id NodeID) string {
	for _, n := range w.nodes {
		if n.id == id {
			return n.name()
		}
	}
	return "-"
}

// adopt checks that what this standby has acknowledged is there.
func (n *node) adopt() {
	p := &n.w.holds[n.index]
	if n.r == nil || p.boot != n.boot {
		return
	}
	for k, v := range p.records {
		if got, ok := n.store[k]; got < v && (ok || n.w.removed[k] < v) {
			n.w.failf("%s takes over without record %q of version %d, it has %d", n.name(), k, v, got)
		}
	}
}

// replicate sends payloads to the sibling, and notes what it has acknowledged.
func (n *node) replicate(out [][]byte) {
	w := n.w
	sib := n.index ^ 1
	if sib >= len(w.nodes) || w.nodes[sib].site != n.site {
		return
	}
	for _, b := range out {
		w.send(n.index, sib, b)
	}
	if n.r.lead && n.r.src.open && n.r.InSync() && n.r.Lag() == 0 {
		p := &w.holds[sib]
		if p.boot != n.r.src.peerBoot {
			*p = promise{boot: n.r.src.peerBoot, records: map[string]uint64{}}
		}
		for k, v := range n.store {
			p.records[k] = v
		}
	}
	if n.busy { // the Machine's outputs are still being carried out
		return
	}
	if h := (Health{LAN: n.health.LAN, Plane: n.health.Plane, Records: n.r.InSync()}); h != n.health {
		n.health = h
		n.do(n.m.SetHealth(n.mono(), h))
		n.plan()
	}
}

// write changes a record of an active node.
func (n *node) write() {
	w := n.w
	w.version++
	key := fmt.Sprintf("%s/%d", w.sites[n.site].Name, w.rng.IntN(12))
	if _, has := n.store[key]; has && w.chance(0.3) {
		delete(n.store, key)
		w.removed[key] = w.version
	} else {
		n.store[key] = w.version
	}
	n.replicate(n.r.Changed(n.mono(), []byte(key)))
	n.plan()
}

func (w *world) send(from, to int, payload []byte) {
	p := w.path[from][to]
	if len(w.bad) > 0 {
		p.loss, p.dup, p.jitter = max(p.loss, w.bad[0]), 0.2, 80*time.Millisecond
	}
	if p.cut > 0 || p.loss > 0 && w.chance(p.loss) {
		return
	}
	copies := 1
	if p.dup > 0 && w.chance(p.dup) {
		copies = 2
	}
	for range copies {
		d := p.delay
		if p.jitter > 0 {
			d += time.Duration(w.rng.Int64N(int64(p.jitter)))
		}
		var b []byte
		if n := len(w.pool); n > 0 {
			b, w.pool = w.pool[n-1][:0], w.pool[:n-1]
		}
		w.push(w.now+d, simEvent{kind: evDeliver, node: to, from: from, payload: append(b, payload...)})
	}
}

// run lets the world turn until a time.
func (w *world) run(until time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= until {
		at, ev := w.pop()
		w.now = at
		n := w.nodes[ev.node]
		switch ev.kind {
		case evCall:
			ev.call()
		case evTick:
			if n.up && !n.frozen && n.hostile == nil && n.tickAt == at {
				n.tick()
			}
		case evDeliver:
			switch {
			case n.hostile != nil:
				n.hostile.hear(&ev)
			case n.up && n.frozen && len(n.queue) < 100:
				n.queue = append(n.queue, ev)
				continue
			case n.up && !n.frozen:
				n.handle(&ev)
			}
			w.pool = append(w.pool, ev.payload)
		}
	}
	w.now = until
}

func (n *node) freeze() { n.frozen, n.frozenAt = true, n.w.now }

// thaw lets a frozen node run again, on what has come meanwhile.
func (n *node) thaw() {
	if !n.up || !n.frozen {
		return
	}
	w := n.w
	n.frozen = false
	n.w.logf("%s thaws, %d messages wait", n.name(), len(n.queue))
	if n.w.chance(0.5) {
		must := n.active && n.w.now-n.frozenAt > frozenGap+n.m.cfg.Heartbeat && n.m.sib >= 0
		n.tick()
		if must && n.active && !n.suspended {
			n.w.failf("%s was frozen and goes on as if nothing had been", n.name())
		}
	}
	if n.gone {
		n.gone = false
		n.do(n.m.Gone(n.mono(), w.nodes[n.index^1].id))
	}
	for i := range n.queue {
		n.handle(&n.queue[i])
	}
	n.queue = n.queue[:0]
	n.do(n.m.SetHealth(n.mono(), n.health))
	n.tick()
}
