package ha

import (
	"crypto/subtle"
	"encoding/binary"
)

// TagSize is the length of a Tag in bytes.
const TagSize = 16

// Tag authenticates a statement of one node of a site to the other one.
type Tag [TagSize]byte

// Authenticator computes tags. The nodes of other sites, the witnesses, carry
// tagged statements from one sibling to the other and can neither make nor change
// one, since only the two siblings hold the key.
type Authenticator interface {
	// Tag returns the tag of statement under the siblings' common key. It keeps
	// nothing of statement and is called by the Machine's owner only.
	Tag(statement []byte) Tag
}

// proof is a node's statement to its sibling that it was alive at a moment of its
// own clock. The zero proof states nothing.
//
// Echo and echoBoot name the sibling's proof that the carrier delivered last, so
// the sibling knows that this proof is younger than its own one.
type proof struct {
	boot     uint64
	uptime   uint64 // µs since the node's start
	role     Role
	flags    uint8 // flagLAN and flagPlane
	echoBoot uint64
	echo     uint64
	tag      Tag
}

// Labels separate the kinds of statements, so that the tag of one kind never fits
// another.
const (
	labelClaim = 'c'
	labelProof = 'p'
)

// statement begins a statement of node about this node's site.
func (m *Machine) statement(label byte, node NodeID) []byte {
	b := append(m.call.scratch[:0], Magic...)
	b = append(b, Version, label)
	b = append(b, node[:]...)
	return append(b, m.sites[m.home].name...)
}

// tag computes the tag of a statement, whose memory serves the next one again.
func (m *Machine) tag(statement []byte) Tag {
	m.call.scratch = statement[:0]
	return m.cfg.Auth.Tag(statement)
}

// claimTag returns the tag of a claim of this node's site, and the zero Tag at a
// site with one node.
func (m *Machine) claimTag(c Claim) Tag {
	if m.sib < 0 {
		return Tag{}
	}
	return m.tag(binary.BigEndian.AppendUint64(m.statement(labelClaim, c.Node), c.Epoch))
}

// proofTag returns the tag of a proof of a node of this site.
func (m *Machine) proofTag(node NodeID, p *proof) Tag {
	return m.tag(appendProof(m.statement(labelProof, node), p))
}

// authentic reports whether a node of this site made the claim c and its tag.
func (m *Machine) authentic(c Claim, tag Tag) bool {
	if m.sib < 0 || c.Node != m.cfg.Self && c.Node != m.sibling().id {
		return false
	}
	want := m.claimTag(c)
	return subtle.ConstantTimeCompare(want[:], tag[:]) == 1
}

// prove returns this node's proof for its sibling, for p to carry.
func (m *Machine) prove(p *peer) proof {
	if m.sib < 0 {
		return proof{}
	}
	o := proof{boot: m.cfg.Boot, uptime: m.uptime(), role: m.self.role, echoBoot: p.carried.boot, echo: p.carried.uptime}
	if m.self.health.LAN {
		o.flags |= flagLAN
	}
	if m.self.health.Plane {
		o.flags |= flagPlane
	}
	if p.site != m.home { // the tunnel authenticates what goes to the sibling itself
		o.tag = m.proofTag(m.cfg.Self, &o)
	}
	return o
}

// uptime is this node's clock in its proofs.
func (m *Machine) uptime() uint64 { return uint64((m.now - m.start.at).Microseconds()) }

// works reports whether the node could carry packets when it made the proof.
func (o *proof) works() bool { return o.flags&flagLAN != 0 && o.flags&flagPlane != 0 }

// handleCarried checks the proof of the sibling that p has carried and reports
// whether the sibling made it. A proof with a wrong tag is counted. An honest witness
// that has not received from the sibling sends none.
func (m *Machine) handleCarried(p *peer, o *proof) bool {
	if m.sib < 0 || *o == (proof{}) {
		return false
	}
	if *o == p.carried {
		return true
	}
	want := m.proofTag(m.sibling().id, o)
	if subtle.ConstantTimeCompare(want[:], o.tag[:]) != 1 || o.role > Suspended {
		m.reject(p)
		return false
	}
	p.carried = *o
	m.life.carried(m.now, o)
	return true
}

// reject counts a statement without a valid tag that p has carried.
func (m *Machine) reject(p *peer) {
	p.unauthentic++
	if p.rejectedAt != 0 && m.now-p.rejectedAt < refuseEvery {
		return
	}
	p.rejectedAt = max(m.now, 1)
	m.event(Event{Kind: EventUnauthentic, Site: m.sites[p.site].name, Node: p.id, Count: p.unauthentic})
}
