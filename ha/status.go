package ha

import "time"

// Status is a snapshot of a Machine. Times are ages, in the Machine's own time.
type Status struct {
	Site     string
	Role     Role
	Why      Reason
	Since    time.Duration // age of the role
	Epoch    uint64        // of the site's highest claim; 0 when none is known
	Active   NodeID        // the node of that claim
	Seen     uint64        // the highest epoch heard of
	Health   Health
	Reach    int // sites reached, both ways
	Nodes    []NodeStatus
	Sites    []SiteStatus
	Failover *Failover // how this node last became active; nil when it never did
	Handover *HandoverStatus
}

// NodeStatus is what is known of another node.
type NodeStatus struct {
	Node    NodeID
	Site    string
	Sibling bool
	Heard   time.Duration // age of the last message; -1 when there was none
	Alive   bool          // heard lately
	HearsUs bool
	Role    Role
	Health  Health
	Reach   int
	Acked   uint64 // this node's highest epoch that it has acknowledged
	// Unauthentic counts the claims and proofs that the node has carried and that no
	// node of this site made.
	Unauthentic uint64
}

// SiteStatus is where a site's subnets are routed. Node is the zero NodeID
// before anything is known.
type SiteStatus struct {
	Site  string
	Node  NodeID
	Epoch uint64
}

// HandoverStatus is a handover under way.
type HandoverStatus struct {
	To     NodeID
	Reason Reason
	Age    time.Duration
	Forced bool
}

// Status returns a snapshot.
func (m *Machine) Status(now time.Duration) Status {
	own := &m.sites[m.home]
	s := Status{
		Site: own.name, Role: m.self.role, Why: m.self.why, Since: now - m.self.since, Epoch: own.claim.Epoch, Active: own.claim.Node,
		Seen: m.seen.epoch, Health: m.self.health, Reach: int(m.self.reach),
	}
	for i := range m.peers {
		p := &m.peers[i]
		n := NodeStatus{
			Node: p.id, Site: m.sites[p.site].name, Sibling: i == m.sib, Heard: -1, Role: p.role, Reach: int(p.reach), Acked: p.acked, Unauthentic: p.unauthentic,
			HearsUs: p.flags&flagHearsYou != 0, Health: p.health(),
		}
		if p.ever {
			n.Heard = now - p.heard
			n.Alive = n.Heard < m.window(p.role, p.site)
		}
		s.Nodes = append(s.Nodes, n)
	}
	for i := range m.sites {
		st := SiteStatus{Site: m.sites[i].name}
		switch {
		case m.sites[i].direct:
			st.Node, st.Epoch = m.sites[i].claim.Node, m.sites[i].claim.Epoch
		case i != m.home && len(m.sites[i].nodes) == 1:
			st.Node = m.sites[i].nodes[0]
		}
		s.Sites = append(s.Sites, st)
	}
	if m.failover.last.Epoch != 0 {
		last := m.failover.last
		s.Failover = &last
	}
	if m.hand.on {
		s.Handover = &HandoverStatus{To: m.sibling().id, Reason: m.hand.reason, Age: now - m.hand.began, Forced: m.hand.forced}
	}
	return s
}
