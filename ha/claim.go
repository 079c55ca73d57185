package ha

import (
	"bytes"
	"encoding/base64"
	"time"
)

// NodeID is a node's WireGuard public key.
type NodeID [32]byte

// String is the key as WireGuard's tools print it.
func (n NodeID) String() string { return base64.StdEncoding.EncodeToString(n[:]) }

const (
	// MaxAhead is how far an epoch may be ahead of this node's wall clock.
	MaxAhead = 24 * time.Hour
	// claimLapse is how long a site's claim outranks a lower one of the site's other
	// node while no message shows that the claimant leads.
	claimLapse = 3 * time.Second
	// claimBurst is how many claims of another site count at once, and claimEvery the
	// time to each further one: each may make the owner change routes.
	claimBurst = 16
	claimEvery = time.Second
)

// Claim is a node's statement that it is active for its site from an epoch on. The
// zero Claim is below all others.
type Claim struct {
	Epoch uint64
	Node  NodeID
}

// Above reports whether c outranks o.
func (c Claim) Above(o Claim) bool {
	if c.Epoch != o.Epoch {
		return c.Epoch > o.Epoch
	}
	return bytes.Compare(c.Node[:], o.Node[:]) > 0
}

// wall is the wall clock as an epoch.
func (m *Machine) wall() uint64 { return uint64(max(0, m.cfg.Wall())) }

// clock is the wall clock as an epoch, for judging the epochs of others. A step
// backwards while this node runs doesn't count: what was plausible stays so.
func (m *Machine) clock() uint64 {
	return max(m.wall(), m.start.wall+uint64((m.now-m.start.at)/time.Millisecond))
}

// plausible judges an epoch by this node's clock alone, never by epochs that others
// have claimed: otherwise each claim could move the bound for the next one.
func (m *Machine) plausible(epoch uint64) bool {
	return epoch <= m.clock()+uint64(MaxAhead/time.Millisecond)
}

// raise records an epoch of the own site that one of its nodes has claimed.
func (m *Machine) raise(epoch uint64) {
	if epoch > m.seen.epoch {
		m.seen.epoch, m.seen.at = epoch, m.now
	}
}

// applyDirect applies a claim that arrived through the tunnel of p, the node that it names.
func (m *Machine) applyDirect(p *peer, c Claim, tag Tag) {
	s := &m.sites[p.site]
	if c == s.claim && s.direct {
		s.tag, s.ledAt = tag, m.now
		return
	}
	if !m.plausible(c.Epoch) {
		m.refuse(p, c)
		return
	}
	if !c.Above(s.claim) && c != s.claim && !m.lapsed(p.site) {
		return
	}
	if p.site != m.home && !s.spend(m.now) {
		return // the next heartbeat repeats it
	}
	s.claim, s.direct, s.tag, s.ledAt = c, true, tag, m.now
	if p.site == m.home {
		m.raise(c.Epoch)
		m.moves.at = m.now
		m.depose(ReasonHigherClaim)
	}
	m.emit(Output{Kind: Assign, Site: s.name, Node: c.Node, Epoch: c.Epoch})
	m.event(Event{Kind: EventClaim, Site: s.name, Node: c.Node, Epoch: c.Epoch})
}

// spend uses one of the site's claims that may count now, and reports false when none
// is left.
func (s *siteState) spend(now time.Duration) bool {
	earned := int((now - s.spentAt) / claimEvery)
	if s.spent = max(0, s.spent-earned); s.spent == 0 {
		s.spentAt = now
	} else {
		s.spentAt += time.Duration(earned) * claimEvery
	}
	if s.spent >= claimBurst {
		return false
	}
	s.spent++
	return true
}

// lapsed reports whether another site's claim no longer stands against a lower one:
// its node has not led for claimLapse. So a node that has claimed the highest
// plausible epoch and then died, or was removed, does not keep its sibling out.
func (m *Machine) lapsed(site int) bool {
	return site != m.home && m.now-m.sites[site].ledAt >= claimLapse
}

// applyCarried applies a claim of the own site that p has carried. It counts when p is
// the sibling, or when the tag proves that a node of this site made it.
func (m *Machine) applyCarried(p *peer, c Claim, tag Tag) {
	own := &m.sites[m.home]
	if c.Epoch == 0 || !c.Above(own.claim) && c.Epoch <= m.seen.epoch {
		return
	}
	if p.site != m.home && !m.authentic(c, tag) {
		m.reject(p)
		return
	}
	if !m.plausible(c.Epoch) {
		m.refuse(p, c)
		return
	}
	m.raise(c.Epoch)
	if !c.Above(own.claim) || c.Node == m.cfg.Self || m.sib < 0 || c.Node != m.sibling().id {
		return // an active node claims again above what it has seen, see reclaim
	}
	if m.leading() && m.fresh(m.sibling()) && !m.sibling().role.leads() {
		return // the sibling itself reports that it is not active
	}
	own.claim, own.direct, own.tag = c, false, tag
	m.moves.at = m.now
	if m.leading() {
		m.moves.flaps++
		m.depose(ReasonHearsay)
	}
}

func (m *Machine) refuse(p *peer, c Claim) {
	if p.refusedAt != 0 && m.now-p.refusedAt < refuseEvery {
		return
	}
	p.refusedAt = max(m.now, 1)
	m.event(Event{Kind: EventImplausible, Site: m.sites[p.site].name, Node: p.id, Epoch: c.Epoch, Reason: ReasonClocks})
}
