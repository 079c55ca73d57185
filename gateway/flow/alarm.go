package flow

import (
	"fmt"
	"sync/atomic"
	"time"
)

// alarm ends a Host.Read that waits, at a time or at once. Both use the device's only read
// deadline: wake sets one in the past, and set does not let its own replace that one.
type alarm struct {
	host  Host
	woken atomic.Bool // by wake, and not rearmed since

	// Only Path.Read touches this.
	until time.Duration // the deadline that set has set; 0 is none
}

// wake ends a Host.Read that waits, or the next one. Any goroutine may call it.
func (a *alarm) wake() {
	a.woken.Store(true)
	// SetReadDeadline fails only on a closed device, which has no reader.
	_ = a.host.SetReadDeadline(time.Unix(1, 0))
}

// set ends a Host.Read that waits at until, by the clock that shows now; 0 is never.
func (a *alarm) set(now, until time.Duration) error {
	if until == a.until {
		return nil
	}
	a.until = until
	var at time.Time
	if until > 0 {
		at = time.Now().Add(until - now)
	}
	if err := a.host.SetReadDeadline(at); err != nil {
		return fmt.Errorf("set a deadline for the host's device: %w", err)
	}
	if a.woken.Load() {
		a.wake() // at has replaced its deadline
	}
	return nil
}

// rearm removes the deadline after it has ended a Host.Read. A later wake counts again.
func (a *alarm) rearm() error {
	a.until = 0
	a.woken.Store(false)
	if err := a.host.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("rearm the host's device: %w", err)
	}
	return nil
}
