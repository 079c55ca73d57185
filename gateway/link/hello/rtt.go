package hello

import "time"

// patienceFloor is the shortest time after which an answer is called lost.
// RFC 6298, section 2.4 asks a full second of a retransmission timer; what
// waits here costs one small message, and time is what it is there to save.
const patienceFloor = 200 * time.Millisecond

// patienceBlind is the same before the first round trip was measured
// (RFC 6298, section 2.1).
const patienceBlind = time.Second

// rttMost is the longest round trip believed. A hello for which WireGuard had
// no session has waited for one, and its time is worth nothing.
const rttMost = 3 * time.Second

// rtt smooths round trips as RFC 6298, section 2 does.
type rtt struct {
	srtt, rttvar time.Duration
	ok           bool
}

func (r *rtt) sample(d time.Duration) {
	if !r.ok {
		r.srtt, r.rttvar, r.ok = d, d/2, true
		return
	}
	r.rttvar += ((r.srtt - d).Abs() - r.rttvar) / 4
	r.srtt += (d - r.srtt) / 8
}

// patience is how long to wait for an answer before it is missed.
func (r *rtt) patience() time.Duration {
	if !r.ok {
		return patienceBlind
	}
	return max(3*r.srtt, r.srtt+4*r.rttvar, patienceFloor)
}
