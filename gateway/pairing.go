package gateway

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/health"
	"github.com/onewaylink/gw/gateway/hostnet"
	"github.com/onewaylink/gw/gateway/pair"
	"github.com/onewaylink/gw/gateway/restore"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/ha"
	"github.com/onewaylink/gw/ha/vip"
	"github.com/onewaylink/gw/netstack/wire"
)

// paired reports whether this node's site, or one that is linked to it, has two
// nodes. A network without pairs holds no elections.
func paired(c configs.Config) bool {
	for _, s := range pairSites(c) {
		if len(s.Nodes) > 1 {
			return true
		}
	}
	return false
}

// pairSites are this node's site and those that are linked to it.
func pairSites(c configs.Config) []pair.Site {
	var out []pair.Site
	for _, name := range append([]string{c.SelfSite().Name}, linkedSites(c)...) {
		s, _ := c.Site(name)
		ps := pair.Site{Name: s.Name, Subnets: s.Subnets}
		for _, n := range s.Nodes {
			ps.Nodes = append(ps.Nodes, pair.Node{Name: n.Name, Key: ha.NodeID(n.PublicKey)})
		}
		out = append(out, ps)
	}
	return out
}

// newPair makes this node's part in the election.
func (g *Gateway) newPair(boot uint64, changes *pair.Changes) error {
	c, node := g.cfg, g.cfg.SelfNode()
	pc := pair.Config{
		Self: pair.Node{Name: node.Name, Key: ha.NodeID(node.PublicKey)}, Sites: pairSites(c),
		StateDir: c.Local.StateDir, HAPort: wire.HAPort, StrayPort: wire.StrayPort,
		Tunnels: g.link, Flows: &restore.Replica{Table: g.table, File: g.store, Log: g.log}, Path: g.path, Process: g.pulse, Board: g.board, Changes: changes,
		Fit: g.health.Works, OnEvent: g.journal.Pair, Logger: g.log,
	}
	for _, n := range c.SelfSite().Nodes {
		if n.Name == node.Name {
			continue
		}
		key, err := c.Local.PrivateKey.Common(n.PublicKey, pair.KeyLabel)
		if err != nil {
			return fmt.Errorf("derive the key of the pair with %s: %w; make a key for each node with `gw genkey`, and copy the public one from it", n.Name, err)
		}
		pc.Auth = pair.NewAuthenticator(key)
	}
	if p := c.SelfSite().Pair; p != nil {
		pc.Heartbeat, pc.DeadAfter = p.Heartbeat, p.DeadAfter
		pc.OnActive, pc.OnStandby, pc.CommandTimeout = p.OnActive, p.OnStandby, p.CommandTimeout
		if len(p.VIP) > 0 {
			var addrs []netip.Addr
			for _, v := range p.VIP {
				addrs = append(addrs, v.Addr())
			}
			keeper, err := vip.New(vip.Config{Interface: c.Local.LAN, Addresses: addrs, Logger: g.log})
			if err != nil {
				return err
			}
			g.address = &lanAddress{hostnet.NewLeased(keeper, c.Local.TUN.Name, addrs, g.log), keeper}
			g.health.Watch(g.address.findings)
			pc.Address, pc.Addresses = g.address, addrs
		}
	}
	var err error
	g.pair, err = pair.New(pc, boot)
	return err
}

// lanAddress is the LAN's next hop: the Keeper answers for it on the LAN, and the TUN has it while
// this node holds it.
type lanAddress struct {
	*hostnet.Leased
	keeper *vip.Keeper
}

var _ pair.Address = (*lanAddress)(nil)

func (a *lanAddress) MAC() net.HardwareAddr       { return a.keeper.MAC() }
func (a *lanAddress) Expect(mac net.HardwareAddr) { a.keeper.SetSibling(mac) }
func (a *lanAddress) Conflict() pair.Conflict     { return pair.Conflict(a.keeper.Conflict()) }
func (a *lanAddress) Stats() pair.AddressStats    { return pair.AddressStats(a.keeper.Stats()) }

// findings reports another host that has claimed the address lately.
func (a *lanAddress) findings() []health.Finding {
	c := a.Conflict()
	if c.MAC == nil || time.Since(c.At) >= status.ConflictLasts {
		return nil
	}
	return []health.Finding{{
		Fault: health.AddressTaken, What: fmt.Sprintf("%s is claimed by another host, %s", c.Address, c.MAC),
		Do: "find the host by its link address and give it another address: bridge fdb show, or the switch's table",
	}}
}

// haControl lets commands reach the pair, which is made after the control socket.
type haControl struct{ gw *Gateway }

var _ control.HA = haControl{}

func (h haControl) Status() status.HA { return h.gw.pair.Status() }

// Drain first hands relayed connections back to the raw path, which is handed over
// without a loss.
func (h haControl) Drain(ctx context.Context, force bool) (status.Failover, error) {
	h.gw.board.SetDraining(true)
	h.gw.relay.Drain(ctx)
	f, err := h.gw.pair.Drain(ctx, force)
	if err != nil {
		h.gw.board.SetDraining(false)
	}
	return f, err
}

func (h haControl) Failover(ctx context.Context) (status.Failover, error) {
	return h.gw.pair.Failover(ctx)
}
func (h haControl) Test(ctx context.Context) (status.HATest, error) { return h.gw.pair.Test(ctx) }
