package restore

import (
	"context"
	"iter"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/quiet"
	"github.com/onewaylink/gw/gateway/quota"
	"github.com/onewaylink/gw/gateway/records"
	"github.com/onewaylink/gw/gateway/sites"
	"github.com/onewaylink/gw/netstack/wire"
)

const (
	// fetchTimeout bounds one attempt to fetch records.
	fetchTimeout = 10 * time.Second
	// A fetch that fails is repeated fetchTries times, fetchPause apart. After that the site's link
	// has to come up again.
	fetchTries = 5
	fetchPause = 2 * time.Second
)

// Table is the flow table. Its methods are flow.Table's.
type Table interface {
	Take(key, value []byte) (wire.Reason, error)
	TakeForeign(site int, key, value []byte) flow.Given
	Records(site string) iter.Seq2[[]byte, []byte]
	Standby() bool
}

// Network reaches other gateways inside the tunnel; netstack.Host is one.
type Network interface {
	Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	Listen(port uint16) (net.Listener, error)
}

// Config is what a Restorer is made from.
type Config struct {
	Self    string // this node's site
	Sites   []sites.Site
	Linked  []string // the sites that this node's site has a link with
	Table   Table
	Network Network
	Logger  hclog.Logger
}

// Restorer restores the flows that this process has not seen open. It serves the same to the
// gateways of other sites.
type Restorer struct {
	cfg   Config
	log   hclog.Logger
	quiet *quiet.Logger  // for lines that a peer can cause
	quota *quota.Limiter // of what other sites request

	wanted map[string]chan netip.AddrPort // nodes to fetch from, by linked site; never changes

	mu        sync.Mutex            // guards the fields below
	fetched   map[string]bool       // sites whose records are complete
	reachable map[string]netip.Addr // the node of each site that answered last
}

var _ sites.Listener = (*Restorer)(nil)

// New returns a Restorer that does nothing until FromFile and Run.
func New(cfg Config) *Restorer {
	log := cfg.Logger.Named("restore")
	r := &Restorer{
		cfg: cfg, log: log, quiet: quiet.New(quiet.Config{Logger: log}), quota: records.NewQuota(),
		wanted: make(map[string]chan netip.AddrPort), fetched: make(map[string]bool), reachable: make(map[string]netip.Addr),
	}
	for _, site := range cfg.Linked {
		r.wanted[site] = make(chan netip.AddrPort, 4)
	}
	return r
}

// FromFile restores the records that the process before this one left.
func (r *Restorer) FromFile(list []records.Record) {
	n := 0
	for _, rec := range list {
		switch reason, err := r.cfg.Table.Take(rec.Key, rec.Value); {
		case err != nil:
			r.quiet.Debug("left out", "record left out", "error", err)
		case reason != wire.OK:
			r.quiet.Debug("left out", "record left out", "reason", reason)
		default:
			n++
		}
	}
	if len(list) > 0 {
		r.log.Info("restored flows from the file", "records", len(list), "flows", n)
	}
}

// Notice implements sites.Listener. It doesn't block.
//
// When a site's node is reachable for the first time, this node requests the site's records. A
// standby requests them when it is promoted: until then its sibling replicates them. The sibling
// may have died before it replicated all, so a promoted node requests them of every site again.
func (r *Restorer) Notice(e sites.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case sites.Reachable:
		node := r.address(e.Site, e.Node)
		if !node.IsValid() {
			return
		}
		r.reachable[e.Site] = node
		if !r.fetched[e.Site] && !r.cfg.Table.Standby() {
			r.request(e.Site, node)
		}
	case sites.Promoted:
		clear(r.fetched)
		for site, node := range r.reachable {
			r.request(site, node)
		}
	}
}

func (r *Restorer) request(site string, node netip.Addr) {
	select {
	case r.wanted[site] <- netip.AddrPortFrom(node, wire.ControlPort):
	default: // enough requests wait
	}
}

// address returns the address of a node; the zero Addr if there is none.
func (r *Restorer) address(site, node string) netip.Addr {
	for _, s := range r.cfg.Sites {
		for _, n := range s.Nodes {
			if s.Name == site && n.Name == node {
				return n.Addresses[0]
			}
		}
	}
	return netip.Addr{}
}

// SiteAt names the site whose node has the address.
func (r *Restorer) SiteAt(a netip.Addr) (string, bool) {
	for _, s := range r.cfg.Sites {
		for _, n := range s.Nodes {
			if slices.Contains(n.Addresses, a) {
				return s.Name, true
			}
		}
	}
	return "", false
}

// Requests counts what a site has requested of this node.
func (r *Restorer) Requests(site string) quota.Stats { return r.quota.Stats(site) }

// Run fetches records and serves them until ctx ends. Each site has a goroutine of its own, so that
// a slow or hostile one delays no other.
func (r *Restorer) Run(ctx context.Context) error {
	l, err := r.cfg.Network.Listen(wire.ControlPort)
	if err != nil {
		return err
	}
	server := &records.Server{
		Site:    r.SiteAt,
		Records: func(site string) records.Snapshot { return records.Snapshot(r.cfg.Table.Records(site)) },
		Quota:   r.quota,
		Logger:  r.log,
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(ctx, l) })
	group.Go(func() error { r.quiet.Run(ctx); return nil })
	for _, wanted := range r.wanted {
		group.Go(func() error { return r.runSite(ctx, wanted) })
	}
	return group.Wait()
}

// runSite fetches from the nodes of one site.
func (r *Restorer) runSite(ctx context.Context, wanted <-chan netip.AddrPort) error {
	left := make(map[netip.AddrPort]int) // attempts left, of those that have failed
	again := time.NewTimer(fetchPause)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case node := <-wanted:
			if !r.fetch(ctx, node) {
				left[node] = fetchTries
				again.Reset(fetchPause)
			}
		case <-again.C:
			for node := range left {
				if left[node]--; left[node] == 0 || r.fetch(ctx, node) {
					delete(left, node)
				}
			}
			if len(left) > 0 {
				again.Reset(fetchPause)
			}
		}
	}
}

// fetch fetches a node's records that concern this site, unless its site's are complete. It reports
// whether there is nothing left to fetch.
func (r *Restorer) fetch(ctx context.Context, node netip.AddrPort) bool {
	site, ok := r.SiteAt(node.Addr())
	if !ok || r.complete(site) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	conn, err := r.cfg.Network.Dial(ctx, node)
	if err != nil {
		r.quiet.Warn(site, "cannot fetch flow records; connections known only to the peer stay blocked until the next attempt", "site", site, "error", err)
		return false
	}
	var given [flow.NumGiven]int
	giver := slices.IndexFunc(r.cfg.Sites, func(s sites.Site) bool { return s.Name == site })
	n, err := records.Fetch(ctx, conn, r.cfg.Self, records.Limits{}, func(k, v []byte) {
		given[r.cfg.Table.TakeForeign(giver, k, v)]++
	})
	if bad := given[flow.GivenOtherSite] + given[flow.GivenMalformed]; bad > 0 {
		r.quiet.Warn("refused "+site, "refused flow records: not about connections between the peer's site and this one", "site", site, "refused", bad, "of", n)
	}
	if err != nil {
		r.quiet.Warn(site, "cannot fetch all flow records; connections known only to the peer stay blocked until the next attempt", "site", site, "records", n, "error", err)
		return false
	}
	if over := given[flow.GivenQuota]; over > 0 {
		// The flows that the local hosts confirm soon no longer count to the site.
		r.quiet.Info(site, "flow records exceed the site's share of the table; fetching them again", "site", site, "records", n, "over", over)
		return false
	}
	r.mu.Lock()
	r.fetched[site] = true
	r.mu.Unlock()
	r.log.Info("fetched flow records", "site", site, "records", n, "flows", given[flow.GivenTaken], "known", given[flow.GivenKnown])
	return true
}

func (r *Restorer) complete(site string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fetched[site]
}
