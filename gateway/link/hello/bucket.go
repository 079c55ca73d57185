package hello

import "time"

// bucket is a token bucket on the caller's clock.
type bucket struct {
	every time.Duration // one token each
	burst int
	spent time.Duration // the time at which the bucket is full again
}

// take takes a token if there is one.
func (b *bucket) take(now time.Duration) bool {
	if b.ready(now) > now {
		return false
	}
	b.spent = max(b.spent, now) + b.every
	return true
}

// ready is the time from which on there is a token.
func (b *bucket) ready(now time.Duration) time.Duration {
	return max(now, b.spent-time.Duration(b.burst-1)*b.every)
}
