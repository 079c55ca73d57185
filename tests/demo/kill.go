package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/tests/lab"
)

const (
	// clients of pgbench at each site.
	clients = 8
	// round is how long they write, over and over until the kills are through.
	// One is enough, unless the machine is slow.
	round = 12 * time.Second
	// progress is how many transactions each replica must get before and after a
	// gateway is killed.
	progress = 50
)

// kills has each site's applications write the other site's bank through the
// gateways, while the banks are replicated back, and kills either gateway in
// the middle.
func (d *demo) kills(ctx context.Context) error {
	d.say("Now each site's applications write into the other site's bank, %d clients each,\nand what they write is replicated back to them: four streams over one tunnel.", clients)
	d.text("")
	start := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	var through atomic.Bool
	var writing sync.WaitGroup
	defer writing.Wait()
	defer cancel()
	results := make([]written, len(d.sites()))
	for i, s := range d.sites() {
		writing.Go(func() { results[i] = d.write(ctx, s, &through) })
	}
	if err := d.advance(ctx); err != nil {
		return err
	}
	d.moment(start, "both replicas follow")
	seen, err := d.red.pg.SQL(ctx, "postgres", "select distinct client_addr from pg_stat_activity where application_name = 'pgbench'")
	if err != nil {
		return err
	}
	before, err := d.connections(ctx)
	if err != nil {
		return err
	}
	var stalls []stall
	for _, victim := range d.sites() {
		st, err := d.kill(ctx, victim, start)
		if err != nil {
			return err
		}
		stalls = append(stalls, st)
	}
	through.Store(true)
	writing.Wait()
	d.moment(start, "the applications have finished\n")
	var failed int64
	for i, s := range d.sites() {
		r := results[i]
		d.claim(r.err == nil && r.failed == 0, fmt.Sprintf("%s's %d clients wrote in %s without an error", s.Name, clients, d.other(s).Name), "%d transactions", r.transactions)
		failed += r.failed
		if r.err != nil {
			failed++
			d.text(r.err.Error())
		}
	}
	d.claim(seen == d.gray.DB().LAN4.String(), "red's database saw gray's applications at their own address", "%s", seen)
	after, err := d.connections(ctx)
	if err != nil {
		return err
	}
	d.claim(before == after, "replication runs by the very connections of before", "none was reopened")
	d.fact("PostgreSQL saw", "%s and %s, the callers' own addresses", d.gray.DB().LAN4, d.red.DB().LAN4)
	resets := 0
	for _, st := range stalls {
		d.fact("kill -9 of "+st.node, "replication stood still for %d ms, clients %d ms", st.replication.Milliseconds(), st.clients.Milliseconds())
		resets += st.resets
		d.claim(st.replication < 5*time.Second, "replication stood still when "+st.node+" was killed", "%d ms", st.replication.Milliseconds())
		d.claim(st.clients < 5*time.Second, "clients waited when "+st.node+" was killed", "%d ms at most", st.clients.Milliseconds())
	}
	d.fact("errors and resets", "%d that clients saw, %d TCP resets", failed, resets)
	d.claim(resets == 0, "TCP resets that the databases saw", "%d", resets)
	return nil
}

// written is what a site's applications have done.
type written struct {
	transactions, failed int64
	err                  error
}

// write runs pgbench in a site against the other site's bank until the kills are
// through, or an error.
func (d *demo) write(ctx context.Context, s *site, through *atomic.Bool) (w written) {
	far := d.other(s)
	for !through.Load() && w.err == nil {
		var r lab.PgbenchResult
		r, w.err = lab.Pgbench(ctx, s.DB().Namespace, lab.DSN(far.DB().LAN4, far.bank),
			"-n", "-c", fmt.Sprint(clients), "-T", fmt.Sprintf("%.0f", round.Seconds()))
		w.transactions += r.Transactions
		w.failed += r.Failed
	}
	return w
}

// connections are those by which the sites replicate.
func (d *demo) connections(ctx context.Context) (string, error) {
	var all []string
	for _, s := range d.sites() {
		rows, err := s.pg.SQL(ctx, "postgres", "select pid, client_addr, client_port, backend_start from pg_stat_replication")
		if err != nil {
			return "", err
		}
		all = append(all, rows)
	}
	return strings.Join(all, "\n"), nil
}

// advance waits until both replicas have got some more transactions.
func (d *demo) advance(ctx context.Context) error {
	var both errgroup.Group
	for _, s := range d.sites() {
		both.Go(func() error {
			bank := d.other(s).bank
			have, err := s.pg.SQL(ctx, bank, "select count(*) from pgbench_history")
			if err != nil {
				return err
			}
			return s.pg.Await(ctx, bank, fmt.Sprintf("(select count(*) from pgbench_history) >= %s + %d", have, progress))
		})
	}
	return both.Wait()
}

// stall is what the databases felt of a kill.
type stall struct {
	node                 string
	replication, clients time.Duration
	resets               int
}

// kill ends a gateway, starts it again, and waits until all goes on.
func (d *demo) kill(ctx context.Context, victim *site, start time.Time) (st stall, err error) {
	st.node = victim.gw.node
	subscribers := map[string]bool{}
	for _, s := range d.sites() {
		ports, err := s.pg.SQL(ctx, "postgres", "select client_addr, client_port from pg_stat_replication")
		if err != nil {
			return st, err
		}
		for line := range strings.Lines(ports) {
			addr, port, _ := strings.Cut(strings.TrimSpace(line), "|")
			subscribers[addr+":"+port] = true
		}
	}
	// One place sees the connections of both directions.
	replicates := func(s lab.Segment) bool { return subscribers[s.Src.String()] || subscribers[s.Dst.String()] }
	replication := lab.TCPStats{Only: replicates}
	others := lab.TCPStats{Only: func(s lab.Segment) bool { return !replicates(s) && ours(s.Src) && ours(s.Dst) }}
	watch, err := d.red.DB().Capture("lan0", lab.CaptureConfig{Each: func(p lab.Packet) { replication.Each(p); others.Each(p) }})
	if err != nil {
		return st, err
	}
	var far lab.TCPStats
	farWatch, err := d.gray.DB().Capture("lan0", lab.CaptureConfig{Each: far.Each})
	if err != nil {
		return st, err
	}
	if err := d.advance(ctx); err != nil {
		return st, err
	}

	if err := victim.gw.proc.Kill(); err != nil {
		return st, err
	}
	d.moment(start, "kill -9 %d: %s is gone", victim.gw.proc.PID, st.node)
	if err := victim.gw.up(); err != nil {
		return st, err
	}
	if err := victim.gw.linkUp(ctx); err != nil {
		return st, err
	}
	d.moment(start, "started again as process %d: its link is up", victim.gw.proc.PID)
	if err := d.advance(ctx); err != nil {
		return st, err
	}
	d.moment(start, "both replicas follow")

	if err := watch.Stop(); err != nil {
		return st, err
	}
	if err := farWatch.Stop(); err != nil {
		return st, err
	}
	r, c := replication.Counts(), others.Counts()
	st.replication, st.clients = r.LongestStall, c.LongestStall
	st.resets = r.RSTs + c.RSTs + far.Counts().RSTs
	return st, nil
}

// ours says that an address belongs to the sites, and not to a host's own chatter.
func ours(a netip.AddrPort) bool { return a.Addr().IsPrivate() }
