package ha

import "time"

// follow runs a node that does not lead.
func (m *Machine) follow() {
	if m.ready.on {
		if m.now >= m.ready.at {
			m.claim(m.ready.why)
		}
		return
	}
	m.inquire()
	if m.besideOlder() {
		m.spells.vacant, m.spells.better = 0, 0
		return
	}
	v := m.view()
	if v != viewIdle {
		m.spells.vacant = 0
	}
	if v != viewLeads {
		m.spells.better = 0
	}
	switch v {
	case viewLeads:
		if m.self.role == Waiting {
			m.become(Standby, ReasonActiveHeard)
		}
		m.replaceWorse()
	case viewIdle:
		if m.spells.vacant == 0 {
			m.spells.vacant = max(m.now, 1)
		}
		if m.now-m.spells.vacant >= m.patience() {
			m.claim(ReasonVacant)
		}
	case viewDead:
		if m.self.role == Standby || m.heardFirst != 0 && m.now-m.heardFirst >= 2*m.cfg.DeadAfter {
			m.claim(ReasonDead)
		}
	case viewUnknown:
		// A standby without any answer is cut off itself and stays a standby.
		if m.self.role == Waiting && m.now-max(m.start.at, m.olderAt) >= loneStart {
			m.claim(ReasonNobody)
		}
	}
}

// patience is how long this node waits while no node of its site leads and both are
// alive. A node that has been standby has the records and claims first, then the first
// node of the configuration.
func (m *Machine) patience() time.Duration {
	d, s := m.cfg.DeadAfter, m.sibling()
	var wait time.Duration
	switch {
	case m.self.role == Standby && s.role == Waiting && m.fresh(s):
		// Not at once: a new tunnel first delivers, in a burst, what the sibling sent
		// before the tunnel was up, and it may have become active since.
		wait = m.cfg.Heartbeat
	case m.self.role == Standby && s.role == Waiting:
		wait = d // as witnesses report
	case m.self.role == Standby && m.first:
		wait = d
	case m.self.role == Standby:
		wait = 2 * d
	case s.role == Standby:
		wait = 4 * d
	case m.first:
		wait = 2 * d
	default:
		wait = 4 * d
	}
	if m.fresh(s) && m.ownScore() < s.score() {
		wait += 4 * d
	}
	return wait
}

// lossPatience is how many more dead_after pass before a node that reaches fewer sites
// loses the role: a full WAN drops heartbeats in bursts, now this node's and now its
// sibling's. A failing LAN or data plane is certain.
const lossPatience = 2

// replaceWorse takes over from an active sibling that is worse and has not asked for it:
// it may not receive, or not make progress.
func (m *Machine) replaceWorse() {
	score, known := m.siblingScore()
	sure := score == 0 && !(m.fresh(m.sibling()) && m.sibling().health().works())
	if m.self.role != Standby || !known || score >= m.ownScore() || !m.mayMove(m.ownScore(), score, sure) {
		m.spells.better = 0
		return
	}
	if m.spells.better == 0 {
		m.spells.better = max(m.now, 1)
	}
	wait := 2 * m.cfg.DeadAfter // the sibling may hand over by itself before that
	if m.fresh(m.sibling()) && m.sibling().health().works() {
		wait += lossPatience * m.cfg.DeadAfter
	}
	if m.now-m.spells.better >= wait {
		m.claim(ReasonSiblingWorse)
	}
}

// lead runs an active node of a pair.
func (m *Machine) lead() {
	if m.self.role == Suspended {
		m.askStillActive()
		return
	}
	s := m.sibling()
	if m.fresh(s) && s.role == Standby && s.score() > m.ownScore() && m.mayMove(s.score(), m.ownScore(), !m.self.health.works()) {
		if m.spells.better == 0 {
			m.spells.better = max(m.now, 1)
		}
		wait := m.cfg.DeadAfter
		if m.self.health.works() {
			wait += lossPatience * m.cfg.DeadAfter
		}
		if m.now-m.spells.better >= wait && !m.hand.on {
			m.startHandover(ReasonHealth, false)
		}
	} else {
		m.spells.better = 0
	}
	m.driveHandover()
}

// claim makes this node the active one.
func (m *Machine) claim(why Reason) {
	own := &m.sites[m.home]
	m.raise(max(m.seen.epoch+1, m.wall()))
	own.claim, own.direct = Claim{Epoch: m.seen.epoch, Node: m.cfg.Self}, true
	own.tag = m.claimTag(own.claim)
	if why == ReasonHealth || why == ReasonSiblingWorse {
		m.moves.damp.add(m.now)
	}
	m.emit(Output{Kind: Persist, Epoch: m.seen.epoch})
	m.record(why)
	m.doubt, m.spells.vacant, m.spells.better, m.hand, m.ready = doubt{}, 0, 0, handover{}, prepared{}
	m.moves.at = m.now
	if m.self.role != Active {
		m.become(Active, why)
	}
	for i := range m.peers {
		m.peers[i].backoff, m.peers[i].retryAt = m.quick()/2, m.now+m.quick()/2
		m.beatTo(i)
	}
	m.beats.at = m.now + m.cfg.Heartbeat
	m.beats.count++
	m.emit(Output{Kind: Activate, Site: own.name, Node: m.cfg.Self, Epoch: m.seen.epoch})
	m.emit(Output{Kind: Assign, Site: own.name, Node: m.cfg.Self, Epoch: m.seen.epoch})
}

// record begins the record of a failover.
func (m *Machine) record(why Reason) {
	f := Failover{Reason: why, Epoch: m.seen.epoch, At: m.now}
	from := m.now
	if m.sib >= 0 && m.sibling().ever && m.doubt.on {
		from = m.sibling().heard
		f.Asked = m.doubt.asked - from
	}
	if m.ready.on {
		from = m.ready.at - m.quick()
	}
	f.Detected, f.Claimed = m.now-from, m.now-from
	m.failover.last, m.failover.pending = f, true
}

func (m *Machine) handleAck(p *peer, epoch uint64) {
	if epoch > m.sites[m.home].claim.Epoch || epoch <= p.acked || !m.leading() {
		return
	}
	p.acked = epoch
	if m.failover.pending && p.site != m.home && epoch == m.failover.last.Epoch {
		m.failover.pending = false
		m.failover.last.Acknowledged = m.failover.last.Claimed + m.now - m.failover.last.At
		last := m.failover.last
		m.event(Event{Kind: EventFailover, Node: p.id, Epoch: epoch, Reason: last.Reason, Failover: &last})
	}
}

// repeat sends a claim again to the nodes that have not acknowledged it, ever more
// slowly, until the heartbeats are as frequent.
func (m *Machine) repeat() {
	if !m.leading() {
		return
	}
	for i := range m.peers {
		p := &m.peers[i]
		if p.acked >= m.sites[m.home].claim.Epoch || m.now < p.retryAt {
			continue
		}
		if p.backoff = max(p.backoff*2, m.quick()); p.backoff >= m.cfg.Heartbeat {
			p.retryAt = never
			continue
		}
		p.retryAt = m.now + p.backoff
		m.beatTo(i)
	}
}

// never is later than anything.
const never = time.Duration(1<<63 - 1)

// reclaim raises the epoch of an active node that has seen a higher one whose node does
// not lead, because the site's state was lost. The wait lets a claim that is in flight
// depose this node instead.
func (m *Machine) reclaim() {
	if m.self.role == Active && m.seen.epoch > m.sites[m.home].claim.Epoch && m.now-max(m.seen.at, m.moves.at) >= m.cfg.DeadAfter {
		m.claim(ReasonBehind)
	}
}

// depose ends this node's active role, if it has it.
func (m *Machine) depose(why Reason) {
	if !m.leading() {
		return
	}
	if why == ReasonHigherClaim && m.hand.reason != ReasonDrain {
		m.moves.damp.add(m.now)
	}
	m.hand, m.spells.better, m.failover.pending = handover{}, 0, false
	m.become(Standby, why)
	own := &m.sites[m.home]
	m.emit(Output{Kind: Deactivate, Site: own.name, Node: own.claim.Node, Epoch: own.claim.Epoch})
	m.beats.at = m.now
}

func (m *Machine) become(r Role, why Reason) {
	m.self.role, m.self.why, m.self.since = r, why, m.now
	m.event(Event{Kind: EventRole, Role: r, Reason: why, Site: m.sites[m.home].name, Node: m.cfg.Self, Epoch: m.sites[m.home].claim.Epoch})
}
