package trunk

import "time"

// bbr finds out what the path to a node carries, and how long it is, and bounds by that
// what is sent: so fast as it carries, and with as much under way as fills it, so that no
// queue stays. A single loss says nothing. It follows BBR
// (draft-cardwell-iccrg-bbr-congestion-control-00) apart from what its constants say, and
// apart from this: it looks for more only until a queue begins, as HyStart does (RFC 9406
// section 4.2), since the databases behind the gateways would take it for a full path.
type bbr struct {
	mode  mode
	since time.Duration // of the mode
	grown float64       // the bandwidth when the mode, or its last round, began
	gain  float64       // of up

	bandwidth maxOfRounds
	roundEnds uint64 // a round ends with what is sent after so many bytes were delivered
	whole     bool   // something in this round was not bounded by what there was to send
	gotten    int    // bytes that have arrived in this round,
	missing   int    // and that were lost

	full      float64 // the bandwidth that a round must exceed for STARTUP to continue,
	fullCount int     // and for how many rounds it was not

	least     time.Duration // the round trip without a queue; 0 is unknown
	leastSeen time.Duration // when it was seen last
	probed    time.Duration // the least one since probeRTT began
	// base is the least round trip since startup began, or while it cruised last: what is
	// beyond that is a queue of our own.
	base   time.Duration
	queued int // so many round trips in a row told of a queue

	strained strain

	cruises uint64 // how often it has begun to cruise
}

type mode uint8

const (
	startup  mode = iota // doubles with each round trip
	drain                // lets the queue go that startup has left
	up                   // looks whether the path carries more
	down                 // lets the queue go that this has left
	cruise               // keeps to what it carries
	probeRTT             // looks how long it is without a queue
)

const (
	// firstWindow is how many bytes are under way before anything is known: a trunk begins
	// in the middle of a connection's bulk.
	firstWindow = 256 << 10
	// little under way makes no queue: one that it sees while the trunk starts is that of the
	// other direction, by which the acknowledgements come.
	little = firstWindow / 8
	// startGain is 2/ln 2: the least that doubles with each round trip.
	startGain = 2.885
	// upGain is how much more than is known is tried, and upFaster by how much that grows
	// with each round that brings more.
	upGain, upFaster, mostGain = 1.25, 1.3, 2
	downGain                   = 0.8
	cruiseGain                 = 0.99
	windowGain                 = 2
	probeWindowGain            = 0.5
	// cruiseRounds is for how many round trips it cruises, every other time for one more.
	cruiseRounds = 5
	// moreBy is by how much a round has to bring more for it to be growth, and fullAfter
	// after how many rounds without it the path is full.
	moreBy, fullAfter = 1.25, 3
	// heavyLoss is the part of a round that has to be lost for the path to be full.
	heavyLoss = 0.15
	// leastFor is how long the least round trip is believed, and probeFor how long a look
	// at it takes.
	leastFor = 10 * time.Second
	probeFor = 100 * time.Millisecond
	// leastQueue and queuePart make the queueing delay that is none yet: a part of the
	// round trip.
	leastQueue = 5 * time.Millisecond
	queuePart  = 8
	queueSeen  = 4 // in a row
	// leastWindow and mostWindow bound the bytes under way.
	leastWindow, mostWindow = 4 * 1400, 64 << 20
	// forgetAfter is how long nothing is sent until what was found out is forgotten.
	forgetAfter = 5 * time.Second
)

// maxOfRounds is the largest value of the last rounds.
type maxOfRounds struct {
	rounds [10]float64
	at     int
}

func (m *maxOfRounds) see(v float64) { m.rounds[m.at] = max(m.rounds[m.at], v) }

func (m *maxOfRounds) next() {
	m.at = (m.at + 1) % len(m.rounds)
	m.rounds[m.at] = 0
}

func (m *maxOfRounds) value() (v float64) {
	for _, r := range m.rounds {
		v = max(v, r)
	}
	return v
}

// idles takes a round trip that something else has measured while nothing is under way.
func (b *bbr) idles(now, rtt time.Duration) { b.least, b.leastSeen = rtt, now }

// restart begins again on a path that was unused for long. Its round trip is known.
func (b *bbr) restart(now time.Duration) {
	*b = bbr{least: b.least, leastSeen: now, since: now, roundEnds: b.roundEnds, cruises: b.cruises}
}

// ack takes what an acknowledgement has told. delivered are bytes in all, inside those
// under way, and held says that more would be if the window let them.
func (b *bbr) ack(now time.Duration, n news, delivered uint64, inside int, held bool) {
	b.gotten += n.delivered
	b.missing += n.lost
	b.seeRTT(now, n.rtt, held)
	ended := n.before >= b.roundEnds && n.delivered > 0
	if n.rate > 0 && (!n.limited || n.rate >= b.bandwidth.value()) {
		b.bandwidth.see(n.rate)
		b.whole = b.whole || !n.limited
	}
	if ended {
		b.roundEnds = delivered
	}
	b.advance(now, ended, inside)
	if ended {
		if b.whole {
			b.bandwidth.next()
		}
		b.whole, b.gotten, b.missing = false, 0, 0
	}
}

// seeRTT takes a round trip.
func (b *bbr) seeRTT(now, rtt time.Duration, held bool) {
	if rtt == 0 {
		return
	}
	if b.strained.see(now, isLong(rtt, b.least), held, rtt) {
		// The path has become longer.
		b.least, b.leastSeen = b.strained.least, now
		b.strained = strain{}
		b.enter(startup, now)
		b.full, b.fullCount = 0, 0
	}
	slack := max(b.least/16, 500*time.Microsecond)
	if b.least == 0 || rtt <= b.least+slack {
		b.leastSeen = now
	}
	if b.least == 0 || rtt < b.least {
		b.least = rtt
	}
	if b.mode == probeRTT && (b.probed == 0 || rtt < b.probed) {
		b.probed = rtt
	}
	if b.base == 0 || rtt < b.base {
		b.base = rtt
	}
	if rtt > b.base+max(leastQueue, b.base/queuePart) {
		b.queued++
	} else {
		b.queued = 0
	}
}

// isQueue reports whether there is a queue: a single round trip may be long by chance.
func (b *bbr) isQueue() bool { return b.queued >= queueSeen }

func (b *bbr) enter(m mode, now time.Duration) {
	b.mode, b.since, b.grown = m, now, b.bandwidth.value()
	b.gain = upGain
	if m == cruise || m == startup {
		b.base, b.queued = 0, 0
	}
}

// advance goes on to another mode when it is time; ended says that a round has ended.
func (b *bbr) advance(now time.Duration, ended bool, inside int) {
	heavy := ended && float64(b.missing) > heavyLoss*float64(b.gotten+b.missing) && b.gotten+b.missing > 64<<10
	switch b.mode {
	case startup:
		if ended {
			b.seeFull()
		}
		if inside < little {
			b.base, b.queued = 0, 0
		}
		if b.fullCount >= fullAfter || b.isQueue() && b.bandwidth.value() > 0 || heavy {
			b.enter(drain, now)
		}
	case drain:
		if inside <= b.bdp(1) {
			b.enter(cruise, now)
		}
	case up:
		switch {
		case b.isQueue() || heavy:
			b.enter(down, now)
		case now-b.since < b.least || !ended:
		case b.bandwidth.value() > 1.1*b.grown:
			b.grown = b.bandwidth.value() // and on
			b.gain = min(upFaster*b.gain, mostGain)
		default:
			b.enter(down, now)
		}
	case down:
		if inside <= b.bdp(1) || now-b.since > 2*b.least+leastQueue {
			b.cruises++
			b.enter(cruise, now)
		}
	case cruise:
		if now-b.since > time.Duration(cruiseRounds+b.cruises%2)*b.least {
			b.enter(up, now)
		}
	case probeRTT:
		if now-b.since > probeFor+2*b.least && b.probed > 0 {
			b.least, b.leastSeen = b.probed, now
			b.enter(cruise, now)
		}
	}
	if b.mode != probeRTT && b.mode != startup && now-b.leastSeen > leastFor {
		b.probed = 0
		b.enter(probeRTT, now)
	}
}

// seeFull notes whether the round has brought more than those before. One in which there
// was too little to send tells nothing.
func (b *bbr) seeFull() {
	v := b.bandwidth.value()
	switch {
	case b.whole && v >= moreBy*b.full:
		b.full, b.fullCount = v, 0
	case b.whole:
		b.fullCount++
	}
}

// bdp is so many times what the path holds without a queue, in bytes.
func (b *bbr) bdp(gain float64) int {
	return int(gain * b.bandwidth.value() * b.least.Seconds())
}

// pace is how fast to send, in bytes per second.
func (b *bbr) pace() float64 {
	v := b.bandwidth.value()
	if b.mode == startup {
		// Before anything is known, as if the first window went round.
		return startGain * max(v, firstWindow/max(b.least, time.Millisecond).Seconds())
	}
	switch b.mode {
	case drain:
		v /= startGain
	case up:
		v *= b.gain
	case down:
		v *= downGain
	default:
		v *= cruiseGain
	}
	return max(v, leastWindow)
}

// window is how many bytes may be under way. quantum is how many are sent at a time.
func (b *bbr) window(quantum int) int {
	gain := float64(windowGain)
	switch b.mode {
	case startup:
		gain = startGain
	case up:
		gain = max(windowGain, 1.5*b.gain)
	case probeRTT:
		gain = probeWindowGain
	}
	// Acknowledgements are told some time after what they tell of has come.
	w := b.bdp(gain) + 3*quantum + int(b.bandwidth.value()*ackDelay.Seconds())
	if b.mode == startup {
		w = max(w, firstWindow)
	}
	return min(max(w, leastWindow), mostWindow)
}
