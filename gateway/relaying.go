package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/link"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/quiet"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/gateway/trunk"
	"github.com/onewaylink/gw/netstack"
	"github.com/onewaylink/gw/netstack/wire"
)

const (
	// wanRTT is the round trip from which on bulk is worth a relay where nothing is
	// lost, wanLoss the share of lost packets from which on it is in any case. The
	// link measures loss by a few packets a second, so that less is chance.
	wanRTT  = 5 * time.Millisecond
	wanLoss = 0.001
	// gaugeEvery is how often the ways to the other sites are judged.
	gaugeEvery = 500 * time.Millisecond
)

// relaying joins the flow table, the legs and the trunks.
type relaying struct {
	gw   *Gateway
	legs *netstack.Legs
	pool *trunk.Pool

	quiet *quiet.Logger // for lines that a peer can cause

	changed chan struct{} // holds a token when the ways are to be judged at once

	// draining says that no connection is to be relayed any more: this node is about
	// to hand over.
	draining atomic.Bool

	mu   sync.Mutex
	loss trunkLoss
	near []netip.Addr // the nodes that trunks are kept to
}

var _ flow.Relayer = (*relaying)(nil)

func (g *Gateway) newRelaying() error {
	node := g.cfg.SelfNode()
	r := &relaying{gw: g, quiet: quiet.New(quiet.Config{Logger: g.log}), changed: make(chan struct{}, 1)}
	var err error
	if r.legs, err = netstack.NewLegs(netstack.LegsConfig{
		Near: g.path, Offload: g.host.Offload(), Now: func() time.Duration { return time.Since(g.started) },
		Alive: g.pulse.MayWrite, Check: g.cfg.Local.Check, MaxRelays: g.cfg.Local.Limits.Relays, Logger: g.log,
	}); err != nil {
		return err
	}
	var peers []netip.Addr
	for _, p := range parts.LinkPeers(g.cfg) {
		if p.Site != g.cfg.SelfSite().Name {
			peers = append(peers, p.Addresses...)
		}
	}
	r.pool = trunk.New(trunk.Config{Self: node.Addresses[0], Peers: peers, Memory: g.cfg.Local.Limits.Trunks, Wake: g.path.Wake, Accept: r.accept})
	g.relaying = r
	g.path.SetRelayer(r)
	return nil
}

// way is what is known of the way to a site, as far as relaying is concerned.
type way struct {
	node       netip.Addr // that carries it; invalid while none is within reach
	rtt        time.Duration
	wan, lossy bool
	why        string // why bulk is worth a relay
}

// Adopt implements flow.Relayer: it takes a trunk and begins.
func (r *relaying) Adopt(near, far netip.AddrPort, site int) {
	w := r.gw.way(r.gw.cfg.Sites[site].Name)
	if !w.node.IsValid() || r.draining.Load() || r.legs.Full() {
		return
	}
	c := r.pool.Take(w.node)
	if c == nil {
		return
	}
	why := w.why
	if why == "" {
		why = "its rule says so"
	}
	err := r.gw.table.Attach(near, far, why, nil, func(conn wire.Connection, h *flow.Handle) (flow.Relay, error) {
		return r.legs.Offer(conn, tracker{h}, &relayTrunk{c}, w.rtt)
	})
	if err != nil {
		c.Close()
		r.quiet.Debug("not relayed", "connection not relayed", "near", near, "far", far, "error", err)
	}
}

// accept handles a trunk on which another gateway has opened a connection.
func (r *relaying) accept(c *trunk.Conn) {
	t := &relayTrunk{c}
	var open wire.Frame
	err := t.Receive(&open)
	if err != nil {
		c.Close()
		return
	}
	if err = r.takePart(t, &open); err == nil {
		c.Admit()
	} else {
		netstack.Refuse(t, err.Error())
		r.quiet.Debug("refused", "refused to relay a connection for another gateway", "error", err)
	}
}

var errNotActive = errors.New("this node does not carry its site, or not for long")

func (r *relaying) takePart(t *relayTrunk, open *wire.Frame) error {
	o, err := netstack.ParseOpening(open)
	if err != nil {
		return err
	}
	if g := r.gw; g.follows() || r.draining.Load() {
		return errNotActive
	}
	said := wire.Position{End: open.Seq, Ack: open.Ack, Edge: open.Edge}
	return r.gw.table.Attach(o.Near, o.Far, "the other gateway has asked for it", &said, func(conn wire.Connection, h *flow.Handle) (flow.Relay, error) {
		return r.legs.Accept(conn, tracker{h}, t, open, &o)
	})
}

// run judges the ways to the other sites until ctx ends.
func (r *relaying) run(ctx context.Context) error {
	tick := time.NewTicker(gaugeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.changed:
		}
		r.gauge()
	}
}

// linkChanged hears that something about a node is new. It does not wait.
func (r *relaying) linkChanged() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// gauge tells the data path and the pool what has become of the ways.
func (r *relaying) gauge() {
	g := r.gw
	// A standby relays nothing.
	follows := g.follows()
	r.mu.Lock()
	lost := r.loss.look(r.pool.Stats().Ways, time.Now())
	r.mu.Unlock()
	var near []netip.Addr
	var ways []func()
	for _, p := range g.link.Snapshot() {
		g.nodesMu.Lock()
		st := g.nodes[p.Node]
		carries := g.carriers[p.Site] == p.Node
		g.nodesMu.Unlock()
		if p.Site == g.cfg.SelfSite().Name || !carries {
			continue
		}
		node := g.addressOf(p.Site, p.Node)
		if follows || !st.Up || !st.Trunks || !node.IsValid() {
			g.setWay(p.Site, way{})
			continue
		}
		near = append(near, node)
		ways = append(ways, func() { r.pool.SetWay(node, st.MTU, p.RTT) })
		w := way{node: node, rtt: p.RTT}
		switch loss := max(p.LossOut, p.LossIn, lost[node]); {
		case loss >= wanLoss:
			w.wan, w.lossy, w.why = true, true, fmt.Sprintf("the link loses %.1f %%", 100*loss)
		case p.RTT >= wanRTT:
			w.wan, w.why = true, fmt.Sprintf("the link has a round trip of %d ms", p.RTT.Milliseconds())
		}
		if g.setWay(p.Site, w) {
			g.showPath(st)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.near = near
	r.pool.SetPeers(near)
	for _, set := range ways {
		set()
	}
}

// drainWithin bounds how long relayed connections may take to hand back what is
// under way: some round trips.
const drainWithin = time.Second

// drain ends all relays in good order, and begins no others.
func (r *relaying) drain(ctx context.Context) {
	r.draining.Store(true)
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	r.legs.HandBack(ctx, &netstack.EndDrained)
}

// way and setWay hold what is known of the way to a site; setWay reports whether
// the data path has to know of the change.
func (g *Gateway) way(site string) way {
	g.nodesMu.Lock()
	defer g.nodesMu.Unlock()
	return g.ways[site]
}

func (g *Gateway) setWay(site string, w way) (changed bool) {
	g.nodesMu.Lock()
	defer g.nodesMu.Unlock()
	changed = g.ways[site].wan != w.wan || g.ways[site].lossy != w.lossy
	g.ways[site] = w
	return changed
}

// addressOf is the address of another site's node that trunks lead to.
func (g *Gateway) addressOf(site, node string) netip.Addr {
	s, _ := g.cfg.Site(site)
	for _, n := range s.Nodes {
		if n.Name == node {
			v4 := g.cfg.SelfNode().Addresses[0].Is4()
			if i := slices.IndexFunc(n.Addresses, func(a netip.Addr) bool { return a.Is4() == v4 }); i >= 0 {
				return n.Addresses[i]
			}
		}
	}
	return netip.Addr{}
}

// moved hears which node carries a site now. A node that does not any more takes
// part in nothing.
func (r *relaying) moved(site, node string) {
	r.gw.setWay(site, way{})
	r.release(site, netstack.EndMoved, func(n string) bool { return n != node })
	r.gauge()
}

// lost hears that another site's node can't be reached, or has forgotten what it was
// part of. The trunks to it are worth nothing then.
func (r *relaying) lost(p link.PeerState, why netstack.End) {
	r.release(p.Site, why, func(n string) bool { return n == p.Node })
	gone := r.gw.addressOf(p.Site, p.Node)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.near = slices.DeleteFunc(r.near, func(a netip.Addr) bool { return a == gone })
	r.pool.SetPeers(r.near)
}

// release makes raw what is relayed by way of a site's chosen nodes.
func (r *relaying) release(site string, why netstack.End, chosen func(node string) bool) {
	s, _ := r.gw.cfg.Site(site)
	r.legs.Release(why, func(t netstack.Trunk) bool {
		for _, n := range s.Nodes {
			if slices.Contains(n.Addresses, t.(*relayTrunk).Remote()) {
				return chosen(n.Name)
			}
		}
		return false
	})
}

// status is what people see of it; begun is how many connections began to be relayed.
func (r *relaying) status(begun uint64) status.Relay {
	legs, pool := r.legs.Stats(), r.pool.Stats()
	return status.Relay{
		Violations: status.NewViolations(legs.Violations),
		Relayed:    legs.Relayed, Begun: begun, Full: legs.Full, Ends: status.NewRelayEnds(legs.Ends),
		TrunksInUse: pool.InUse, TrunksRefused: pool.Refused, TrunkPacketsBad: pool.Strange,
		TrunksAbandoned: pool.Abandoned, TrunksExhausted: pool.Exhausted,
		TrunksOpened: pool.Opened, TrunksAccepted: pool.Accepted, PeerRestarts: pool.Restarted,
		LegsMade: legs.Made, LegsFailed: legs.Failed,
		TrunkMemory: uint64(pool.Memory), TrunkMemoryLimit: uint64(pool.MaxMemory),
		Ways: waysStatus(r.gw.cfg.Sites, pool.Ways),
	}
}

// tracker is the flow table as a relay sees it.
type tracker struct{ *flow.Handle }

var _ netstack.Tracker = tracker{}

func (t tracker) Detach(e netstack.End) { t.Handle.Detach(e.Why, e.Clean, e.Never) }

// relayTrunk is a trunk as a relay sees it.
type relayTrunk struct{ *trunk.Conn }

var _ netstack.Trunk = (*relayTrunk)(nil)

// Quality is what the trunk's packets have told.
func (t *relayTrunk) Quality() netstack.Quality {
	p := t.Path()
	return netstack.Quality{
		RTT: max(p.MinRTT, time.Microsecond), Delay: p.RTT, Rate: uint64(p.Share), Paced: p.Bounded, Backlog: trunk.Backlog,
	}
}
