package link

import "time"

// A NAT or a firewall may hold a dead entry for the tunnel: one of an address that the provider has
// replaced since, or of a path that is gone. Many refresh an entry with each packet from inside, so
// dialling again and again keeps it alive. So a peer that doesn't answer is dialled with variation:
//
//   - From another local port, where the port is not configured and no peer depends on it.
//   - Otherwise after a pause that is longer than tables remember: 30 s for a flow without an answer
//     and 180 s for one with (Linux: nf_conntrack_udp_timeout, _stream; 120 s since Linux 5.5). RFC
//     4787 REQ-5 asks for two minutes at least.
//
// A new port delays nothing. A pause does if the path returns in the middle of it, so the first one
// comes after five minutes without an answer, and then one each half hour.
const (
	// moveFirst is the attempt before which the first new port is opened, 15 s after the first one;
	// the number of attempts doubles from one to the next up to moveEvery.
	moveFirst = 5
	moveEvery = 32
	// pauseFirst is the attempt in whose place the first pause begins, and pauseEvery how many lie
	// between two.
	pauseFirst = 25
	pauseEvery = 120
	pauseFor   = 190 * time.Second
)

// movesAt reports whether an attempt comes from a new local port, where that may change.
func movesAt(attempt int) bool {
	n := attempt - 1
	return n >= moveFirst-1 && (n%moveEvery == 0 || n < moveEvery && n&(n-1) == 0)
}

// pausesAt reports whether a pause takes the place of an attempt, where the port may not change.
func pausesAt(attempt int) bool { return attempt >= pauseFirst && (attempt-pauseFirst)%pauseEvery == 0 }

// pause delays the next attempt until entries of the flow have expired.
func (d *dialling) pause(now time.Duration) {
	d.pausedUntil = now + time.Duration(float64(pauseFor)*(1+dialJitter*d.random()))
	d.nextAt = d.pausedUntil
}

// paused returns when a pause ends; false if there is none.
func (d *dialling) paused(now time.Duration) (until time.Duration, ok bool) {
	return d.pausedUntil, d.active && now < d.pausedUntil
}

// mayMove reports whether the local port may change: it is not configured, and no peer depends on
// it, since none dials in and none is reached.
func (l *Link) mayMove() bool {
	if l.cfg.ListenPort != 0 {
		return false
	}
	for _, p := range l.peers {
		if !p.Dial || p.live {
			return false
		}
	}
	return true
}

// vary varies the attempt that is due, if it is time. It reports whether to dial now.
func (l *Link) vary(p *peer, now time.Duration) (dial bool) {
	move := l.mayMove()
	switch {
	case l.unbound || move && movesAt(p.dial.attempts):
		// The device closes its sockets and opens others, on any free port.
		if err := l.dev.IpcSet("listen_port=0\n"); err != nil {
			l.unbound = true
			p.log.Error("port", "no local port can be opened: it is tried again with the next attempt", "error", err)
			return false
		}
		l.unbound = false
		port, _, _ := l.get()
		p.log.Info("port", "peer doesn't answer: dialling from another local port", "port", port)
	case !move && pausesAt(p.dial.attempts):
		p.dial.pause(now)
		until, _ := p.dial.paused(now)
		// wireguard-go dials by itself when hosts send packets for the peer.
		l.bind.Quiet(p.PublicKey, until-now)
		p.quiet = true
		p.log.Warn("pause", "peer doesn't answer: not dialling for longer than a NAT or firewall remembers a dead flow",
			"pause", (until - now).Round(time.Second))
		return false
	}
	if p.quiet { // a new address ends a pause early
		p.quiet = false
		l.bind.Quiet(p.PublicKey, 0)
	}
	return true
}

// Dialing is how far dialling a peer has come.
type Dialing struct {
	Attempts  int       // since the peer was reached last
	LocalPort uint16    // from which it is dialled
	Paused    time.Time // until when it is not dialled; zero if it is
}

// dialing describes the dialling of a peer that is not reached; nil if it is.
func (p *peer) dialing(now time.Duration, wall time.Time, port uint16) *Dialing {
	if !p.dial.active {
		return nil
	}
	d := &Dialing{Attempts: p.dial.attempts, LocalPort: port}
	if until, ok := p.dial.paused(now); ok {
		d.Paused = wall.Add(until - now)
	}
	return d
}
