package bind

import "time"

const (
	// moderateGap is how far apart messages may be, on the average, for it to be worth
	// waiting for more: what is further apart is soon handed on.
	moderateGap = time.Millisecond / 4
	// moderateEvery is over how long that is counted, at least.
	moderateEvery = time.Millisecond
)

// moderation says when to wait for more datagrams, as a network card's interrupt
// moderation does: under bulk, each time that the receiver is woken for a few of
// them, so are all goroutines, the kernel and the sockets behind it. The zero value
// begins without waiting. It does no I/O; one goroutine has it.
type moderation struct {
	since    time.Time
	messages int // since then
	busy     bool
	drained  bool // the last call has brought all that there was
}

// brought takes note of a call that has brought so many of the messages asked for.
func (m *moderation) brought(got, asked int) {
	m.messages += got
	m.drained = got < asked
}

// waits reports whether to wait before the next call. It does not where there may
// be more already, nor at a rate at which waiting gathers little.
func (m *moderation) waits(now time.Time) bool {
	if !m.drained {
		return false
	}
	if passed := now.Sub(m.since); passed >= moderateEvery {
		m.busy = passed <= time.Duration(m.messages)*moderateGap
		m.since, m.messages = now, 0
	}
	return m.busy
}
