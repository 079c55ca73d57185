package lab

import (
	"context"
	"fmt"
	"time"
)

// Until asks cond again and again, every few milliseconds, until it says true.
// It is for what has no event to wait for, such as a kernel's counter. The error
// names what was waited for.
func Until(ctx context.Context, what string, cond func() (bool, error)) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := cond()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		}
	}
}
