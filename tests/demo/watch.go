package main

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// watch measures the traffic at both databases' interfaces while a gateway fails.
type watch struct {
	replication, clients, far lab.TCPStats
	near, opposite            *lab.Capture
}

// watch begins to measure.
func (d *demo) watch(ctx context.Context) (*watch, error) {
	subscribers := map[string]bool{}
	for _, s := range d.sites() {
		ports, err := s.pg.SQL(ctx, "postgres", "select client_addr, client_port from pg_stat_replication")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(ports) {
			addr, port, _ := strings.Cut(strings.TrimSpace(line), "|")
			subscribers[addr+":"+port] = true
		}
	}
	replicates := func(s lab.Segment) bool { return subscribers[s.Src.String()] || subscribers[s.Dst.String()] }
	w := &watch{
		replication: lab.TCPStats{Only: replicates},
		clients:     lab.TCPStats{Only: func(s lab.Segment) bool { return !replicates(s) && ours(s.Src) && ours(s.Dst) }},
	}
	// One place sees the connections of both directions; resets may be one side's.
	var err error
	w.near, err = d.red.DB().Capture("lan0", lab.CaptureConfig{Each: func(p lab.Packet) { w.replication.Each(p); w.clients.Each(p) }})
	if err != nil {
		return nil, err
	}
	w.opposite, err = d.gray.DB().Capture("lan0", lab.CaptureConfig{Each: w.far.Each})
	return w, err
}

// ours reports whether an address belongs to the sites; other traffic is a host's own.
func ours(a netip.AddrPort) bool { return a.Addr().IsPrivate() }

// stall is how long the databases' traffic paused.
type stall struct {
	replication, clients time.Duration
	resets               int
}

// end ends the watch.
func (w *watch) end() (st stall, err error) {
	if err := w.near.Stop(); err != nil {
		return st, err
	}
	if err := w.opposite.Stop(); err != nil {
		return st, err
	}
	r, c := w.replication.Counts(), w.clients.Counts()
	return stall{
		replication: r.LongestStall, clients: c.LongestStall,
		resets: r.RSTs + c.RSTs + w.far.Counts().RSTs,
	}, nil
}

// felt claims that a stall was short, and keeps it for the summary.
func (d *demo) felt(st stall, what, happened string, limit time.Duration) {
	r, c := st.replication.Milliseconds(), st.clients.Milliseconds()
	d.claim(st.replication < limit, "replication paused when "+happened, "%d ms", r)
	d.claim(st.clients < limit, "clients waited when "+happened, "%d ms at most", c)
	d.claim(st.resets == 0, "TCP resets at the databases when "+happened, "%d", st.resets)
	d.fact(what, "replication paused for %d ms, clients %d ms", r, c)
	d.resets += st.resets
}
