package link

import "time"

// clockTolerance is what a clock may be slewed by without being called late.
const clockTolerance = 100 * time.Millisecond

// clockWatch notices a wall clock that was set back. A handshake carries the
// time (TAI64N) so that old ones can't be replayed, and a responder refuses
// one that is not newer than the last: a node whose clock was set back can't
// renew its sessions until it has caught up.
type clockWatch struct {
	latest time.Time // of a handshake, by the wall clock
	late   bool      // the clock ran behind at the latest call of check
}

// used notes that a handshake was made at wall time t.
func (c *clockWatch) used(t time.Time) {
	if t = t.Round(0); t.After(c.latest) { // Round strips the monotonic reading
		c.latest = t
	}
}

// behind is how far the clock runs behind the last handshake; 0 when it doesn't.
func (c *clockWatch) behind(now time.Time) time.Duration {
	if d := c.latest.Sub(now.Round(0)); d > clockTolerance {
		return d
	}
	return 0
}

// check reports once that the clock has begun to run behind, and once that it
// has caught up.
func (c *clockWatch) check(now time.Time) (behind time.Duration, changed bool) {
	behind = c.behind(now)
	changed = c.late != (behind > 0)
	c.late = behind > 0
	return behind, changed
}
