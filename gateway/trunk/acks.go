package trunk

import "time"

const (
	// ackBytes is how many bytes may have arrived without an acknowledgement, and ackDelay how
	// long they may wait; ackPart is the part of a round trip that is enough, with
	// leastAckDelay.
	ackBytes      = 288 << 10
	ackDelay      = 7 * time.Millisecond
	ackPart       = 6
	leastAckDelay = time.Millisecond
	// maxSpans is how many ranges an acknowledgement tells of: the newest ones.
	maxSpans = 64
)

// acks is what has come from a node, to be acknowledged.
type acks struct {
	got     ranges        // the numbers of packets, the newest maxSpans ranges of them
	waiting int           // bytes that were not acknowledged
	since   time.Duration // when the first of them came
	newest  time.Duration // when the packet with the largest number came
	gap     bool          // a number is missing that was not told to be
}

// see takes a packet's number, and reports whether it is new.
func (a *acks) see(now time.Duration, n uint64, size int) bool {
	last := len(a.got) - 1
	switch {
	case last < 0 || n >= a.got[last].to:
		a.gap = a.gap || last >= 0 && n > a.got[last].to
		a.newest = now
	case a.got.has(span{n, n + 1}):
		return false
	}
	a.got.add(span{n, n + 1})
	if len(a.got) > maxSpans {
		a.got = append(a.got[:0], a.got[len(a.got)-maxSpans:]...)
	}
	if a.waiting == 0 {
		a.since = now
	}
	a.waiting += size
	return true
}

// next is the number after the largest that has come.
func (a *acks) next() uint64 {
	if len(a.got) == 0 {
		return 0
	}
	return a.got[len(a.got)-1].to
}

// due is when to tell; 0 is never.
func (a *acks) due(rtt time.Duration) time.Duration {
	switch {
	case a.waiting == 0:
		return 0
	case a.waiting >= ackBytes || a.gap:
		return a.since
	}
	return a.since + min(max(rtt/ackPart, leastAckDelay), ackDelay)
}

// rides reports whether to tell along with something else that is sent now.
func (a *acks) rides(now, rtt time.Duration) bool {
	return a.waiting > 0 && now-a.since >= min(rtt/ackPart, ackDelay)/4
}

// told notes that an acknowledgement has gone.
func (a *acks) told() { a.waiting, a.gap = 0, false }
