package ha

import (
	"math"
	"time"
)

const (
	// dampHalf is the time in which half of the penalty for role changes is forgiven.
	dampHalf = time.Hour
	// flapWait is the wait before the second claim on a witness's word alone that
	// another witness's proof has undone; it doubles with each up to maxFlaps times.
	flapWait = time.Second
	maxFlaps = 6
)

// damping spaces role changes that one other site alone can bring about, by saying
// that it hears one node of the pair and not the other: each one doubles the time to
// the next, and the penalty decays (RFC 2439 damps routes in this way). A hostile
// site could otherwise move the role every few seconds.
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
// to the better of two nodes. What a node knows of itself, and what two other sites
// agree on, waits for healthEvery only.
func (m *Machine) mayMove(better, worse uint8, sure bool) bool {
	wait := healthEvery
	if !sure && better-worse < 2 {
		wait = m.moves.damp.wait(m.now)
	}
	return m.now-m.moves.at >= wait
}

// flapping reports whether the sibling must be taken for alive although witnesses
// call it silent: before, it was alive after such words, and deposed this node by a
// claim that a witness carried. Each time makes the wait twice as long. Hearing the
// sibling itself ends it.
func (m *Machine) flapping() bool {
	if m.moves.flaps < 2 {
		return false
	}
	return m.now-m.moves.at < flapWait<<min(m.moves.flaps-2, maxFlaps)
}
