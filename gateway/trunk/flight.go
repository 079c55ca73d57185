package trunk

import "time"

const (
	// reorderAtFirst is how many packets sent later have to be acknowledged for one to be
	// taken for lost (RFC 9002 section 6.1.1). It grows when one turns out to have been
	// late only, up to maxReorder.
	reorderAtFirst, maxReorder = 3, 1000
	// longAgo is after how many eighths of a round trip one is taken for lost, too, if
	// any that was sent later has been acknowledged (RFC 9002 section 6.1.2).
	longAgo = 10
	// lateWithin is how many round trips a packet taken for lost is remembered.
	lateWithin = 2
	// firstProbe is how long nothing is acknowledged until a probe is sent while no round
	// trip is known; leastProbe is the shortest wait and maxProbe the longest.
	firstProbe, leastProbe, maxProbe = 250 * time.Millisecond, 20 * time.Millisecond, time.Second
)

// maxChunks is how many pieces of streams fit into a packet at most.
const maxChunks = 4

// chunk is what a packet carries of a stream.
type chunk struct {
	conn  *Conn
	span  span
	flags uint8
}

// packet is one that was sent, and what is needed for a sample of the rate when it is
// acknowledged (draft-cheng-iccrg-delivery-rate-estimation).
type packet struct {
	at        time.Duration
	size      int
	state     uint8
	limited   bool // by what there was to send
	chunks    uint8
	delivered uint64        // what had been when it was sent,
	updated   time.Duration // since when that was so,
	first     time.Duration // and when the first of the packets of the sample was sent
	chunk     [maxChunks]chunk
}

const (
	inFlight = iota
	arrived
	lost
)

// flight is the packets to a node that have been sent, and what their acknowledgements
// tell of the path. It does no I/O, and has no clock.
type flight struct {
	ring         []packet // of a power of two
	oldest, next uint64   // packets below oldest are settled, next is the number of the next
	inside       int      // bytes that are under way
	largest      uint64   // one beyond the largest number that was acknowledged
	reorder      uint64

	// Those that were taken for lost lately, in the order of their numbers.
	gone []uint64

	rtt, rttVar time.Duration // smoothed as by RFC 6298; 0 before the first sample
	last        time.Duration // the last sample

	delivered    uint64 // bytes in all
	updated      time.Duration
	first        time.Duration
	limitedUntil uint64 // delivered, until when the rate is not what the path carries; 0 is not

	// progress is when something was acknowledged last, or the first sent; the time does not
	// count in which nothing was under way.
	progress time.Duration
	probes   int           // since then
	emptied  time.Duration // when one of them took the last packet for lost

	sent, lostAll, late uint64
	cleared             uint64 // what was sent when it was abandoned
}

func (f *flight) at(n uint64) *packet { return &f.ring[n&uint64(len(f.ring)-1)] }

// slot returns the place for the next packet. The caller puts its chunks in, and then
// calls add.
func (f *flight) slot() *packet {
	if int(f.next-f.oldest) == len(f.ring) {
		f.grow()
	}
	return f.at(f.next)
}

// add notes that the packet in the slot is sent now, with so many chunks and bytes.
func (f *flight) add(now time.Duration, chunks, size int) {
	if f.inside == 0 {
		f.first, f.updated = now, now
		if f.probes == 0 {
			f.progress = now
		} else {
			f.progress += now - f.emptied
		}
	}
	p := f.at(f.next)
	p.at, p.size, p.state, p.chunks = now, size, inFlight, uint8(chunks)
	p.limited, p.delivered, p.updated, p.first = f.limitedUntil > 0, f.delivered, f.updated, f.first
	f.next++
	f.inside += size
	f.sent++
}

func (f *flight) grow() {
	old := f.ring
	f.ring = make([]packet, max(64, 2*len(old)))
	for n := f.oldest; n < f.next; n++ {
		*f.at(n) = old[n&uint64(len(old)-1)]
	}
}

// maxPackets bounds the packets that a flight remembers, and maxGone those of them that were
// taken for lost: full packets fill the largest window, and small ones cannot fill the memory.
const maxPackets, maxGone = 1 << 16, 1 << 12

// hasRoom reports whether another packet may be sent while so many bytes may be under way.
func (f *flight) hasRoom(window int) bool { return f.inside < window && f.next-f.oldest < maxPackets }

// limit notes that there is no more to send, though there could be more under way.
func (f *flight) limit() { f.limitedUntil = max(1, f.delivered+uint64(f.inside)) }

// news is what an acknowledgement has told.
type news struct {
	rtt       time.Duration // 0 is no sample
	rate      float64       // bytes per second; 0 is no sample
	limited   bool          // the rate is of what there was to send
	before    uint64        // what had been delivered when the newest packet was sent
	delivered int           // bytes
	lost      int           // bytes
}

// settle is told of each packet that has arrived or is taken for lost.
type settle func(p *packet, arrived bool)

// expand turns the ranges of an acknowledgement, highest first as parseAck returns them, into
// those of this flight's numbers, and reports whether all of them lie within [0, next). A peer
// that has restarted knows only the low 32 bits of numbers, so that its ranges may be off by a
// multiple of 1<<32. Every bound is a distance that is compared before it is subtracted:
// nothing wraps, whatever the peer sends.
func (f *flight) expand(spans []span) bool {
	if len(spans) == 0 {
		return true
	}
	top := spans[0].to
	below := uint64(uint32(f.next) - uint32(top)) // from the highest range's end to next
	if below >= 1<<31 || below > f.next {
		return false
	}
	end := f.next - below
	for i, s := range spans {
		if s.from >= s.to || s.to > top || top-s.from > end {
			return false
		}
		spans[i] = span{end - (top - s.from), end - (top - s.to)}
	}
	return true
}

// valid reports whether there are ranges, highest first, which do not overlap and end at next at
// most.
func (f *flight) valid(spans []span) bool {
	end := f.next
	for _, s := range spans {
		if s.from >= s.to || s.to > end {
			return false
		}
		end = s.from
	}
	return len(spans) > 0
}

// ack takes the ranges of an acknowledgement, highest first, which was sent delay after
// the packet that it tells of first had come. It ignores ranges that are not valid. Valid ones
// do not overlap, so it looks at each packet of [oldest, next) at most once.
func (f *flight) ack(now, delay time.Duration, spans []span, done settle) (n news) {
	if !f.valid(spans) {
		return n
	}
	var newest *packet
	for _, s := range spans {
		for at := s.to; at > max(s.from, f.oldest); at-- {
			p := f.at(at - 1)
			if p.state != inFlight {
				continue
			}
			if at == spans[0].to {
				f.sample(max(now-p.at-delay, 1))
				n.rtt = f.last
			}
			p.state = arrived
			f.inside -= p.size
			f.delivered += uint64(p.size)
			n.delivered += p.size
			if newest == nil || p.delivered > newest.delivered {
				newest = p
			}
			done(p, true)
		}
	}
	if newest == nil && f.wasLost(spans[0].to-1) {
		// The path is longer than the wait, and they arrived.
		f.sample(max(now-f.at(spans[0].to-1).at-delay, 1))
		n.rtt = f.last
		f.progress, f.probes = now, 0
	}
	f.forgive(now, spans, done)
	if newest == nil {
		return n
	}
	f.largest = max(f.largest, spans[0].to)
	f.updated, f.progress, f.probes = now, now, 0
	f.first = newest.at
	n.before, n.limited = newest.delivered, newest.limited
	if took := max(newest.at-newest.first, now-newest.updated); took > 0 {
		n.rate = float64(f.delivered-newest.delivered) / took.Seconds()
	}
	if f.delivered > f.limitedUntil {
		f.limitedUntil = 0
	}
	n.lost = f.detect(now, done)
	return n
}

// sample takes a round trip (RFC 6298 section 2).
func (f *flight) sample(rtt time.Duration) {
	f.last = rtt
	if f.rtt == 0 {
		f.rtt, f.rttVar = rtt, rtt/2
		return
	}
	f.rttVar += ((f.rtt - rtt).Abs() - f.rttVar) / 4
	f.rtt += (rtt - f.rtt) / 8
}

// detect takes for lost what was sent long before what has arrived, and moves on to the
// oldest packet of which nothing is known.
func (f *flight) detect(now time.Duration, done settle) (bytes int) {
	for f.oldest < f.next {
		p := f.at(f.oldest)
		if p.state == inFlight {
			if f.oldest+f.reorder >= f.largest && (f.oldest >= f.largest || now-p.at < longAgo*max(f.rtt, f.last)/8) {
				break
			}
			bytes += p.size
			f.lose(f.oldest, done)
		}
		f.oldest++
	}
	return bytes
}

func (f *flight) lose(n uint64, done settle) {
	p := f.at(n)
	p.state = lost
	f.inside -= p.size
	f.lostAll++
	if len(f.gone) == maxGone {
		f.gone = append(f.gone[:0], f.gone[maxGone/2:]...)
	}
	f.gone = append(f.gone, n)
	done(p, false)
}

// wasLost reports whether a packet was taken for lost, as far as that is still known.
func (f *flight) wasLost(n uint64) bool {
	return f.next-n < uint64(len(f.ring)) && f.at(n).state == lost
}

// forgive takes back what was said of packets that turn out to have been late only, and
// forgets those that were lost long ago.
func (f *flight) forgive(now time.Duration, spans []span, done settle) {
	kept := f.gone[:0]
	at := len(spans) - 1 // the lowest range that may have n, which ascends
	for _, n := range f.gone {
		for at > 0 && spans[at].to <= n {
			at--
		}
		if !f.wasLost(n) {
			continue // its place has been taken
		}
		p := f.at(n)
		if now-p.at > lateWithin*max(f.rtt, f.last) {
			continue
		}
		if s := spans[at]; n < s.from || s.to <= n {
			kept = append(kept, n)
			continue
		}
		p.state = arrived
		f.late++
		if f.largest > n {
			f.reorder = min(max(f.reorder, f.largest-n), maxReorder)
		}
		done(p, true)
	}
	f.gone = kept
}

// due is when a probe has to be sent if nothing is acknowledged before; 0 is never.
func (f *flight) due(ackDelay time.Duration) time.Duration {
	if f.inside == 0 {
		return 0
	}
	wait := firstProbe
	if f.rtt > 0 {
		wait = max(f.rtt+4*f.rttVar+ackDelay, leastProbe)
	}
	return max(f.progress, f.at(f.next-1).at) + min(wait<<min(f.probes, 6), maxProbe)
}

// probe takes the oldest packets under way for lost, so that what they carry is sent
// again: the last of a flight is followed by nothing that could tell of its loss
// (RFC 9002 section 6.2).
func (f *flight) probe(now time.Duration, done settle) {
	f.probes++
	for n, left := f.oldest, 2; n < f.next && left > 0; n++ {
		if f.at(n).state == inFlight {
			f.lose(n, done)
			left--
		}
	}
	f.detect(now, done)
	if f.inside == 0 {
		f.emptied = now
	}
}

// maxKept is how many packets' memory abandon keeps.
const maxKept = 1 << 10

// abandon forgets what is under way, and what was lost.
func (f *flight) abandon() {
	if f.sent == f.cleared {
		return // a node that restarts with each packet does not make it work
	}
	if f.cleared = f.sent; len(f.ring) > maxKept {
		f.ring = nil
	}
	clear(f.ring) // it keeps no stream
	f.oldest, f.inside, f.gone, f.probes = f.next, 0, f.gone[:0], 0
}

// shrink gives memory back while nothing is under way.
func (f *flight) shrink() {
	if f.oldest == f.next {
		f.ring, f.gone = nil, nil
	}
}
