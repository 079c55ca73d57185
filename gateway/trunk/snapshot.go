package trunk

import "time"

// Way is what the packets to a node have told of the path there.
type Way struct {
	// RTT is the smoothed round trip, MinRTT the one without a queue.
	RTT, MinRTT time.Duration
	// Bandwidth is what the path is taken to carry, in bytes per second; 0 is unknown.
	Bandwidth float64
	// Window is how many bytes may be under way, Inside how many are.
	Window, Inside int
	// Packets counts those sent with something in them, Lost those of them that were taken
	// for lost, and Late those of these that then turned out to be late only.
	Packets, Lost, Late uint64
}

// Path is what a connection knows of its path and of itself.
type Path struct {
	Way
	// Share is how fast this connection may send if all that have something to send go
	// on, in bytes per second.
	Share float64
	// Bounded says that what the path carries is known, and no more is sent.
	Bounded bool
	// Queued are bytes that the other end has not acknowledged, Unsent those of them
	// that have not been sent.
	Queued, Unsent int
	// Segments counts pieces sent with payload, Retransmits those sent again.
	Segments, Retransmits uint64
}

// Path returns what is known now.
func (c *Conn) Path() Path {
	w := c.path
	w.mu.Lock()
	defer w.mu.Unlock()
	p := Path{
		Way: w.path(), Bounded: w.bbr.mode != startup,
		Queued: int(c.out.wrote - c.out.una), Unsent: int(c.out.wrote - c.out.sent),
		Segments: c.out.segments, Retransmits: c.out.resent,
	}
	p.Share = max(p.Bandwidth, firstWindow/max(p.MinRTT, time.Millisecond).Seconds()) / float64(max(1, w.line.busy))
	return p
}

func (w *path) path() Way {
	return Way{
		RTT: w.flight.rtt, MinRTT: w.bbr.least, Bandwidth: w.bbr.bandwidth.value(),
		Window: w.bbr.window(w.pacing.quantum), Inside: w.flight.inside,
		Packets: w.flight.sent, Lost: w.flight.lostAll, Late: w.flight.late,
	}
}

// stats counts the streams, and describes the path.
func (w *path) stats() (streams int, _ Way) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.streams), w.path()
}

// set takes what something else has found out about the path.
func (w *path) set(now time.Duration, mtu int, rtt time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if mtu > 0 {
		w.mtu = min(max(mtu, leastMTU), maxMTU)
	}
	if w.flight.inside > 0 {
		return
	}
	if rtt > 0 {
		w.bbr.idles(now, rtt)
	}
	if now-w.pacing.used > forgetAfter {
		w.flight.shrink()
	}
}
