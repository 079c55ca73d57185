package hello

import "time"

// setBackRate and setBackBurst bound how often the peer ends the session by EventSetBack.
const (
	setBackRate  = time.Minute
	setBackBurst = 2
)

// clock is what is known of both nodes' wall clocks.
type clock struct {
	skew time.Duration // the peer's minus this node's
	// Of the present session:
	asks   bool // SetBack has asked, and the peer has not agreed
	agreed bool // this node has agreed
}

// SetBack asks the peer, in each hello until it agrees or the session ends, to forget the time of
// this node's latest handshake: the clock was set back, and the peer would refuse the next one as a
// replay. A peer that agrees causes EventForgets; one of an older release never does.
func (p *Peer) SetBack(now time.Duration) Output {
	var out Output
	if !p.clock.asks && p.live {
		p.clock.asks = true
		p.hello(now, &out, true)
	}
	return out
}

// timeForgotten handles the flags about a clock that was set back. They end the session, so they
// need a proof.
func (p *Peer) timeForgotten(now time.Duration, h *helloMsg, proven bool, out *Output) {
	switch {
	case !proven:
	case h.setBack && !p.clock.agreed && p.limits.setBacks.take(now):
		p.clock.agreed = true
		out.Events = append(out.Events, EventSetBack)
	case h.forgets && p.clock.asks:
		p.clock.asks = false
		out.Events = append(out.Events, EventForgets)
	}
}
