package quiet

import (
	"context"
	"time"
)

// Run calls Flush regularly, until ctx ends.
func (l *Logger) Run(ctx context.Context) {
	tick := time.NewTicker(l.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.Flush()
		}
	}
}
