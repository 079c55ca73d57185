package ha

import (
	"errors"
	"fmt"
	"time"
)

// Times of the election that are not configured.
const (
	// slowBeats: a standby sends each slowBeats-th heartbeat to other sites.
	slowBeats = 5
	// loneStart is how long a starting node of a pair waits without a message of any other node.
	loneStart = 3 * time.Second
	// frozenGap is the gap between two calls that counts as a frozen process.
	frozenGap = time.Second
	// confirmWait bounds how long a node that was frozen waits for a confirmation.
	confirmWait = time.Second
	// healthEvery spaces the role changes for health's sake.
	healthEvery = 5 * time.Second
	// handoverWait bounds a handover.
	handoverWait = time.Second
	// echoLife is how old the question of an answer may be.
	echoLife = time.Second
	// refuseEvery spaces the events about refused statements of a node.
	refuseEvery = 10 * time.Second
	// probeEvery spaces a standby's questions while the sibling is reachable. They measure
	// the round trip to each witness, and show a witness that delivers no valid proof.
	probeEvery = 5 * time.Second
	// unprovenWait bounds how long a node that has just started waits for the first echo in
	// the proofs of a sibling that has never sent it a message.
	unprovenWait = time.Second
)

// Site is a site of the network: its name and its nodes, one or two, in the order
// of the configuration.
type Site struct {
	Name  string
	Nodes []NodeID
}

// Config is what a Machine needs.
type Config struct {
	Self NodeID
	// Sites are this node's own site and all that are linked to it, in any order.
	Sites []Site
	// Heartbeat is the pace of heartbeats, 50 ms by default, and DeadAfter the
	// silence that makes a standby take over from a sibling whose process is gone,
	// by default 150 ms and at least twice Heartbeat; from one that is only silent,
	// twice as long a silence. Both have to agree within a site.
	Heartbeat, DeadAfter time.Duration
	// Boot differs from one start of the process to the next; random and not 0.
	Boot uint64
	// Seen is the highest epoch that was ever persisted; 0 on the first start.
	Seen uint64
	// Wall is the wall clock in milliseconds since 1970.
	Wall func() int64
	// Auth computes the siblings' tags. A site with one node needs none.
	Auth Authenticator
}

// Role is a node's part in its site.
type Role uint8

// Waiting has just started and listens; Suspended was active when its process
// froze, and asks whether it still is.
const (
	Waiting Role = iota
	Standby
	Active
	Suspended
)

// String is the role for logs and status.
func (r Role) String() string { return [...]string{"waiting", "standby", "active", "suspended"}[r] }

func (r Role) leads() bool { return r == Active || r == Suspended }

// Health is what the owner of a Machine knows of this node. Which sites it
// reaches, the Machine sees itself.
type Health struct {
	LAN     bool // the LAN interface is up, or there is none
	Plane   bool // the data plane makes progress
	Records bool // the records are in sync with the sibling's, see Replicator.InSync
}

// works reports whether the node can carry packets as far as it depends on itself.
func (h Health) works() bool { return h.LAN && h.Plane }

// peer is what is known of another node.
type peer struct {
	id   NodeID
	site int

	ever             bool          // a message of it has arrived since this node started
	heard            time.Duration // when the last one arrived
	boot, oldBoot    uint64
	seq, beatSeq     uint32
	role             Role
	flags            uint8
	reach            uint8
	answer           answer
	acked            uint64 // our highest epoch that it has acknowledged
	retryAt, backoff time.Duration
	sent             uint32 // our sequence number toward it

	proof       proof         // its latest proof, to be carried to its sibling
	carried     proof         // the latest authentic proof of our sibling that it has carried
	rtt         time.Duration // from a question to its answer; 0 before the first
	unauthentic uint64        // statements with a wrong tag that it has carried
	rejectedAt  time.Duration // the last event about one
	refusedAt   time.Duration // the last event about an implausible epoch of its own
}

type siteState struct {
	name   string
	nodes  []NodeID
	peers  []int         // indices of its nodes other than self
	claim  Claim         // the highest one known
	tag    Tag           // of the claim
	direct bool          // from the tunnel of its node, or our own
	ledAt  time.Duration // when its node last reported that it leads with it

	spent   int           // claims that counted lately, see spend
	spentAt time.Duration // since when
}

// Machine elects the active node of a site. It isn't safe for concurrent use.
//
// Every method that returns outputs may be called at any time, with a now that does not
// go back. The owner must carry out the outputs in order. The slice and its payloads are
// valid until the next call, so the owner calls no method before it has carried out all of
// them. It calls Tick at the time that Next returns, and Next again after every call.
type Machine struct {
	// Constant after New.
	cfg   Config
	byID  map[NodeID]int
	home  int  // the own site
	sib   int  // index of the sibling, -1 without
	first bool // the configuration names this node before its sibling
	start start

	// What is known of others.
	peers      []peer
	sites      []siteState
	heardFirst time.Duration // when the first message of any node arrived; 0 before
	olderAt    time.Duration // when the sibling last sent a message of an older version; 0: never
	life       life
	seen       seen

	// This node, as of the call in progress.
	now   time.Duration
	self  self
	beats beats
	call  call

	// What is in progress, and what has happened.
	doubt    doubt
	hand     handover
	ready    prepared
	spells   spells
	moves    moves
	failover failover
}

// start is when the Machine was made.
type start struct {
	at   time.Duration
	wall uint64 // the wall clock then, in milliseconds since 1970
}

// self is this node's state, which its heartbeats report to the others.
type self struct {
	role   Role
	why    Reason
	since  time.Duration // when role began
	health Health
	reach  uint8 // how many other sites it reaches
}

// seen is the highest epoch of the own site.
type seen struct {
	epoch uint64
	at    time.Duration // when it was first seen
}

// beats paces the heartbeats.
type beats struct {
	at      time.Duration // of the next one
	count   uint64
	probeAt time.Duration // when a standby asks the witnesses next
}

// spells are states that count only once they have lasted: each is the time at which
// its state began, or 0.
type spells struct {
	vacant time.Duration // no node of the site leads, though all are alive
	better time.Duration // the active node is not the better one
	frozen time.Duration // this node is Suspended
}

// moves paces the site's role changes.
type moves struct {
	at    time.Duration // of the last one that this node noticed
	damp  damping
	flaps uint // depositions by carried claims since the sibling's last heartbeat
}

// failover is how this node last became active.
type failover struct {
	last    Failover
	pending bool // it waits for its first acknowledgement
}

// call is what one call of a method leaves for its caller, and its memory.
type call struct {
	before  bool // there was a call before this one
	out     []Output
	buf     []byte // the payloads of out
	scratch []byte // see statement
}

// New returns a Machine that listens before it does anything. Errors are mistakes
// of the configuration.
func New(now time.Duration, cfg Config) (*Machine, error) {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 50 * time.Millisecond
	}
	if cfg.DeadAfter == 0 {
		cfg.DeadAfter = 3 * cfg.Heartbeat
	}
	if cfg.Heartbeat < 0 || cfg.DeadAfter < 2*cfg.Heartbeat {
		return nil, fmt.Errorf("dead_after %v is less than two heartbeats of %v", cfg.DeadAfter, cfg.Heartbeat)
	}
	if cfg.Boot == 0 || cfg.Wall == nil {
		return nil, errors.New("a boot number and a wall clock are needed")
	}
	m := &Machine{
		cfg: cfg, byID: map[NodeID]int{}, home: -1, sib: -1,
		now: now, start: start{at: now}, seen: seen{epoch: cfg.Seen}, beats: beats{at: now}, moves: moves{at: now},
		self: self{why: ReasonStart, since: now, health: Health{LAN: true, Plane: true}},
	}
	for i, s := range cfg.Sites {
		if len(s.Nodes) < 1 || len(s.Nodes) > 2 {
			return nil, fmt.Errorf("site %q has %d nodes and may have one or two", s.Name, len(s.Nodes))
		}
		st := siteState{name: s.Name, nodes: s.Nodes}
		for _, id := range s.Nodes {
			if _, twice := m.byID[id]; twice || id == cfg.Self && m.home >= 0 {
				return nil, fmt.Errorf("site %q: node %v is there twice", s.Name, id)
			}
			if id == cfg.Self {
				m.home = i
				continue
			}
			m.byID[id] = len(m.peers)
			st.peers = append(st.peers, len(m.peers))
			m.peers = append(m.peers, peer{id: id, site: i})
		}
		m.sites = append(m.sites, st)
	}
	if m.home < 0 {
		return nil, errors.New("this node is in no site")
	}
	if own := &m.sites[m.home]; len(own.peers) == 1 {
		if cfg.Auth == nil {
			return nil, errors.New("a pair needs an authenticator")
		}
		m.sib = own.peers[0]
		m.first = own.nodes[0] == cfg.Self
	}
	m.start.wall = m.wall()
	return m, nil
}

// Tick lets time pass.
func (m *Machine) Tick(now time.Duration) []Output {
	m.begin(now)
	m.step()
	return m.call.out
}

// Handle processes a payload that arrived through the tunnel of node from. It does not
// keep payload. An error is why the payload was rejected; the outputs are valid with it,
// too.
func (m *Machine) Handle(now time.Duration, from NodeID, payload []byte) ([]Output, error) {
	m.begin(now)
	i, ok := m.byID[from]
	if !ok {
		return m.call.out, ErrStranger
	}
	var msg message
	if err := decode(payload, &msg); err != nil {
		if v := (*VersionError)(nil); i == m.sib && errors.As(err, &v) && v.Theirs < Version {
			m.olderAt = max(m.now, 1)
		}
		return m.call.out, err
	}
	err := m.handle(&m.peers[i], &msg)
	m.step()
	return m.call.out, err
}

// SetHealth sets this node's health. A Machine starts with a healthy node without
// records.
func (m *Machine) SetHealth(now time.Duration, h Health) []Output {
	m.begin(now)
	if h != m.self.health {
		m.self.health = h
		m.beats.at = now // the sibling should know at once
	}
	m.step()
	return m.call.out
}

// Next is the time of the next Tick.
func (m *Machine) Next() time.Duration {
	next := m.beats.at
	until := func(t time.Duration) {
		if t > m.now {
			next = min(next, t)
		}
	}
	if m.leading() {
		if m.hand.on || m.self.role == Suspended {
			until(m.now + m.quick())
		}
		for i := range m.peers {
			if p := &m.peers[i]; p.acked < m.sites[m.home].claim.Epoch {
				until(p.retryAt)
			}
		}
		return next
	}
	if m.ready.on {
		until(m.ready.at)
	}
	if m.doubt.on || m.spells.vacant != 0 {
		until(m.now + m.quick())
	}
	if m.sib >= 0 {
		until(m.sibling().heard + m.suspectAfter())
		until(m.sibling().heard + m.cfg.DeadAfter)
		until(m.sibling().heard + m.muteAfter())
	}
	return next
}

// quick is the interval of everything that is in progress.
func (m *Machine) quick() time.Duration { return m.cfg.Heartbeat / 5 }

// suspectAfter is the silence after which this node asks the witnesses: early, so that
// their answers arrive before they count.
func (m *Machine) suspectAfter() time.Duration { return m.cfg.DeadAfter * 2 / 3 }

func (m *Machine) leading() bool  { return m.self.role.leads() }
func (m *Machine) sibling() *peer { return &m.peers[m.sib] }

// begin starts a call. Silence counts only while this process runs: what arrived while
// it was stopped may still wait in a queue.
func (m *Machine) begin(now time.Duration) {
	m.call.out, m.call.buf = m.call.out[:0], m.call.buf[:0]
	gap := max(0, now-m.now)
	m.now = max(m.now, now)
	if gap > m.cfg.Heartbeat && m.call.before {
		m.stalled(gap)
	}
	m.call.before = true
}

// besideOlder reports whether the sibling runs an older version. Such a sibling ignores
// this node, and leads where it works, so this node does not lead.
func (m *Machine) besideOlder() bool { return m.olderAt != 0 && m.now-m.olderAt < loneStart }

// step does all that is due.
func (m *Machine) step() {
	if m.beats.count == 0 {
		for i := range m.sites {
			if s := &m.sites[i]; i != m.home && len(s.nodes) == 1 && s.claim.Epoch == 0 {
				m.emit(Output{Kind: Assign, Site: s.name, Node: s.nodes[0]})
			}
		}
	}
	m.look()
	if m.sib < 0 && !m.leading() {
		m.claim(ReasonAlone)
	}
	if m.sib >= 0 {
		if m.leading() {
			m.lead()
		} else {
			m.follow()
		}
	}
	m.reclaim()
	m.beat()
	m.repeat()
}
