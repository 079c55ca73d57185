package ha

import (
	"math"
	"time"
)

const (
	// dampHalf is the time in which half of the penalty for role changes is forgiven.
	dampHalf = time.Hour
	// flapWait is the wait before the second claim that relies on one witness and that
	// another witness's proof has undone. It doubles with each, maxFlaps times at most.
	flapWait = time.Second
	maxFlaps = 6
)

// damping spaces role changes that one other site alone can cause, by reporting that
// one node of the pair is reachable and the other is not. Each change doubles the time
// to the next, and the penalty decays, as RFC 2439 damps routes. Otherwise a hostile
// site could move the role every few seconds.
type damping struct {
	penalty float64 // role changes, decayed
	at      time.Duration
}

func (d *damping) level(now time.Duration) float64 {
	return d.penalty * math.Exp2(-float64(now-d.at)/float64(dampHalf))
}

// add counts a role change.
func (d *damping) add(now time.Duration) { d.penalty, d.at = d.level(now)+1, now }

// wait returns the least time between two role changes. The first one is free.
func (d *damping) wait(now time.Duration) time.Duration {
	n := max(0, min(d.level(now)-1, 20))
	return time.Duration(float64(healthEvery) * math.Exp2(n))
}

// mayMove reports whether enough time has passed since the last role change for one
// to the better of two nodes. A change for what a node knows of itself, or for what two
// other sites agree on, waits for healthEvery only.
func (m *Machine) mayMove(better, worse uint8, sure bool) bool {
	wait := healthEvery
	if !sure && better-worse < 2 {
		wait = m.moves.damp.wait(m.now)
	}
	return m.now-m.moves.at >= wait
}

// flapping reports whether the sibling counts as alive although witnesses report it
// silent: after earlier reports it was alive, and deposed this node by a claim that a
// witness carried. Each time doubles the wait. A heartbeat of the sibling itself ends
// it.
func (m *Machine) flapping() bool {
	if m.moves.flaps < 2 {
		return false
	}
	return m.now-m.moves.at < flapWait<<min(m.moves.flaps-2, maxFlaps)
}
