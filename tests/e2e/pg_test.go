package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

const (
	// pgRound is how long pgbench writes, over and over until both kills are
	// through. One round is enough, unless the machine is slow.
	pgRound = 6 * time.Second
	// pgProgress is how many transactions must have arrived at every replica
	// before and after a gateway is killed.
	pgProgress = 100
)

// bank is a pgbench database that is written on one server and replicated to
// another.
type bank struct {
	name             string
	primary, replica *lab.Postgres
	writer           *lab.Host  // where pgbench runs
	writes, follows  netip.Addr // the primary's address for pgbench, and for the replica
	subscriber       netip.Addr // the replica's own address
	replicates       string     // the connection of replication, before the kills
}

// pgServer starts a server on a host.
func (n *network) pgServer(t *testing.T, h *lab.Host) *lab.Postgres {
	t.Helper()
	pg, err := lab.StartPostgres(t.Context(), n.Lab, h.Namespace, lab.PostgresConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return pg
}

// sql runs statements that must succeed.
func sql(t *testing.T, pg *lab.Postgres, database, statements string) string {
	t.Helper()
	out, err := pg.SQL(t.Context(), database, statements)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (b *bank) pgbench(t *testing.T, pg *lab.Postgres, h *lab.Host, args ...string) {
	t.Helper()
	if _, err := lab.Pgbench(t.Context(), h.Namespace, pg.LocalDSN(b.name), args...); err != nil {
		t.Fatal(err)
	}
}

// TestLogicalReplication: each site's database subscribes to the other's, one by
// IPv4 and one by IPv6, while applications at each site write into the other
// site's database. Either gateway is killed and started again in the middle.
func TestLogicalReplication(t *testing.T) {
	n := start(t, setup{})
	redHost, grayHost := n.Red.DB(), n.Gray.DB()
	red, gray := n.pgServer(t, redHost), n.pgServer(t, grayHost)
	banks := []*bank{
		{
			name: "red_bank", primary: red, replica: gray,
			writer: grayHost, writes: redHost.LAN6, follows: redHost.LAN4, subscriber: grayHost.LAN4,
		},
		{
			name: "gray_bank", primary: gray, replica: red,
			writer: redHost, writes: grayHost.LAN4, follows: grayHost.LAN6, subscriber: redHost.LAN6,
		},
	}
	hosts := map[*lab.Postgres]*lab.Host{red: redHost, gray: grayHost}
	for _, b := range banks {
		for _, pg := range []*lab.Postgres{b.primary, b.replica} {
			sql(t, pg, "postgres", "create database "+b.name)
		}
		b.pgbench(t, b.primary, hosts[b.primary], "-i", "-q", "-s", "1")
		b.pgbench(t, b.replica, hosts[b.replica], "-i", "-q", "-I", "dtp")
		sql(t, b.primary, b.name, "create publication bank for all tables")
		sql(t, b.replica, b.name, fmt.Sprintf("create subscription %s connection '%s' publication bank", b.name, lab.DSN(b.follows, b.name)))
	}
	for _, b := range banks {
		// r is the state of a table whose first copy is complete.
		if err := b.replica.Await(t.Context(), b.name, "not exists (select from pg_subscription_rel where srsubstate <> 'r')"); err != nil {
			t.Fatal(err)
		}
	}
	n.writeAmidKills(t, banks)
}

// TestPhysicalReplication: a standby at each site is copied from the other
// site's primary and streams from it, while applications at the standby's site
// write into the primary. Either gateway is killed and started again in the
// middle.
func TestPhysicalReplication(t *testing.T) {
	n := start(t, setup{lab: lab.Config{Red: lab.SiteConfig{Databases: 2}, Gray: lab.SiteConfig{Databases: 2}}})
	var banks []*bank
	for _, c := range []struct {
		primary, standby *lab.Host
		six              bool
	}{
		{n.Red.Databases[0], n.Gray.Databases[1], true},
		{n.Gray.Databases[0], n.Red.Databases[1], false},
	} {
		b := &bank{name: "bank", primary: n.pgServer(t, c.primary), writer: c.standby, writes: c.primary.LAN6, follows: c.primary.LAN4, subscriber: c.standby.LAN4}
		if c.six {
			b.writes, b.follows, b.subscriber = c.primary.LAN4, c.primary.LAN6, c.standby.LAN6
		}
		sql(t, b.primary, "postgres", "create database "+b.name)
		b.pgbench(t, b.primary, c.primary, "-i", "-q", "-s", "1")
		var err error
		if b.replica, err = lab.StartStandby(t.Context(), n.Lab, c.standby.Namespace, b.follows); err != nil {
			t.Fatal(err)
		}
		banks = append(banks, b)
	}
	n.writeAmidKills(t, banks)
}

// writeAmidKills has pgbench write into the banks from afar while each gateway
// in turn is killed and started again. No client may see an error, no database
// a reset, the replicas must follow by the connections that they had, and hold
// the same rows in the end.
func (n *network) writeAmidKills(t *testing.T, banks []*bank) {
	t.Helper()
	var watches []*watch
	for _, h := range slices.Concat(n.Red.Databases, n.Gray.Databases) {
		watches = append(watches, startWatch(t, h))
	}
	for _, b := range banks {
		b.replicates = b.connection(t)
	}
	began := time.Now()
	var through atomic.Bool
	var writing sync.WaitGroup
	for _, b := range banks {
		writing.Go(func() { b.write(t, &through) })
	}
	// Also when a kill has failed the test.
	defer writing.Wait()
	defer through.Store(true)
	for _, victim := range []*node{n.red, n.gray} {
		advance(t, banks)
		victim.kill()
		victim.up()
		advance(t, banks)
		t.Logf("%s was killed and the replicas have resumed, %v after the load began", victim.name, time.Since(began).Round(time.Millisecond))
	}
	through.Store(true)
	writing.Wait()
	for _, b := range banks {
		b.equal(t)
	}
	for _, w := range watches {
		w.noResets(t)
	}
	refused, err := n.Refused()
	if err != nil || refused != 0 {
		t.Errorf("gray tried %d times to dial through the firewall, %v", refused, err)
	}
}

// write runs pgbench against the primary until the kills are through. It is not
// the test's own goroutine.
func (b *bank) write(t *testing.T, through *atomic.Bool) {
	for !through.Load() {
		ctx, cancel := context.WithTimeout(t.Context(), pgRound+standstill)
		r, err := lab.Pgbench(ctx, b.writer.Namespace, lab.DSN(b.writes, b.name), "-n", "-c", "8", "-T", fmt.Sprintf("%.0f", pgRound.Seconds()))
		cancel()
		if err != nil || r.Failed != 0 {
			t.Errorf("the writers of the bank at %s: %d failures, %v", b.writes, r.Failed, err)
			return
		}
		t.Logf("%d transactions at %s", r.Transactions, b.writes)
	}
}

// connection is by which TCP connection, opened when, the replica follows.
func (b *bank) connection(t *testing.T) string {
	t.Helper()
	if err := b.primary.Await(t.Context(), b.name, "(select count(*) = 1 and bool_and(state = 'streaming') from pg_stat_replication)"); err != nil {
		t.Fatal(err)
	}
	return sql(t, b.primary, b.name, "select pid, client_addr, client_port, backend_start from pg_stat_replication")
}

// advance waits until each replica has got some more transactions.
func advance(t *testing.T, banks []*bank) {
	t.Helper()
	const count = "(select count(*) from pgbench_history)"
	for _, b := range banks {
		have := sql(t, b.replica, b.name, "select "+count)
		if err := b.replica.Await(t.Context(), b.name, fmt.Sprintf("%s >= %s + %d", count, have, pgProgress)); err != nil {
			t.Fatal(err)
		}
	}
}

// equal waits until the replica has all, and compares.
func (b *bank) equal(t *testing.T) {
	t.Helper()
	if _, err := b.primary.AwaitReplicas(t.Context(), b.name); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"} {
		rows, sum, err := b.primary.Digest(t.Context(), b.name, table)
		if err != nil {
			t.Fatal(err)
		}
		gotRows, gotSum, err := b.replica.Digest(t.Context(), b.name, table)
		if err != nil {
			t.Fatal(err)
		}
		if gotRows != rows || gotSum != sum {
			t.Errorf("%s of %s: the replica has %s rows, %s, and the primary %s rows, %s", table, b.name, gotRows, gotSum, rows, sum)
		}
	}
	if now := b.connection(t); now != b.replicates {
		t.Errorf("replication of %s ran by %s and now runs by %s", b.name, b.replicates, now)
	}
	if seen := sql(t, b.primary, b.name, "select client_addr from pg_stat_replication"); seen != b.subscriber.String() {
		t.Errorf("the primary of %s sees its replica as %s, want %s", b.name, seen, b.subscriber)
	}
}
