package ha

import (
	"testing"
	"time"
)

// lies is red, a pair, and blue, both honest and settled, beside gray-1, which sends
// what a test wants.
type lies struct {
	*world
	red1, red2, gray, blue *node
	lie                    func(to *node, ask *message) *message // its answer to a question
}

// newLies makes one in which red-1's clock runs fast by drift.
func newLies(t *testing.T, drift float64) *lies {
	w := newWorld(1, true)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("\n" + w.trace.String())
		}
	})
	w.records = false
	w.sites = append(w.sites, Site{Name: "blue"})
	w.add()
	for i := range w.nodes {
		for j := range w.nodes {
			w.path[i][j] = path{delay: 200 * time.Microsecond}
			if i/2 != j/2 {
				w.path[i][j].delay = 10 * time.Millisecond
			}
		}
	}
	l := &lies{world: w, red1: w.nodes[0], red2: w.nodes[1], gray: w.nodes[2], blue: w.nodes[4]}
	l.gray.up = true
	l.gray.hostile = &hostile{n: l.gray, boot: 99, script: func(from *node, ask *message) {
		if l.lie == nil {
			return
		}
		if a := l.lie(from, ask); a != nil {
			a.kind, a.echoBoot, a.echo = msgAnswer, ask.echoBoot, ask.echo
			l.say(from, *a)
		}
	}}
	l.red1.drift = drift
	for _, n := range []*node{l.red1, l.red2, l.blue} {
		n.start()
	}
	l.beats(7*time.Second, nil)
	if !l.red1.active || l.blue.assign[0] != l.red1.id {
		t.Fatal("red-1 should be active, for blue as well")
	}
	return l
}

func (l *lies) say(to *node, m message) {
	l.gray.hostile.seq[to.index]++
	m.boot, m.seq = l.gray.hostile.boot, l.gray.hostile.seq[to.index]
	l.send(l.gray.index, to.index, appendMessage(nil, &m))
}

// beats has gray-1 send heartbeats to red for a time; change may change each.
func (l *lies) beats(d time.Duration, change func(to *node, m *message)) {
	for end := l.now + d; l.now < end; l.run(min(end, l.now+50*time.Millisecond)) {
		for _, n := range []*node{l.red1, l.red2} {
			m := message{kind: msgBeat, role: Active, flags: flagLAN | flagPlane | flagHearsYou, own: Claim{1_700_000_000_000, l.gray.id}}
			if change != nil {
				change(n, &m)
			}
			l.say(n, m)
		}
	}
}

// latest is the newest proof that gray-1 has got from a node.
func (l *lies) latest(n *node) proof {
	kept := l.gray.hostile.proofs[n.index]
	return kept[len(kept)-1]
}

// isolate cuts red's tunnel between the siblings.
func (l *lies) isolate() {
	l.path[0][1].cut++
	l.path[1][0].cut++
}

// TestInventedClaims: whatever epochs another site tells of red, in whichever node's
// name, red's epochs stay where its own claims have put them, so that others accept the
// next claim.
func TestInventedClaims(t *testing.T) {
	l := newLies(t, 0)
	seen := l.red1.m.seen.epoch
	day := uint64(MaxAhead / time.Millisecond)
	for _, claimant := range []NodeID{l.red1.id, l.red2.id, {77}} {
		l.beats(time.Second, func(to *node, m *message) {
			m.yours = Claim{max(to.m.seen.epoch, to.m.clock()) + day/2 - 1000, claimant}
		})
	}
	if l.red1.m.seen.epoch != seen || l.red2.m.seen.epoch != seen || l.red1.seen != seen {
		t.Errorf("epochs moved from %d to %d and %d, stored %d", seen, l.red1.m.seen.epoch, l.red2.m.seen.epoch, l.red1.seen)
	}
	if n := l.red1.m.Status(0).Nodes[l.red1.m.byID[l.gray.id]].Unauthentic; n < 60 {
		t.Errorf("%d invented claims are counted", n)
	}
	l.red1.kill()
	l.until(t, "takeover", time.Second, func() bool { return l.red2.active })
	l.until(t, "blue follows", time.Second, func() bool { return l.blue.assign[0] == l.red2.id })
	l.check(t)
}

// TestLoneActiveNode: the sibling is down, and a witness claims in its name and lets it
// live. The node that is left stays active.
func TestLoneActiveNode(t *testing.T) {
	l := newLies(t, 0)
	l.red2.kill()
	old := l.latest(l.red2)
	l.lie = func(to *node, _ *message) *message {
		return &message{role: Active, yours: Claim{to.m.clock() + 1000, l.red2.id}, sibs: old}
	}
	turns := l.turns[0]
	l.beats(time.Minute, func(to *node, m *message) {
		m.yours, m.yoursTag = Claim{to.m.clock() + 1000, l.red2.id}, Tag{1}
		m.sibs = proof{boot: 5, uptime: uint64(l.now), role: Active, tag: Tag{2}}
	})
	if !l.red1.active || l.turns[0] != turns || l.blue.assign[0] != l.red1.id {
		t.Errorf("red-1 active %v after %d activations, blue follows %v", l.red1.active, l.turns[0]-turns, l.blue.assign[0] == l.red1.id)
	}
	l.check(t)
}

// TestTakeoverDespiteLies: the active node dies, and a witness goes on to tell that it
// lives, with the latest proof that it got from it, for ever.
func TestTakeoverDespiteLies(t *testing.T) {
	for _, tt := range []struct {
		name  string
		blue  bool // answers too
		proof bool
		bound time.Duration
	}{
		{"a repeated proof", true, true, 400 * time.Millisecond},
		{"no proof", true, false, 250 * time.Millisecond},
		{"a repeated proof, and no other witness", false, true, 1300 * time.Millisecond},
		{"no proof, and no other witness", false, false, 1300 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLies(t, 0)
			l.tells = true
			if !tt.blue {
				l.blue.kill()
			}
			l.beats(time.Second, nil)
			l.lie = func(*node, *message) *message {
				a := message{role: Active}
				if tt.proof {
					a.sibs = l.latest(l.red1)
				}
				return &a
			}
			l.red1.kill()
			at := l.now
			for !l.red2.active && l.now-at < 5*time.Second {
				l.beats(10*time.Millisecond, nil)
			}
			took := l.now - at
			if took > tt.bound {
				t.Errorf("took over after %v, want %v at most", took, tt.bound)
			}
			l.check(t)
		})
	}
}

// TestLyingWitnessAlone: the siblings don't hear each other, and the only witness calls
// each of them silent to the other one and carries the claims that follow. That can't be
// told from the truth, so roles change; but ever more seldom.
func TestLyingWitnessAlone(t *testing.T) {
	l := newLies(t, 0)
	l.blue.kill()
	l.isolate()
	l.lie = func(*node, *message) *message { return &message{flags: flagSilent, age: unknownAge} }
	turns := l.turns[0]
	l.beats(10*time.Minute, func(to *node, m *message) {
		for _, c := range l.gray.hostile.claims {
			if c.Node != l.gray.id && c.Above(m.yours) {
				m.yours, m.yoursTag = c.Claim, c.tag
			}
		}
	})
	if n := l.turns[0] - turns; n < 4 || n > 24 {
		t.Errorf("%d role changes in ten minutes", n)
	}
	l.path[0][1].cut--
	l.path[1][0].cut--
	l.run(l.now + time.Second)
	if l.red1.active == l.red2.active {
		t.Error("hearing each other, the siblings have not settled")
	}
	l.check(t)
}

// TestReachOfOneSite: a site tells that it hears now one node of a pair and now the
// other. The role follows, but ever more seldom.
func TestReachOfOneSite(t *testing.T) {
	l := newLies(t, 0)
	l.beats(30*time.Minute, func(to *node, m *message) {
		if to.active {
			m.flags &^= flagHearsYou
		}
	})
	if n := l.turns[0]; n < 2 || n > 12 {
		t.Errorf("%d activations in half an hour", n)
	}
	l.check(t)
}

// TestReachOfTwoSites: what two sites agree on moves the role at once, whatever one of
// them has done before.
func TestReachOfTwoSites(t *testing.T) {
	l := newLies(t, 0)
	l.beats(10*time.Minute, func(to *node, m *message) {
		if to.active {
			m.flags &^= flagHearsYou
		}
	})
	l.beats(time.Minute, nil)
	a, b := l.red1, l.red2
	if b.active {
		a, b = b, a
	}
	for j := 2; j < 5; j++ {
		l.path[a.index][j].cut++
		l.path[j][a.index].cut++
	}
	for at := l.now; !b.active && l.now-at < 2*time.Second; {
		l.beats(10*time.Millisecond, nil)
	}
	if !b.active {
		t.Error("a node that reaches no site keeps the role")
	}
	l.check(t)
}

// TestDriftingClocks: the siblings' clocks run apart while their tunnel is down for
// long. The proofs that an honest witness carries keep the standby quiet, and a takeover
// is as fast as ever.
func TestDriftingClocks(t *testing.T) {
	for name, drift := range map[string]float64{"the active node's is slow": -500e-6, "the active node's is fast": 500e-6} {
		t.Run(name, func(t *testing.T) {
			l := newLies(t, drift)
			l.beats(time.Minute, nil)
			l.isolate()
			turns := l.turns[0]
			l.run(l.now + 20*time.Minute)
			if l.turns[0] != turns {
				t.Fatalf("%d role changes", l.turns[0]-turns)
			}
			l.tells = true
			l.red1.kill()
			took := l.until(t, "takeover", 3*time.Second, func() bool { return l.red2.active })
			if took > 400*time.Millisecond {
				t.Errorf("took over after %v", took)
			}
			l.check(t)
		})
	}
}

// TestHighestClaimLapses: a node of another site claims the highest epoch that is
// plausible, in a form that its sibling can't verify, and dies. Others follow the sibling
// after claimLapse, though its claim is lower.
func TestHighestClaimLapses(t *testing.T) {
	l := newLies(t, 0)
	high := l.blue.m.clock() + uint64(MaxAhead/time.Millisecond) - 1
	for _, n := range []*node{l.red1, l.red2, l.blue} {
		l.say(n, message{kind: msgBeat, role: Active, own: Claim{high, l.gray.id}, ownTag: Tag{1}})
	}
	l.run(l.now + 50*time.Millisecond)
	gray2 := l.nodes[3]
	if l.blue.assign[1] != l.gray.id {
		t.Fatal("the claim is refused")
	}
	gray2.start()
	took := l.until(t, "all follow gray-2", 2*claimLapse, func() bool {
		return l.red1.assign[1] == gray2.id && l.red2.assign[1] == gray2.id && l.blue.assign[1] == gray2.id
	})
	if took < claimLapse-100*time.Millisecond {
		t.Errorf("the claim lapsed after %v", took)
	}
	l.check(t)
}

// TestClaimsAreSpaced: claims of another site, each above the one before, cost a bounded
// number of changes of routes.
func TestClaimsAreSpaced(t *testing.T) {
	l := newLies(t, 0)
	assigned := func() (n int) {
		for i := range 1000 {
			m := message{kind: msgBeat, boot: 98, seq: uint32(i + 1), role: Active, own: Claim{l.blue.m.clock() + uint64(i), l.gray.id}}
			out, err := l.blue.m.Handle(l.blue.mono(), l.gray.id, appendMessage(nil, &m))
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range out {
				if o.Kind == Assign {
					n++
				}
			}
			l.blue.do(out)
			l.run(l.now + 2*time.Millisecond)
		}
		return n
	}
	if n := assigned(); n < 2 || n > claimBurst+4 {
		t.Errorf("%d of 1000 claims in two seconds moved routes", n)
	}
}

// TestBesideAnOlderVersion: a node whose sibling runs an older version does not lead
// beside it, and takes over when that one is gone.
func TestBesideAnOlderVersion(t *testing.T) {
	w := newWorld(1, false)
	m := message{kind: msgBeat, boot: 5, role: Active}
	n := w.nodes[0]
	n.start()
	w.nodes[2].start() // a witness that does not understand red-2 either
	for range 100 {
		m.seq++
		b := appendMessage(nil, &m)
		b[3] = Version - 1
		out, err := n.m.Handle(n.mono(), w.nodes[1].id, b)
		if err == nil {
			t.Fatal("another version is accepted")
		}
		n.do(out)
		w.run(w.now + 100*time.Millisecond)
	}
	if n.active {
		t.Error("active beside a sibling of an older version")
	}
	w.until(t, "activation", 2*loneStart, func() bool { return n.active })
}
