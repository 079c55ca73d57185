package trunk

import (
	"slices"
	"time"
)

// Each trunk has a bbr of its own, and none knows of the others. A few of them keep
// a queue of a whole round trip on the way to a node, and whoever begins late finds the
// way full. A share paces the trunks to one node
// together: what they send in all is about what has been seen to arrive, with next to
// no queue, and each gets as much as the others, or all that it can use. It only ever
// sets bounds: below its own a trunk does what bbr would do.

const (
	// leastQueue and queuePart make the queueing delay that is none yet: a part of the
	// round trip, as HyStart has it (RFC 9406 section 4.2), whose senders behind the
	// gateways take more for a full path.
	leastQueue = 5 * time.Millisecond
	queuePart  = 8
	// drainTo is what the trunks get together of what arrives while there is a queue,
	// restAt what they begin with when it is gone.
	drainTo, restAt = 0.85, 0.97
	// firstStep is by how much they get more after a round without a queue, and maxStep
	// the most: it doubles.
	firstStep, maxStep = 0.03, 0.25
	// patience is how long a queue may be no shorter, though the trunks send less than
	// has arrived, until it is taken for somebody else's; then they push as bbr does,
	// for pushFor, and try again.
	patience = 2 * time.Second
	pushFor  = 8 * time.Second
	push     = 1.25
	// keptFor is how long the highest rate is remembered, in two halves; queuedFor is
	// that while there is a queue: the way may have become narrower.
	keptFor, queuedFor = 4 * time.Second, time.Second
	// aloneFor is how long one trunk has the way for itself until what was found out with
	// others is forgotten.
	aloneFor = time.Second
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
	several time.Duration // when more than one was busy last
	rounds  int           // since then it has not been one for long
	total   float64       // what all may send, bytes per second; 0 is no bound
	pace    float64       // what each may
	step    float64
	full    bool          // there is a queue
	low     time.Duration // what it must become shorter than, and since when
	queued  time.Duration
	best    halves[float64] // the highest rates
	scratch []float64
}

// round takes what the trunks that are busy have done since the last one, and returns
// what each of them may send until the next, in bytes per second; 0 is no bound. base
// is the round trip without a queue.
func (s *share) round(now, base time.Duration, busy []sample) float64 {
	if len(busy) < 2 {
		if now-s.several > aloneFor {
			*s = share{scratch: s.scratch, several: s.several}
		}
		return 0
	}
	s.several = now
	s.rounds++
	rtts, arrived := s.scratch[:0], 0.0
	for _, b := range busy {
		rtts = append(rtts, float64(b.rtt))
		arrived += b.rate
	}
	slices.Sort(rtts)
	queue := time.Duration(rtts[len(rtts)/2]) - base
	s.scratch = rtts
	best := s.remember(now, arrived)
	none := max(leastQueue, base/queuePart)
	switch full := queue > none; {
	case full && !s.full:
		s.full, s.low, s.queued, s.step = true, queue, now, firstStep
	case full && (queue < s.low*9/10 || now-s.queued > patience+pushFor):
		s.low, s.queued = queue, now
	case full:
		s.low = max(s.low, queue)
	case !full && s.full:
		s.full = false
		if s.total > 0 {
			s.total = restAt * best
		}
	}
	switch {
	case s.rounds < beginAfter:
	case s.full && now-s.queued > patience:
		s.total = push * best
	case s.full:
		s.total = drainTo * best
	case s.total > 2*best:
		s.total = 0 // they send what they have, and that is less
	case s.total > 0:
		s.total *= 1 + s.step
		s.step = min(2*s.step, maxStep)
	}
	s.divide(busy)
	return s.pace
}

// remember returns the highest rate of the last seconds.
func (s *share) remember(now time.Duration, rate float64) float64 {
	kept := keptFor
	if s.full {
		kept = queuedFor
	}
	s.best.turn(now, kept)
	s.best.this = max(s.best.this, rate)
	return max(s.best.this, s.best.before)
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

// halves keeps something of the last while: of the half that is under way, and of the
// one before it.
type halves[T any] struct {
	this, before T
	began        time.Duration
}

// turn begins a half if the one under way is over.
func (h *halves[T]) turn(now, while time.Duration) {
	if now-h.began > while/2 {
		*h = halves[T]{before: h.this, began: now}
	}
}

// leastFor is how long the least round trip is remembered: the way may become longer,
// and a queue that stays for so long is somebody else's.
const leastFor = 10 * time.Second

// least is the least value of the last seconds; 0 is none.
type least struct{ halves[time.Duration] }

func (l *least) see(now, v time.Duration) {
	l.turn(now, leastFor)
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
