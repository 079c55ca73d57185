package hello

import (
	"slices"
	"time"
)

// Sizes of the search for the path MTU, after RFC 8899 (DPLPMTUD). They are
// bytes of inner IP packet, the size that a host sees.
const (
	// pmtuBase is believed until it is disproved (RFC 8899, section 5.1.2,
	// BASE_PLPMTU; RFC 8200, section 5 gives the number).
	pmtuBase = 1280
	// pmtuFloor is the smallest size tried (MIN_PLPMTU; RFC 791 says 576).
	pmtuFloor = 576
	// pmtuStep is how finely is searched. WireGuard pads what it carries to a
	// multiple of 16, so within a step all sizes are equally large outside,
	// and the search is exact.
	pmtuStep = 16
)

const (
	// pmtuTries is how often a probe is lost before its size is called too
	// big (RFC 8899, section 5.1.2, MAX_PROBES). Where small messages are lost,
	// too, more are needed for the same certainty, up to pmtuTriesMost.
	pmtuTries     = 3
	pmtuTriesMost = 8
	// pmtuParallel is the number of sizes tried at once. RFC 8899 tries one
	// after the other, one round trip and one time-out each; eight packets a
	// round hurt no path that carries replication.
	pmtuParallel = 8
	// pmtuRaise is how long a size below the largest is kept until more is
	// tried. RFC 8899, section 5.1.1 says 600 s for PMTU_RAISE_TIMER, thinking
	// of single flows; this search serves a whole site and costs ten packets.
	pmtuRaise = 30 * time.Second
	// pmtuHint is how often the word of the local socket is taken.
	pmtuHint = time.Second
	// pmtuRate bounds the sending of probes.
	pmtuRate = time.Second / 20
)

// pathMTU finds the largest packet that reaches the peer. ICMP plays no part
// in it: an acknowledgement from inside the tunnel is the only evidence.
type pathMTU struct {
	sizes []int // candidates, ascending; the last is the TUN's MTU
	mtu   int   // what is told to others

	on        bool
	searching bool
	shrinking bool // the size in use has failed: tell nothing until a round is over
	lo, hi    int  // candidates known to pass and known not to: -1 and len when none is
	flight    []pmtuProbe
	checkAt   time.Duration // when the size in use is tried next
	raiseAt   time.Duration // when more is tried next
	hintAt    time.Duration // from when on a hint is taken
	interval  time.Duration // between two checks
	tries     int           // see pmtuTries

	rate   bucket
	random func() uint64
	count  uint32
	ids    [64]pmtuID // of the latest probes, for late acknowledgements
}

type pmtuID struct {
	id   uint32
	size int // index of the candidate
}

type pmtuProbe struct {
	size     int // index of the candidate
	tries    int
	first    time.Duration // when its first try left
	deadline time.Duration // of the latest try; before the first, not a time
}

func newPathMTU(limit int, interval time.Duration, random func() uint64) pathMTU {
	m := pathMTU{random: random, interval: interval, tries: pmtuTries, rate: bucket{every: pmtuRate, burst: 2 * pmtuParallel}}
	for s := pmtuFloor; s < limit; s += pmtuStep {
		m.sizes = append(m.sizes, s)
	}
	m.sizes = append(m.sizes, limit)
	m.lo, m.hi = -1, len(m.sizes)
	m.mtu = min(limit, pmtuBase)
	return m
}

// start begins or resumes measuring, because the peer answers. What was known
// before is kept and checked, not forgotten: a smaller MTU told for a moment
// would stick to the routes of the hosts for ten minutes.
func (m *pathMTU) start(now time.Duration) {
	if m.on {
		return
	}
	m.on = true
	if m.lo < 0 {
		m.search(now, -1)
		return
	}
	m.stop(now)
	m.checkAt = now
}

// pause ends measuring, because the peer doesn't answer.
func (m *pathMTU) pause() { m.on, m.searching, m.flight = false, false, nil }

// hint is told that a packet was too big for the local socket.
func (m *pathMTU) hint(now time.Duration) {
	// While a search is under way, its own probes are what was too big.
	if !m.on || m.searching || now < m.hintAt {
		return
	}
	m.hintAt = now + pmtuHint
	m.shrink(now)
}

func (m *pathMTU) shrink(now time.Duration) {
	m.shrinking = true
	m.search(now, -1)
}

func (m *pathMTU) search(now time.Duration, lo int) {
	m.searching, m.lo, m.hi = true, lo, len(m.sizes)
	m.round(now)
}

// round puts up to pmtuParallel sizes between lo and hi in flight, the largest
// first: on a healthy path it is acknowledged and the rest is forgotten.
func (m *pathMTU) round(now time.Duration) {
	m.flight = m.flight[:0]
	n := min(m.hi-m.lo-1, pmtuParallel)
	for i := n; i > 0; i-- {
		m.flight = append(m.flight, pmtuProbe{size: m.lo + (m.hi-1-m.lo)*i/n})
	}
	base, ok := slices.BinarySearch(m.sizes, pmtuBase)
	if !ok || n < pmtuParallel || base <= m.lo || base >= m.hi {
		return
	}
	// One of them is the size that is believed to pass.
	nearest := 1
	for i := 1; i < n; i++ {
		if abs(m.flight[i].size-base) < abs(m.flight[nearest].size-base) {
			nearest = i
		}
	}
	m.flight[nearest].size = base
}

func abs(n int) int { return max(n, -n) }

// stop ends a search with what it has found.
func (m *pathMTU) stop(now time.Duration) {
	m.searching, m.shrinking, m.flight = false, false, m.flight[:0]
	m.lo, m.hi = max(m.lo, 0), len(m.sizes)
	m.mtu = m.sizes[m.lo]
	m.checkAt, m.raiseAt = now+m.interval, now+pmtuRaise
}

// acked is told that the probe id arrived whole.
func (m *pathMTU) acked(now time.Duration, id uint32, size int) {
	k := m.ids[id%uint32(len(m.ids))]
	if !m.on || id == 0 || k.id != id || m.sizes[k.size] != size {
		return
	}
	if !m.searching {
		if k.size == m.lo {
			m.flight = m.flight[:0]
			m.checkAt = now + m.interval
		}
		return
	}
	if k.size <= m.lo {
		return
	}
	m.lo = k.size
	if m.lo >= m.hi { // it was late, not lost
		m.hi = len(m.sizes)
	}
	if !m.shrinking {
		m.mtu = max(m.mtu, m.sizes[m.lo])
	}
	m.flight = slices.DeleteFunc(m.flight, func(p pmtuProbe) bool { return p.size <= m.lo })
	m.advance(now)
}

// advance goes on with the search when nothing is in flight any more.
func (m *pathMTU) advance(now time.Duration) {
	switch {
	case m.hi-m.lo <= 1:
		m.stop(now)
	case len(m.flight) == 0:
		m.round(now)
	}
}

// lossy takes the fraction of small messages that are lost on the way to the
// peer and back.
func (m *pathMTU) lossy(loss float64) {
	m.tries = min(pmtuTries+int(20*loss), pmtuTriesMost)
}

// next is when tick has something to do.
func (m *pathMTU) next(now time.Duration) time.Duration {
	if !m.on {
		return never
	}
	if slices.ContainsFunc(m.flight, func(p pmtuProbe) bool { return p.tries == 0 }) {
		return m.rate.ready(now)
	}
	if n := len(m.flight); n > 0 {
		return m.flight[n-1].deadline
	}
	at := never
	if m.lo < len(m.sizes)-1 {
		at = m.raiseAt
	}
	return min(at, m.checkAt)
}

// tick returns the probes to send. alive is the time of sending of our newest
// small message that is known to have arrived; ask asks for a newer one,
// because without it a probe that is lost proves nothing.
func (m *pathMTU) tick(now, patience, alive time.Duration) (send []probeMsg, ask bool) {
	if !m.on {
		return nil, false
	}
	if !m.searching {
		if now >= m.raiseAt && m.lo < len(m.sizes)-1 && len(m.flight) == 0 {
			m.search(now, m.lo)
		} else if now >= m.checkAt && len(m.flight) == 0 {
			m.flight = append(m.flight, pmtuProbe{size: m.lo})
		}
	}
	if ask = m.expire(now, alive); len(m.flight) == 0 {
		return nil, ask
	}
	for i := range m.flight {
		p := &m.flight[i]
		// The smallest that is missing decides: if it doesn't pass, the larger
		// ones don't either, and if it does, it was worth another try.
		if p.tries > 0 && (p.deadline > now || i < len(m.flight)-1) {
			continue
		}
		if !m.rate.take(now) {
			p.deadline = max(p.deadline, m.rate.ready(now))
			continue
		}
		if p.tries == 0 {
			p.first = now
		}
		p.tries++
		if p.deadline = now + patience; p.tries < m.tries {
			p.deadline = now + patience/2 // an answer that comes later still counts
		}
		id := m.id()
		m.ids[id%uint32(len(m.ids))] = pmtuID{id: id, size: p.size}
		send = append(send, probeMsg{id: id, size: uint16(m.sizes[p.size])})
	}
	return send, ask
}

// id returns the id of a probe. Only a party that has read the probe knows it, and 0 is none.
func (m *pathMTU) id() uint32 {
	m.count++
	n := uint32(len(m.ids))
	return uint32(m.random())/n*n | 1<<31 | m.count%n
}

// expire deals with a probe that was missed for too long.
func (m *pathMTU) expire(now, alive time.Duration) (ask bool) {
	if len(m.flight) == 0 {
		return false
	}
	p := m.flight[len(m.flight)-1]
	if p.tries == 0 || p.deadline > now {
		return false
	}
	if m.shrinking && m.lo >= 0 {
		m.shrinking = false
		m.mtu = m.sizes[m.lo]
	}
	if p.tries < m.tries || alive < p.first {
		return true
	}
	if !m.searching {
		m.shrink(now)
		return false
	}
	m.hi = p.size
	m.flight = m.flight[:0]
	m.advance(now)
	return false
}
