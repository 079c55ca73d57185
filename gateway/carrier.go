package gateway

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/link"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/netstack"
)

// linkChanged hears from the link what has become of a node.
func (g *Gateway) linkChanged(p link.PeerState) {
	g.nodesMu.Lock()
	before := g.nodes[p.Node]
	g.nodes[p.Node] = p
	first := p.Up && !g.everUp[p.Node]
	if p.Up {
		g.everUp[p.Node] = true
	}
	carries := g.carriers[p.Site] == p.Node
	g.nodesMu.Unlock()

	sibling := p.Site == g.cfg.SelfSite().Name
	switch {
	case sibling && p.Refused:
		g.pair.SetSibling("its configuration differs in what a pair must agree on")
	case sibling && p.Up:
		g.pair.SetSibling("")
	case carries:
		g.showPath(p)
	}
	switch {
	case sibling:
	case !p.Up:
		g.relaying.lost(p, netstack.EndLinkDown)
	case before.Boot != 0 && before.Boot != p.Boot:
		g.relaying.lost(p, netstack.EndRestarted)
	}
	if !p.Up {
		return
	}
	g.relaying.linkChanged()
	if first {
		g.say(fmt.Sprintf("link to %s (site %s) up", p.Node, p.Site), time.Since(g.started))
	} else if carries && !before.Up {
		g.wake(p.Site)
	}
	if p.GW && !sibling {
		for _, n := range g.cfg.Sites[parts.SiteIndex(g.cfg, p.Site)].Nodes {
			if n.Name == p.Node {
				g.restorer.linkUp(p.Site, n.Addresses[0])
			}
		}
	}
}

// carrier is the node that carries a site now.
func (g *Gateway) carrier(site string) string {
	g.nodesMu.Lock()
	defer g.nodesMu.Unlock()
	return g.carriers[site]
}

// follows reports whether this node stands by: its sibling carries the site.
func (g *Gateway) follows() bool { return g.table.Standby() }

// setCarrier hears from the pair which node carries a site from now on.
func (g *Gateway) setCarrier(site, node string) {
	g.nodesMu.Lock()
	g.carriers[site] = node
	p, known := g.nodes[node]
	g.nodesMu.Unlock()
	g.relaying.moved(site, node)
	if !known {
		p = link.PeerState{Site: site, Node: node}
	}
	g.showPath(p)
}

// showPath tells the data path about the way to a site: the way to its carrier. A
// way that was up stays open while hellos get lost: the packets that try it then
// are the first through when it is back, and that side of it which has not heard
// so yet does not stop the answers.
func (g *Gateway) showPath(p link.PeerState) {
	g.nodesMu.Lock()
	open := p.Up || g.everUp[p.Node]
	w := g.ways[p.Site]
	g.nodesMu.Unlock()
	g.path.SetSite(parts.SiteIndex(g.cfg, p.Site), flow.SiteState{Up: open, Refused: p.Refused, MTU: p.MTU, Partial: p.PartialChecksums, WAN: w.wan, Lossy: w.lossy})
}

// wake has the senders of this site woken whose bytes toward a site are in
// flight. It doesn't block.
func (g *Gateway) wake(site string) {
	select {
	case g.wakes <- site:
	default: // many are under way, and they wake the same senders; or it is switched off
	}
}

// runWakes wakes senders on both sides until ctx ends. What a second takeover asks
// for ends what the first did: it begins with all of them anew.
func (g *Gateway) runWakes(ctx context.Context) error {
	var rounds errgroup.Group // none fails
	stop := map[string]context.CancelFunc{}
	defer func() { _ = rounds.Wait() }()
	for {
		var site string
		select {
		case <-ctx.Done():
			return nil
		case site = <-g.wakes:
		}
		if end := stop[site]; end != nil {
			end()
		}
		i := parts.SiteIndex(g.cfg, site)
		round, end := context.WithCancel(ctx)
		stop[site] = end
		rounds.Go(func() error {
			defer end()
			retold := g.path.Retell(round, i)
			if n := g.path.WakeFlows(round, i); n+retold > 0 {
				g.log.Info("woke connections with bytes in flight", "site", site, "here", n, "there", retold)
			}
			return nil
		})
	}
}
