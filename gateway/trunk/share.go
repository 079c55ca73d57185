package trunk

import (
	"slices"
	"time"
)

// Each trunk has a bbr of its own, and none knows of the others. A few of them keep
// a queue of a whole round trip on the way to a node, and whoever begins late finds the
// way full. One alone does not notice that the way is full, since now and then the
// database has nothing for it to send, and goes on doubling: most of what it then sends
// again is what it has pushed out of the queue itself. A share paces the trunks to one
// node together: what they send in all is about what has been seen to arrive, with next
// to no queue, and each gets as much as the others, or all that it can use. It only ever
// sets bounds: below its own a trunk does what bbr would do.

const (
	// leastQueue and queuePart make the queueing delay that is none yet: a part of the
	// round trip, as HyStart has it (RFC 9406 section 4.2), whose senders behind the
	// gateways take more for a full path.
	leastQueue = 5 * time.Millisecond
	queuePart  = 8
	// drainWithin is within how many round trips a queue has to go, shortRTT the round
	// trip that such bounds assume at least, and maxDrain by which part the trunks get
	// less than the way carries at most. restAt is the part that they begin with when
	// the queue is gone.
	drainWithin = 4
	shortRTT    = 25 * time.Millisecond
	maxDrain    = 0.25
	restAt      = 0.97
	// firstStep is by how much they get more after a round without a queue, and maxStep
	// the most: it doubles.
	firstStep, maxStep = 0.03, 0.25
	// less is the part of what they may send that has to arrive for the way to be as
	// wide as was thought.
	less = 0.9
	// patience is how long a queue may be there, though the trunks send less and less,
	// until it is taken for somebody else's.
	patience = 2 * time.Second
	// idleFor is how long nobody uses the way until what was found out is forgotten.
	idleFor = time.Second
	// beginAfter is how many rounds there are no bounds: bbr finds out meanwhile what
	// the way carries.
	beginAfter = 8
	// minPace is the least that a trunk gets, in bytes a second. One that sends no more,
	// like the acknowledgements of what comes, is left alone.
	minPace = 32_000
)

// sample is what a trunk has done in a round.
type sample struct {
	rtt     time.Duration
	rate    float64 // bytes acknowledged per second
	waiting bool    // it has more to send than it may
}

// share holds what is known of the way to a node. The zero value knows nothing, and
// bounds nothing. It does no I/O; one goroutine has it at a time.
type share struct {
	used    time.Duration // when a trunk was busy last
	rounds  int           // since it was idle
	width   float64       // what the way carries, as far as is known; bytes per second
	total   float64       // what all may send; 0 is no bound
	pace    float64       // what each may
	step    float64
	before  float64 // what arrived in the last round
	scratch []float64

	full bool // there is a queue
	// since when it has been there, when it should be gone, and the shortest that it
	// has become
	since, until, least time.Duration
	// floor is how long packets wait for something that the trunks can't help.
	floor time.Duration
}

// round takes what the trunks that are busy have done since the last one, and returns
// what each of them may send until the next, in bytes per second; 0 is no bound. base
// is the round trip without a queue.
func (s *share) round(now, base time.Duration, busy []sample) float64 {
	if len(busy) == 0 {
		if now-s.used > idleFor {
			*s = share{scratch: s.scratch, used: s.used}
		}
		return 0
	}
	s.used = now
	s.rounds++
	rtt, arrived, waiting := busy[0].rtt, 0.0, false
	for _, b := range busy {
		rtt = min(rtt, b.rtt) // the queue is the same for all; the rest is delayed acknowledgements
		arrived += b.rate
		waiting = waiting || b.waiting
	}
	queue := max(0, rtt-base)
	// What arrives in one round alone may be what a processor that was kept from us for a
	// moment had left.
	s.width = max(s.width, min(s.before, arrived))
	s.before, arrived = arrived, (s.before+arrived)/2 // a round is short
	s.floor = min(s.floor, queue)
	none := s.floor + max(leastQueue, base/queuePart)
	switch {
	case s.rounds < beginAfter:
	case s.full:
		s.drain(now, base, queue, none, arrived, waiting)
	case queue > none:
		s.full, s.since = true, now
		s.expect(now, base, queue)
	case s.total > 2*arrived:
		s.total, s.width = 0, arrived // they send what they have, and that is less
	case s.total > 0:
		s.total *= 1 + s.step
		s.step = min(2*s.step, maxStep)
	}
	s.divide(busy)
	return s.pace
}

// expect lets the queue become shorter, and notes when it should be gone: what the
// trunks now send is seen to arrive a round trip later.
func (s *share) expect(now, base, queue time.Duration) {
	within := drainWithin * max(base, shortRTT)
	s.total = s.width * (1 - min(float64(queue)/float64(within), maxDrain))
	s.until = now + within + 3*base
	s.least = queue
}

// drain goes on while there is a queue.
func (s *share) drain(now, base, queue, none time.Duration, arrived float64, waiting bool) {
	s.least = min(s.least, queue)
	switch {
	case queue <= none:
		s.rest(restAt * s.width)
	case now < s.until:
	case waiting && arrived < less*s.total && now-s.since < patience:
		s.width = arrived // the way has become narrower
		s.expect(now, base, queue)
	default:
		// What they send arrives, and the queue is none of theirs.
		s.rest(s.width)
		s.floor = s.least
	}
}

// rest ends the draining: from total on they get a little more each round.
func (s *share) rest(total float64) {
	s.full, s.total, s.step = false, total, firstStep
}

// divide finds the bound for each with which all together send the total: whoever
// can't use it leaves the rest to the others (max-min fairness).
func (s *share) divide(busy []sample) {
	if s.total == 0 {
		s.pace = 0
		return
	}
	want := s.scratch[:0]
	for _, b := range busy {
		if b.waiting && b.rate > s.pace*0.7 {
			want = append(want, s.total)
		} else {
			want = append(want, min(1.25*b.rate, s.total)) // it may become more
		}
	}
	slices.Sort(want)
	left := s.total
	for i, w := range want {
		even := left / float64(len(want)-i)
		s.pace = even
		if w > even {
			break
		}
		left -= w
	}
	s.pace = max(s.pace, minPace)
	s.scratch = want
}

// leastFor is how long the least round trip is remembered: the way may become longer,
// and a queue that stays for so long is somebody else's.
const leastFor = 10 * time.Second

// least is the least value of the last seconds, in two halves: of the one that is under
// way, and of the one before it; 0 is none.
type least struct {
	this, before time.Duration
	began        time.Duration // of the half that is under way
}

func (l *least) see(now, v time.Duration) {
	if now-l.began > leastFor/2 {
		*l = least{before: l.this, began: now}
	}
	if l.this == 0 || v < l.this {
		l.this = v
	}
}

// value returns 0 if nothing was seen.
func (l *least) value() time.Duration {
	if l.before > 0 && (l.this == 0 || l.before < l.this) {
		return l.before
	}
	return l.this
}
