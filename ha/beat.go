package ha

import "time"

// fresh reports whether a message of p arrived within DeadAfter.
func (m *Machine) fresh(p *peer) bool { return p.ever && m.now-p.heard < m.cfg.DeadAfter }

// muteAfter is the time without a message after which a sibling counts as dead
// although its host does not report that its process is gone. Of four gateways on
// two busy processors, under bulk traffic, one was silent for 218 ms and alive.
func (m *Machine) muteAfter() time.Duration { return 2 * m.cfg.DeadAfter }

// mute reports whether the sibling has been silent for muteAfter: a request would be
// of no use.
func (m *Machine) mute() bool {
	s := m.sibling()
	return !s.ever || m.now-s.heard >= m.muteAfter()
}

// window is the time without a message after which a node of a site, in a role,
// counts as silent. A standby sends few messages to other sites.
func (m *Machine) window(r Role, site int) time.Duration {
	if site == m.home || r.leads() {
		return m.cfg.DeadAfter
	}
	return max(m.cfg.DeadAfter, 3*slowBeats*m.cfg.Heartbeat)
}

// elsewhere stands for any site but the own one.
const elsewhere = -1

// health is the health that p has reported.
func (p *peer) health() Health {
	return Health{LAN: p.flags&flagLAN != 0, Plane: p.flags&flagPlane != 0, Records: p.flags&flagRecords != 0}
}

// score is the number of sites that a node can carry traffic to.
func score(h Health, reach uint8) uint8 {
	if !h.works() {
		return 0
	}
	return reach
}

func (m *Machine) ownScore() uint8 { return score(m.self.health, m.self.reach) }

func (p *peer) score() uint8 { return score(p.health(), p.reach) }

// look counts the sites whose active node receives from this one and vice versa.
func (m *Machine) look() {
	m.self.reach = 0
	for i := range m.sites {
		if i == m.home {
			continue
		}
		for _, j := range m.sites[i].peers {
			p := &m.peers[j]
			if m.fresh(p) && p.role.leads() && p.flags&flagHearsYou != 0 {
				m.self.reach++
				break
			}
		}
	}
}

// beat sends the heartbeats that are due.
func (m *Machine) beat() {
	if m.now < m.beats.at {
		return
	}
	all := m.self.role != Standby || m.beats.count%slowBeats == 0
	m.beats.count++
	m.beats.at = m.now + m.cfg.Heartbeat
	for i := range m.peers {
		if all || i == m.sib {
			m.beatTo(i)
		}
	}
	if m.self.role == Standby && !m.doubt.on && m.now >= m.beats.probeAt {
		m.beats.probeAt = m.now + probeEvery
		m.askWitnesses()
	}
}

func (m *Machine) beatTo(i int) {
	p := &m.peers[i]
	own := m.sites[m.home].claim
	msg := message{
		kind: msgBeat, role: m.self.role, reach: m.self.reach, seen: m.seen.epoch, own: own, ownTag: m.sites[m.home].tag, proof: m.prove(p),
	}
	if p.site != m.home {
		msg.yours, msg.yoursTag = m.sites[p.site].known()
		if q := m.siblingOf(p); q != nil {
			msg.sibs = q.proof
		}
	}
	set := func(on bool, f uint8) {
		if on {
			msg.flags |= f
		}
	}
	set(m.self.health.LAN, flagLAN)
	set(m.self.health.Plane, flagPlane)
	set(m.self.health.Records, flagRecords)
	set(p.ever && m.now-p.heard < m.window(p.role, p.site), flagHearsYou)
	set(m.leading() && p.acked < own.Epoch, flagWantAck)
	m.send(p, &msg)
}

// known is the site's claim with its tag, as far as the tunnels of its own nodes have
// delivered it.
func (s *siteState) known() (Claim, Tag) {
	if !s.direct {
		return Claim{}, Tag{}
	}
	return s.claim, s.tag
}

// siblingOf returns the other node of p's site, nil where p has none.
func (m *Machine) siblingOf(p *peer) *peer {
	for _, j := range m.sites[p.site].peers {
		if q := &m.peers[j]; q != p {
			return q
		}
	}
	return nil
}

func (m *Machine) send(p *peer, msg *message) {
	p.sent++
	msg.boot, msg.seq = m.cfg.Boot, p.sent
	at := len(m.call.buf)
	m.call.buf = appendMessage(m.call.buf, msg)
	m.emit(Output{Kind: Send, To: p.id, Payload: m.call.buf[at:len(m.call.buf):len(m.call.buf)]})
}

// handle applies one message of p.
func (m *Machine) handle(p *peer, msg *message) error {
	if msg.boot == p.oldBoot && p.oldBoot != 0 && m.fresh(p) {
		// Sent before p's restart. Where the late message arrived first, it is the other
		// way round: then the process that counts as new falls silent.
		return ErrOld
	}
	if msg.boot != p.boot {
		p.oldBoot, p.boot = p.boot, msg.boot
		p.seq, p.beatSeq, p.acked, p.answer, p.proof = 0, 0, 0, answer{}, proof{}
		p.retryAt, p.backoff = m.now, 0
	}
	if msg.kind == msgBeat && msg.seq <= p.beatSeq {
		return ErrOld
	}
	if msg.seq > p.seq {
		p.seq = msg.seq
		if msg.kind == msgBeat || msg.kind == msgAsk {
			p.proof = msg.proof
		}
		p.ever, p.heard = true, m.now
		if m.heardFirst == 0 {
			m.heardFirst = max(m.now, 1)
		}
	}
	switch msg.kind {
	case msgBeat:
		p.beatSeq = msg.seq
		m.handleBeat(p, msg)
	case msgAck:
		m.handleAck(p, msg.epoch)
	case msgAsk:
		m.handleAsk(p, msg)
	case msgAnswer:
		m.handleAnswer(p, msg)
	case msgYield:
		m.handleYield(p, msg)
	case msgRefuse:
		m.handleRefuse(p, msg)
	}
	return nil
}

func (m *Machine) handleBeat(p *peer, msg *message) {
	p.role, p.flags, p.reach = msg.role, msg.flags, msg.reach
	home := p.site == m.home
	if home {
		m.life.direct(m.now, msg.boot, msg.proof.uptime)
		m.moves.flaps = 0
		if m.plausible(msg.seen) {
			m.raise(msg.seen)
		}
	}
	if msg.role.leads() && msg.own.Node == p.id {
		m.applyDirect(p, msg.own, msg.ownTag)
		if msg.flags&flagWantAck != 0 && m.sites[p.site].claim == msg.own {
			m.send(p, &message{kind: msgAck, epoch: msg.own.Epoch})
		}
		if home && m.leading() {
			m.beatTo(m.sib) // it has the lower claim and must learn of this one at once
		}
	} else if home {
		m.applyCarried(p, msg.own, msg.ownTag)
	}
	if !home {
		m.handleCarried(p, &msg.sibs)
		m.applyCarried(p, msg.yours, msg.yoursTag)
	}
}
