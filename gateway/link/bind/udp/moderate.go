package udp

import "time"

const (
	// moderateGap is how far apart messages may be, on the average, for it to be worth
	// waiting for more: what is further apart is soon handed on.
	moderateGap = time.Millisecond / 4
	// moderateEvery is over how long that is counted, at least.
	moderateEvery = time.Millisecond
	// segmentBytes is a little less than what a segment of 64 KB comes in. Bulk becomes such
	// segments again, each of which is passed on by itself: to bring one and the beginning
	// of the next costs as much as to bring two.
	segmentBytes = 64_000
)

// moderation says when to wait for more datagrams, as a network card's interrupt
// moderation does: under bulk, each time that the receiver is woken for a few of
// them, so are all goroutines, the kernel and the sockets behind it. The zero value
// begins without waiting. It does no I/O; one goroutine has it.
type moderation struct {
	since    time.Time
	messages int // since then,
	bytes    int // and what was in them
	busy     bool
	rate     float64 // while it is busy, in bytes per second
	drained  bool    // the last call has brought all that there was

	asked time.Time     // when wait was called last,
	slept time.Duration // what it has returned,
	over  time.Duration // and how much longer it takes until it is called again
}

// brought takes note of a call that has brought so many of the messages asked for, and so
// many bytes in them.
func (m *moderation) brought(got, asked, bytes int) {
	m.messages += got
	m.bytes += bytes
	m.drained = got < asked
}

// wait is how long to wait before the next call, most at most. That is 0 where there may
// be more already, and at a rate at which waiting gathers little. Otherwise it is as long
// as whole segments take to come, if that is not longer.
func (m *moderation) wait(now time.Time, most time.Duration) time.Duration {
	if !m.drained {
		return 0
	}
	if passed := now.Sub(m.since); passed >= moderateEvery {
		was := m.busy
		m.busy = passed <= time.Duration(m.messages)*moderateGap
		rate := float64(m.bytes) / passed.Seconds()
		if was {
			rate = m.rate + (rate-m.rate)/8
		}
		m.rate = rate
		m.since, m.messages, m.bytes = now, 0, 0
	}
	if m.slept > 0 {
		m.over += (now.Sub(m.asked) - m.slept - m.over) / 8
	}
	m.asked, m.slept = now, 0
	if !m.busy {
		return 0
	}
	m.slept = most
	if each := time.Duration(segmentBytes / m.rate * float64(time.Second)); each <= most+m.over {
		m.slept = max((most+m.over)/each*each-m.over, most/2)
	}
	return m.slept
}
