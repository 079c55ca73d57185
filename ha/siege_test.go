package ha

import (
	"testing"
	"time"
)

// takeoverBound is the longest time from the death of an active node to its sibling's
// claim while a witness is hostile and another one is honest: the silence that stands
// for death, a proof that is repeated after it, and the way that the hostile witness
// pretends to have.
const takeoverBound = 1200 * time.Millisecond

// besiege runs red, a pair, and blue, both honest, beside gray, of which the first node
// or both are hostile.
func (w *world) besiege() {
	red, gray := w.nodes[:2], w.nodes[2:4]
	both := w.chance(0.5)
	early := w.chance(0.5)
	begin := func() {
		w.subvert(gray[0])
		if both {
			w.subvert(gray[1])
		}
	}
	if early {
		begin()
	}
	for _, n := range w.nodes {
		if n.hostile == nil && !(both && n == gray[1]) && n != gray[0] {
			w.after(w.between(0, 200*time.Millisecond), n.start)
		}
	}
	w.run(settled)
	if !early {
		begin()
	}
	w.settled("after the start")
	was := w.turns[0]
	calm := w.between(300*time.Millisecond, 1500*time.Millisecond)
	cut := w.chance(0.4)
	if cut {
		w.logf("cut the sibling tunnel of red")
		w.path[0][1].cut++
		w.path[1][0].cut++
	}
	w.run(w.now + calm)
	if changes := w.turns[0] - was; changes > 0 && !(cut && w.rough && changes == 1) {
		w.failf("a hostile node made %d role changes of another site", changes)
	}
	if cut {
		w.path[0][1].cut--
		w.path[1][0].cut--
		w.run(w.now + 300*time.Millisecond)
		w.settled("after the cut")
	}
	if w.chance(0.6) {
		w.siegeKill(red)
	}
	w.run(w.now + w.between(0, 300*time.Millisecond))
	for _, n := range gray {
		if n.hostile != nil {
			w.logf("%s stops", n.name())
			n.hostile.stop()
		}
	}
	w.run(w.now + healed)
	w.settled("after the hostile node stopped")
	if !both {
		w.reclaimed(gray[1])
	}
}

// siegeKill kills red's active node: its sibling must take over in time, and blue must
// follow.
func (w *world) siegeKill(red []*node) {
	i := 0
	if red[1].active {
		i = 1
	}
	dead, other := red[i], red[i^1]
	dead.kill()
	at := w.now
	for !other.active && w.now-at < takeoverBound {
		w.run(w.now + 10*time.Millisecond)
	}
	if !other.active {
		w.failf("no takeover within %v", takeoverBound)
	}
	w.run(w.now + 300*time.Millisecond)
	if w.nodes[4].assign[0] != other.id {
		w.failf("blue does not follow the takeover")
	}
	turns := w.turns[0]
	dead.start()
	w.run(w.now + w.between(300*time.Millisecond, time.Second))
	if w.turns[0] != turns {
		w.failf("roles changed when the dead node came back")
	}
}

// reclaimed checks that the honest node of the hostile one's own site is accepted by
// all others within the lapse of a claim and the clocks' difference.
func (w *world) reclaimed(n *node) {
	const bound = claimLapse + 12*time.Second
	ok := func() bool {
		for _, o := range w.nodes {
			if o.hostile == nil && o.assign[n.site] != n.id {
				return false
			}
		}
		return n.active
	}
	for at := w.now; !ok(); w.run(w.now + 20*time.Millisecond) {
		if w.now-at > bound {
			w.failf("%s is not accepted as the active node of its site within %v", n.name(), bound)
			return
		}
	}
}

// siege is a world with a third site and hostile nodes.
func siege(seed uint64, trace bool) *world {
	w := newWorld(seed, trace)
	for len(w.nodes) < 4 {
		w.add()
	}
	w.sites = append(w.sites, Site{Name: "blue"})
	w.add()
	w.connect()
	w.records = false
	w.besiege()
	return w
}

// TestSiege runs the simulation's hostile worlds. A failing one is replayed by
//
//	go test ./ha -run TestSiege -seed N
func TestSiege(t *testing.T) { runSeeds(t, *allSeeds, siege) }
