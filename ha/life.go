package ha

import "time"

const (
	// lifeSpan is how long the least delay of the sibling's heartbeats is kept. Its clock
	// may stop, as that of a paused virtual machine does.
	lifeSpan = 10 * time.Second
	// lifeDrift is how long the two clocks count as equal after the sibling's last message.
	lifeDrift = time.Minute
	// maxWitnessRTT bounds the allowance for the path through a witness, which the witness
	// itself may make longer.
	maxWitnessRTT = 500 * time.Millisecond
)

// life maps the sibling's clock to this node's, to judge how old the sibling's
// proofs are that witnesses carry. A witness may delay a proof and repeat an old
// one, but can't make one.
//
// The offset of the two clocks is the least difference between the arrival of a
// proof and its time on the sibling's clock. Heartbeats from the sibling's own
// tunnel set it, and proofs from witnesses can only lower it, which makes proofs
// older. So no witness makes an old proof look younger.
type life struct {
	boot       uint64
	now, last  time.Duration // the offset in the present span of time, and in the one before
	since      time.Duration // when the present span began
	spanBefore bool
}

func uptimeOf(us uint64) time.Duration {
	return time.Duration(min(us, uint64(never/time.Microsecond))) * time.Microsecond
}

// direct applies the time of a heartbeat from the sibling's tunnel.
func (l *life) direct(now time.Duration, boot, uptime uint64) {
	offset := now - uptimeOf(uptime)
	switch {
	case l.boot != boot:
		*l = life{boot: boot, now: offset, since: now}
	case now-l.since >= lifeSpan:
		l.last, l.now, l.since, l.spanBefore = l.now, offset, now, true
	default:
		l.now = min(l.now, offset)
	}
}

// carried applies the time of an authentic proof that a witness has delivered.
func (l *life) carried(now time.Duration, o *proof) {
	if l.boot == o.boot && l.boot != 0 {
		l.now = min(l.now, now-uptimeOf(o.uptime))
	}
}

// made returns when the sibling made the proof o, on this node's clock, and false
// where the sibling's tunnel has not delivered anything of the sibling's present
// process.
func (l *life) made(o *proof) (time.Duration, bool) {
	if l.boot != o.boot || l.boot == 0 {
		return 0, false
	}
	offset := l.now
	if l.spanBefore {
		offset = min(offset, l.last)
	}
	return offset + uptimeOf(o.uptime), true
}

// provedAt returns the latest time at which the sibling was certainly alive by its
// proof o, which p has carried, less what the path through p explains; false where the
// age of the proof is unknown.
//
// The sibling's own clock shows it, as mapped by life. Where the siblings' tunnel was
// never up, or has been down for so long that the clocks may have drifted apart, this
// node's clock does: the sibling's proof echoes the time of this node's proof that
// reached it last. That allows for more, since the echo includes the path to the sibling.
func (m *Machine) provedAt(p *peer, o *proof) (at time.Duration, ok bool) {
	way := min(p.rtt, maxWitnessRTT)
	made, known := m.life.made(o)
	if known {
		at, ok = min(m.now, made+m.cfg.DeadAfter+way), true
	}
	if o.echoBoot == m.cfg.Boot && (!known || m.now-m.sibling().heard > lifeDrift) {
		echoed := m.start.at + uptimeOf(o.echo) + m.window(Standby, elsewhere) - m.window(o.role, elsewhere) + 2*way
		at, ok = max(at, min(m.now, echoed)), true
	}
	return at, ok
}

// learnRTT applies the time between a question to p and its answer. The estimate falls
// at once and rises slowly, since an answer may have waited in a queue.
func (p *peer) learnRTT(rtt time.Duration) {
	if p.rtt == 0 {
		p.rtt = rtt
		return
	}
	p.rtt = min(rtt, p.rtt+p.rtt/8+time.Millisecond)
}
