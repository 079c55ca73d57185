package ha

import (
	"errors"
	"time"
)

// Errors of Drain and Takeover.
var (
	ErrNoSibling  = errors.New("the site has no second node: add one to its configuration")
	ErrNotActive  = errors.New("this node is not active: ask the active one")
	ErrActive     = errors.New("this node is active already: there is nothing to do")
	ErrUnheard    = errors.New("the sibling is not reachable: see whether it runs and whether its tunnel is up")
	ErrUnfit      = errors.New("the node that would take over has a failing LAN or data plane, or reaches fewer sites: see gw doctor there, or force it")
	ErrRecords    = errors.New("the records of the node that would take over are incomplete: wait, or force it")
	ErrInProgress = errors.New("a handover is under way: wait for its end in gw ha status")
	ErrNotStandby = errors.New("the node that would take over is not a standby yet: wait until gw ha status there says so")
)

// handover is the active node's request to its sibling to take over.
type handover struct {
	on     bool
	reason Reason
	forced bool
	began  time.Duration
	nextAt time.Duration
}

// prepared is a handover that this node has accepted.
type prepared struct {
	on  bool
	at  time.Duration // when it claims
	why Reason
}

// Drain asks the sibling to take over while both are alive. It returns an error at once if
// that is not possible; forced ignores the health and the records of the standby. The
// outcome is an Event: a change of this node's role, EventRefused or EventTimeout.
func (m *Machine) Drain(now time.Duration, forced bool) ([]Output, error) {
	m.begin(now)
	if err := m.mayDrain(forced); err != nil {
		return m.call.out, err
	}
	m.startHandover(ReasonDrain, forced)
	m.step()
	return m.call.out, nil
}

func (m *Machine) mayDrain(forced bool) error {
	switch {
	case m.sib < 0:
		return ErrNoSibling
	case m.self.role != Active:
		return ErrNotActive
	case m.hand.on:
		return ErrInProgress
	case m.mute():
		return ErrUnheard
	case m.sibling().role != Standby:
		return ErrNotStandby
	case forced:
		return nil
	case m.sibling().score() < m.ownScore():
		return ErrUnfit
	case !m.self.health.Records || !m.sibling().health().Records:
		return ErrRecords
	}
	return nil
}

// Takeover makes this standby the active node on an operator's request. Unless forced,
// the sibling must be reachable, and this node as healthy, with all records.
func (m *Machine) Takeover(now time.Duration, forced bool) ([]Output, error) {
	m.begin(now)
	switch {
	case m.sib < 0:
		return m.call.out, ErrNoSibling
	case m.leading():
		return m.call.out, ErrActive
	case forced:
	case m.mute():
		return m.call.out, ErrUnheard
	case m.ownScore() < m.sibling().score():
		return m.call.out, ErrUnfit
	case !m.self.health.Records:
		return m.call.out, ErrRecords
	}
	m.claim(ReasonTakeover)
	m.step()
	return m.call.out, nil
}

func (m *Machine) startHandover(why Reason, forced bool) {
	m.hand = handover{on: true, reason: why, forced: forced, began: m.now, nextAt: m.now}
	m.event(Event{Kind: EventHandover, Node: m.sibling().id, Reason: why})
}

// driveHandover repeats the request until the sibling's claim or refusal arrives.
func (m *Machine) driveHandover() {
	h := &m.hand
	switch {
	case !h.on:
	case m.now-h.began >= handoverWait:
		m.event(Event{Kind: EventTimeout, Node: m.sibling().id, Reason: h.reason})
		m.endHandover()
	case m.now >= h.nextAt:
		h.nextAt = m.now + m.quick()
		msg := message{kind: msgYield, epoch: m.sites[m.home].claim.Epoch, reasonNum: h.reason.code()}
		if h.forced {
			msg.flags = flagForced
		}
		m.send(m.sibling(), &msg)
	}
}

// endHandover ends a handover without success. One for health is tried again after healthEvery.
func (m *Machine) endHandover() {
	if m.hand.reason == ReasonHealth {
		m.moves.at = m.now
	}
	m.hand = handover{}
}

func (m *Machine) handleYield(p *peer, msg *message) {
	if m.sib < 0 || p != m.sibling() {
		return
	}
	forced := msg.flags&flagForced != 0
	why := reasonCodes[msg.reasonNum]
	var no Reason
	switch {
	case m.leading():
		m.beatTo(m.sib)
		return
	case m.ready.on:
		return
	case msg.epoch < m.sites[m.home].claim.Epoch:
		no = ReasonStale
	case m.self.role != Standby:
		no = ReasonNotStandby
	case forced:
	case why == ReasonHealth && m.ownScore() == 0 || m.ownScore() < p.score():
		no = ReasonUnfit
	case why != ReasonHealth && !m.self.health.Records:
		no = ReasonRecords
	}
	if no != "" {
		m.send(p, &message{kind: msgRefuse, epoch: msg.epoch, reasonNum: no.code()})
		return
	}
	if why != ReasonDrain {
		m.claim(why)
		return
	}
	m.ready = prepared{on: true, at: m.now + m.quick(), why: why}
	m.emit(Output{Kind: Prepare, Site: m.sites[m.home].name, Node: m.cfg.Self})
}

func (m *Machine) handleRefuse(p *peer, msg *message) {
	if m.sib < 0 || p != m.sibling() || !m.hand.on || msg.epoch != m.sites[m.home].claim.Epoch {
		return
	}
	m.event(Event{Kind: EventRefused, Node: p.id, Reason: reasonCodes[msg.reasonNum]})
	m.endHandover()
}
