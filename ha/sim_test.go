package ha

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	oneSeed  = flag.Int64("seed", -1, "run this seed of the simulation alone and print its trace")
	allSeeds = flag.Int("seeds", seedsByDefault, "how many seeds the simulation runs")
)

const (
	settled = 1500 * time.Millisecond // a start has settled by then
	healed  = 2 * time.Second         // and what a fault did, so long after it ended
	hiccup  = 180 * time.Millisecond  // longer than dead_after
)

// newWorld builds two sites of two nodes, or of two and one.
func newWorld(seed uint64, trace bool) *world {
	w := &world{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 0x67770003)), claimed: map[Claim]bool{}, removed: map[string]uint64{},
	}
	if trace {
		w.trace = &strings.Builder{}
	}
	w.records = w.chance(0.25)
	w.sites = []Site{{Name: "red"}, {Name: "gray"}}
	count := 4
	if w.chance(0.2) {
		count = 3
	}
	for range count {
		w.add()
	}
	w.connect()
	w.tells = w.chance(0.7)
	return w
}

// add adds a node to the last site, or, when that one has two, to the next.
func (w *world) add() {
	i := len(w.nodes)
	n := &node{w: w, index: i, site: i / 2}
	for j := range n.id {
		n.id[j] = byte(w.rng.Uint32())
	}
	n.skew = int64(w.between(0, 10*time.Second) / time.Millisecond)
	w.nodes = append(w.nodes, n)
	w.sites[n.site].Nodes = append(w.sites[n.site].Nodes, n.id)
}

// connect draws the paths between all nodes.
func (w *world) connect() {
	wan := w.between(time.Millisecond, 40*time.Millisecond)
	w.rough = w.chance(0.5)
	for i := range w.nodes {
		for j := range w.nodes {
			p := &w.path[i][j]
			p.delay, p.jitter = 200*time.Microsecond, time.Millisecond
			if w.nodes[i].site != w.nodes[j].site {
				p.delay, p.jitter = wan, wan/4
			}
			if w.rough {
				p.jitter *= 4
				p.loss, p.dup = 0.01*w.rng.Float64(), 0.02*w.rng.Float64()
			}
		}
	}
}

// after plans a call.
func (w *world) after(d time.Duration, f func()) {
	w.push(w.now+d, simEvent{kind: evCall, call: f})
}

// writers keep records changing while the run lasts.
func (w *world) writers() {
	if !w.records {
		return
	}
	for _, n := range w.nodes {
		if n.up && !n.frozen && n.active && !n.suspended {
			n.write()
		}
	}
	w.after(w.between(time.Millisecond, 150*time.Millisecond), w.writers)
}

// fault does something bad and undoes it; it returns when that is over.
func (w *world) fault() time.Duration {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	d := w.between(20*time.Millisecond, 1200*time.Millisecond)
	cut := func(what string, which func(i, j int) bool) {
		w.logf("cut %s for %v", what, d)
		for i := range w.nodes {
			for j := range w.nodes {
				if i != j && which(i, j) {
					p := &w.path[i][j]
					p.cut++
					w.after(d, func() { p.cut-- })
				}
			}
		}
	}
	same := func(i, j int) bool { return w.nodes[i].site == w.nodes[j].site }
	switch w.rng.IntN(13) {
	case 0, 1:
		if n.up {
			n.kill()
			w.after(d, func() { n.start() })
		}
	case 2:
		w.logf("both nodes of %s die", w.sites[n.site].Name)
		for _, o := range w.nodes {
			if o.site == n.site && o.up {
				o.kill()
				w.after(w.between(0, d), func() { o.start() })
			}
		}
	case 3, 4:
		if d *= 2; n.up && !n.frozen {
			w.logf("%s freezes for %v", n.name(), d)
			n.freeze()
			w.after(d, n.thaw)
		}
	case 5:
		cut("sibling tunnel of "+w.sites[n.site].Name, func(i, j int) bool { return same(i, j) && w.nodes[i].site == n.site })
	case 6:
		cut("the link", func(i, j int) bool { return !same(i, j) })
	case 7:
		cut("the WAN of "+n.name(), func(i, j int) bool { return !same(i, j) && (i == n.index || j == n.index) })
	case 8:
		a, b := n.index, w.rng.IntN(len(w.nodes))
		cut(fmt.Sprintf("one way from %s to %s", n.name(), w.nodes[b].name()), func(i, j int) bool { return i == a && j == b })
	case 9:
		deaf := w.chance(0.5)
		cut(fmt.Sprintf("one way of %s, deaf %v", n.name(), deaf), func(i, j int) bool { return deaf && j == n.index || !deaf && i == n.index })
	case 10:
		w.logf("bad network for %v", d)
		loss := 0.4 * w.rng.Float64()
		w.bad = append(w.bad, loss)
		w.after(d, func() { w.bad = w.bad[1:] })
		d += 100 * time.Millisecond // what is on its way
	case 11:
		if n.up && !n.frozen {
			h := Health{LAN: w.chance(0.5), Plane: w.chance(0.3), Records: n.health.Records}
			w.logf("health of %s is %+v for %v", n.name(), h, d)
			boot := n.boot
			n.health = h
			n.do(n.m.SetHealth(n.mono(), h))
			n.plan()
			w.after(d, func() {
				if n.up && n.boot == boot {
					n.health.LAN, n.health.Plane = true, true
					if !n.frozen { // otherwise it says so when it runs again
						n.do(n.m.SetHealth(n.mono(), n.health))
						n.plan()
					}
				}
			})
		}
	case 12:
		n.skew += int64(w.between(0, 8*time.Hour)/time.Millisecond) - 4*3600*1000
		w.logf("wall clock of %s is off by %d ms", n.name(), n.skew)
		if n.up && !n.frozen {
			var out []Output
			var err error
			if n.active {
				out, err = n.m.Drain(n.mono(), w.chance(0.5))
			} else if len(w.sites[n.site].Nodes) == 2 {
				out, err = n.m.Takeover(n.mono(), w.chance(0.5))
			}
			w.logf("an operator moves the active node, at %s: %v", n.name(), err)
			n.do(out)
			n.plan()
		}
	}
	return w.now + d
}

// live runs a world through its faults and checks it.
func (w *world) live() {
	apart := w.between(0, 400*time.Millisecond)
	for _, n := range w.nodes {
		w.after(w.between(0, apart), n.start)
	}
	w.run(settled)
	w.settled("after the start")
	w.writers()
	end := w.now
	switch kind := w.rng.IntN(20); {
	case kind < 3:
		w.run(w.now + 2*time.Second)
		if w.turns[0] != 1 || w.turns[1] != 1 {
			w.failf("nothing was wrong, and yet %v activations", w.turns)
		}
	case kind < 4:
		w.hiccups()
	case kind < 6: // only a sibling tunnel, with both reachable from the other site
		was := w.turns[0]
		w.logf("cut the sibling tunnel of red alone")
		w.path[0][1].cut++
		w.path[1][0].cut++
		w.run(w.now + w.between(time.Second, 3*time.Second))
		w.path[0][1].cut--
		w.path[1][0].cut--
		end = w.now
		w.run(w.now + healed)
		if w.turns[0]-was > 1 {
			w.failf("a cut sibling tunnel made %d role changes", w.turns[0]-was)
		}
	default:
		for range 1 + w.rng.IntN(4) {
			end = max(end, w.fault())
			w.run(w.now + w.between(0, 400*time.Millisecond))
		}
	}
	w.run(end + healed)
	w.settled("after the last fault")
	turns := w.turns
	w.run(w.now + 300*time.Millisecond)
	if w.turns != turns {
		w.failf("roles still change")
	}
}

// hiccups lets processes stand still for a moment time and again, as on a machine
// that has other things to do. No role changes for that.
func (w *world) hiccups() {
	was := w.turns
	w.logf("hiccups")
	for range 20 {
		n := w.nodes[w.rng.IntN(len(w.nodes))]
		w.after(w.between(0, 10*time.Millisecond), n.freeze)
		w.run(w.now + w.between(20*time.Millisecond, hiccup))
		n.thaw()
		w.run(w.now + w.between(0, 50*time.Millisecond))
	}
	if w.turns != was {
		w.failf("hiccups changed roles: %v activations, before %v", w.turns, was)
	}
}

// settled checks that each site has one active node and that all route to it.
func (w *world) settled(when string) {
	active := make([]*node, len(w.sites))
	besieged := make([]bool, len(w.sites)) // sites with a hostile node
	for _, n := range w.nodes {
		if n.hostile != nil {
			besieged[n.site] = true
			continue
		}
		if len(w.sites) == 3 && n.site == 1 {
			continue // its sibling is hostile, or will be
		}
		if !n.up || n.frozen {
			w.failf("%s: %s doesn't run", when, n.name())
		}
		if n.active && !n.suspended {
			if active[n.site] != nil {
				w.failf("%s: both nodes of %s are active", when, w.sites[n.site].Name)
			}
			active[n.site] = n
		}
	}
	for s := range w.sites {
		if besieged[s] || len(w.sites) == 3 && s == 1 {
			continue
		}
		if active[s] == nil {
			w.failf("%s: no node of %s is active", when, w.sites[s].Name)
			continue
		}
		for _, n := range w.nodes {
			if n.hostile == nil && n.up && n.assign[s] != active[s].id {
				w.failf("%s: %s routes %s to %s, active is %s", when, n.name(), w.sites[s].Name, w.nameOf(n.assign[s]), active[s].name())
			}
		}
	}
}

func simulate(seed uint64, trace bool) *world {
	w := newWorld(seed, trace)
	w.live()
	return w
}

// TestSimulation runs the seeds. A failing one is replayed with its trace by
//
//	go test ./ha -run TestSimulation -seed N
//
// The race detector has fewer of them, so all are run once more without it:
//
//	go test ./ha -run TestSimulation
func TestSimulation(t *testing.T) { runSeeds(t, *allSeeds, simulate) }

// runSeeds runs a number of worlds and reports what failed in them.
func runSeeds(t *testing.T, seeds int, simulate func(seed uint64, trace bool) *world) {
	if *oneSeed >= 0 {
		w := simulate(uint64(*oneSeed), true)
		t.Log("\n" + w.trace.String())
		for _, f := range w.failures {
			t.Error(f)
		}
		return
	}
	var next, failed atomic.Uint64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				seed := next.Add(1) - 1
				if seed >= uint64(seeds) || failed.Load() >= 5 {
					return
				}
				if w := simulate(seed, false); len(w.failures) > 0 && failed.Add(1) <= 5 {
					t.Errorf("seed %d: %s", seed, strings.Join(w.failures, "\n\t"))
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds", min(next.Load(), uint64(seeds)))
}
