package relay

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/link"
	"github.com/onewaylink/gw/gateway/quiet"
	"github.com/onewaylink/gw/gateway/sites"
	"github.com/onewaylink/gw/gateway/trunk"
	"github.com/onewaylink/gw/netstack/legs"
	"github.com/onewaylink/gw/netstack/wire"
)

// Table is the flow table. See flow.Table.Attach.
type Table interface {
	Attach(near, far netip.AddrPort, why string, said *wire.Position, make func(wire.Connection, *flow.Handle) (flow.Relay, error)) error
}

// Host is the path to and from this site's hosts.
type Host interface {
	legs.Near
	// Wake has the link ask the trunks for packets.
	Wake()
}

// Board knows what may be relayed, and to which node.
type Board interface {
	Path(site int) sites.Path
	Relays() bool
	Trunks() []sites.Trunk
	SetMeasures([]sites.Measure)
}

// Links measures the paths to other nodes.
type Links interface{ Snapshot() []link.PeerStatus }

// Config is what a Relayer is made from.
type Config struct {
	Self     string     // this node's site
	Address  netip.Addr // this node's own, for trunks
	Sites    []sites.Site
	Table    Table
	Host     Host
	Board    Board
	Links    Links
	Offload  bool // the host accepts super-segments and unfinished checksums
	Check    bool // verify each segment before it is written
	Now      func() time.Duration
	MayWrite func() bool
	// MaxRelays bounds the relayed connections, TrunkMemory the bytes that trunks hold.
	MaxRelays   int
	TrunkMemory int64
	Logger      hclog.Logger
}

// Relayer relays connections. Its methods are safe for concurrent use.
type Relayer struct {
	cfg   Config
	legs  *legs.Stack
	pool  *trunk.Pool
	quiet *quiet.Logger // for lines that a peer can cause

	changed chan struct{} // holds a token when the paths must be measured at once

	mu sync.Mutex // orders what the pool learns of its peers
}

var (
	_ flow.Relayer   = (*Relayer)(nil)
	_ sites.Listener = (*Relayer)(nil)
)

// New returns a Relayer that relays nothing until Run.
func New(cfg Config) (*Relayer, error) {
	r := &Relayer{cfg: cfg, quiet: quiet.New(quiet.Config{Logger: cfg.Logger}), changed: make(chan struct{}, 1)}
	var err error
	if r.legs, err = legs.New(legs.Config{
		Near: cfg.Host, Offload: cfg.Offload, Now: cfg.Now, Alive: cfg.MayWrite, Check: cfg.Check,
		MaxRelays: cfg.MaxRelays, Logger: cfg.Logger,
	}); err != nil {
		return nil, err
	}
	var peers []netip.Addr
	for _, s := range cfg.Sites {
		for _, n := range s.Nodes {
			if s.Name != cfg.Self {
				peers = append(peers, n.Addresses...)
			}
		}
	}
	r.pool = trunk.New(trunk.Config{Self: cfg.Address, Peers: peers, Memory: cfg.TrunkMemory, Wake: cfg.Host.Wake, Accept: r.accept})
	return r, nil
}

// Trunks returns what the link exchanges packets of trunks with.
func (r *Relayer) Trunks() *trunk.Pool { return r.pool }

// Run relays until ctx ends.
func (r *Relayer) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.legs.Run(ctx) })
	g.Go(func() error { return r.pool.Run(ctx) })
	g.Go(func() error { r.quiet.Run(ctx); return nil })
	g.Go(func() error { return r.runMeasures(ctx) })
	return g.Wait()
}

// Adopt implements flow.Relayer: it opens a trunk and begins.
func (r *Relayer) Adopt(near, far netip.AddrPort, site int) {
	p := r.cfg.Board.Path(site)
	if !p.Node.IsValid() || !r.cfg.Board.Relays() {
		return
	}
	if r.legs.Full() {
		r.legs.CountRefused()
		return
	}
	c := r.pool.Take(p.Node)
	if c == nil {
		return
	}
	why := p.Why
	if why == "" {
		why = "its rule says so"
	}
	err := r.cfg.Table.Attach(near, far, why, nil, func(conn wire.Connection, h *flow.Handle) (flow.Relay, error) {
		return r.legs.Offer(conn, tracker{h}, &relayTrunk{c}, p.RTT)
	})
	if err != nil {
		c.Close()
		r.quiet.Debug("not relayed", "connection not relayed", "near", near, "far", far, "error", err)
	}
}

// accept handles a trunk on which another gateway has opened a connection.
func (r *Relayer) accept(c *trunk.Conn) {
	t := &relayTrunk{c}
	var open wire.Frame
	if err := t.Receive(&open); err != nil {
		c.Close()
		return
	}
	if err := r.join(t, &open); err != nil {
		legs.Refuse(t, err.Error())
		r.quiet.Debug("refused", "refused to relay a connection for another gateway", "error", err)
		return
	}
	c.Admit()
}

var errNotActive = errors.New("this node does not carry its site, or is about to hand over")

// join relays the connection that another gateway has opened.
func (r *Relayer) join(t *relayTrunk, open *wire.Frame) error {
	o, err := legs.ParseOpening(open)
	if err != nil {
		return err
	}
	if !r.cfg.Board.Relays() {
		return errNotActive
	}
	said := wire.Position{End: open.Seq, Ack: open.Ack, Edge: open.Edge}
	return r.cfg.Table.Attach(o.Near, o.Far, "the other gateway has asked for it", &said, func(conn wire.Connection, h *flow.Handle) (flow.Relay, error) {
		return r.legs.Accept(conn, tracker{h}, t, open, &o)
	})
}

// Notice implements sites.Listener. It makes raw what can't be relayed any more, and waits for the
// writes that are under way.
func (r *Relayer) Notice(e sites.Event) {
	switch e.Kind {
	case sites.Lost:
		r.lost(e, legs.EndLinkDown)
	case sites.Restarted:
		r.lost(e, legs.EndRestarted)
	case sites.Moved: // a node that no longer carries the site takes part in nothing
		r.release(e.Site, legs.EndMoved, func(node string) bool { return node != e.Node })
		r.setPeers(netip.Addr{})
	case sites.Demoted:
		r.legs.ReleaseAll(legs.EndStandby)
		r.setPeers(netip.Addr{})
	case sites.Promoted:
		r.setPeers(netip.Addr{})
	case sites.Changed:
		select {
		case r.changed <- struct{}{}:
		default:
		}
	}
}

// lost ends the relays by way of a node, and the trunks to it: what the node knew of them is gone.
func (r *Relayer) lost(e sites.Event, why legs.End) {
	r.release(e.Site, why, func(node string) bool { return node == e.Node })
	r.setPeers(r.trunkTo(e.Site, e.Node))
	r.setPeers(netip.Addr{})
}

// release makes raw what is relayed by way of a site's chosen nodes.
func (r *Relayer) release(site string, why legs.End, chosen func(node string) bool) {
	r.legs.Release(why, func(t legs.Trunk) bool {
		n := r.nodeAt(site, t.(*relayTrunk).Remote())
		return n != "" && chosen(n)
	})
}

// nodeAt names the node of a site that has an address; empty if none has.
func (r *Relayer) nodeAt(site string, a netip.Addr) string {
	for _, s := range r.cfg.Sites {
		for _, n := range s.Nodes {
			if s.Name == site && slices.Contains(n.Addresses, a) {
				return n.Name
			}
		}
	}
	return ""
}

func (r *Relayer) trunkTo(site, node string) netip.Addr {
	for _, s := range r.cfg.Sites {
		for _, n := range s.Nodes {
			if s.Name == site && n.Name == node {
				return n.Trunk
			}
		}
	}
	return netip.Addr{}
}

// drainWithin bounds how long relayed connections may take to hand back what is under way: some
// round trips.
const drainWithin = time.Second

// Drain ends all relays in good order. The Board begins no others while it is draining.
func (r *Relayer) Drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	r.legs.HandBack(ctx, &legs.EndDrained)
}

// Discard makes all connections raw after a freeze of this process. When it returns, nothing of
// what the legs held is written any more.
func (r *Relayer) Discard() { r.legs.ReleaseAll(legs.EndFrozen) }

// tracker is the flow table as a relay sees it.
type tracker struct{ *flow.Handle }

var _ legs.Tracker = tracker{}

func (t tracker) Detach(e legs.End) { t.Handle.Detach(e.Why, e.Clean, e.Never) }

// relayTrunk is a trunk as a relay sees it.
type relayTrunk struct{ *trunk.Conn }

var _ legs.Trunk = (*relayTrunk)(nil)

// Quality is what the trunk's own packets have measured.
func (t *relayTrunk) Quality() legs.Quality {
	p := t.Path()
	return legs.Quality{
		RTT: max(p.MinRTT, time.Microsecond), Delay: p.RTT, Rate: uint64(p.Share), Paced: p.Bounded, Backlog: trunk.Backlog,
	}
}
