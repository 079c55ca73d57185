package trunk

import (
	"time"

	"golang.org/x/sys/unix"
)

// bbr holds a connection to a window for the least round trip of the last ten seconds.
// When the way has become much longer, by other routers for one, that is next to
// nothing, for as long as ten seconds. A connection that is dialled then knows better.

const (
	// A round trip that is too long is beyond twice the least one that bbr knows, which
	// its own queue makes of it, and some more. From there on its window lets less and
	// less through.
	staleFactor = 2.5
	staleSlack  = 10 * time.Millisecond
	// staleAfter is for how long it has to be, and sameEvent within what time others
	// become stale by the same cause.
	staleAfter = time.Second
	sameEvent  = 2 * staleAfter
)

// isLong reports whether a round trip is too long for the least one that is known, 0 if
// none is.
func isLong(rtt, least time.Duration) bool {
	return least > 0 && float64(rtt) > staleFactor*float64(least)+float64(staleSlack)
}

// strain is what was seen of a connection since its round trip has been too long. The
// zero value has seen nothing.
type strain struct {
	since       time.Duration
	looks, held int
}

// see takes note of how the connection is at a moment: whether its round trip is too
// long, and whether its window holds it back. It reports whether the connection is
// stale, which one that has been held back most of the time is, and begins anew then.
func (s *strain) see(now time.Duration, long, held bool) bool {
	if !long {
		*s = strain{}
		return false
	}
	if s.looks == 0 {
		s.since = now
	}
	s.looks++
	if held {
		s.held++
	}
	if now-s.since < staleAfter {
		return false
	}
	stale := 2*s.held > s.looks
	*s = strain{}
	return stale
}

// isStale sees how the connection is now.
func (c *Conn) isStale(now time.Duration, info *unix.TCPInfo) bool {
	if c.pool.socket.congestionName() != congestion {
		return false
	}
	var least time.Duration
	// Once the connection is closed nothing is known of it.
	_ = c.raw.Control(func(fd uintptr) { _, least = bbrOf(int(fd)) })
	long := isLong(time.Duration(info.Rtt)*time.Microsecond, least)
	return c.strain.see(now, long, info.Notsent_bytes > 0 && 8*info.Unacked >= 7*info.Snd_cwnd)
}

// mayGiveUp reports whether connections to the node may be given up now. If it is a
// queue that makes the way long, again and again, that would do more harm than good:
// bbr forgets by itself.
func (w *way) mayGiveUp(now time.Duration) bool {
	return w.gaveUp == 0 || now-w.gaveUp < sameEvent || now-w.gaveUp > leastFor
}

// giveUp hands back connections that are stale. What was found out about the way to
// their nodes is forgotten, and the connections that wait are dialled anew: they were
// made on the way as it was.
func (p *Pool) giveUp(stale []*Conn) {
	var idle []*Conn
	p.mu.Lock()
	now := time.Since(p.began)
	for _, c := range stale {
		w := p.way(c.remote)
		if w.gaveUp > 0 && now-w.gaveUp < sameEvent {
			continue // the others have been dialled since
		}
		w.gaveUp, w.base, w.share = now, least{}, share{}
		if k := p.keepers[c.remote]; k != nil {
			idle = append(idle, k.idle...)
			k.idle = nil
			k.kick()
		}
	}
	p.stale += uint64(len(stale))
	p.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
	for _, c := range stale {
		p.cfg.Stale(c)
	}
	p.changed()
}
