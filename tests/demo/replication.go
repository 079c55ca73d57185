package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// scale is the size of each bank, in units of 100,000 accounts.
const scale = 2

// replication gives each site a bank of its own and the other site's as a
// replica, which begins with a copy of all that is there.
func (d *demo) replication(ctx context.Context) error {
	for _, s := range d.sites() {
		far := d.other(s)
		if _, err := s.pg.SQL(ctx, "postgres", "create database "+s.bank+"; create database "+far.bank); err != nil {
			return err
		}
		// The writer's with data, the replica's without.
		if _, err := lab.Pgbench(ctx, s.DB().Namespace, s.pg.LocalDSN(s.bank), "-i", "-q", "-s", fmt.Sprint(scale)); err != nil {
			return err
		}
		if _, err := lab.Pgbench(ctx, s.DB().Namespace, s.pg.LocalDSN(far.bank), "-i", "-q", "-I", "dtp"); err != nil {
			return err
		}
		if _, err := s.pg.SQL(ctx, s.bank, "create publication bank for all tables"); err != nil {
			return err
		}
	}
	for _, s := range d.sites() {
		far := d.other(s)
		d.command("psql in "+s.Name, fmt.Sprintf("create subscription from_%s\n    connection 'host=%s dbname=%s …' publication bank;", far.Name, far.DB().LAN4, far.bank))
		sql := fmt.Sprintf("create subscription from_%s connection '%s' publication bank", far.Name, lab.DSN(far.DB().LAN4, far.bank))
		if _, err := s.pg.SQL(ctx, far.bank, sql); err != nil {
			return err
		}
	}
	d.text("")
	for _, s := range d.sites() {
		far := d.other(s)
		// r is the state of a table whose first copy is complete.
		if err := await(ctx, s.pg, far.bank, "not exists (select from pg_subscription_rel where srsubstate <> 'r')"); err != nil {
			return err
		}
		rows, err := s.pg.SQL(ctx, far.bank, "select count(*) from pgbench_accounts")
		if err != nil {
			return err
		}
		what := s.Name + " subscribes to " + far.Name
		if s == d.gray {
			what += ", a dial that the firewall forbids"
		}
		d.claim(rows == fmt.Sprint(scale*100_000), what, "%s rows", rows)
	}
	for _, s := range d.sites() {
		seen, err := s.pg.SQL(ctx, "postgres", "select distinct client_addr from pg_stat_replication")
		if err != nil {
			return err
		}
		want := d.other(s).DB().LAN4.String()
		d.claim(seen == want, s.Name+"'s pg_stat_replication.client_addr: the subscriber's", "%s", seen)
	}
	return nil
}

// await waits, inside the server, until a condition holds.
func await(ctx context.Context, pg *lab.Postgres, database, condition string) error {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	_, err := pg.SQL(ctx, database, "do $$ begin while not ("+condition+") loop perform pg_sleep(0.02); end loop; end $$")
	if ctx.Err() != nil {
		return fmt.Errorf("waited in vain in %s until %s: %w", database, condition, context.Cause(ctx))
	}
	return err
}

// sum is a table's content in short. Rows are ordered as text, in the C locale.
const sum = "select '%[1]s', count(*), md5(string_agg(md5(t::text), '' order by t::text)) from pgbench_%[1]s t"

var tables = []string{"accounts", "branches", "tellers", "history"}

// checksums waits until the replicas have all, and compares.
func (d *demo) checksums(ctx context.Context) error {
	for _, s := range d.sites() {
		far := d.other(s)
		// A transaction of its own, because its commit is flushed: the end of the log
		// may lie in a record that the server is in no hurry to complete.
		lsn, err := s.pg.SQL(ctx, s.bank, "select pg_logical_emit_message(true, 'demo', 'all of it')")
		if err != nil {
			return err
		}
		start := time.Now()
		if err := await(ctx, s.pg, s.bank, "(select bool_and(confirmed_flush_lsn >= '"+lsn+"') from pg_replication_slots)"); err != nil {
			return err
		}
		d.say("%s, written in %s up to LSN %s; %s confirmed that after %v.", s.bank, s.Name, lsn, far.Name, time.Since(start).Round(time.Millisecond))
		d.text(d.paint(dim, fmt.Sprintf("  %-10s %8s  %-16s %8s  %s", "", "rows in", s.Name, "rows in", far.Name)))
		equal := true
		for _, table := range tables {
			var row [2][]string
			for i, pg := range []*lab.Postgres{s.pg, far.pg} {
				got, err := pg.SQL(ctx, s.bank, fmt.Sprintf(sum, table))
				if err != nil {
					return err
				}
				if row[i] = strings.Split(got, "|"); len(row[i]) != 3 {
					return fmt.Errorf("the checksum of %s is %q", table, got)
				}
			}
			here, there := row[0], row[1]
			same := here[1] == there[1] && here[2] == there[2]
			equal = equal && same
			d.text(fmt.Sprintf("  %-10s %8s  %.12s…    %8s  %.12s…", table, here[1], here[2], there[1], there[2]))
		}
		d.claim(equal, fmt.Sprintf("%s is the same in %s and %s", s.bank, s.Name, far.Name), "md5 of all rows of %d tables", len(tables))
	}
	return nil
}
