package ha

import "time"

// doubt is a standby's suspicion that its sibling is dead. While it lasts, the
// nodes of the other sites, the witnesses, are asked when they heard it last.
type doubt struct {
	on       bool
	since    time.Duration
	askAt    time.Duration
	asked    time.Duration // when first
	silentAt time.Duration // when a witness first said that the sibling is silent; 0 before
	told     bool          // an event was emitted
	gone     bool          // the sibling's host says that its process doesn't run, see Gone
}

// answer is the latest answer of a witness.
type answer struct {
	at     time.Duration // when it arrived; 0: none
	heard  time.Duration // the latest time at which the witness can have heard the sibling
	never  bool          // the witness hasn't heard it at all
	silent bool
	unfit  bool // the sibling told the witness that its LAN or data plane fails
	role   Role // the sibling's, as the witness has it
}

// view is what this node makes of its sibling.
type view uint8

const (
	viewUnknown view = iota // silent, and no witness has answered
	viewDead                // silent, and a witness says the same
	viewLeads               // alive, and it leads
	viewIdle                // alive, and it doesn't lead
)

// inquire keeps doubt going: it begins with the sibling's silence and ends when
// the sibling is heard.
func (m *Machine) inquire() {
	s := m.sibling()
	if s.ever && m.now-s.heard < m.suspectAfter() {
		if m.doubt.told {
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
	if !d.told && s.ever && !m.fresh(s) {
		d.told = true
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

// Gone takes note that the host of a node says that nobody listens there, which
// is what Knock asks for. The word is not authenticated, and a node that is only
// starting says so too: it shortens the patience with a silent sibling and does
// nothing else.
func (m *Machine) Gone(now time.Duration, node NodeID) []Output {
	m.begin(now)
	if m.sib >= 0 && node == m.sibling().id && m.doubt.on {
		m.doubt.gone = true
	}
	m.step()
	return m.out
}

// ask asks every witness, and the sibling's host.
func (m *Machine) ask() {
	m.emit(Output{Kind: Knock, Node: m.sibling().id})
	for i := range m.peers {
		if i != m.sib {
			m.send(&m.peers[i], &message{kind: msgAsk, echoBoot: m.cfg.Boot, echo: uint64(m.now)})
		}
	}
}

// takeAsk answers what p asks: how its sibling is doing, and which claim of its
// site is known. Of the sibling itself it is the claim that p wants to know.
func (m *Machine) takeAsk(p *peer, msg *message) {
	a := message{kind: msgAnswer, echoBoot: msg.echoBoot, echo: msg.echo, age: unknownAge, flags: flagSilent}
	if p.site == m.home {
		a.yours = m.sites[m.home].claim
		a.role, a.flags, a.age = m.role, 0, 0
	} else {
		s := &m.sites[p.site]
		a.yours = s.known()
		for _, j := range s.peers {
			q := &m.peers[j]
			if q == p || !q.ever {
				continue
			}
			age := m.now - q.heard
			a.role, a.age = q.role, uint32(min(age/time.Millisecond, unknownAge-1))
			if age < m.window(q.role, q.site) {
				a.flags = 0
			}
			if q.beatSeq > 0 && !q.health().works() {
				a.flags |= flagUnfit
			}
		}
	}
	m.send(p, &a)
}

func (m *Machine) takeAnswer(p *peer, msg *message) {
	asked := time.Duration(msg.echo)
	if msg.echoBoot != m.cfg.Boot || asked > m.now || m.now-asked > echoLife || m.sib < 0 {
		return
	}
	if m.role == Suspended && asked >= m.frozen {
		m.confirm(p, msg)
		return
	}
	if p.site == m.home || !m.doubt.on || asked < m.doubt.since {
		return
	}
	p.answer = answer{
		at: max(m.now, 1), heard: m.now - time.Duration(msg.age)*time.Millisecond, never: msg.age == unknownAge,
		silent: msg.flags&flagSilent != 0, unfit: msg.flags&flagUnfit != 0, role: msg.role,
	}
	if p.answer.silent && m.doubt.silentAt == 0 {
		m.doubt.silentAt = max(m.now, 1)
	}
	m.hearsay(p, msg.yours)
}

// view judges by this node's own ears while the sibling is fresh, then by the
// witnesses: one who hears it is enough to hold it for alive, and it is dead
// when at least one answers and none has heard it within the window. One that
// was heard lately and has not answered yet is waited for, briefly. Where the
// sibling's host doesn't say that its process is gone, it may be a process that
// others keep from running: it is given more time.
func (m *Machine) view() view {
	s := m.sibling()
	if m.fresh(s) {
		return alive(s.role)
	}
	silent, missing := false, false
	life := s.heard // the last sign of it, if ever
	for i := range m.peers {
		p := &m.peers[i]
		a := &p.answer
		switch {
		case i == m.sib:
		case a.at != 0 && !a.never && m.now-a.heard < m.window(a.role, elsewhere):
			return alive(a.role)
		case a.at != 0 && a.silent:
			silent = silent || m.now-a.at < 2*m.cfg.DeadAfter
			if !a.never {
				life = max(life, a.heard)
			}
		case a.at == 0 && p.ever && m.now-p.heard < m.window(p.role, p.site):
			missing = true
		}
	}
	if !silent || missing && m.now-m.doubt.silentAt < m.cfg.DeadAfter/3 {
		return viewUnknown
	}
	if s.ever && !m.doubt.gone && m.now-life < m.muteAfter() {
		return viewUnknown
	}
	return viewDead
}

// siblingScore is what is known of the sibling's score: by its own words, or by
// those of a witness to which it has said that it can't do its work. That is how
// a dead LAN is noticed where the sibling's tunnel runs over it.
func (m *Machine) siblingScore() (score uint8, known bool) {
	s := m.sibling()
	if m.fresh(s) {
		return s.score(), true
	}
	for i := range m.peers {
		if a := &m.peers[i].answer; a.at != 0 && a.unfit && !a.silent && m.now-a.at < 2*m.cfg.DeadAfter {
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
