package lab

import (
	"context"
	"fmt"
	"time"
)

// Until calls cond every few milliseconds until it returns true. It is for state without an event,
// such as a kernel counter. The error names what it waited for.
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
