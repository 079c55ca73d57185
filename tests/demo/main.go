// Command demo shows what gw is for, on one machine: two sites in network
// namespaces, a firewall between them that lets red dial and not gray, a real
// PostgreSQL at each, replication in both directions, and gateways that are
// killed during replication: gray's only one, which is restarted, and the active
// one of red's pair, which is not. It prints what it does, checks its claims, and
// exits with code 1 if one is wrong. `make demo` runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// patience bounds the whole demo, which takes half a minute on an idle machine.
const patience = 3 * time.Minute

// wan is the delay between the two sites, one way.
const wan = 5 * time.Millisecond

func main() {
	gw := flag.String("gw", "bin/gw", "the gateway's program")
	flag.Parse()
	os.Exit(run(*gw))
}

func run(gw string) int {
	asked, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(asked, patience)
	defer cancel()
	d := &demo{stage: newStage(os.Stdout)}
	err := d.play(ctx, gw)
	switch {
	case asked.Err() != nil:
		d.failed(errors.New("interrupted"))
	case err != nil:
		d.failed(err)
		d.logs()
	}
	if err := errors.Join(d.close(), lab.Cleanup()); err != nil {
		d.failed(fmt.Errorf("remove the lab: %w", err))
	}
	d.summary()
	if d.wrong > 0 {
		return 1
	}
	return 0
}

// demo is the state that the acts share.
type demo struct {
	*stage
	lab       *lab.Lab
	red, gray *site
	probes    uint64 // what the firewall has dropped of gray's attempts without gw

	errors int64 // of the applications
	resets int   // at the databases
}

// site is one side: its place in the lab, its database server and its gateways,
// which are a pair in red.
type site struct {
	*lab.Site
	pg  *lab.Postgres
	gws []*gateway
	// bank is the database that this site writes; the other holds a replica.
	bank string
}

func (d *demo) sites() []*site { return []*site{d.red, d.gray} }

// gateways returns the gateways of both sites that exist so far.
func (d *demo) gateways() (all []*gateway) {
	for _, s := range d.sites() {
		if s != nil {
			all = append(all, s.gws...)
		}
	}
	return all
}

// other returns the other site.
func (d *demo) other(s *site) *site {
	if s == d.red {
		return d.gray
	}
	return d.red
}

// play runs the acts. Each relies on those before it.
func (d *demo) play(ctx context.Context, gw string) error {
	gw, err := filepath.Abs(gw)
	if err != nil {
		return err
	}
	for _, act := range []struct {
		title string
		play  func(context.Context) error
	}{
		{"Two sites, two databases, a firewall", d.network},
		{"What the firewall does to gray", d.firewall},
		{"One file, and gw up on each gateway", func(ctx context.Context) error { return d.bringUp(ctx, gw) }},
		{"Replication in both directions", d.replication},
		{"Load, and kill -9", d.restart},
		{"Red's active gateway dies, and stays dead", d.takeover},
		{"Is anything lost?", d.checksums},
		{"What gw shows", d.status},
	} {
		d.act(act.title)
		if err := act.play(ctx); err != nil {
			return fmt.Errorf("%s: %w", act.title, err)
		}
	}
	return nil
}

// network builds the lab and starts the servers.
func (d *demo) network(ctx context.Context) error {
	var err error
	if d.lab, err = lab.Open(lab.Config{Impaired: true, Red: lab.SiteConfig{Gateways: 2, FloatingRouter: true}}); err != nil {
		return err
	}
	d.lab.Box.SetBoth(lab.Impairment{Delay: wan})
	d.red = &site{Site: d.lab.Red, bank: "red_bank"}
	d.gray = &site{Site: d.lab.Gray, bank: "gray_bank"}
	for _, s := range d.sites() {
		if s.pg, err = lab.StartPostgres(ctx, d.lab, s.DB().Namespace, lab.PostgresConfig{}); err != nil {
			return err
		}
	}
	version, err := d.red.pg.SQL(ctx, "postgres", "show server_version")
	if err != nil {
		return err
	}
	reds := d.red.Gateways
	d.text(fmt.Sprintf(`
  red, inside                                                    gray, the DMZ

                 %s
               ┌──── gateway ────┐
  PostgreSQL ──┤     a pair      ├── firewall ────── gateway ───── PostgreSQL
  %-13s└──── gateway ────┘  red may dial   %-15s %s
                 %s       gray may not`,
		reds[0].WAN4, d.red.DB().LAN4, d.gray.GW().WAN4, d.gray.DB().LAN4, reds[1].WAN4))
	version, _, _ = strings.Cut(version, " ")
	d.say("Network namespaces, the kernel's nftables, %v of WAN each way, and two\nPostgreSQL servers, version %s.", wan, version)
	return nil
}

// logs prints the last lines of the gateways' logs after a failure.
func (d *demo) logs() {
	for _, g := range d.gateways() {
		if g.proc != nil {
			d.say("Last lines of the log of %s:\n%s", g.node, g.proc.Log.Tail(15))
		}
	}
}

// close removes everything.
func (d *demo) close() error {
	if d.lab == nil {
		return nil
	}
	return d.lab.Close()
}
