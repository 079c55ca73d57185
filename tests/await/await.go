// Package await waits in tests for what has no event of its own: a counter, a state, goroutines
// that end. It asks every millisecond, so it leaves the processors to what it waits for.
package await

import (
	"runtime"
	"testing"
	"time"
)

const (
	// Patience bounds each wait. It is long, because a busy machine may stand still for seconds.
	Patience = 20 * time.Second
	every    = time.Millisecond
)

// True waits until cond holds, and fails the test after Patience. What describes the condition.
func True(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	if !Within(Patience, cond) {
		tb.Fatalf("not within %v: %s\n%s", Patience, what, stacks())
	}
}

// NoLeaks fails the test if more goroutines run when it ends than now. It waits for them after all
// cleanups that are registered later.
func NoLeaks(tb testing.TB) {
	before := runtime.NumGoroutine()
	tb.Cleanup(func() {
		if !Within(Patience, func() bool { return runtime.NumGoroutine() <= before }) {
			tb.Errorf("%d goroutines are left, %d before\n%s", runtime.NumGoroutine(), before, stacks())
		}
	})
}

// Within waits until cond holds, for at most patience, and reports whether it does.
func Within(patience time.Duration, cond func() bool) bool {
	if cond() {
		return true
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case <-tick.C:
			if cond() {
				return true
			}
		case <-late.C:
			return cond()
		}
	}
}

func stacks() []byte {
	b := make([]byte, 1<<20)
	return b[:runtime.Stack(b, true)]
}
