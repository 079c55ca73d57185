package trunk

import "time"

// bbr holds what is sent to a window for the least round trip of the last ten seconds.
// When the path has become much longer, by other routers for one, that is next to nothing,
// for as long as ten seconds.

const (
	// A round trip that is too long is beyond twice the least one, which a queue of our own
	// makes of it, and some more.
	strainFactor = 2.5
	strainSlack  = 10 * time.Millisecond
	// strainAfter is for how long it has to be.
	strainAfter = time.Second
)

// isLong reports whether a round trip is too long for the least one that is known, 0 if
// none is.
func isLong(rtt, least time.Duration) bool {
	return least > 0 && float64(rtt) > strainFactor*float64(least)+float64(strainSlack)
}

// strain is what was seen of a path since its round trip has been too long. The zero value
// has seen nothing.
type strain struct {
	since       time.Duration
	looks, held int
	least       time.Duration
}

// see takes note of a round trip: whether it is too long, and whether the window holds back
// what there is to send. It reports whether the path has become longer, which it has if the
// window has held back most of the time.
func (s *strain) see(now time.Duration, long, held bool, rtt time.Duration) bool {
	if !long {
		*s = strain{}
		return false
	}
	if s.looks == 0 {
		s.since, s.least = now, rtt
	}
	s.least = min(s.least, rtt)
	s.looks++
	if held {
		s.held++
	}
	if now-s.since < strainAfter {
		return false
	}
	longer := 2*s.held > s.looks
	if !longer {
		*s = strain{}
	}
	return longer
}
