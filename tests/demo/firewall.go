package main

import (
	"context"
	"net/netip"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// tries bounds an attempt that should get no answer: long enough for a SYN and its
// first retransmission.
const tries = 2 * time.Second

// firewall tries both directions without gw: from gateway to gateway, where only
// the firewall stands between, and from database to database.
func (d *demo) firewall(ctx context.Context) error {
	const port = 7
	servers := map[*site]netip.AddrPort{}
	for _, s := range d.sites() {
		srv, err := lab.EchoTCP(ctx, s.GW().Namespace, netip.AddrPortFrom(s.GW().WAN4, port))
		if err != nil {
			return err
		}
		defer srv.Close()
		servers[s] = srv.Addr
	}
	start := time.Now()
	err := connect(ctx, d.red.GW().Namespace, servers[d.gray])
	d.claim(err == nil, "without gw, red's gateway reaches gray's", "in %d ms", time.Since(start).Milliseconds())

	answers := make(chan error)
	go func() { answers <- connect(ctx, d.gray.GW().Namespace, servers[d.red]) }()
	go func() {
		answers <- connect(ctx, d.gray.DB().Namespace, netip.AddrPortFrom(d.red.DB().LAN4, lab.PostgresPort))
	}()
	refused := 0
	for range 2 {
		if err := <-answers; err != nil {
			refused++
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d.probes, err = d.lab.Refused(); err != nil {
		return err
	}
	d.claim(refused == 2, "without gw, gray reaches neither gateway nor database of red", "no answer")
	d.claim(d.probes > 0, "the firewall dropped and counted gray's attempts", "%d packets", d.probes)
	return nil
}

func connect(ctx context.Context, from *lab.Namespace, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, tries)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	return c.Close()
}
