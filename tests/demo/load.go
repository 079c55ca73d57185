package main

import (
	"context"
	"fmt"
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
	// round is how long they write, again and again until the failures are over. One
	// is enough, unless the machine is slow.
	round = 8 * time.Second
	// progress is how many transactions each replica must get before and after
	// something happens to a gateway.
	progress = 50
)

// underLoad has each site's applications write the other site's bank through the
// gateways, while the banks are replicated back, and runs do at the same time. It claims
// that no application had an error and no replication connection was reopened.
func (d *demo) underLoad(ctx context.Context, do func(ctx context.Context, start time.Time) error) error {
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
	d.moment(start, "both replicas advance")
	before, err := d.connections(ctx)
	if err != nil {
		return err
	}
	if err := do(ctx, start); err != nil {
		return err
	}
	through.Store(true)
	writing.Wait()
	d.moment(start, "the applications have finished\n")
	for i, s := range d.sites() {
		r := results[i]
		d.claim(r.err == nil && r.failed == 0, fmt.Sprintf("%s's %d clients wrote in %s without an error", s.Name, clients, d.other(s).Name), "%d transactions", r.transactions)
		d.errors += r.failed
		if r.err != nil {
			d.errors++
			d.text(r.err.Error())
		}
	}
	after, err := d.connections(ctx)
	if err != nil {
		return err
	}
	d.claim(before == after, "replication uses the same connections as before", "none reopened")
	return nil
}

// written counts what a site's applications have done.
type written struct {
	transactions, failed int64
	err                  error
}

// write runs pgbench in a site against the other site's bank until the failures are
// over, or an error.
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

// connections returns the connections by which the sites replicate.
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

// advance waits until both replicas have received some more transactions.
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
