package ha

import "time"

// doubt is a standby's suspicion that its sibling is dead. While it lasts, the standby
// asks the witnesses, the nodes of the other sites, when they last received from it.
type doubt struct {
	on       bool
	since    time.Duration
	askAt    time.Duration
	asked    time.Duration // when first
	silentAt time.Duration // when a witness first reported the sibling silent; 0 before
	reported bool          // an event was emitted
	gone     bool          // the sibling's host reports that its process is not running, see Gone
}

// answer is the latest answer of a witness.
type answer struct {
	at     time.Duration // when it arrived; 0: none
	heard  time.Duration // the latest time at which the witness can have received from the sibling
	never  bool          // the witness has never received from it
	silent bool
	proved bool  // the answer carried an authentic proof of the sibling
	proof  proof // that one
}

// view is this node's judgment of its sibling.
type view uint8

const (
	viewUnknown view = iota // silent, and no witness has answered
	viewDead                // silent, and a witness reports the same
	viewLeads               // alive, and it leads
	viewIdle                // alive, and it doesn't lead
)

// inquire runs doubt: it begins with the sibling's silence and ends with the
// sibling's next message.
func (m *Machine) inquire() {
	s := m.sibling()
	if s.ever && m.now-s.heard < m.suspectAfter() {
		if m.doubt.reported {
			m.event(Event{Kind: EventHeard, Node: s.id})
		}
		m.doubt = doubt{}
		return
	}
	d := &m.doubt
	if !d.on {
		*d = doubt{on: true, since: m.now, asked: m.now}
		m.forget()
	}
	if !d.reported && s.ever && !m.fresh(s) {
		d.reported = true
		m.event(Event{Kind: EventSuspect, Node: s.id})
	}
	if m.now < d.askAt {
		return
	}
	d.askAt = m.now + m.quick()
	if m.now-d.since > 4*m.cfg.DeadAfter {
		d.askAt = m.now + m.cfg.Heartbeat // it will last
	}
	m.ask()
}

// forget drops the witnesses' answers.
func (m *Machine) forget() {
	for i := range m.peers {
		m.peers[i].answer = answer{}
	}
}

// Gone records that the host of a node reports its tunnel's port closed, the answer
// to Knock. The report is not authenticated, and the host of a starting node sends it
// too: it shortens the wait for a silent sibling and does nothing else.
func (m *Machine) Gone(now time.Duration, node NodeID) []Output {
	m.begin(now)
	if m.sib >= 0 && node == m.sibling().id && m.doubt.on {
		m.doubt.gone = true
	}
	m.step()
	return m.call.out
}

// ask asks every witness, and the sibling's host.
func (m *Machine) ask() {
	m.emit(Output{Kind: Knock, Node: m.sibling().id})
	m.askWitnesses()
}

func (m *Machine) askWitnesses() {
	for i := range m.peers {
		if i != m.sib {
			m.askOne(&m.peers[i])
		}
	}
}

func (m *Machine) askOne(p *peer) {
	m.send(p, &message{kind: msgAsk, echoBoot: m.cfg.Boot, echo: uint64(m.now), proof: m.prove(p)})
}

// handleAsk answers p's question: how long ago p's sibling last sent a message here, its
// latest proof, and which claim of its site is known. To the sibling itself it answers
// with the claim that this node knows.
func (m *Machine) handleAsk(p *peer, msg *message) {
	a := message{kind: msgAnswer, echoBoot: msg.echoBoot, echo: msg.echo, age: unknownAge, flags: flagSilent}
	if p.site == m.home {
		a.yours, a.yoursTag = m.sites[m.home].claim, m.sites[m.home].tag
		a.role, a.flags, a.age = m.self.role, 0, 0
	} else {
		a.yours, a.yoursTag = m.sites[p.site].known()
		if q := m.siblingOf(p); q != nil && q.ever {
			age := m.now - q.heard
			a.role, a.age, a.sibs = q.role, uint32(min(age/time.Millisecond, unknownAge-1)), q.proof
			if age < m.window(q.role, q.site) {
				a.flags = 0
			}
		}
	}
	m.send(p, &a)
}

func (m *Machine) handleAnswer(p *peer, msg *message) {
	asked := time.Duration(msg.echo)
	if msg.echoBoot != m.cfg.Boot || asked > m.now || m.now-asked > echoLife || m.sib < 0 {
		return
	}
	if m.self.role == Suspended && asked >= m.spells.frozen {
		m.confirm(p, msg)
		return
	}
	if p.site == m.home {
		return
	}
	p.learnRTT(m.now - asked)
	proved := m.handleCarried(p, &msg.sibs)
	if !m.doubt.on || asked < m.doubt.since {
		return
	}
	p.answer = answer{
		at: max(m.now, 1), heard: m.now - time.Duration(msg.age)*time.Millisecond, never: msg.age == unknownAge,
		silent: msg.flags&flagSilent != 0, proved: proved, proof: msg.sibs,
	}
	if p.answer.silent && m.doubt.silentAt == 0 {
		m.doubt.silentAt = max(m.now, 1)
	}
	m.applyCarried(p, msg.yours, msg.yoursTag)
}

// lifeBy returns the latest time at which p's answer proves the sibling alive: no later
// than p reports a message of it, and no later than the proof allows. It returns false
// where the age of the proof is unknown.
func (m *Machine) lifeBy(p *peer) (at time.Duration, ok bool) {
	a := &p.answer
	if !a.proved || a.never {
		return 0, false
	}
	at, ok = m.provedAt(p, &a.proof)
	return min(at, a.heard), ok
}

// view judges by the sibling's own messages while they are fresh, and otherwise by the
// witnesses:
//   - One witness that delivers a fresh proof makes the sibling alive, whatever the
//     others answer.
//   - It is dead when at least one witness reports it silent and none proves the
//     contrary.
//   - The answer of a witness that sent a message lately is awaited for as long as its
//     answers usually need.
//   - An answer "alive" without a proof counts for nothing at first, and for silence
//     when no proof has followed within unprovenWait.
//   - Where the sibling's host does not report that its process is gone, other processes
//     may keep it from running: it has more time.
func (m *Machine) view() view {
	s := m.sibling()
	if m.fresh(s) {
		return alive(s.role)
	}
	silent, missing, unproven := false, time.Duration(0), false
	life := s.heard // of the last sign of it, if ever
	for i := range m.peers {
		p := &m.peers[i]
		a := &p.answer
		if i == m.sib {
			continue
		}
		if a.at == 0 {
			if p.ever && m.now-p.heard < m.window(p.role, p.site) {
				missing = max(missing, m.cfg.DeadAfter/3, 2*min(p.rtt, maxWitnessRTT))
			}
			continue
		}
		at, known := m.lifeBy(p)
		if known && m.now-at < m.window(a.proof.role, elsewhere) && !a.silent {
			return alive(a.proof.role)
		}
		if known {
			life = max(life, at)
		}
		// The first proof of a sibling that never sent a message here is too old to
		// count: it does not echo this node's own proofs yet.
		unproven = unproven || a.proved && !known && !a.silent && !s.ever
		recent := m.now-a.at < 2*m.cfg.DeadAfter
		silent = silent || recent && (a.silent || m.now-m.doubt.since >= unprovenWait)
	}
	switch {
	case !silent,
		m.now-m.doubt.silentAt < missing,
		unproven && m.now-m.doubt.since < unprovenWait,
		s.ever && !m.doubt.gone && m.now-life < m.muteAfter(),
		m.flapping():
		return viewUnknown
	}
	return viewDead
}

// siblingScore returns the sibling's score, from its own messages, or from a proof that
// its LAN or its data plane fails. The proof shows a dead LAN where the siblings' tunnel
// runs over that LAN.
func (m *Machine) siblingScore() (score uint8, known bool) {
	s := m.sibling()
	if m.fresh(s) {
		return s.score(), true
	}
	for i := range m.peers {
		p := &m.peers[i]
		at, ok := m.lifeBy(p)
		if a := &p.answer; ok && !a.silent && !a.proof.works() && m.now-at < 2*m.cfg.DeadAfter {
			return 0, true
		}
	}
	return 0, false
}

func alive(r Role) view {
	if r.leads() {
		return viewLeads
	}
	return viewIdle
}
