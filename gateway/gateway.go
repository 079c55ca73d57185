package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/audit"
	"github.com/onewaylink/gw/gateway/capture"
	"github.com/onewaylink/gw/gateway/capture/serve"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/denials"
	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/gateway/doctor/host"
	"github.com/onewaylink/gw/gateway/explain"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/health"
	"github.com/onewaylink/gw/gateway/holds"
	"github.com/onewaylink/gw/gateway/hostnet"
	"github.com/onewaylink/gw/gateway/journal"
	"github.com/onewaylink/gw/gateway/link"
	"github.com/onewaylink/gw/gateway/pair"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/pulse"
	"github.com/onewaylink/gw/gateway/records"
	"github.com/onewaylink/gw/gateway/relay"
	"github.com/onewaylink/gw/gateway/reload"
	"github.com/onewaylink/gw/gateway/restore"
	"github.com/onewaylink/gw/gateway/sites"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/gateway/waker"
	"github.com/onewaylink/gw/gateway/web"
	"github.com/onewaylink/gw/netstack"
	"github.com/onewaylink/gw/netstack/wire"
)

// grace is how long after the start packets of unknown connections are counted
// as waiting for their records: the time that a link takes to come up, and the
// records of the other site to arrive.
const grace = 30 * time.Second

// Options are what the command line adds to the configuration.
type Options struct {
	// Version is the software's, as hellos and status show it.
	Version string
	// Milestone reports each step of the start, and how long it took. Several
	// goroutines call it, one at a time.
	Milestone func(what string, took time.Duration)
	// Load reads the configuration again, as it was read for New.
	Load   func() (configs.Config, configs.Diagnostics)
	Logger hclog.Logger
}

// Gateway is one node. New opens all that it needs, Run carries packets.
type Gateway struct {
	cfg     configs.Config
	version string
	log     hclog.Logger
	started time.Time

	milestoneMu sync.Mutex
	milestone   func(string, time.Duration)

	host     hostSide
	table    *flow.Table
	path     *flow.Path
	store    *records.Store
	streams  *netstack.Host
	restorer *restore.Restorer
	explain  *explain.Explainer
	reload   *reload.Reloader
	capture  *serve.Server
	board    *sites.Board
	relay    *relay.Relayer
	waker    *waker.Waker // nil where the configuration wants no wakes
	link     *link.Link
	pulse    *pulse.Pulse
	health   fitness
	pair     *pair.Pair  // nil in a network without pairs
	address  *lanAddress // nil without a LAN address
	control  *control.Server
	status   *status.Server // nil without status.listen
	page     *web.Page      // likewise
	source   *source
	watch    *doctor.Watch
	audit    *audit.Log // nil without local.audit
	journal  *journal.Journal
}

// New opens the state directory, the control socket, the TUN device and the
// tunnel's sockets, in this order, so that a second process for the same node
// fails before it touches the host. It starts nothing. The caller must
// Run the Gateway, which closes everything.
func New(cfg configs.Config, opt Options) (_ *Gateway, err error) {
	g := &Gateway{
		cfg: cfg, version: opt.Version, log: opt.Logger, started: time.Now(),
		milestone: opt.Milestone,
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	g.source = &source{gw: g, started: g.started}
	g.watch = doctor.NewWatch(g.source)

	if to := cfg.Local.Audit.To; to != "" {
		if g.audit, err = audit.Open(audit.Config{To: to, Limit: cfg.Local.Limits.Audit, Node: cfg.SelfNode().Name, Logger: g.log}); err != nil {
			return nil, err
		}
	}
	if g.store, err = records.Open(records.Config{
		Dir: cfg.Local.StateDir, MaxBytes: cfg.Local.Limits.Records, Logger: g.log,
	}); err != nil {
		return nil, err
	}
	if g.control, err = control.Listen(control.Config{Path: cfg.Local.Socket, Logger: g.log}); err != nil {
		return nil, err
	}
	if listen := cfg.Local.Status.Listen; listen != "" {
		g.page = web.New(web.Config{Source: g.source, Judge: g.watch, Now: time.Now, Logger: g.log})
		if g.status, err = status.Listen(status.ServerConfig{Listen: listen, Source: g.source, Page: g.page, Logger: g.log}); err != nil {
			return nil, err
		}
	}
	if err = g.openHost(); err != nil {
		return nil, err
	}
	j, err := parts.NewJudge(cfg)
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, ourFault)
	}
	if err = g.build(j); err != nil {
		return nil, err
	}
	g.reload = reload.New(reload.Config{
		Running: cfg, Load: opt.Load, Flows: g.table, Carrier: g.board.Carrier, Apply: g.apply,
		Describe: connStatus, Audit: g.journal.Reload, Logger: g.log,
	})
	g.newExplainer()
	g.newCapture()
	g.control.Handle(g.routes()...)
	return g, nil
}

// routes lists what commands can ask this gateway.
func (g *Gateway) routes() []control.Route {
	var ha control.HA // nil without a sibling
	if g.cfg.SelfSite().Pair != nil {
		ha = haControl{g}
	}
	return slices.Concat(
		control.StatusRoutes(g.source), control.HARoutes(ha, g.log), control.ReloadRoutes(g.reload, g.log),
		g.explain.Routes(), g.capture.Routes(), host.Routes(g.cfg, g.source, g.watch),
	)
}

func (g *Gateway) newExplainer() {
	g.explain = explain.New(explain.Config{
		Network: g.cfg, Running: g.reload.Running, Path: g.path, Reach: g.board, Streams: g.streams,
		Standby: g.table.Standby, Active: func() string { return g.pair.Status().Active }, // no standby without a pair
		Links: func() []status.Link { return g.source.Status().Links }, Denied: g.journal.DeniedQuestion, Logger: g.log,
	})
}

// ReopenAudit opens the audit log again after its file was moved away.
func (g *Gateway) ReopenAudit() { g.audit.Reopen() }

// Reload reads the configuration again. It may be called by any goroutine.
func (g *Gateway) Reload() status.Reload { return g.reload.Reload() }

// apply applies a reloaded configuration. The policy comes first: what peers learn of it is in
// force then.
func (g *Gateway) apply(next configs.Config, j *parts.Judge) flow.Rejudged {
	out := g.table.SetJudge(j)
	g.link.Renew(parts.LinkPeers(next))
	g.log.SetLevel(hclog.LevelFromString(next.Local.Log.Level))
	return out
}

// newCapture keeps packets if the configuration says so, and answers gw capture.
func (g *Gateway) newCapture() {
	var kept *capture.Ring
	if n := g.cfg.Local.Capture.Memory; n > 0 {
		kept = capture.New(n << 20)
		g.path.SetTap(kept)
	}
	g.capture = serve.New(serve.Config{Kept: kept, Tap: g.path, Labels: capture.Labels{
		Software: "gw " + g.version, Node: g.cfg.SelfNode().Name, Device: g.cfg.Local.TUN.Name,
	}})
}

// now is the clock of the data path.
func (g *Gateway) now() time.Duration { return time.Since(g.started) }

// build joins the parts, from the flow table outward.
func (g *Gateway) build(j flow.Judge) (err error) {
	cfg, node := g.cfg, g.cfg.SelfNode()
	g.pulse = pulse.New(g.now)
	g.health.Board = health.New(health.Config{Now: time.Now, Logger: g.log})
	g.health.Watch(g.hostFindings)
	g.health.Watch(g.pathFindings)
	keep := &restore.Recorder{File: g.store}
	var changes *pair.Changes // nil without a sibling
	if len(cfg.SelfSite().Nodes) > 1 {
		changes = pair.NewChanges()
		keep.Changes = changes
	}
	ledger := denials.New(len(cfg.Sites))
	g.journal = journal.New(journal.Config{Audit: g.audit, Denials: ledger, Sites: siteNames(cfg), Self: cfg.Self.Site, Now: g.now, Logger: g.log})
	g.table = flow.New(flow.Config{
		Self: cfg.Self.Site, Sites: parts.FlowSites(cfg), Nodes: parts.NodeAddresses(cfg), Voice: node.Addresses, MTU: cfg.Local.TUN.MTU,
		Judge: j, Recorder: keep, Grace: grace, Now: g.now,
		Alive: g.pulse.MayWrite, Observer: g.journal.Observer(), Denials: ledger, MaxFlows: cfg.Local.Limits.Flows, MaxFragmentBytes: cfg.Local.Limits.Fragments,
	})
	g.newLAN()
	g.watchForwarding()
	g.store.SetSnapshot(g.table.Records(""))
	g.path = flow.NewPath(g.table, g.host)
	all := parts.Sites(cfg)
	g.board = sites.New(sites.Config{Self: cfg.SelfSite().Name, Sites: all, Path: g.path, Now: g.now})
	if g.link, err = link.New(link.Config{
		PrivateKey: cfg.Local.PrivateKey, ListenPort: cfg.Local.ListenPort,
		Self:  link.Self{Site: cfg.SelfSite().Name, Node: node.Name, Addresses: node.Addresses},
		Peers: parts.LinkPeers(cfg), Path: g.path, TUNMTU: cfg.Local.TUN.MTU,
		Version: g.version, Logger: g.log, OnChange: g.board.SetNode, Alive: g.pulse.Alive,
	}); err != nil {
		return fmt.Errorf("%w; %s", err, ourFault)
	}
	if g.relay, err = relay.New(relay.Config{
		Self: cfg.SelfSite().Name, Address: node.Addresses[0], Sites: all, Table: g.table, Host: g.path, Board: g.board, Links: g.link,
		Offload: g.host.Offload(), Check: cfg.Local.Check, Now: g.now, MayWrite: g.pulse.MayWrite,
		MaxRelays: cfg.Local.Limits.Relays, TrunkMemory: cfg.Local.Limits.Trunks, Logger: g.log,
	}); err != nil {
		return fmt.Errorf("%w; %s", err, ourFault)
	}
	g.path.SetRelayer(g.relay)
	g.link.SetTrunks(g.relay.Trunks())
	g.board.Listen(g.relay) // first: what is woken afterwards must be raw
	if p := cfg.SelfSite().Pair; p == nil || p.Wake {
		g.waker = waker.New(all, g.path, g.log)
		g.board.Listen(g.waker)
	}
	if g.streams, err = netstack.New(netstack.Config{
		Addresses: node.Addresses, MTU: streamMTU, Output: g.link, Logger: g.log,
	}); err != nil {
		return fmt.Errorf("%w; %s", err, ourFault)
	}
	g.link.HandleStreams(g.streams)
	g.restorer = restore.New(restore.Config{
		Self: cfg.SelfSite().Name, Sites: all, Linked: linkedSites(cfg), Table: g.table, Network: g.streams, Logger: g.log,
	})
	if paired(cfg) {
		if err = g.newPair(rand.Uint64()|1, changes); err != nil {
			return err
		}
		g.link.Handle(wire.HAPort, g.pair.Receive)
		g.link.Handle(wire.StrayPort, g.pair.Receive)
		g.board.Listen(sibling{g.pair})
	}
	g.board.Listen(g.restorer)
	g.board.Listen(milestones{g})
	list, err := g.store.Load()
	if err != nil {
		return err
	}
	if g.pair != nil {
		g.pair.StandBy() // before the next line: a standby's records stay records
	}
	g.restorer.FromFile(list)
	return nil
}

func siteNames(c configs.Config) (out []string) {
	for _, s := range c.Sites {
		out = append(out, s.Name)
	}
	return out
}

// linkedSites names the sites that this node's site has a link with.
func linkedSites(c configs.Config) (out []string) {
	self := c.SelfSite().Name
	for _, l := range c.LinksOf(self) {
		other, _ := l.Other(self)
		out = append(out, other)
	}
	return out
}

// sibling tells the pair whether the sibling's configuration permits one.
type sibling struct{ pair *pair.Pair }

func (s sibling) Notice(e sites.Event) {
	switch e.Kind {
	case sites.SiblingRefused:
		s.pair.SetSibling("its configuration differs in what a pair must agree on")
	case sites.SiblingAgreed:
		s.pair.SetSibling("")
	}
}

// milestones reports when links come up for the first time.
type milestones struct{ g *Gateway }

func (m milestones) Notice(e sites.Event) {
	if e.Kind == sites.Established {
		m.g.say(fmt.Sprintf("link to %s (site %s) up", e.Node, e.Site), time.Since(m.g.started))
	}
}

// ourFault is the remedy for an error that no accepted configuration causes.
const ourFault = "this is a mistake of gw: report it, with what gw version and gw validate say"

// discardWait bounds how long a process that was frozen discards: what waits in
// the largest queue, 4 MB of a socket, takes a tenth of it.
const discardWait = 500 * time.Millisecond

// discard returns when the packets that waited while the process was frozen are gone, and the
// election knows of the gap. Everything that is read meanwhile is dropped.
func (g *Gateway) discard() {
	start := time.Now()
	g.relay.Discard()
	g.path.Discard()
	for g.link.Pending() || g.host.Pending() {
		if time.Since(start) > discardWait {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if g.pair != nil {
		ctx, cancel := context.WithTimeout(context.Background(), discardWait)
		defer cancel()
		_ = g.pair.Settle(ctx) // it fails only when the gateway ends
	}
	g.log.Warn("this process was frozen: what waited was discarded", "took", time.Since(start))
}

// streamMTU keeps the control streams below what any link carries (RFC 8200
// section 5), so that they work before the path MTU is known.
const streamMTU = 1280

// hostSide is the gateway's own host: the device through which it exchanges packets with the host's
// kernel, or with what stands in for it. All methods may be called at any time.
type hostSide interface {
	flow.Host
	// Run maintains what New has set up on the host, until ctx ends.
	Run(ctx context.Context) error
	// Healthy reports whether the interface toward the site's hosts and the device are up.
	Healthy() (lan, device bool)
	// Missed returns how many packets the host has dropped before the gateway could read them.
	Missed() (uint64, error)
	// Close closes the device. A Read that waits returns.
	Close() error
}

var _ hostSide = (*hostnet.Host)(nil)

// openHost checks the host and opens the device.
func (g *Gateway) openHost() error {
	start := time.Now()
	t := g.cfg.Local.TUN
	spec := parts.HostSpec(g.cfg)
	spec.Net.Former = holds.Former(g.cfg.Local.StateDir)
	h, err := hostnet.New(spec, g.log)
	if err != nil {
		return err
	}
	g.host = h
	if err := holds.Store(g.cfg.Local.StateDir, parts.LinkedPrefixes(g.cfg)); err != nil {
		g.log.Warn("cannot record which prefixes are held: a boot with a mistake in the configuration would hold none", "error", err, "fix", "df -h "+g.cfg.Local.StateDir)
	}
	g.say(fmt.Sprintf("tun %s up: %v, mtu %d, driver %s", t.Name, spec.Net.Addresses, t.MTU, t.Driver), time.Since(start))
	return nil
}

func (g *Gateway) say(what string, took time.Duration) {
	g.milestoneMu.Lock()
	defer g.milestoneMu.Unlock()
	g.milestone(what, took)
}

// Run forwards packets until ctx ends or a task fails, and closes everything. It returns nil after
// ctx has ended.
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
	run("host", g.host.Run)
	run("health", g.health.Run)
	if g.health.lan != nil {
		run("lan", g.health.lan.Run)
	}
	run("pulse", func(ctx context.Context) error { return g.pulse.Run(ctx, g.discard) })
	if g.audit != nil {
		run("audit log", g.audit.Run)
	}
	run("doctor", g.watch.Run)
	run("denials", g.journal.Run)
	if g.waker != nil {
		run("wakes", g.waker.Run)
	}
	if g.pair != nil {
		run("pair", g.pair.Run)
	}
	if g.address != nil {
		run("lan address", g.address.keeper.Run)
		run("lan address lease", g.address.Run)
	}
	run("flows", g.table.Run)
	run("flow confirmations", g.path.ConfirmFlows)
	run("sites", g.board.Run)
	run("relays", g.relay.Run)
	run("records", g.store.Run)
	run("control streams", g.streams.Run)
	run("restoring", g.restorer.Run)
	run("questions", func(ctx context.Context) error {
		l, err := g.streams.Listen(explain.Port)
		if err != nil {
			return err
		}
		return g.explain.Serve(ctx, l)
	})
	run("control socket", g.control.Run)
	if g.status != nil {
		run("status page", g.status.Run)
		run("status history", g.page.Run)
	}
	return errors.Join(group.Wait(), g.close())
}

// close closes what New opened, in the opposite order: nothing may write to the TUN after it is
// closed, and the state directory stays locked until the device is gone, so that a successor
// does not meet it. The holds stay: what ends here opens nothing.
func (g *Gateway) close() error {
	var errs []error
	if g.host != nil {
		errs = append(errs, g.host.Close())
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
	errs = append(errs, g.audit.Close())
	return errors.Join(errs...)
}
