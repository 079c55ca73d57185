package main

import (
	"context"
	"time"
)

// restart kills gray's only gateway in the middle of load and starts it again.
func (d *demo) restart(ctx context.Context) error {
	d.say("Now each site's applications write into the other site's bank, %d clients each,\nand PostgreSQL replicates the changes back: four streams through one tunnel.", clients)
	d.text("")
	victim := d.gray.gws[0]
	var seen string
	var usual, st stall
	err := d.underLoad(ctx, func(ctx context.Context, start time.Time) (err error) {
		if seen, err = d.red.pg.SQL(ctx, "postgres", "select distinct client_addr from pg_stat_activity where application_name = 'pgbench'"); err != nil {
			return err
		}
		if usual, err = d.undisturbed(ctx); err != nil {
			return err
		}
		st, err = d.killAndRestart(ctx, victim, start)
		return err
	})
	if err != nil {
		return err
	}
	d.claim(seen == d.gray.DB().LAN4.String(), "red's database sees gray's applications under their own address", "%s", seen)
	d.fact("PostgreSQL saw", "%s and %s, the callers' own addresses", d.gray.DB().LAN4, d.red.DB().LAN4)
	d.fact("undisturbed", "replication pauses for up to %d ms, clients %d ms", usual.replication.Milliseconds(), usual.clients.Milliseconds())
	d.felt(st, "kill -9 of "+victim.node, victim.node+" was killed", 5*time.Second)
	return nil
}

// undisturbed returns the longest pauses while no gateway fails: replication waits for
// transactions, and clients for each other's locks.
func (d *demo) undisturbed(ctx context.Context) (stall, error) {
	w, err := d.watch(ctx)
	if err != nil {
		return stall{}, err
	}
	if err := d.advance(ctx); err != nil {
		return stall{}, err
	}
	return w.end()
}

// killAndRestart kills a gateway, restarts it, and waits until both replicas advance.
func (d *demo) killAndRestart(ctx context.Context, victim *gateway, start time.Time) (stall, error) {
	w, err := d.watch(ctx)
	if err != nil {
		return stall{}, err
	}
	if err := d.advance(ctx); err != nil {
		return stall{}, err
	}
	if err := victim.proc.Kill(); err != nil {
		return stall{}, err
	}
	d.moment(start, "kill -9 %d: %s is gone", victim.proc.PID, victim.node)
	if err := victim.up(); err != nil {
		return stall{}, err
	}
	if err := victim.linksUp(ctx); err != nil {
		return stall{}, err
	}
	d.moment(start, "restarted as process %d: its links are up", victim.proc.PID)
	if err := d.advance(ctx); err != nil {
		return stall{}, err
	}
	d.moment(start, "both replicas advance")
	return w.end()
}
