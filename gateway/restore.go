package gateway

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/quiet"
	"github.com/onewaylink/gw/gateway/quota"
	"github.com/onewaylink/gw/gateway/records"
	"github.com/onewaylink/gw/netstack"
	"github.com/onewaylink/gw/netstack/wire"
)

// fetchTimeout bounds how long one try to fetch records may take.
const fetchTimeout = 10 * time.Second

// restorer brings back the flows that this process has not seen open: from the
// file that its predecessor left, and from the gateways of the other sites,
// which know of what the predecessor had no time to write down. It serves the
// same to them.
type restorer struct {
	log   hclog.Logger
	quiet *quiet.Logger // for lines that a peer can cause
	cfg   configs.Config
	table *flow.Table
	quota *quota.Limiter // of what other sites ask for
	store *records.Store
	host  *netstack.Host

	mu   sync.Mutex
	done map[string]bool                // sites whose records have been fetched
	near map[string]netip.Addr          // sites within reach, and the node that was heard last
	want map[string]chan netip.AddrPort // nodes to fetch from, by linked site
}

func newRestorer(log hclog.Logger, cfg configs.Config, table *flow.Table, store *records.Store, host *netstack.Host) *restorer {
	log = log.Named("restore")
	r := &restorer{
		quota: records.NewQuota(),
		log:   log, quiet: quiet.New(quiet.Config{Logger: log}), cfg: cfg, table: table, store: store, host: host,
		done: make(map[string]bool), near: make(map[string]netip.Addr), want: make(map[string]chan netip.AddrPort),
	}
	self := cfg.SelfSite().Name
	for _, l := range cfg.LinksOf(self) {
		site, _ := l.Other(self)
		r.want[site] = make(chan netip.AddrPort, 4)
	}
	return r
}

// fromFile takes in what the file holds.
func (r *restorer) fromFile() error {
	list, err := r.store.Load()
	if err != nil {
		return err
	}
	n := 0
	for _, rec := range list {
		if r.took(r.table.Take(rec.Key, rec.Value)) {
			n++
		}
	}
	if len(list) > 0 {
		r.log.Info("took flows from the file", "records", len(list), "flows", n)
	}
	return nil
}

// took reports whether a record became a flow.
func (r *restorer) took(reason wire.Reason, err error) bool {
	if err != nil {
		r.quiet.Debug("left out", "record left out", "error", err)
		return false
	}
	if reason != wire.OK {
		r.quiet.Debug("left out", "record left out", "reason", reason)
		return false
	}
	return true
}

// linkUp asks for the records of a site whose gateway has come within reach for
// the first time. A standby asks when it takes over: what it learns before, it
// learns from its sibling.
func (r *restorer) linkUp(site string, node netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.near[site] = node
	if !r.done[site] && !r.table.Standby() {
		r.ask(site, node)
	}
}

// again asks all sites within reach anew: this node has taken over, and its
// sibling may have died before it passed on what it knew.
func (r *restorer) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.done)
	for site, node := range r.near {
		r.ask(site, node)
	}
}

func (r *restorer) ask(site string, node netip.Addr) {
	select {
	case r.want[site] <- netip.AddrPortFrom(node, wire.ControlPort):
	default: // asked often enough already
	}
}

// siteAt names the site whose node has the address.
func (r *restorer) siteAt(a netip.Addr) (string, bool) {
	for _, s := range r.cfg.Sites {
		for _, n := range s.Nodes {
			for _, na := range n.Addresses {
				if na == a {
					return s.Name, true
				}
			}
		}
	}
	return "", false
}

// run fetches what linkUp asks for, until ctx ends. Each site has a task of its own, so that a slow or
// hostile one delays no other.
func (r *restorer) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { r.quiet.Run(ctx); return nil })
	for _, want := range r.want {
		group.Go(func() error { return r.runSite(ctx, want) })
	}
	return group.Wait()
}

// runSite fetches from the nodes of one site. A fetch that fails is tried again a few times; after
// that the site's link has to come up again.
func (r *restorer) runSite(ctx context.Context, want <-chan netip.AddrPort) error {
	const tries, wait = 5, 2 * time.Second
	left := make(map[netip.AddrPort]int) // tries left, of those that have failed
	again := time.NewTimer(wait)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case node := <-want:
			if !r.fetch(ctx, node) {
				left[node] = tries
				again.Reset(wait)
			}
		case <-again.C:
			for node := range left {
				if left[node]--; left[node] == 0 || r.fetch(ctx, node) {
					delete(left, node)
				}
			}
			if len(left) > 0 {
				again.Reset(wait)
			}
		}
	}
}

// fetch asks a node for the records that concern this site, unless its site has
// given them already. It reports whether there is nothing left to fetch.
func (r *restorer) fetch(ctx context.Context, node netip.AddrPort) bool {
	site, ok := r.siteAt(node.Addr())
	if !ok || r.fetched(site) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	conn, err := r.host.Dial(ctx, node)
	if err != nil {
		r.quiet.Warn(site, "cannot fetch flow records; connections known only to the peer stay blocked until the next attempt", "site", site, "error", err)
		return false
	}
	var given [flow.NumGiven]int
	giver := parts.SiteIndex(r.cfg, site)
	n, err := records.Fetch(ctx, conn, r.cfg.SelfSite().Name, records.Limits{}, func(k, v []byte) {
		given[r.table.TakeForeign(giver, k, v)]++
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
	r.done[site] = true
	r.mu.Unlock()
	r.log.Info("fetched flow records", "site", site, "records", n, "flows", given[flow.GivenTaken], "known", given[flow.GivenKnown])
	return true
}

func (r *restorer) fetched(site string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.done[site]
}

// serve gives other gateways the records that concern their site, until ctx ends.
func (r *restorer) serve(ctx context.Context) error {
	l, err := r.host.Listen(wire.ControlPort)
	if err != nil {
		return err
	}
	s := &records.Server{
		Site:    r.siteAt,
		Records: func(site string) records.Snapshot { return records.Snapshot(r.table.Records(site)) },
		Quota:   r.quota,
		Logger:  r.log,
	}
	return s.Run(ctx, l)
}
