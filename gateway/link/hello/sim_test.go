package hello

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

const overhead = 28

// path is one direction of the simulated network.
type path struct {
	delay, jitter time.Duration
	loss, dup     float64
	mtu           int // inner bytes that pass
	cut           bool
}

type arrival struct {
	at  time.Duration
	ord int
	to  int
	b   []byte
}

type arrivals []arrival

func (a arrivals) Len() int { return len(a) }
func (a arrivals) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].ord < a[j].ord
}
func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)   { *a = append(*a, x.(arrival)) }
func (a *arrivals) Pop() any {
	old := *a
	x := old[len(old)-1]
	*a = old[:len(old)-1]
	return x
}

// sim joins two peers by a network, on a clock that jumps from event to event.
type sim struct {
	t      testing.TB
	rand   *rand.Rand
	now    time.Duration
	peers  [2]*Peer
	out    [2]path // out[i] is the way from i to the other
	queue  arrivals
	ord    int
	events [2][]Event
	sent   [2]int
	probes [2][]time.Duration
}

func newSim(t testing.TB, seed uint64, edit func(i int, c *Config)) *sim {
	s := &sim{t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: time.Second}
	for i := range s.peers {
		s.restart(i, seed, edit)
		s.out[i] = path{delay: 20 * time.Millisecond, mtu: 1 << 16}
	}
	return s
}

func (s *sim) restart(i int, seed uint64, edit func(i int, c *Config)) {
	c := Config{
		Site: []string{"red", "gray"}[i], Node: []string{"red-1", "gray-1"}[i], Software: "test",
		Boot: s.rand.Uint64() | 1, MTU: 1420, Overhead: overhead, Capabilities: PartialChecksums,
		Random: s.rand.Uint64,
		Wall:   func() time.Time { return time.Unix(1e9, 0).Add(s.now) },
	}
	if edit != nil {
		edit(i, &c)
	}
	p, err := New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.peers[i] = p
}

func (s *sim) do(i int, o Output) {
	s.events[i] = append(s.events[i], o.Events...)
	for _, b := range o.Messages {
		s.sent[i]++
		if kind(b[4]) == kindProbe {
			s.probes[i] = append(s.probes[i], s.now)
		}
		l := s.out[i]
		if l.cut || len(b)+overhead > l.mtu {
			continue
		}
		for copies := 1; copies > 0; copies-- {
			if s.rand.Float64() < l.dup {
				copies++
			}
			if s.rand.Float64() < l.loss {
				continue
			}
			at := s.now + l.delay
			if l.jitter > 0 {
				at += time.Duration(s.rand.Int64N(int64(l.jitter)))
			}
			s.ord++
			heap.Push(&s.queue, arrival{at: at, ord: s.ord, to: 1 - i, b: b})
		}
	}
}

// exchange carries messages of a process of peer 1, which is seen at from, to peer 0, and those
// with which both answer, until there are none.
func (s *sim) exchange(p *Peer, from string, messages [][]byte) {
	s.t.Helper()
	for range 20 {
		var back [][]byte
		for _, m := range messages {
			s.now += time.Millisecond
			out, err := s.peers[0].Handle(s.now, from, m)
			if err != nil {
				s.t.Fatal(err)
			}
			s.events[0] = append(s.events[0], out.Events...)
			back = append(back, out.Messages...)
		}
		messages = nil
		for _, m := range back {
			out, err := p.Handle(s.now, "192.0.2.3:3", m)
			if err != nil {
				s.t.Fatal(err)
			}
			messages = append(messages, out.Messages...)
		}
		if len(messages) == 0 {
			return
		}
	}
}

// up completes a WireGuard handshake on both sides.
func (s *sim) up() {
	for i, p := range s.peers {
		s.do(i, p.Session(s.now, true))
	}
}

// run goes on until done or for d, and reports how long it took and whether done.
func (s *sim) run(d time.Duration, done func() bool) (time.Duration, bool) {
	start := s.now
	idle := 0
	for done == nil || !done() {
		at := start + d
		who := -1
		if len(s.queue) > 0 && s.queue[0].at < at {
			at = s.queue[0].at
		}
		for i, p := range s.peers {
			if next := p.Next(s.now); next < at {
				at, who = max(next, s.now), i
			}
		}
		if at >= start+d {
			s.now = start + d
			return d, false
		}
		if at == s.now {
			if idle++; idle > 10000 {
				s.t.Fatal("the clock stands: Next names a time at which Tick does nothing")
			}
		} else {
			idle = 0
		}
		s.now = at
		if who >= 0 {
			s.do(who, s.peers[who].Tick(s.now))
			continue
		}
		a := heap.Pop(&s.queue).(arrival)
		o, err := s.peers[a.to].Handle(s.now, "192.0.2.1:1", a.b)
		var v *VersionError
		if err != nil && !errors.As(err, &v) {
			s.t.Fatalf("handle: %v", err)
		}
		s.do(a.to, o)
	}
	return s.now - start, true
}

func (s *sim) state(i int) State { return s.peers[i].Snapshot(s.now).State }

func (s *sim) both(st State) func() bool {
	return func() bool { return s.state(0) == st && s.state(1) == st }
}

func (s *sim) mtu(want ...int) func() bool {
	return func() bool {
		return s.peers[0].Snapshot(s.now).MTUOut == want[0] && s.peers[1].Snapshot(s.now).MTUOut == want[len(want)-1]
	}
}

func (s *sim) must(what string, bound time.Duration, done func() bool) time.Duration {
	s.t.Helper()
	took, ok := s.run(bound, done)
	if !ok {
		s.t.Fatalf("%s: not within %v: %+v %+v", what, bound, s.peers[0].Snapshot(s.now), s.peers[1].Snapshot(s.now))
	}
	return took
}

// found is what the search can find of a path that passes n bytes.
func found(n, limit int) int {
	if n >= limit {
		return limit
	}
	return pmtuFloor + (n-pmtuFloor)/pmtuStep*pmtuStep
}

// timings collects how long things took, over all seeds.
type timings struct {
	sync.Mutex
	took map[string][]time.Duration
}

func (n *timings) note(what string, d time.Duration) {
	n.Lock()
	defer n.Unlock()
	n.took[what] = append(n.took[what], d)
}

// TestSimulated runs whole lives of a link over many networks.
func TestSimulated(t *testing.T) {
	seeds, groups := 2000, 8
	if raceEnabled || testing.Short() {
		seeds = 150 // there is no concurrency here for the race detector
	}
	n := timings{took: map[string][]time.Duration{}}
	t.Run("seeds", func(t *testing.T) {
		for g := range groups {
			t.Run(fmt.Sprint("group", g), func(t *testing.T) {
				t.Parallel()
				for seed := g; seed < seeds; seed += groups {
					simulated(t, uint64(seed), &n)
				}
			})
		}
	})
	for what, d := range n.took {
		slices.Sort(d)
		t.Logf("%-22s p50 %v p99 %v max %v", what, d[len(d)/2], d[len(d)*99/100], d[len(d)-1])
	}
}

func simulated(t *testing.T, seed uint64, n *timings) {
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	note := n.note
	r := rand.New(rand.NewPCG(seed, 7))
	delay := time.Duration(r.IntN(60)) * time.Millisecond
	loss := []float64{0, 0, 0.01, 0.05}[r.IntN(4)]
	size := 700 + r.IntN(800)
	s := newSim(t, seed, func(i int, c *Config) { c.Sections = randomSections(rand.New(rand.NewPCG(seed, 9)), i) })
	for i := range s.out {
		s.out[i] = path{delay: delay, jitter: delay / 4, loss: loss, dup: 0.01, mtu: size}
	}
	s.up()
	note("up", s.must("up", 10*time.Second, s.both(Up)))
	note("mtu", s.must("mtu", 90*time.Second, s.mtu(found(size, 1420))))
	s.must("differences", 20*time.Second, func() bool { return s.peers[0].cmp.complete && s.peers[1].cmp.complete })
	mirrored(t, s)

	// The path shrinks while nothing else changes.
	s.run(time.Duration(r.IntN(3000))*time.Millisecond, nil)
	if now := 600 + r.IntN(max(found(size, 1420)-600, 1)); found(now, 1420) < found(size, 1420) {
		size = now
		s.out[0].mtu, s.out[1].mtu = size, size
		usable := func() bool {
			return s.peers[0].Snapshot(s.now).MTUOut <= size && s.peers[1].Snapshot(s.now).MTUOut <= size
		}
		note("shrunk: usable", s.must("usable", 5*time.Second, usable))
		note("shrunk: exact", s.must("shrunk", 90*time.Second, s.mtu(found(size, 1420))))
	}
	// It grows again.
	s.out[0].mtu, s.out[1].mtu = 1500, 1500
	note("raised", s.must("raised", 130*time.Second, s.mtu(1420)))

	// The peer is gone, in one direction or both, and returns.
	s.events = [2][]Event{}
	s.out[r.IntN(2)].cut = true
	s.out[0].cut = s.out[0].cut || r.IntN(2) == 0
	note("lost", s.must("lost", 5*time.Second, s.both(Lost)))
	for i := range s.events {
		if n := count(s.events[i], EventLost); n != 1 {
			t.Fatalf("%d told of the loss %d times", i, n)
		}
	}
	s.run(time.Duration(r.IntN(5000))*time.Millisecond, nil)
	s.out[0].cut, s.out[1].cut = false, false
	note("back", s.must("back", 5*time.Second, s.both(Up)))
	for i, at := range s.probes {
		for n := 40; n < len(at); n++ {
			if at[n]-at[n-40] < time.Second {
				t.Fatalf("%d sent more than 40 probes in %v", i, at[n]-at[n-40])
			}
		}
	}
}

func count(events []Event, e Event) (n int) {
	for _, x := range events {
		if x == e {
			n++
		}
	}
	return n
}

// randomSections differ a little between the sides, in nothing fatal.
func randomSections(r *rand.Rand, side int) (out []Section) {
	for n := range 1 + r.IntN(4) {
		s := Section{Name: fmt.Sprintf("section-%d", n)}
		differs, missing := r.IntN(3) == 0, r.IntN(10) == 0
		for a := range r.IntN(120) {
			attr := Attr{Name: fmt.Sprintf("%s.some.longer.name.of.attribute.%03d", s.Name, a), Digest: [8]byte{byte(a)}}
			fate := r.IntN(12)
			switch {
			case differs && fate == side:
				continue
			case differs && fate == 3:
				attr.Digest[7] = byte(side + 1)
			}
			s.Attrs = append(s.Attrs, attr)
		}
		if differs {
			s.Digest[0] = byte(side + 1)
		}
		if missing && side == 0 {
			continue
		}
		out = append(out, s)
	}
	return out
}

// mirrored fails unless both sides list the same differences.
func mirrored(t *testing.T, s *sim) {
	t.Helper()
	a, b := s.peers[0].Snapshot(s.now).Differences, s.peers[1].Snapshot(s.now).Differences
	for i := range b {
		switch b[i].Kind {
		case OnlyHere:
			b[i].Kind = OnlyThere
		case OnlyThere:
			b[i].Kind = OnlyHere
		}
	}
	if !slices.Equal(a, b) {
		t.Fatalf("the sides list different things:\n%v\n%v", a, b)
	}
}
