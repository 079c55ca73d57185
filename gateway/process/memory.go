package process

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// tidyEvery is how often Tidy looks.
	tidyEvery = 15 * time.Second
	// tidyAfter is what must have been allocated since the last time for it to pay, in bytes.
	tidyAfter = 8 << 20
	// tidyBelow is the part of one processor that a process uses at most when
	// nobody will notice.
	tidyBelow = 0.2
)

// Tidy collects garbage and returns memory to the system when a burst is over,
// until ctx is done: a hundred thousand records read, a transfer that filled every
// queue. The runtime by itself lets the heap stay at twice what is live, and
// looks for garbage only every two minutes when little is allocated.
func Tidy(ctx context.Context) error {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	used, at, err := cpuTime()
	var t tidier
	for err == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		usedNow, now, e := cpuTime()
		if e != nil {
			err = e
			break
		}
		if t.due((usedNow-used).Seconds()/now.Sub(at).Seconds(), allocated()) {
			debug.FreeOSMemory()
			debug.FreeOSMemory() // pools give up what they hold at the second collection
			t.done = allocated()
			usedNow, now, err = cpuTime() // its own work doesn't count
		}
		used, at = usedNow, now
	}
	return err
}

// tidier decides when to tidy up.
type tidier struct {
	done uint64 // allocated when it was last done
}

// due takes what part of a processor was used of late, and what was allocated
// since the start.
func (t *tidier) due(used float64, allocated uint64) bool {
	return used < tidyBelow && allocated-t.done >= tidyAfter
}

// allocated is what this process has allocated on the heap so far, in bytes.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
