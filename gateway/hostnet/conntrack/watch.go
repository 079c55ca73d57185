package conntrack

import (
	"fmt"
	"time"
)

const (
	// lookEvery is the time between two looks at the kernel's numbers.
	lookEvery = 200 * time.Millisecond
	// fullFor is how long a table must be full until that is a fault: the kernel itself removes
	// entries of connections that were never answered.
	fullFor = time.Second
	// dropLasts is how long a drop counts. The second SYN of a host follows the first after a
	// second, the third after two more (RFC 6298 section 2).
	dropLasts = 5 * time.Second
)

// A Watch finds out whether the kernel drops new connections since its table is full. The zero
// value is ready. It is not safe for concurrent use.
type Watch struct {
	looked, full, dropped time.Time // full: since when
	last                  Usage
}

// Look returns the usage, and whether new connections are dropped for lack of room.
func (w *Watch) Look(now time.Time) (Usage, bool) {
	if now.Sub(w.looked) >= lookEvery {
		if u, err := ReadUsage(); err == nil {
			w.add(now, u)
		}
	}
	return w.last, w.dropping(now)
}

// add takes a reading into account.
func (w *Watch) add(now time.Time, u Usage) {
	first := w.looked.IsZero()
	switch {
	case !u.nearlyFull():
		w.full = time.Time{}
	case w.full.IsZero():
		w.full = now
	}
	if !first && u.Drops > w.last.Drops {
		w.dropped = now
	}
	w.looked, w.last = now, u
}

func (w *Watch) dropping(now time.Time) bool {
	return !w.full.IsZero() && now.Sub(w.full) >= fullFor && !w.dropped.IsZero() && now.Sub(w.dropped) < dropLasts
}

// MoreRoom is a command that makes room for twice as many entries.
func MoreRoom(u Usage) string {
	return fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", 2*u.Limit)
}
