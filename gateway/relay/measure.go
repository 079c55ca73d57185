package relay

import (
	"context"
	"net/netip"
	"time"

	"github.com/onewaylink/gw/gateway/sites"
)

// measureEvery is how often the paths to the other sites are measured.
const measureEvery = 500 * time.Millisecond

// runMeasures measures until ctx ends, and at once when a link has changed.
func (r *Relayer) runMeasures(ctx context.Context) error {
	tick := time.NewTicker(measureEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.changed:
		}
		r.measure()
	}
}

// measure gives the Board what hellos and trunks have measured.
func (r *Relayer) measure() {
	counted := r.pool.Stats().Ways
	var list []sites.Measure
	for _, p := range r.cfg.Links.Snapshot() {
		if p.Site == r.cfg.Self {
			continue
		}
		w := counted[r.trunkTo(p.Site, p.Node)]
		list = append(list, sites.Measure{
			Site: p.Site, Node: p.Node, RTT: p.RTT, Loss: max(p.LossOut, p.LossIn),
			Trunks: sites.Counters{Packets: w.Packets, Lost: w.Lost, Late: w.Late},
		})
	}
	r.cfg.Board.SetMeasures(list)
	r.setPeers(netip.Addr{})
}

// setPeers keeps trunks to the nodes that the Board names, but for one; the lock makes sure that
// the last call has the last word.
func (r *Relayer) setPeers(but netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var nodes []netip.Addr
	trunks := r.cfg.Board.Trunks()
	for _, t := range trunks {
		if t.Node != but {
			nodes = append(nodes, t.Node)
		}
	}
	r.pool.SetPeers(nodes)
	for _, t := range trunks {
		if t.Node != but {
			r.pool.SetWay(t.Node, t.MTU, t.RTT)
		}
	}
}
