package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// noticed bounds the stall of a takeover. An idle machine needs a quarter of a
// second, of which 150 ms are dead_after.
const noticed = 2 * time.Second

// takeover kills the active node of red's pair under load. When the other one
// carries everything, the killed one is restarted, becomes the standby, and becomes
// active again by a drain.
func (d *demo) takeover(ctx context.Context) error {
	active, standby, err := d.settled(ctx)
	if err != nil {
		return err
	}
	if err := d.show(ctx, active, "node", "sibling", "records"); err != nil {
		return err
	}
	d.say("The same load again. %s is killed, and restarted only after %s has taken over.", active.node, standby.node)
	d.text("")
	var killed, drained stall
	var took status.HA
	err = d.underLoad(ctx, func(ctx context.Context, start time.Time) (err error) {
		if killed, err = d.killActive(ctx, active, standby, start); err != nil {
			return err
		}
		if took, err = standby.ha(ctx); err != nil {
			return err
		}
		if err := d.show(ctx, standby, "node", "last failover"); err != nil {
			return err
		}
		d.text("")
		if err := active.up(); err != nil {
			return err
		}
		if _, _, err := d.settled(ctx); err != nil {
			return err
		}
		d.moment(start, "%s restarted as process %d: the standby, with all records", active.node, active.proc.PID)
		drained, err = d.drain(ctx, standby, start)
		return err
	})
	if err != nil {
		return err
	}
	f := took.LastFailover
	if f == nil || f.From != active.node || f.To != standby.node || f.Planned {
		d.claim(false, standby.node+" took over when "+active.node+" died", "%+v", f)
		return nil
	}
	total := time.Duration(f.Phases.Total).Milliseconds()
	d.claim(took.Role == status.RoleActive, standby.node+" took over when "+active.node+" died", "after %d ms", total)
	now, _, err := d.settled(ctx)
	if err != nil {
		return err
	}
	d.claim(now == active, standby.node+" handed back when it was drained", "%s is active", now.node)
	d.felt(killed, "kill -9 of "+active.node, active.node+" was killed", noticed)
	d.fact(standby.node+" took over", "%d connections, %d ms after %s's last heartbeat", took.Records.Held, total, active.node)
	d.felt(drained, "drain of "+standby.node, standby.node+" was drained", noticed)
	d.fact("errors and resets", "%d client errors, %d TCP resets", d.errors, d.resets)
	return nil
}

// killActive kills the active node and waits until both replicas advance through the other one.
func (d *demo) killActive(ctx context.Context, active, standby *gateway, start time.Time) (stall, error) {
	w, err := d.watch(ctx)
	if err != nil {
		return stall{}, err
	}
	if err := d.advance(ctx); err != nil {
		return stall{}, err
	}
	if err := active.proc.Kill(); err != nil {
		return stall{}, err
	}
	d.moment(start, "kill -9 %d: %s is gone", active.proc.PID, active.node)
	if err := d.advance(ctx); err != nil {
		return stall{}, err
	}
	d.moment(start, "both replicas advance, through %s", standby.node)
	return w.end()
}

// drain makes the active node hand over, and waits until both replicas advance.
func (d *demo) drain(ctx context.Context, active *gateway, start time.Time) (stall, error) {
	w, err := d.watch(ctx)
	if err != nil {
		return stall{}, err
	}
	if err := d.advance(ctx); err != nil {
		return stall{}, err
	}
	out, err := active.ask(ctx, "ha", "drain")
	if err != nil {
		return stall{}, err
	}
	d.command(active.node, "gw ha drain")
	d.text(out + "\n")
	if err := d.advance(ctx); err != nil {
		return stall{}, err
	}
	d.moment(start, "both replicas advance")
	return w.end()
}

// settled waits until red's pair is complete: one node is active, and the other
// one could take over.
func (d *demo) settled(ctx context.Context) (active, standby *gateway, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = lab.Until(ctx, "red's pair to be complete", func() (bool, error) {
		active, standby = nil, nil
		for _, g := range d.red.gws {
			h, err := g.ha(ctx)
			switch {
			case err != nil: // it does not answer yet
			case !h.Records.InSync:
			case h.Role == status.RoleActive:
				active = g
			case h.Role == status.RoleStandby:
				standby = g
			}
		}
		return active != nil && standby != nil, nil
	})
	return active, standby, err
}

// ha asks the running gateway for its view of the pair.
func (g *gateway) ha(ctx context.Context) (h status.HA, err error) {
	out, err := g.ask(ctx, "ha", "status", "--json")
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal([]byte(out), &h)
}

// show prints some sections of gw ha status.
func (d *demo) show(ctx context.Context, g *gateway, sections ...string) error {
	out, err := g.ask(ctx, "ha", "status")
	if err != nil {
		return err
	}
	d.command(g.node, "gw ha status")
	var keep []string
	for section := range strings.SplitSeq(out, "\n\n") {
		for _, s := range sections {
			if strings.HasPrefix(section, s+":") {
				keep = append(keep, section)
			}
		}
	}
	if len(keep) != len(sections) {
		return fmt.Errorf("gw ha status lacks some of %q:\n%s", sections, out)
	}
	d.text(strings.Join(keep, "\n\n") + "\n\n" + d.paint(dim, "…"))
	return nil
}
