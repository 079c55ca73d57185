package sites

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/link"
)

const (
	// wanRTT is the round trip from which on bulk is worth a relay where nothing is lost, wanLoss
	// the share of lost packets from which on it is in any case. Hellos measure loss by a few
	// packets a second, so that less is chance. Which connections are bulk, package flow decides.
	wanRTT  = 5 * time.Millisecond
	wanLoss = 0.001
	// keepOpen is how long a session may be used after its last handshake: Reject-After-Time in
	// section 6.1 of WireGuard's paper.
	keepOpen = 180 * time.Second
)

// Node is a node of a site.
type Node struct {
	Name      string
	Addresses []netip.Addr // its own inside the tunnel
	// Trunk is the one of them to which trunks lead; invalid if there is none.
	Trunk netip.Addr
}

// Site is this node's site or another one. The first of its nodes carries it until the election
// says otherwise.
type Site struct {
	Name  string
	Nodes []Node
}

// DataPath is the data path. SetSite replaces what it knows of the path to a site, by index in
// Config.Sites. The Board calls it with its lock held, so it must not block.
type DataPath interface {
	SetSite(i int, s flow.SiteState)
}

// Config is what a Board is made from.
type Config struct {
	Self  string // this node's site
	Sites []Site // in the order of the flow table's
	Path  DataPath
	// Now is a monotonic clock, counted from any fixed moment.
	Now func() time.Duration
}

// Measure is what was measured of the path to a node.
type Measure struct {
	Site, Node string
	RTT        time.Duration
	Loss       float64 // the greater share of hellos lost, of both directions
	Trunks     Counters
}

// Trunk is a node to which connections may be relayed.
type Trunk struct {
	Node netip.Addr
	MTU  int           // of the path inside the tunnel, in bytes
	RTT  time.Duration // as hellos measure it; 0 is unknown
}

// Path is the path to the node that carries a site, as far as relaying is concerned.
type Path struct {
	// Node is where trunks lead to; invalid while no connection may be relayed to the site.
	Node netip.Addr
	RTT  time.Duration
	// WAN says that bulk is worth a relay, Lossy that less than bulk is, and Why is the reason for
	// people.
	WAN, Lossy bool
	Why        string
}

// Board knows which node carries each site, and what the path to it is like. It alone changes what
// the data path knows of a site. Its methods are safe for concurrent use, and return at once.
type Board struct {
	cfg   Config
	queue queue

	mu       sync.Mutex // guards the fields below, and all sites and nodes
	sites    map[string]*site
	standby  bool // the sibling carries this node's site
	draining bool // this node is about to hand over
}

// site is another site; this node's own is one without a path.
type site struct {
	index   int
	name    string
	nodes   []*node
	carrier *node // one of nodes, or a node that the configuration lacks
}

// node is what is known of a node.
type node struct {
	Node
	state  link.PeerState
	everUp bool          // its link has been up
	lostAt time.Duration // when it was lost last; meaningful while it is down and everUp
	rtt    time.Duration
	hellos float64 // share of hellos lost
	trunks lossSample
}

// New returns a Board on which nothing is up. It does not touch the data path.
func New(cfg Config) *Board {
	b := &Board{cfg: cfg, queue: newQueue(), sites: make(map[string]*site, len(cfg.Sites))}
	for i, s := range cfg.Sites {
		st := &site{index: i, name: s.Name}
		for _, n := range s.Nodes {
			st.nodes = append(st.nodes, &node{Node: n, state: link.PeerState{Site: s.Name, Node: n.Name}})
		}
		st.carrier = st.nodes[0]
		b.sites[s.Name] = st
	}
	return b
}

// Listen registers l for all events. It is called before Run; listeners receive each event in the
// order of their registration.
func (b *Board) Listen(l Listener) { b.queue.listeners = append(b.queue.listeners, l) }

// Run delivers events until ctx ends.
func (b *Board) Run(ctx context.Context) error { return b.queue.run(ctx) }

// node returns a node of s; nil if the configuration lacks it.
func (s *site) node(name string) *node {
	if i := slices.IndexFunc(s.nodes, func(n *node) bool { return n.Name == name }); i >= 0 {
		return s.nodes[i]
	}
	return nil
}

// SetNode replaces the state of the link to a node. The link's goroutine calls it.
func (b *Board) SetNode(p link.PeerState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sites[p.Site]
	if s == nil {
		return
	}
	n := s.node(p.Node)
	if n == nil {
		return
	}
	before, first := n.state, p.Up && !n.everUp
	n.state, n.everUp = p, n.everUp || p.Up
	if before.Up && !p.Up {
		n.lostAt = b.cfg.Now()
	}
	post := func(k Kind) { b.queue.post(Event{Kind: k, Site: p.Site, Node: p.Node}) }
	if p.Site == b.cfg.Self {
		switch {
		case p.Refused:
			post(SiblingRefused)
		case p.Up:
			post(SiblingAgreed)
		}
		if first {
			post(Established)
		}
		return
	}
	b.show(s)
	switch {
	case !p.Up:
		post(Lost)
		return
	case before.Boot != 0 && before.Boot != p.Boot:
		post(Restarted)
	}
	post(Changed)
	if first {
		post(Established)
	} else if s.carrier == n && !before.Up {
		post(Wake)
	}
	if p.GW {
		post(Reachable)
	}
}

// SetCarrier makes a node the one that carries another site. The election calls it.
func (b *Board) SetCarrier(siteName, nodeName string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sites[siteName]
	if s == nil || siteName == b.cfg.Self {
		return
	}
	n := s.node(nodeName)
	if n == nil {
		n = &node{Node: Node{Name: nodeName}}
	}
	s.carrier = n
	b.show(s)
	b.queue.post(Event{Kind: Moved, Site: siteName, Node: nodeName})
}

// SetStandby says whether the sibling carries this node's site. Either role ends a drain. The
// election calls it.
func (b *Board) SetStandby(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.standby
	b.standby, b.draining = on, false
	b.showAll()
	switch {
	case on:
		b.queue.post(Event{Kind: Demoted})
	case was:
		b.queue.post(Event{Kind: Promoted})
	}
}

// SetDraining says whether this node is about to hand over: it begins no relay then.
func (b *Board) SetDraining(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.draining = on
}

// Wake has the senders woken whose bytes toward a site are in flight, on both sides.
func (b *Board) Wake(site string) { b.queue.post(Event{Kind: Wake, Site: site}) }

// SetMeasures replaces what is known of the paths to the nodes that are named.
func (b *Board) SetMeasures(list []Measure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.cfg.Now()
	for _, m := range list {
		s := b.sites[m.Site]
		if s == nil {
			continue
		}
		if n := s.node(m.Node); n != nil {
			n.rtt, n.hellos = m.RTT, m.Loss
			n.trunks.add(m.Trunks, now)
		}
	}
	b.showAll()
}

// showAll and show publish to the data path what is known of sites, with the lock held: what an
// event changes in between can't be lost.
func (b *Board) showAll() {
	for _, s := range b.sites {
		b.show(s)
	}
}

// show keeps a path open that was up, while hellos get lost: the packets that try it are the first
// through when it is back, and the end that has not noticed yet does not stop the answers. After
// keepOpen the data path drops them (link-down): WireGuard has no session for them any more, and
// would keep them.
func (b *Board) show(s *site) {
	if s.name == b.cfg.Self {
		return
	}
	n := s.carrier
	p, st := b.path(s), &n.state
	b.cfg.Path.SetSite(s.index, flow.SiteState{
		Up: st.Up || n.everUp && b.cfg.Now()-n.lostAt < keepOpen, Refused: st.Refused, MTU: st.MTU, Partial: st.PartialChecksums,
		WAN: p.WAN, Lossy: p.Lossy,
	})
}

// path answers when a connection to a site is relayed, as far as the path decides: the node that
// carries the site accepts trunks, this node carries its own, and the path is long or loses
// packets. The flow's part (bulk, or a rule that says relay) is in package flow.
func (b *Board) path(s *site) Path {
	n := s.carrier
	if b.standby || !n.state.Up || !n.state.Trunks || !n.Trunk.IsValid() {
		return Path{}
	}
	p := Path{Node: n.Trunk, RTT: n.rtt}
	switch loss := max(n.hellos, n.trunks.ratioAt(b.cfg.Now())); {
	case loss >= wanLoss:
		p.WAN, p.Lossy, p.Why = true, true, fmt.Sprintf("the link loses %.1f %%", 100*loss)
	case n.rtt >= wanRTT:
		p.WAN, p.Why = true, fmt.Sprintf("the link has a round trip of %d ms", n.rtt.Milliseconds())
	}
	return p
}

// Path returns the path to a site, by index in Config.Sites.
func (b *Board) Path(i int) Path {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.path(b.sites[b.cfg.Sites[i].Name])
}

// Relays reports whether this node begins relays: it carries its site, and stays to.
func (b *Board) Relays() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.standby && !b.draining
}

// Trunks returns the nodes to which connections may be relayed now, in the order of the sites.
func (b *Board) Trunks() []Trunk {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Trunk
	for _, c := range b.cfg.Sites {
		s := b.sites[c.Name]
		if s.name == b.cfg.Self {
			continue
		}
		if p := b.path(s); p.Node.IsValid() {
			out = append(out, Trunk{Node: p.Node, MTU: s.carrier.state.MTU, RTT: p.RTT})
		}
	}
	return out
}

// Carrier names the node that carries another site.
func (b *Board) Carrier(site string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.sites[site]; s != nil {
		return s.carrier.Name
	}
	return ""
}

// Standby reports whether the sibling carries this node's site.
func (b *Board) Standby() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.standby
}

// Up reports whether the link to a node is up. The names of nodes are unique.
func (b *Board) Up(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sites {
		if n := s.node(name); n != nil {
			return n.state.Up
		}
	}
	return false
}

// Address returns the address to which trunks to a node lead; the zero Addr if there is none.
func (b *Board) Address(site, name string) netip.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.sites[site]; s != nil {
		if n := s.node(name); n != nil {
			return n.Trunk
		}
	}
	return netip.Addr{}
}

// Why says why bulk to a site is relayed; empty if it is not.
func (b *Board) Why(site string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.sites[site]; s != nil {
		return b.path(s).Why
	}
	return ""
}
