// Package process fits the Go runtime to a process that moves packets.
//
// A packet passes four goroutines of wireguard-go on its way. With more than one
// processor to run on, the scheduler hands it from thread to thread, at the cost
// of a system call and of cold caches each time: a fifth of all CPU time. Run
// therefore gives the process one processor as long as one will do, and more
// when it doesn't: when its load is too much for one, or when goroutines have to
// wait long to run. The latter is what a machine looks like that others keep busy:
// the one thread that runs goroutines waits for its turn, they all wait with it,
// and a heartbeat does so again at each of the six that it passes.
package process

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// period is how often the load is looked at.
const period = 100 * time.Millisecond

// Run adapts the number of processors (runtime.GOMAXPROCS) to the load until ctx
// is done, and then gives back all there were. An operator who has set
// GOMAXPROCS in the environment has decided, and Run leaves it at that.
//
// It concerns the process as a whole: only one Run at a time.
func Run(ctx context.Context) error {
	all := runtime.GOMAXPROCS(0)
	if os.Getenv("GOMAXPROCS") != "" || all == 1 {
		return nil
	}
	w := width{now: 1, most: all}
	runtime.GOMAXPROCS(w.now)
	defer runtime.GOMAXPROCS(all)

	ticker := time.NewTicker(period)
	defer ticker.Stop()
	used, at, err := cpuTime()
	waits := newWaits()
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
		if w.load((usedNow-used).Seconds()/now.Sub(at).Seconds(), waits.long()) {
			runtime.GOMAXPROCS(w.now)
		}
		used, at = usedNow, now
	}
	return err
}

// cpuTime is what this process has used so far, and when that was.
func cpuTime() (time.Duration, time.Time, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, time.Time{}, fmt.Errorf("read this process's CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), time.Now(), nil
}

const (
	// busy is the part of its processors that a process uses when they are
	// becoming too few.
	busy = 0.85
	// spare is the part of one processor less that it uses when they are too
	// many. The distance to busy is there because the same load costs more on
	// more processors.
	spare = 0.6
	// calm is for how many periods there must be one to spare before it is
	// given up: a load that comes in bursts shall find it there.
	calm = 20
)

// width decides on how many processors to run.
type width struct {
	now, most int
	spare     int // periods in a row
}

// load takes note of how many processors' time was used in a period, and whether
// goroutines waited long meanwhile, and reports whether now has changed.
func (w *width) load(used float64, waited bool) bool {
	if used < spare*float64(w.now-1) && !waited {
		w.spare++
	} else {
		w.spare = 0
	}
	switch {
	case (used > busy*float64(w.now) || waited) && w.now < w.most:
		w.now++
	case w.spare >= calm:
		w.now--
		w.spare = 0
	default:
		return false
	}
	return true
}
