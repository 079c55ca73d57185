package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/hostnet"
	"github.com/onewaylink/gw/gateway/link"
	"github.com/onewaylink/gw/gateway/records"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack"
)

// grace is how long after the start packets of unknown connections are counted
// as waiting for their records: the time that a link takes to come up, and the
// records of the other site to arrive.
const grace = 30 * time.Second

// Options are what the command line adds to the configuration.
type Options struct {
	// Version is the software's, as told to peers and in status.
	Version string
	// Milestone is told of each step of coming up, and how long it took. It is
	// called from several goroutines, one at a time.
	Milestone func(what string, took time.Duration)
	Logger    hclog.Logger
}

// Gateway is one node. New opens all that it needs, Run carries packets.
type Gateway struct {
	cfg     configs.Config
	version string
	log     hclog.Logger
	started time.Time

	milestoneMu sync.Mutex
	milestone   func(string, time.Duration)
	firstUp     map[string]bool // nodes whose link has been up; milestoneMu

	host     hostnet.Config
	tun      hostnet.Device
	table    *flow.Table
	path     *flow.Path
	store    *records.Store
	streams  *netstack.Host
	restorer *restorer
	link     *link.Link
	control  *control.Server
	status   *status.Server // nil without status.listen
	source   *source
}

// New opens the state directory, the control socket, the TUN device and the
// tunnel's sockets, in this order, so that a second process for the same node
// fails before it touches the host. It starts nothing. Whoever gets a Gateway
// has to Run it, which closes it all.
func New(cfg configs.Config, opt Options) (_ *Gateway, err error) {
	g := &Gateway{
		cfg: cfg, version: opt.Version, log: opt.Logger, started: time.Now(),
		milestone: opt.Milestone, firstUp: make(map[string]bool),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	g.source = &source{gw: g, started: g.started}
	node := cfg.SelfNode()

	if g.store, err = records.Open(records.Config{
		Dir: cfg.Local.StateDir, Logger: g.log,
		Snapshot: func(yield func(k, v []byte) bool) { g.table.Records("")(yield) },
	}); err != nil {
		return nil, err
	}
	if g.control, err = control.Listen(control.Config{Path: cfg.Local.Socket, Source: g.source, Logger: g.log}); err != nil {
		return nil, err
	}
	if listen := cfg.Local.Status.Listen; listen != "" {
		if g.status, err = status.Listen(status.ServerConfig{Listen: listen, Source: g.source, Logger: g.log}); err != nil {
			return nil, err
		}
	}
	if err = g.openHost(); err != nil {
		return nil, err
	}
	j, err := newJudge(cfg.Rules)
	if err != nil {
		return nil, err
	}
	g.table = flow.New(flow.Config{
		Self: cfg.Self.Site, Sites: flowSites(cfg), Voice: node.Addresses, MTU: cfg.Local.TUN.MTU,
		Judge: j, Recorder: g.store, Grace: grace,
		Now: func() time.Duration { return time.Since(g.started) },
	})
	g.path = flow.NewPath(g.table, g.tun)
	if g.streams, err = netstack.New(netstack.Config{
		Addresses: node.Addresses, MTU: streamMTU, Output: (*streamOutput)(g), Logger: g.log,
	}); err != nil {
		return nil, err
	}
	g.restorer = newRestorer(g.log, cfg, g.table, g.store, g.streams)
	if err = g.restorer.fromFile(); err != nil {
		return nil, err
	}
	if g.link, err = link.New(link.Config{
		PrivateKey: cfg.Local.PrivateKey, ListenPort: cfg.Local.ListenPort,
		Self:  link.Self{Site: cfg.SelfSite().Name, Node: node.Name, Addresses: node.Addresses},
		Peers: linkPeers(cfg), Path: g.path, Streams: g.streams, TUNMTU: cfg.Local.TUN.MTU,
		Version: opt.Version, Logger: g.log, OnChange: g.linkChanged,
	}); err != nil {
		return nil, err
	}
	return g, nil
}

// streamMTU keeps the control streams below what any link carries (RFC 8200
// section 5), so that they work before the path MTU is known.
const streamMTU = 1280

// streamOutput hands the packets of the control streams to the link.
type streamOutput Gateway

func (o *streamOutput) SendPacket(pkt []byte) { o.link.SendPacket(pkt) }

// openHost checks the host and puts the TUN device on it.
func (g *Gateway) openHost() error {
	start := time.Now()
	t := g.cfg.Local.TUN
	g.host = hostConfig(g.cfg)
	var fatal []error
	for _, f := range hostnet.Check(checkConfig(g.cfg, g.host)) {
		if f.Level == hostnet.Fatal {
			fatal = append(fatal, fmt.Errorf("%s; mend it by: %s", f.What, f.Mend))
			continue
		}
		g.log.Warn(f.What, "mend", f.Mend)
	}
	if len(fatal) > 0 {
		return errors.Join(fatal...)
	}
	var err error
	if g.tun, err = hostnet.Open(hostnet.TUNConfig{Name: t.Name, MTU: t.MTU, Driver: string(t.Driver), Persist: t.Persist}); err != nil {
		return err
	}
	if err := hostnet.Apply(g.host, g.log); err != nil {
		return err
	}
	g.say(fmt.Sprintf("tun %s up: %v, mtu %d, driver %s", t.Name, g.host.Addresses, t.MTU, t.Driver), time.Since(start))
	return nil
}

func (g *Gateway) say(what string, took time.Duration) {
	g.milestoneMu.Lock()
	defer g.milestoneMu.Unlock()
	g.milestone(what, took)
}

// linkChanged hears from the link what has become of a node of another site.
func (g *Gateway) linkChanged(p link.PeerState) {
	i := siteIndex(g.cfg, p.Site)
	g.path.SetSite(i, flow.SiteState{Up: p.Up, Refused: p.Refused, MTU: p.MTU, Partial: p.PartialChecksums})
	if !p.Up {
		return
	}
	g.milestoneMu.Lock()
	first := !g.firstUp[p.Node]
	g.firstUp[p.Node] = true
	g.milestoneMu.Unlock()
	if first {
		g.say(fmt.Sprintf("link to %s (site %s) up", p.Node, p.Site), time.Since(g.started))
	}
	if p.GW {
		for _, n := range g.cfg.Sites[i].Nodes {
			if n.Name == p.Node {
				g.restorer.linkUp(p.Site, n.Addresses[0])
			}
		}
	}
}

// Run carries packets until ctx ends or something breaks, and gives everything
// back. It returns nil after ctx has ended.
func (g *Gateway) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	run := func(name string, task func(context.Context) error) {
		group.Go(func() error {
			if err := task(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	run("link", g.link.Run)
	run("flows", g.table.Run)
	run("records", g.store.Run)
	run("control streams", g.streams.Run)
	run("record requests", g.restorer.run)
	run("record service", g.restorer.serve)
	run("control socket", g.control.Run)
	if g.status != nil {
		run("status page", g.status.Run)
	}
	return errors.Join(group.Wait(), g.close())
}

// close gives back what New opened, in the opposite order: nobody may write to
// the TUN after it is closed, and the state directory stays locked until the
// host is clean, so that a successor does not meet what is being taken away.
func (g *Gateway) close() error {
	var errs []error
	if g.tun != nil {
		errs = append(errs, hostnet.Remove(g.host), g.tun.Close())
	}
	if g.status != nil {
		_ = g.status.Close() // Run has closed it
	}
	if g.control != nil {
		_ = g.control.Close()
	}
	if g.store != nil {
		errs = append(errs, g.store.Close())
	}
	return errors.Join(errs...)
}
