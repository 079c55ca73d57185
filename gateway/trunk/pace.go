package trunk

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// paceEvery is how often the trunks are looked at, if there are a few, and
	// pacePerConn what each adds to that, so that looking stays cheap.
	paceEvery   = 50 * time.Millisecond
	pacePerConn = 200 * time.Microsecond
	// unbounded is the kernel's word for no bound of the pace.
	unbounded = ^uint64(0)
)

// way is the way to a node as its trunks have it together.
type way struct {
	share   share
	last    time.Duration // when its last round ended
	rtt     time.Duration // its round trip as SawRTT has told it last,
	base    least         // and without a queue
	conns   []*Conn       // those in use, of the round under way
	busy    []*Conn       // those of them that have something to send
	samples []sample      // of those
	gaveUp  time.Duration // when connections were given up last; 0 is never
}

// runPace paces the trunks to each node together until ctx ends.
func (p *Pool) runPace(ctx context.Context) {
	timer := time.NewTimer(paceEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		used, stale := p.pace()
		if len(stale) > 0 {
			p.giveUp(stale)
		}
		timer.Reset(paceEvery + time.Duration(used)*pacePerConn)
	}
}

// pace looks at all connections that somebody has, and returns how many they are, and
// which of them have become stale.
func (p *Pool) pace() (used int, stale []*Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Since(p.began)
	for c := range p.conns {
		if c.used.Load() && c.state.Load() == open {
			w := p.way(c.remote)
			w.conns = append(w.conns, c)
			used++
		}
	}
	for _, w := range p.ways {
		stale = append(stale, w.look(now)...)
		clear(w.conns) // they may end meanwhile
		clear(w.busy)
		w.conns = w.conns[:0]
	}
	return used, stale
}

// way is the way to a node; the caller has the lock.
func (p *Pool) way(node netip.Addr) *way {
	w := p.ways[node]
	if w == nil {
		w = new(way)
		p.ways[node] = w
	}
	return w
}

// SawRTT tells of a round trip to a node that something else has measured. What was
// seen before there was much to carry says how long the way is without a queue, and what
// was seen last whether connections that wait were made on the way as it is.
func (p *Pool) SawRTT(node netip.Addr, rtt time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.way(node)
	w.rtt = rtt
	w.base.see(time.Since(p.began), rtt)
}

// look ends a round if it has lasted two round trips: less tells little. It returns the
// connections that have become stale.
func (w *way) look(now time.Duration) (stale []*Conn) {
	passed := now - w.last
	if len(w.conns) > 0 && passed < 2*w.base.value() {
		return nil
	}
	w.last = now
	w.busy, w.samples = w.busy[:0], w.samples[:0]
	for _, c := range w.conns {
		info, err := c.tcpInfo()
		if err != nil {
			continue // it has ended
		}
		acked := info.Bytes_acked - c.acked
		c.acked = info.Bytes_acked
		rate, waiting := float64(acked)/passed.Seconds(), info.Notsent_bytes > 0
		if rate < minPace && !waiting {
			c.setPace(0)
			continue
		}
		rtt := time.Duration(info.Rtt) * time.Microsecond
		w.base.see(now, rtt)
		if c.isStale(now, info) && w.mayGiveUp(now) {
			stale = append(stale, c)
		}
		w.busy, w.samples = append(w.busy, c), append(w.samples, sample{rtt, rate, waiting})
	}
	pace := uint64(w.share.round(now, w.base.value(), w.samples))
	for _, c := range w.busy {
		c.setPace(pace)
	}
	return stale
}

// setPace bounds what the connection sends, in bytes per second; 0 is no bound. What
// differs little is left as it is.
func (c *Conn) setPace(pace uint64) {
	if old := c.pace.Load(); pace == old || pace > 0 && old > 0 && pace > old-old/32 && pace < old+old/32 {
		return
	}
	c.pace.Store(pace)
	if pace == 0 {
		pace = unbounded
	}
	// It fails once the connection has ended.
	_ = c.raw.Control(func(fd uintptr) { _ = unix.SetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, pace) })
}
