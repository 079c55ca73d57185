package ha

import "time"

// stalled is called when this process did not run for a while.
func (m *Machine) stalled(gap time.Duration) {
	lost := gap - m.cfg.Heartbeat
	for i := range m.peers {
		if p := &m.peers[i]; p.ever {
			p.heard += lost
		}
	}
	for i := range m.sites {
		m.sites[i].ledAt += lost
	}
	m.doubt = doubt{}
	m.forget()
	if m.spells.better != 0 {
		m.spells.better = max(m.now, 1)
	}
	if gap > frozenGap && m.self.role == Active && m.sib >= 0 {
		m.spells.frozen = m.now
		m.hand = handover{}
		m.become(Suspended, ReasonFrozen)
		m.emit(Output{Kind: Suspend, Site: m.sites[m.home].name})
		m.beats.at = m.now
	}
}

// askStillActive asks all nodes whether this node is still the active one. When none
// answers within confirmWait, this node resumes: it can disturb no node that it can't
// reach.
func (m *Machine) askStillActive() {
	if m.now-m.spells.frozen >= confirmWait {
		m.resume(ReasonUnconfirmed)
		return
	}
	if m.now >= m.doubt.askAt {
		m.doubt.askAt = m.now + m.quick()
		m.askWitnesses()
		m.askOne(m.sibling())
	}
}

// confirm applies an answer to askStillActive's question.
func (m *Machine) confirm(p *peer, msg *message) {
	own := &m.sites[m.home]
	if p.site == m.home && msg.role.leads() && msg.yours.Node == p.id {
		m.applyDirect(p, msg.yours, msg.yoursTag)
	} else {
		m.applyCarried(p, msg.yours, msg.yoursTag)
	}
	// A node that knows a lower claim, or none, can't confirm.
	if m.self.role == Suspended && msg.yours == own.claim {
		m.resume(ReasonConfirmed)
	}
}

func (m *Machine) resume(why Reason) {
	m.doubt = doubt{}
	m.become(Active, why)
	m.emit(Output{Kind: Resume, Site: m.sites[m.home].name})
	m.beats.at = m.now
}
