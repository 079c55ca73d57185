package pair

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/gateway/epoch"
	"github.com/onewaylink/gw/gateway/quiet"
	"github.com/onewaylink/gw/ha"
)

// Tunnels carry messages between nodes, and sites' packets.
type Tunnels interface {
	SendDatagram(node string, port uint16, payload []byte) error
	MoveSubnets(node string, prefixes []netip.Prefix) error
	// Knock asks a node's host, outside the tunnel, whether its process runs, and
	// reports whether the answer to an earlier question was no. It doesn't block.
	Knock(node string) (gone bool)
}

// Flows is the flow table.
type Flows interface {
	SetStandby(bool)
	// Replace stores a record of the sibling, Remove deletes one; both survive a
	// restart. Record appends the value of one that is held.
	Replace(key, value []byte)
	Remove(key []byte)
	Record(b, key []byte) ([]byte, bool)
	Records(yield func(key, value []byte) bool)
}

// Path is the data path.
type Path interface {
	SetPass(func(pkt []byte))
	Stray(pkt []byte)
	// Pause holds the hosts' packets, or releases them.
	Pause(bool)
}

// Process is this process, which may write packets unless it is suspended: between a freeze and the
// proof that no other node has replaced it.
type Process interface{ Suspend(on bool) }

// Board receives what the election decides. Its methods return at once: they are called between
// heartbeats, and the election waits for nothing on the data path.
type Board interface {
	// SetStandby says whether the sibling carries this node's site.
	SetStandby(bool)
	// SetCarrier names the node that carries another site from now on.
	SetCarrier(site, node string)
	// Wake has the senders woken whose bytes toward a site are in flight, after a takeover on
	// either side.
	Wake(site string)
}

// Address is the LAN's next hop.
type Address interface {
	Hold()
	Drop()
	Held() bool
	// MAC is this node's link address on the LAN, and Expect sets the sibling's, which
	// may claim the address as well.
	MAC() net.HardwareAddr
	Expect(mac net.HardwareAddr)
	// Conflict is what was seen of other hosts that claim it.
	Conflict() Conflict
	Stats() AddressStats
}

// AddressStats counts the messages about the LAN's address, of ARP and of neighbor discovery alike.
type AddressStats struct {
	Requests, Answers uint64 // for the address while it was held
	Announcements     uint64
	Probes            uint64 // for another owner
	SendErrors        uint64
	// Announced is when each address was first announced since this node last began to answer for
	// them; zero before that.
	Announced time.Time
}

// Conflict is what was seen of hosts other than the pair's that claim the LAN's address.
type Conflict struct {
	Claims  uint64           // ARP messages and neighbor advertisements
	MAC     net.HardwareAddr // of the last one; nil when there was none
	Address netip.Addr
	At      time.Time
}

// Node is a node of the network.
type Node struct {
	Name string
	Key  ha.NodeID
}

// Site is this node's site, or one that is linked to it.
type Site struct {
	Name    string
	Nodes   []Node
	Subnets []netip.Prefix
}

// Config is what a Pair is made from.
type Config struct {
	Self  Node
	Sites []Site
	// Heartbeat and DeadAfter are those of this node's own pair; 0 without one.
	Heartbeat, DeadAfter time.Duration
	// Auth authenticates the siblings' statements to each other; nil without a sibling.
	Auth ha.Authenticator
	// StateDir is where the epoch is kept.
	StateDir string
	// HAPort and StrayPort are the ports of the tunnel's datagrams.
	HAPort, StrayPort uint16

	Tunnels Tunnels
	Flows   Flows
	Path    Path
	Process Process
	Board   Board
	// Changes is where the data path notes changed records; nil without a sibling.
	Changes *Changes
	Address Address // nil without a LAN address
	// Addresses are those that Address answers for, for display.
	Addresses []netip.Addr
	// Fit reports whether this node's LAN and its data plane work. It is called up to ten times a
	// second; a call that blocks delays no heartbeat.
	Fit func() (lan, plane bool)
	// OnEvent receives what is logged of the election, as keys and values in turn. It must
	// not block, and may be nil.
	OnEvent func(kind string, args []any)
	// OnActive and OnStandby are commands with arguments; empty runs none.
	OnActive, OnStandby []string
	CommandTimeout      time.Duration
	Logger              hclog.Logger
}

// Pair is this node's part in its pair, and its view of the others'. Its methods
// are safe for concurrent use.
type Pair struct {
	cfg   Config
	log   hclog.Logger
	quiet *quiet.Logger // for lines that other nodes can cause
	start time.Time
	names map[ha.NodeID]string
	keys  map[string]ha.NodeID
	sib   string // the sibling's name, empty without one
	site  string

	inbox    chan datagram
	health   chan fitness
	orders   chan order
	commands chan command
	refused  atomic.Pointer[string] // why the sibling is refused, nil when it is not

	leads atomic.Bool

	mu      sync.Mutex // the machines, what view.go shows, and the pause
	m       *ha.Machine
	r       *ha.Replicator
	seen    view
	gone    bool // the sibling's host reported that its process is gone; the Machine does not know yet
	epochs  *epoch.File
	unsaved unsaved
	macAt   time.Duration // when the sibling is sent this node's link address again
	// pausedUntil is the latest end of a pause; 0: there is none.
	pausedUntil time.Duration
}

// datagram is a message from another node.
type datagram struct {
	from    ha.NodeID
	payload []byte
}

// order is an operator's request to the loop.
type order struct {
	do   func() error // with mu held
	done chan error
}

// fitness is what Fit has found.
type fitness struct{ lan, plane bool }

// inboxSize bounds the datagrams that wait for the loop: a snapshot's window of
// records and some heartbeats.
const inboxSize = 512

// fitEvery is how often the health of this node is looked at.
const fitEvery = 100 * time.Millisecond

// New makes a Pair that does nothing until Run.
func New(cfg Config, boot uint64) (*Pair, error) {
	p := &Pair{
		cfg: cfg, log: cfg.Logger.Named("ha"), quiet: quiet.New(quiet.Config{Logger: cfg.Logger.Named("ha")}), start: time.Now(),
		names: map[ha.NodeID]string{}, keys: map[string]ha.NodeID{},
		inbox: make(chan datagram, inboxSize), health: make(chan fitness), orders: make(chan order), commands: make(chan command, 8),
	}
	mc := ha.Config{
		Self: cfg.Self.Key, Heartbeat: cfg.Heartbeat, DeadAfter: cfg.DeadAfter, Boot: boot, Auth: cfg.Auth,
		Wall: func() int64 { return time.Now().UnixMilli() },
	}
	for _, s := range cfg.Sites {
		hs := ha.Site{Name: s.Name}
		own := false
		for _, n := range s.Nodes {
			hs.Nodes = append(hs.Nodes, n.Key)
			p.names[n.Key], p.keys[n.Name] = n.Name, n.Key
			own = own || n.Key == cfg.Self.Key
		}
		mc.Sites = append(mc.Sites, hs)
		if !own {
			continue
		}
		p.site = s.Name
		for _, n := range s.Nodes {
			if n.Key != cfg.Self.Key {
				p.sib = n.Name
			}
		}
	}
	var err error
	if p.epochs, err = epoch.Open(cfg.StateDir); err != nil {
		return nil, err
	}
	mc.Seen = p.epochs.Epoch()
	if p.m, err = ha.New(0, mc); err != nil {
		return nil, fmt.Errorf("set up the election: %w; this is a mistake of gw: report it", err)
	}
	p.r = ha.NewReplicator(0, ha.ReplicatorConfig{Boot: boot, Store: (*store)(p)})
	return p, nil
}

// StandBy makes this node a standby, which it is until the election. It is called before records
// are restored, so that they stay records, and before Run. Without a sibling it does nothing.
func (p *Pair) StandBy() {
	if p.sib != "" {
		p.cfg.Flows.SetStandby(true)
		p.cfg.Board.SetStandby(true)
		p.passStrays()
	}
}

// now is the machines' clock.
func (p *Pair) now() time.Duration { return time.Since(p.start) }

// Receive receives a datagram from a node's tunnel on one of the ports. It
// doesn't block and keeps nothing of payload.
func (p *Pair) Receive(node string, port uint16, payload []byte) {
	if port == p.cfg.StrayPort {
		if node == p.sib {
			p.cfg.Path.Stray(payload)
		}
		return
	}
	key, ok := p.keys[node]
	if !ok || node == p.sib && p.refused.Load() != nil {
		return
	}
	select {
	case p.inbox <- datagram{key, bytes.Clone(payload)}:
	default: // as if lost on the path; every message is repeated
	}
}

// SetSibling sets why the sibling's configuration forbids the pair. Empty means that it permits it.
func (p *Pair) SetSibling(refused string) {
	if refused == "" {
		p.refused.Store(nil)
		return
	}
	p.refused.Store(&refused)
}

// Settle returns when the machines have taken notice of the present time: what
// they decide about a freeze of this process has been carried out then.
func (p *Pair) Settle(ctx context.Context) error {
	return p.ask(ctx, func() error {
		p.act(p.m.Tick(p.now()))
		return nil
	})
}

// Run takes part in the election until ctx ends. Then it drops the address, but not the
// role: the sibling finds out by silence, within dead_after.
func (p *Pair) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return runCommands(ctx, p.log, p.cfg.CommandTimeout, p.commands) })
	g.Go(func() error { return p.loop(ctx) })
	g.Go(func() error { p.quiet.Run(ctx); return nil })
	g.Go(func() error { return p.examine(ctx) })
	err := g.Wait()
	if p.cfg.Address != nil {
		p.cfg.Address.Drop()
	}
	return errors.Join(err, p.epochs.Close())
}

// examine looks at the health of this node until ctx ends.
func (p *Pair) examine(ctx context.Context) error {
	t := time.NewTicker(fitEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		var f fitness
		f.lan, f.plane = p.cfg.Fit()
		select {
		case <-ctx.Done():
			return nil
		case p.health <- f:
		}
	}
}

// loop owns the machines.
func (p *Pair) loop(ctx context.Context) error {
	p.mu.Lock()
	p.knowRecords()
	if err := p.epochs.Prepare(); err != nil {
		p.log.Warn("no room for the epoch's file", "error", err) // storing tries again
	}
	if ahead := p.epochs.Epoch(); ahead > uint64(time.Now().Add(ha.MaxAhead).UnixMilli()) {
		p.log.Error("the stored epoch is too far ahead of the clock: other nodes refuse this node's claims; see that the clock is right, then run gw ha reset", "epoch", ahead)
	}
	p.mu.Unlock()
	var changed <-chan struct{} // nil without a sibling
	if p.sib != "" {
		changed = p.cfg.Changes.wake
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	fit := fitness{lan: true, plane: true}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			p.mu.Lock()
		case d := <-p.inbox:
			p.mu.Lock()
			p.dispatch(d)
		case o := <-p.orders:
			p.mu.Lock()
			o.done <- o.do()
		case <-changed:
			p.mu.Lock()
		case fit = <-p.health:
			p.mu.Lock()
		}
		p.sendChanges()
		// Lets time pass, too.
		p.act(p.m.SetHealth(p.now(), ha.Health{LAN: fit.lan, Plane: fit.plane, Records: p.sib == "" || p.r.InSync()}))
		if p.gone {
			p.gone = false
			p.act(p.m.Gone(p.now(), p.keys[p.sib]))
		}
		p.send(p.r.Tick(p.now()))
		next := p.tellMAC(p.storeAgain(min(p.m.Next(), p.r.Next())))
		if p.pausedUntil != 0 {
			if p.now() >= p.pausedUntil {
				p.resume()
			} else {
				next = min(next, p.pausedUntil)
			}
		}
		p.mu.Unlock()
		timer.Reset(max(0, next-p.now()))
	}
}

// dispatch passes a datagram to its machine.
func (p *Pair) dispatch(d datagram) {
	if bytes.HasPrefix(d.payload, []byte(macMagic)) {
		p.takeMAC(d)
		return
	}
	if bytes.HasPrefix(d.payload, []byte(ha.ReplicaMagic)) {
		if d.from != p.keys[p.sib] || p.sib == "" {
			return
		}
		out, err := p.r.Handle(p.now(), d.payload)
		p.dropped(d.from, "replication message dropped", err)
		p.send(out)
		return
	}
	out, err := p.m.Handle(p.now(), d.from, d.payload)
	p.dropped(d.from, "election message dropped", err)
	p.act(out)
}

// dropped logs why a message of a node was of no use: at level warn when the node has
// another version, which an operator has to resolve.
func (p *Pair) dropped(from ha.NodeID, what string, err error) {
	switch {
	case err == nil:
	case errors.Is(err, ha.ErrVersion):
		p.quiet.Warn("version "+p.names[from], what+": the node runs another version of gw", "from", p.names[from], "error", err)
	default:
		p.quiet.Debug("dropped "+p.names[from], what, "from", p.names[from], "error", err)
	}
}

// send sends the Replicator's payloads to the sibling.
func (p *Pair) send(payloads [][]byte) {
	for _, b := range payloads {
		p.sendTo(p.sib, b)
	}
}

func (p *Pair) sendTo(node string, b []byte) {
	if err := p.cfg.Tunnels.SendDatagram(node, p.cfg.HAPort, b); err != nil {
		p.log.Debug("election message not sent", "to", node, "error", err)
	}
}

// ErrStopped is what an order gets when the gateway ends before it is done.
var ErrStopped = errors.New("the gateway is stopping: ask the other node")

// ask has the loop do something, with mu held.
func (p *Pair) ask(ctx context.Context, do func() error) error {
	o := order{do: do, done: make(chan error, 1)}
	select {
	case p.orders <- o:
	case <-ctx.Done():
		return ErrStopped
	}
	return <-o.done
}
