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

// MaxAhead is how far an epoch may be ahead of this node's wall clock and of the
// highest epoch that it has seen.
const MaxAhead = 24 * time.Hour

// Claim is a node's word that it is active for its site from an epoch on. The
// zero Claim is below all others.
type Claim struct {
	Epoch uint64
	Node  NodeID
}

// Above reports whether c wins over o.
func (c Claim) Above(o Claim) bool {
	if c.Epoch != o.Epoch {
		return c.Epoch > o.Epoch
	}
	return bytes.Compare(c.Node[:], o.Node[:]) > 0
}

// wall is the wall clock as an epoch.
func (m *Machine) wall() uint64 { return uint64(max(0, m.cfg.Wall())) }

// plausible judges a foreign epoch for a site whose highest epoch so far was
// seen.
func (m *Machine) plausible(epoch, seen uint64, ahead time.Duration) bool {
	return epoch <= max(seen, m.wall())+uint64(ahead/time.Millisecond)
}

// raise takes note of an epoch of the own site.
func (m *Machine) raise(epoch uint64) {
	if epoch > m.seen {
		m.seen, m.seenAt = epoch, m.now
	}
}

// hearDirect takes a claim from the tunnel of the node that it names, p.
func (m *Machine) hearDirect(p *peer, c Claim) {
	s := &m.sites[p.site]
	if c == s.claim && s.direct {
		return
	}
	seen := s.claim.Epoch
	if p.site == m.home {
		seen = max(seen, m.seen)
	}
	if !m.plausible(c.Epoch, seen, MaxAhead) {
		m.refuse(p, c)
		return
	}
	if !c.Above(s.claim) && c != s.claim {
		return
	}
	s.claim, s.direct = c, true
	if p.site == m.home {
		m.raise(c.Epoch)
		m.changed = m.now
		m.depose(ReasonHigherClaim)
	}
	m.emit(Output{Kind: Assign, Site: s.name, Node: c.Node, Epoch: c.Epoch})
	m.event(Event{Kind: EventClaim, Site: s.name, Node: c.Node, Epoch: c.Epoch})
}

// hearsay takes a claim of the own site that p has told of.
func (m *Machine) hearsay(p *peer, c Claim) {
	own := &m.sites[m.home]
	if c.Epoch == 0 || !c.Above(own.claim) && c.Epoch <= m.seen {
		return
	}
	if !m.plausible(c.Epoch, m.seen, MaxAhead/2) {
		m.refuse(p, c)
		return
	}
	m.raise(c.Epoch)
	if !c.Above(own.claim) || c.Node == m.cfg.Self || m.sib < 0 || c.Node != m.peers[m.sib].id {
		return // an active node claims again above what it has seen, see reclaim
	}
	if m.leading() && m.fresh(m.sibling()) && !m.sibling().role.leads() {
		return // the sibling itself says that it is not active
	}
	own.claim, own.direct = c, false
	m.changed = m.now
	m.depose(ReasonHearsay)
}

func (m *Machine) refuse(p *peer, c Claim) {
	if m.refusedAt != 0 && m.now-m.refusedAt < refuseEvery {
		return
	}
	m.refusedAt = max(m.now, 1)
	m.event(Event{Kind: EventImplausible, Site: m.sites[p.site].name, Node: p.id, Epoch: c.Epoch, Reason: ReasonClocks})
}
