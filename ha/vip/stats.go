package vip

import (
	"sync/atomic"
	"time"
)

// Stats counts the messages of a Keeper since it was made. ARP and neighbor discovery count alike.
type Stats struct {
	// Requests asked for a held address, and Answers were sent to them.
	Requests, Answers uint64
	// Announcements were sent unasked, after Hold.
	Announcements uint64
	// Probes asked whether another host has a held address.
	Probes uint64
	// SendErrors counts messages that the kernel refused. They are in no other counter.
	SendErrors uint64
	// Announced is when each address was first announced since the Keeper last began to hold them;
	// zero before that.
	Announced time.Time
}

// counts are a Keeper's counters.
type counts struct {
	requests, answers, announcements, probes, errors atomic.Uint64
	announced                                        atomic.Pointer[time.Time]
}

// Stats returns a snapshot. A request counts after its answer and is read before it, so Requests
// exceeds Answers only by requests that were not answered. Safe for concurrent use.
func (k *Keeper) Stats() Stats {
	c := &k.counts
	s := Stats{
		Requests: c.requests.Load(), Answers: c.answers.Load(), Announcements: c.announcements.Load(),
		Probes: c.probes.Load(), SendErrors: c.errors.Load(),
	}
	if at := c.announced.Load(); at != nil {
		s.Announced = *at
	}
	return s
}

// sent counts a message by the error of sending it, and reports whether there was none.
func (k *Keeper) sent(count *atomic.Uint64, err error) bool {
	if err != nil {
		k.counts.errors.Add(1)
		k.log.Debug("address message not sent", "error", err)
		return false
	}
	count.Add(1)
	return true
}
