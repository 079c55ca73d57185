package lab

import (
	"math/rand/v2"
	"time"
)

// Impairment is what one direction of the WAN does to packets. The zero value
// does nothing. A packet passes the checks in the order of the fields.
type Impairment struct {
	// Cut drops everything, also what is under way.
	Cut bool
	// MTU drops longer IP packets without a word, as a path does that filters
	// ICMP; 0 is no limit. See also [Box.SetLinkMTU].
	MTU int
	// Rate is in bits per second; 0 is no limit. Before it lies a queue of
	// QueueBytes and QueuePackets (whichever fills first; 0 is no limit) that
	// drops what doesn't fit.
	Rate                     int64
	QueueBytes, QueuePackets int
	// Loss is the probability with which a packet is lost after the queue.
	Loss float64
	// Duplicate is the probability with which a packet arrives twice.
	Duplicate float64
	// Delay is one way; each packet's differs by up to Jitter in either
	// direction, evenly distributed. Packets stay in order.
	Delay, Jitter time.Duration
	// Reorder is the probability with which a packet is late by ReorderBy more
	// and lets others overtake it.
	Reorder   float64
	ReorderBy time.Duration
}

// BoxStats counts the packets of one direction.
type BoxStats struct {
	// Received came in; Delivered went out, with duplicates.
	Received, Delivered uint64
	// Bytes is the sum of the delivered IP packets' lengths.
	Bytes uint64
	// DroppedCut, DroppedMTU, DroppedQueue and DroppedLoss count what became of
	// the rest; DroppedOut could not be written to the far side.
	DroppedCut, DroppedMTU, DroppedQueue, DroppedLoss, DroppedOut uint64
	// Duplicated and Reordered are packets to which that happened.
	Duplicated, Reordered uint64
}

// shaper decides when each packet of one direction leaves. It does no I/O and
// reads no clock, and isn't safe for concurrent use.
type shaper struct {
	rnd   *rand.Rand
	stats BoxStats
	// lineFree is when the line has sent what is in its queue.
	lineFree time.Time
	// lastDue is when the last packet in order leaves.
	lastDue time.Time
	// waiting are the packets that are still in the queue before the line.
	waiting ring
}

// admit accepts a packet of size bytes at now and returns when it leaves, once for
// each copy. None at all means that it is dropped.
func (s *shaper) admit(now time.Time, size int, imp *Impairment) (due [2]time.Time, copies int) {
	s.stats.Received++
	switch {
	case imp.Cut:
		s.stats.DroppedCut++
		return due, 0
	case imp.MTU > 0 && size > imp.MTU:
		s.stats.DroppedMTU++
		return due, 0
	}
	leaves := now
	if imp.Rate > 0 {
		s.waiting.expire(now)
		if imp.QueuePackets > 0 && s.waiting.len() >= imp.QueuePackets ||
			imp.QueueBytes > 0 && s.waiting.bytes+size > imp.QueueBytes && s.waiting.len() > 0 {
			s.stats.DroppedQueue++
			return due, 0
		}
		if s.lineFree.Before(now) {
			s.lineFree = now
		}
		s.lineFree = s.lineFree.Add(time.Duration(int64(size) * 8 * int64(time.Second) / imp.Rate))
		leaves = s.lineFree
		s.waiting.push(leaves, size)
	}
	if imp.Loss > 0 && s.rnd.Float64() < imp.Loss {
		s.stats.DroppedLoss++
		return due, 0
	}
	copies = 1
	if imp.Duplicate > 0 && s.rnd.Float64() < imp.Duplicate {
		s.stats.Duplicated++
		copies = 2
	}
	leaves = leaves.Add(imp.Delay)
	if imp.Jitter > 0 {
		leaves = leaves.Add(time.Duration((2*s.rnd.Float64() - 1) * float64(imp.Jitter)))
	}
	if leaves.Before(s.lastDue) {
		leaves = s.lastDue
	}
	if imp.Reorder > 0 && s.rnd.Float64() < imp.Reorder {
		s.stats.Reordered++
		leaves = leaves.Add(imp.ReorderBy)
	} else {
		s.lastDue = leaves
	}
	return [2]time.Time{leaves, leaves}, copies
}

// ring is the queue before the line: first in, first out.
type ring struct {
	items []queued
	head  int
	bytes int
}

type queued struct {
	leaves time.Time
	size   int
}

func (r *ring) len() int { return len(r.items) - r.head }

func (r *ring) push(leaves time.Time, size int) {
	if r.head > 1024 && r.head > len(r.items)/2 {
		r.items = r.items[:copy(r.items, r.items[r.head:])]
		r.head = 0
	}
	r.items = append(r.items, queued{leaves, size})
	r.bytes += size
}

func (r *ring) expire(now time.Time) {
	for r.head < len(r.items) && !r.items[r.head].leaves.After(now) {
		r.bytes -= r.items[r.head].size
		r.head++
	}
}
