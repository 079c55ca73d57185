package ha

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// pair is a calm world of two sites of two nodes each that has settled, with
// red-1 and gray-1 active and one way across the WAN taking 20 ms.
func pair(t *testing.T) *world {
	w := newWorld(1, true)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("\n" + w.trace.String())
		}
	})
	w.records = false
	for len(w.nodes) < 4 {
		t.Fatal("seed 1 has three nodes")
	}
	for i := range w.nodes {
		for j := range w.nodes {
			w.path[i][j] = path{delay: 200 * time.Microsecond}
			if i/2 != j/2 {
				w.path[i][j].delay = 20 * time.Millisecond
			}
		}
	}
	for _, n := range w.nodes {
		n.start()
	}
	w.run(7 * time.Second) // health may move the role from here on
	if !w.nodes[0].active || !w.nodes[2].active {
		t.Fatal("red-1 and gray-1 should be active")
	}
	for _, n := range w.nodes {
		n.health.Records = true
		n.do(n.m.SetHealth(n.mono(), n.health))
	}
	w.run(w.now + time.Second)
	return w
}

// until runs the world in small steps until a condition holds, and says how long
// that took.
func (w *world) until(t *testing.T, what string, limit time.Duration, ok func() bool) time.Duration {
	t.Helper()
	for start := w.now; w.now-start < limit; w.run(w.now + time.Millisecond) {
		if ok() {
			return w.now - start
		}
	}
	t.Fatalf("%s: not within %v", what, limit)
	return 0
}

func (w *world) check(t *testing.T) {
	t.Helper()
	for _, f := range w.failures {
		t.Error(f)
	}
}

// TestDeathUntold: no host says that a process is gone. Then silence has to last
// twice as long.
func TestDeathUntold(t *testing.T) {
	w := pair(t)
	w.tells = false
	w.nodes[0].kill()
	took := w.until(t, "takeover", time.Second, func() bool { return w.nodes[1].active })
	if least, most := 250*time.Millisecond, 355*time.Millisecond; took < least || took > most {
		t.Errorf("took over after %v, want %v to %v", took, least, most)
	}
	w.check(t)
}

// TestGoneIsNoProof: the word that a process is gone, which anybody may forge, does
// nothing to a node that is heard, nor to one that a witness hears.
func TestGoneIsNoProof(t *testing.T) {
	w := pair(t)
	w.path[0][1].cut++
	for range 100 {
		w.nodes[1].do(w.nodes[1].m.Gone(w.nodes[1].mono(), w.nodes[0].id))
		w.nodes[1].plan()
		w.run(w.now + 10*time.Millisecond)
	}
	if !w.nodes[0].active || w.nodes[1].active {
		t.Error("a node that the other site hears was taken for dead")
	}
	w.check(t)
}

// TestDeath: from death to claim dead_after and one round trip at most, and some
// scheduling.
func TestDeath(t *testing.T) {
	w := pair(t)
	w.tells = true
	w.nodes[0].kill()
	took := w.until(t, "takeover", time.Second, func() bool { return w.nodes[1].active })
	if limit := 150*time.Millisecond + 40*time.Millisecond + 15*time.Millisecond; took > limit {
		t.Errorf("took over after %v, more than %v", took, limit)
	}
	w.until(t, "acknowledgement", time.Second, func() bool { return w.nodes[1].m.failover.last.Acknowledged != 0 })
	f := w.nodes[1].m.Status(w.nodes[1].mono()).Failover
	if f == nil || f.Reason != ReasonDead || f.Asked < 100*time.Millisecond || f.Asked > 115*time.Millisecond ||
		f.Detected < 150*time.Millisecond || f.Claimed < f.Detected || f.Acknowledged-f.Claimed > 45*time.Millisecond {
		t.Errorf("the failover's phases: %+v", f)
	}
	for _, n := range w.nodes[1:] {
		if n.assign[0] != w.nodes[1].id {
			t.Errorf("%s doesn't route red to red-2", n.name())
		}
	}
	w.nodes[0].start()
	w.run(w.now + 7*time.Second)
	if w.nodes[0].active || !w.nodes[1].active {
		t.Error("the node that came back took the role again")
	}
	w.check(t)
}

// TestOldBeatsInABurst: a tunnel that comes up delivers what waited for it. The
// sibling was not active when it said the first of that, and is since.
func TestOldBeatsInABurst(t *testing.T) {
	sites := []Site{{Name: "red", Nodes: []NodeID{{1}, {2}}}, {Name: "gray", Nodes: []NodeID{{3}}}}
	m, err := New(0, Config{Self: NodeID{1}, Sites: sites, Boot: 1, Wall: func() int64 { return 1000 }, Auth: keyOf(0)})
	if err != nil {
		t.Fatal(err)
	}
	claim := Claim{Epoch: 900, Node: NodeID{2}}
	hear := func(from byte, msg message) {
		t.Helper()
		out, err := m.Handle(10*time.Millisecond, NodeID{from}, appendMessage(nil, &msg))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range out {
			if o.Kind == Activate {
				t.Fatal("took over from a sibling that is active")
			}
		}
	}
	m.Tick(10 * time.Millisecond)
	alive := proof{boot: 2, uptime: 5, role: Active, flags: flagLAN | flagPlane, echoBoot: 1, echo: 1}
	alive.tag = m.proofTag(NodeID{2}, &alive)
	tag := m.claimTag(claim)
	hear(3, message{kind: msgBeat, boot: 3, seq: 1, role: Active, own: Claim{Epoch: 1, Node: NodeID{3}}, yours: claim, yoursTag: tag})
	hear(3, message{kind: msgAnswer, boot: 3, seq: 2, echoBoot: 1, echo: uint64(10 * time.Millisecond), yours: claim, yoursTag: tag, sibs: alive})
	if m.self.role != Standby {
		t.Fatalf("the witness knows an active node, and this one is %v", m.self.role)
	}
	hear(2, message{kind: msgBeat, boot: 2, seq: 1, role: Waiting})
	hear(2, message{kind: msgBeat, boot: 2, seq: 2, role: Waiting})
	hear(2, message{kind: msgBeat, boot: 2, seq: 3, role: Active, own: claim})
	if m.self.role != Standby {
		t.Errorf("beside an active sibling this node is %v", m.self.role)
	}
}

func TestNoRoleChange(t *testing.T) {
	cut := func(w *world, pairs ...[2]int) {
		for _, p := range pairs {
			w.path[p[0]][p[1]].cut++
		}
	}
	for _, tt := range []struct {
		name string
		do   func(w *world)
	}{
		{"sibling tunnel cut", func(w *world) { cut(w, [2]int{0, 1}, [2]int{1, 0}) }},
		{"sibling tunnel cut one way", func(w *world) { cut(w, [2]int{0, 1}) }},
		{"a full WAN that drops a burst", func(w *world) {
			for _, j := range []int{2, 3} {
				w.path[0][j].cut++
				w.path[j][0].cut++
			}
			w.run(w.now + 400*time.Millisecond)
			for _, j := range []int{2, 3} {
				w.path[0][j].cut--
				w.path[j][0].cut--
			}
		}},
		{"standby cut off", func(w *world) { cut(w, [2]int{0, 1}, [2]int{2, 1}, [2]int{3, 1}) }},
		{"link cut", func(w *world) {
			for i := range 2 {
				cut(w, [2]int{i, 2}, [2]int{i, 3}, [2]int{2, i}, [2]int{3, i})
			}
		}},
		{"standby dead", func(w *world) { w.nodes[1].kill() }},
		{"standby frozen", func(w *world) { w.nodes[1].freeze(); w.after(3*time.Second, w.nodes[1].thaw) }},
		{"active frozen for 90 ms", func(w *world) { w.nodes[0].freeze(); w.after(90*time.Millisecond, w.nodes[0].thaw) }},
		{"one witness lost", func(w *world) {
			cut(w, [2]int{0, 1}, [2]int{1, 0}, [2]int{0, 3}, [2]int{3, 0})
		}},
		{"both LANs down", func(w *world) {
			for _, n := range w.nodes[:2] {
				n.do(n.m.SetHealth(n.mono(), Health{Plane: true}))
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := pair(t)
			tt.do(w)
			w.run(w.now + 30*time.Second)
			if w.turns[0] != 1 || !w.nodes[0].active {
				t.Errorf("%d activations", w.turns[0])
			}
			w.check(t)
		})
	}
}

func TestHealthMovesTheRole(t *testing.T) {
	for _, tt := range []struct {
		name   string
		do     func(w *world)
		reason Reason
	}{
		{"WAN of the active node cut", func(w *world) {
			for _, j := range []int{2, 3} {
				w.path[0][j].cut++
				w.path[j][0].cut++
			}
		}, ReasonHealth},
		{"WAN of the active node cut outward", func(w *world) { w.path[0][2].cut++; w.path[0][3].cut++ }, ReasonHealth},
		{"LAN down", func(w *world) { n := w.nodes[0]; n.do(n.m.SetHealth(n.mono(), Health{Plane: true})) }, ReasonHealth},
		{"LAN down, and the sibling's tunnel with it", func(w *world) {
			n := w.nodes[0]
			n.do(n.m.SetHealth(n.mono(), Health{Plane: true}))
			w.path[0][1].cut++
			w.path[1][0].cut++
		}, ReasonSiblingWorse},
		{"data plane stuck", func(w *world) { n := w.nodes[0]; n.do(n.m.SetHealth(n.mono(), Health{LAN: true})) }, ReasonHealth},
		{"stuck, and deaf to its sibling", func(w *world) {
			w.path[1][0].cut++
			w.run(w.now + time.Second)
			n := w.nodes[0]
			n.do(n.m.SetHealth(n.mono(), Health{LAN: true}))
		}, ReasonSiblingWorse},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := pair(t)
			tt.do(w)
			w.until(t, "takeover", time.Second, func() bool { return w.nodes[1].active })
			if got := w.nodes[1].m.Status(0).Why; got != tt.reason {
				t.Errorf("because %q, want %q", got, tt.reason)
			}
			w.until(t, "deposition", time.Second, func() bool { return !w.nodes[0].active })
			w.run(w.now + 20*time.Second)
			if w.turns[0] != 2 {
				t.Errorf("%d activations", w.turns[0])
			}
			w.check(t)
		})
	}
}

func TestDrain(t *testing.T) {
	w := pair(t)
	a, b := w.nodes[0], w.nodes[1]
	try := func(what string, want error, forced bool) {
		t.Helper()
		out, err := a.m.Drain(a.mono(), forced)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		a.do(out)
		a.plan()
	}
	health := func(h Health) {
		b.do(b.m.SetHealth(b.mono(), h))
		w.run(w.now + 60*time.Millisecond)
	}
	health(Health{Plane: true, Records: true})
	try("standby without LAN", ErrUnfit, false)
	health(Health{LAN: true, Plane: true})
	try("standby without records", ErrRecords, false)
	health(Health{LAN: true, Plane: true, Records: true})
	if _, err := b.m.Drain(b.mono(), false); !errors.Is(err, ErrNotActive) {
		t.Errorf("drain of the standby: %v", err)
	}
	try("all well", nil, false)
	took := w.until(t, "handover", time.Second, func() bool { return b.active && !a.active })
	if took < b.m.quick() || took > b.m.quick()+5*time.Millisecond {
		t.Errorf("took %v, and %v are for what is on its way", took, b.m.quick())
	}
	if !strings.Contains(w.trace.String(), "red-2: prepare") {
		t.Error("the address was not asked for before the claim")
	}
	if f := b.m.Status(0).Failover; f.Reason != ReasonDrain {
		t.Errorf("because %q", f.Reason)
	}
	w.run(w.now + time.Second)
	if _, err := a.m.Takeover(a.mono(), false); err != nil {
		t.Errorf("takeover by the standby: %v", err)
	}
	w.check(t)
}

// TestFrozen: a node that was frozen is suspended before it does anything, and
// obeys who replaced it.
func TestFrozen(t *testing.T) {
	for _, tt := range []struct {
		name  string
		alone bool // the standby doesn't run
		mute  bool // nobody can answer
		want  Reason
	}{
		{"replaced", false, false, ReasonHigherClaim},
		{"nobody claimed", true, false, ReasonConfirmed},
		{"nobody answers", true, true, ReasonUnconfirmed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := pair(t)
			a, b := w.nodes[0], w.nodes[1]
			if tt.alone {
				b.kill()
			}
			a.freeze()
			w.run(w.now + 5*time.Second)
			a.queue = nil
			if tt.mute {
				w.nodes[2].kill()
				w.nodes[3].kill()
			}
			a.frozen = false
			first := a.m.Tick(a.mono())
			if first[len(first)-1].Kind != Send || !a.m.leading() {
				t.Fatal("it should ask")
			}
			for _, o := range first {
				if o.Kind == Send && o.Payload[4] == byte(msgBeat) && Role(o.Payload[headerLen]) == Active {
					t.Error("it says that it is active")
				}
			}
			a.do(first)
			a.plan()
			if !a.suspended {
				t.Fatal("it isn't suspended")
			}
			w.until(t, "decision", 1100*time.Millisecond, func() bool { return !a.suspended })
			if a.active == !tt.alone || a.m.self.why != tt.want {
				t.Errorf("active %v because %q, want %q", a.active, a.m.self.why, tt.want)
			}
			w.check(t)
		})
	}
}

func TestImplausibleEpochs(t *testing.T) {
	w := pair(t)
	a := w.nodes[0]
	day := uint64(MaxAhead / time.Millisecond)
	far := a.m.wall() + day + 5000
	say := func(from *node, m message) []Output {
		p := &a.m.peers[a.m.byID[from.id]]
		m.kind, m.boot, m.seq = msgBeat, p.boot, p.seq+1000
		out, err := a.m.Handle(a.mono(), from.id, appendMessage(nil, &m))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	refused := func(out []Output) (r bool) {
		for _, o := range out {
			r = r || o.Kind == Report && o.Event.Kind == EventImplausible
		}
		return r
	}
	b := w.nodes[1]
	yours := func(epoch uint64) message {
		c := Claim{epoch, b.id}
		return message{yours: c, yoursTag: b.m.claimTag(c)}
	}
	seen := a.m.seen.epoch
	if out := say(w.nodes[3], yours(far)); !refused(out) || a.m.seen.epoch != seen {
		t.Error("an authentic claim of more than a day ahead that a witness carried is taken")
	}
	if out := say(w.nodes[2], message{role: Active, own: Claim{far, w.nodes[2].id}}); !refused(out) || a.m.sites[1].claim.Epoch == far {
		t.Error("a claim of more than a day ahead is taken")
	}
	if out := say(w.nodes[3], message{role: Active, own: Claim{a.m.wall() + day/2, w.nodes[2].id}}); len(out) > 0 && out[0].Kind == Assign {
		t.Error("a claim counts that came from another's tunnel")
	}
	say(w.nodes[3], message{role: Active, own: Claim{a.m.wall() + day/2, w.nodes[3].id}})
	if a.m.sites[1].claim.Node != w.nodes[3].id {
		t.Error("a claim of half a day ahead is refused")
	}
	// What was accepted does not move the bound for what follows.
	if say(w.nodes[3], message{role: Active, own: Claim{far, w.nodes[3].id}}); a.m.sites[1].claim.Epoch == far {
		t.Error("a claim is judged by the one before it")
	}
}

// TestClaimsOrder: with equal epochs the key decides, on every node alike.
func TestClaimsOrder(t *testing.T) {
	lo, hi := Claim{5, NodeID{1}}, Claim{5, NodeID{2}}
	for _, tt := range []struct {
		a, b Claim
		want bool
	}{{hi, lo, true}, {lo, hi, false}, {lo, lo, false}, {Claim{6, NodeID{}}, hi, true}, {hi, Claim{}, true}} {
		if got := tt.a.Above(tt.b); got != tt.want {
			t.Errorf("%v above %v: %v", tt.a, tt.b, got)
		}
	}
}

func TestLoneNodes(t *testing.T) {
	w := newWorld(1, true)
	n := w.nodes[0] // of a pair, with nobody to hear
	n.start()
	if took := w.until(t, "activation", 4*time.Second, func() bool { return n.active }); took < loneStart {
		t.Errorf("active after %v", took)
	}
	w.nodes[1].start()
	w.run(w.now + 5*time.Second)
	if w.turns[0] != 1 {
		t.Errorf("%d activations", w.turns[0])
	}
	m, err := New(0, Config{Self: n.id, Boot: 1, Wall: func() int64 { return 7 }, Sites: []Site{{"red", []NodeID{n.id}}, {"gray", []NodeID{w.nodes[2].id}}}})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, o := range m.Tick(0) {
		if o.Kind != Send && o.Kind != Report {
			kinds = append(kinds, o.Kind.String()+" "+o.Site)
		}
	}
	if got := strings.Join(kinds, ","); got != "assign gray,persist ,activate red,assign red" {
		t.Errorf("a site's only node does %s", got)
	}
}

// TestIsolatedSiblings: both active while nothing reaches anybody, one again
// within a heartbeat when they meet.
func TestIsolatedSiblings(t *testing.T) {
	w := newWorld(1, true)
	all := func(d int) {
		for i := range w.nodes {
			for j := range w.nodes {
				w.path[i][j].cut += d
			}
		}
	}
	all(1)
	w.nodes[0].start()
	w.nodes[1].start()
	w.until(t, "two active nodes", 4*time.Second, func() bool { return w.nodes[0].active && w.nodes[1].active })
	all(-1)
	if took := w.until(t, "one active node", time.Second, func() bool { return w.nodes[0].active != w.nodes[1].active }); took > 55*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	w.run(w.now + 2*time.Second)
	if w.nodes[0].active == w.nodes[1].active {
		t.Error("no more")
	}
	w.check(t)
}

func TestConfigMistakes(t *testing.T) {
	wall := func() int64 { return 0 }
	a, b, c := NodeID{1}, NodeID{2}, NodeID{3}
	for _, cfg := range []Config{
		{Self: a, Boot: 1, Wall: wall},
		{Self: a, Boot: 1, Wall: wall, Sites: []Site{{"red", []NodeID{b}}}},
		{Self: a, Boot: 1, Wall: wall, Sites: []Site{{"red", []NodeID{a, b, c}}}},
		{Self: a, Boot: 1, Wall: wall, Sites: []Site{{"red", []NodeID{a, b}}, {"gray", []NodeID{b}}}},
		{Self: a, Boot: 1, Wall: wall, Sites: []Site{{"red", []NodeID{a, a}}}},
		{Self: a, Boot: 1, Wall: wall, Sites: []Site{{"red", []NodeID{a, b}}}}, // no authenticator
		{Self: a, Boot: 1, Wall: wall, Sites: []Site{{"red", []NodeID{a}}}, Heartbeat: time.Second, DeadAfter: time.Second},
		{Self: a, Wall: wall, Sites: []Site{{"red", []NodeID{a}}}},
	} {
		if _, err := New(0, cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

// TestDeposedByHearsay: siblings that don't hear each other learn of each other's
// claims from the other site.
func TestDeposedByHearsay(t *testing.T) {
	w := pair(t)
	sever := func(i, j, d int) {
		w.path[i][j].cut += d
		w.path[j][i].cut += d
	}
	sever(0, 1, 1)
	sever(0, 2, 1)
	sever(0, 3, 1)
	w.until(t, "takeover", time.Second, func() bool { return w.nodes[1].active })
	w.run(w.now + time.Second)
	if !w.nodes[0].active {
		t.Fatal("red-1 can't know yet")
	}
	sever(0, 2, -1)
	w.until(t, "deposition", 150*time.Millisecond, func() bool { return !w.nodes[0].active })
	w.run(w.now + 10*time.Second)
	if w.turns[0] != 2 || !w.nodes[1].active {
		t.Errorf("%d activations", w.turns[0])
	}
	w.check(t)
}

// TestForgottenEpoch: a site whose nodes lost their state, and whose clocks run
// late, claims above what the other site remembers.
func TestForgottenEpoch(t *testing.T) {
	w := pair(t)
	old := w.nodes[0].epoch
	for _, n := range w.nodes[:2] {
		n.kill()
	}
	w.run(w.now + time.Second) // what is on its way
	for _, n := range w.nodes[:2] {
		n.skew = -6 * 3600 * 1000
		n.seen, n.epoch = 0, 0
		n.start()
	}
	w.until(t, "a claim that counts", 3*time.Second, func() bool { return max(w.nodes[0].epoch, w.nodes[1].epoch) > old })
	w.run(w.now + time.Second)
	w.settled("in the end")
	w.check(t)
}

// TestRestartedActive: the standby has the records, so it takes over from an
// active node that restarted before anybody missed it.
func TestRestartedActive(t *testing.T) {
	w := pair(t)
	w.nodes[0].kill()
	w.run(w.now + 20*time.Millisecond)
	w.nodes[0].start()
	if took := w.until(t, "takeover", time.Second, func() bool { return w.nodes[1].active }); took > 60*time.Millisecond {
		t.Errorf("took over after %v", took)
	}
	w.run(w.now + time.Second)
	w.settled("in the end")
	w.check(t)
}
