package main

import (
	"context"
	"fmt"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// scale is the size of each bank, in units of 100,000 accounts.
const scale = 2

// replication gives each site a bank of its own and the other site's as a
// replica, which begins with a copy of all rows.
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
		if err := s.pg.Await(ctx, far.bank, "not exists (select from pg_subscription_rel where srsubstate <> 'r')"); err != nil {
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

var tables = []string{"accounts", "branches", "tellers", "history"}

// checksums waits until the replicas are complete, and compares.
func (d *demo) checksums(ctx context.Context) error {
	for _, s := range d.sites() {
		far := d.other(s)
		start := time.Now()
		lsn, err := s.pg.AwaitReplicas(ctx, s.bank)
		if err != nil {
			return err
		}
		d.say("%s, written in %s up to LSN %s; %s confirmed it after %v.", s.bank, s.Name, lsn, far.Name, time.Since(start).Round(time.Millisecond))
		d.text(d.paint(dim, fmt.Sprintf("  %-10s %16s %8s    %16s %8s", "", s.Name, "rows", far.Name, "rows")))
		equal, written := true, ""
		for _, table := range tables {
			rows, sum, err := s.pg.Digest(ctx, s.bank, "pgbench_"+table)
			if err != nil {
				return err
			}
			farRows, farSum, err := far.pg.Digest(ctx, s.bank, "pgbench_"+table)
			if err != nil {
				return err
			}
			equal = equal && rows == farRows && sum == farSum
			if table == "history" {
				written = rows // one row for each transaction
			}
			d.text(fmt.Sprintf("  %-10s %.16s %8s    %.16s %8s", table, sum, rows, farSum, farRows))
		}
		outcome := "equal in"
		if !equal {
			outcome = "different in"
		}
		d.fact(s.Name+" replicates to "+far.Name, "%s transactions, %d tables %s %s and %s", written, len(tables), outcome, s.Name, far.Name)
		d.claim(equal, fmt.Sprintf("%s is the same in %s and %s", s.bank, s.Name, far.Name), "md5 of all rows of %d tables", len(tables))
	}
	return nil
}
