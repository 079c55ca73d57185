package legs

import (
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

const (
	// stallAfter is the least time for which nothing is acknowledged while something
	// is held, before the relay is taken to be broken. The source then sends it raw.
	stallAfter = time.Second
	// idleAfter is how long a relay may have nothing to do. A last acknowledgement
	// may be delayed by 40 ms, and repeated after 200.
	idleAfter = 500 * time.Millisecond
	// beyondFor is how long the far database may acknowledge what the leg doesn't
	// have: a segment that went raw may be ahead of its copy for that long.
	beyondFor = 50 * time.Millisecond
	// resetAfter bounds how long a RST waits.
	resetAfter = time.Second
	// minReach is the least that the right edge may be beyond the far
	// acknowledgement, and reachFactor how many times what the trunk holds.
	minReach    = 2 << 20
	reachFactor = 3
	// tellDelay is about how long acknowledgements take beyond the round trip, since both
	// gateways space them.
	tellDelay = 3 * time.Millisecond
	// pacedReach is minReach where the trunk is paced. The database's own congestion
	// control sees none of the trunk's loss: it fills whatever it is offered.
	pacedReach = 64 << 10
)

// watch looks at a relay from time to time, and ends it when it is idle, over, or
// not as it should be.
func (r *Relay) watch(now time.Duration) {
	q := r.trunk.Quality()
	r.mu.Lock()
	if q.RTT > 0 {
		r.gate.SetSpacing(q.RTT)
	}
	if reach := q.Rate * uint64(q.RTT+tellDelay) / uint64(time.Second) * reachFactor; reach > 0 && reach < 1<<30 {
		least := uint64(minReach)
		if q.Paced {
			least = pacedReach
		}
		reach = max(reach, least)
		if r.bothWays(now) {
			// The acknowledgements of the far database wait behind what it says itself.
			reach += uint64(q.Backlog) + pumpBytes
		}
		r.gate.SetReach(uint32(reach))
	}
	e := r.judge(now, max(q.RTT, q.Delay))
	idle := e == endIdle
	if idle {
		r.beginBack(&endIdle)
		e = End{}
	}
	rst := r.ending.rst != nil && now-r.ending.rstAt > resetAfter
	stuck := r.ending.why != nil && now-r.ending.at > stallAfter
	r.mu.Unlock()
	switch {
	case stuck:
		r.trunk.Close() // the other gateway takes no last word
	case rst:
		r.sendReset()
	case idle:
		r.wake()
	case e.Cause != "":
		r.release(e)
	}
}

// bothWays reports whether the far database says so much that there is always
// something of it waiting in the trunk.
func (r *Relay) bothWays(now time.Duration) bool {
	if now-r.health.fedAt >= watchEvery/2 { // from less, nothing can be told
		fed := r.gate.Fed()
		r.health.busy = fed-r.health.fed > pumpBytes
		r.health.fed, r.health.fedAt = fed, now
	}
	return r.health.busy
}

// judge finds a reason to end the relay.
func (r *Relay) judge(now, delay time.Duration) End {
	far, got := r.gate.FarAck(), r.gate.Received()
	held := wire.SeqLess(far, got)
	if far != r.health.farAck || !held {
		r.health.farAck, r.health.farMoved = far, now
	}
	if !wire.SeqLess(got, far) {
		r.health.beyondSince = now
	}
	switch {
	case r.ending.why != nil:
		return End{}
	case !r.opening.begun:
		if r.opening.asks && now-r.opening.began > r.opening.patience {
			return endNoAnswer
		}
		return End{}
	case now-r.health.farMoved > max(stallAfter, 4*delay):
		return endStall
	case now-r.health.beyondSince > beyondFor+watchEvery:
		return endBeyond
	case r.over():
		return endOver
	case r.handBack.why != nil:
		if now-r.handBack.began > 2*max(stallAfter, 4*delay) {
			return endTrunk // the other gateway does not answer
		}
		return End{}
	case now-r.health.moved > idleAfter && r.quiet():
		return endIdle
	}
	return End{}
}

// quiet reports whether nothing is under way in either direction.
func (r *Relay) quiet() bool {
	fed, end := r.gate.Fed(), r.gate.NearEnd()
	if r.far.fin {
		fed = r.far.finAt + 1
	}
	if r.near.fin {
		end = r.gate.FinAt() + 1
	}
	return !wire.SeqLess(r.gate.NearAck(), fed) && !wire.SeqLess(r.gate.FarAck(), end) && (!r.near.fin || r.near.finInTrunk) &&
		!wire.SeqLess(r.near.inTrunk, r.gate.NearEnd())
}

// over reports whether both databases have said FIN and know it of each other.
func (r *Relay) over() bool {
	return r.near.fin && r.far.fin && r.gate.FarAck() == r.gate.FinAt()+1 && r.gate.NearAck() == r.far.finAt+1 && r.sent.ack == r.gate.NearAck()
}
