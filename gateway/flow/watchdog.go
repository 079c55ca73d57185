package flow

import "sync/atomic"

// stuckAfter is how many looks in a row must find no progress.
const stuckAfter = 5

// watchdog counts what tells a data path that stands still from one that has
// nothing to do.
type watchdog struct {
	reads   atomic.Uint64 // of the host's device, ended
	writing atomic.Int64  // batches from the link under way
	written atomic.Uint64 // batches from the link, done

	// Only Stuck touches these.
	lastReads, lastWritten   uint64
	stillReads, stillWritten int
}

func (w *watchdog) wrote() {
	w.writing.Add(-1)
	w.written.Add(1)
}

// Stuck reports whether packets wait and none has moved since the last few calls.
// One caller calls it at a steady pace: after five calls without
// progress it says so.
func (p *Path) Stuck() bool {
	w := &p.watch
	still := func(busy bool, now uint64, last *uint64, n *int) bool {
		if !busy || now != *last {
			*n = 0
		} else {
			*n++
		}
		*last = now
		return *n >= stuckAfter
	}
	reads := still(p.host.Pending(), w.reads.Load(), &w.lastReads, &w.stillReads)
	writes := still(w.writing.Load() > 0, w.written.Load(), &w.lastWritten, &w.stillWritten)
	return reads || writes
}
