package gateway

import (
	"net/netip"
	"slices"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/hostnet"
	"github.com/onewaylink/gw/gateway/link"
	"github.com/onewaylink/gw/gateway/link/hello"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/policy"
)

// judge lets the flow table ask the policy.
type judge struct {
	policy *policy.Policy
	rules  map[string]*flow.Rule // by name, which is unique
}

// newJudge makes the policy of the configuration's rules. They were checked when
// the configuration was read; an error here is one that that check missed.
func newJudge(c configs.Config) (*judge, error) {
	list := make([]policy.Rule, 0, len(c.Rules))
	j := &judge{rules: make(map[string]*flow.Rule, len(c.Rules))}
	for _, r := range c.Rules {
		mode, err := policy.ParseMode(string(r.Mode))
		if err != nil {
			return nil, err
		}
		pr := policy.Rule{
			Name: r.Name, Pos: r.Pos.String(), Mode: mode,
			From: hosts(r.From), To: hosts(r.To),
		}
		for _, p := range r.Ports {
			pr.Ports = append(pr.Ports, policy.Ports{Proto: p.Proto, Lo: p.Lo, Hi: p.Hi})
		}
		list = append(list, pr)
		j.rules[r.Name] = &flow.Rule{Name: r.Name, Pos: pr.Pos, Mode: flowMode(mode)}
	}
	var err error
	j.policy, err = policy.New(list)
	return j, err
}

// hosts are the addresses that a rule's from or to covers.
func hosts(list []configs.Endpoint) []policy.Hosts {
	out := make([]policy.Hosts, 0, len(list))
	for _, e := range list {
		out = append(out, policy.Hosts{Prefixes: e.Prefixes, Except: e.Except})
	}
	return out
}

// flowMode is a rule's mode as the flow table knows it.
func flowMode(m policy.Mode) flow.Mode {
	switch m {
	case policy.ModeRelay:
		return flow.ModeRelay
	case policy.ModeRoute:
		return flow.ModeRoute
	}
	return flow.ModeAuto
}

// Judge answers for the flow table. Trunks' packets don't pass that: what does is somebody
// else's, who would be taken for a gateway.
func (j *judge) Judge(src, dst netip.Addr, proto uint8, port uint16) *flow.Rule {
	if proto == wire.ProtoTrunk {
		return nil
	}
	v := j.policy.Judge(src, dst, proto, port)
	if !v.Allowed {
		return nil
	}
	return j.rules[v.Rule.Name]
}

var _ flow.Judge = (*judge)(nil)

// flowSites tells the table who owns which addresses.
func flowSites(c configs.Config) []flow.Site {
	self := c.SelfSite().Name
	var sites []flow.Site
	for _, s := range c.Sites {
		fs := flow.Site{Name: s.Name, Prefixes: s.Subnets}
		for _, l := range c.LinksOf(self) {
			if other, _ := l.Other(self); other == s.Name {
				fs.Linked = true
			}
		}
		sites = append(sites, fs)
	}
	return sites
}

// nodeAddresses lists the own addresses of all nodes.
func nodeAddresses(c configs.Config) []netip.Addr {
	var out []netip.Addr
	for _, s := range c.Sites {
		for _, n := range s.Nodes {
			out = append(out, n.Addresses...)
		}
	}
	return out
}

// linkPeers lists the nodes at the other ends of this node's links, and the
// sibling.
func linkPeers(c configs.Config) []link.Peer {
	self := c.SelfSite().Name
	var peers []link.Peer
	for i, n := range c.SelfSite().Nodes {
		if i == c.Self.Node {
			continue
		}
		peers = append(peers, link.Peer{
			PublicKey: n.PublicKey, Site: self, Node: n.Name, Addresses: n.Addresses, Endpoint: n.SiblingEndpoint,
			Dial:     c.Self.Node == 0, // one of the two, so that their handshakes don't cross
			Sections: sections(c, self),
		})
	}
	for _, l := range c.LinksOf(self) {
		name, _ := l.Other(self)
		site, _ := c.Site(name)
		for i, n := range site.Nodes {
			p := link.Peer{
				PublicKey: n.PublicKey, Site: site.Name, Node: n.Name,
				Addresses: n.Addresses, Endpoint: n.Endpoint,
				Dial: l.Initiator == self, Keepalive: l.Keepalive,
				Sections: sections(c, site.Name),
			}
			if i == 0 {
				p.Subnets = site.Subnets // the first node is the one that is active at first
			}
			peers = append(peers, p)
		}
	}
	return peers
}

func sections(c configs.Config, peerSite string) []hello.Section {
	var out []hello.Section
	for _, s := range c.Sections(peerSite) {
		hs := hello.Section{Name: s.Name, Digest: s.Digest}
		for _, a := range s.Attrs {
			hs.Attrs = append(hs.Attrs, hello.Attr{Name: a.Name, Digest: a.Digest, Fatal: a.Fatal})
		}
		out = append(out, hs)
	}
	return out
}

// hostConfig is what the host has to be given.
func hostConfig(c configs.Config) hostnet.Config {
	self := c.SelfSite()
	hc := hostnet.Config{
		Device: c.Local.TUN.Name, Addresses: c.SelfNode().Addresses,
		Site: self.Subnets, LAN: c.Local.LAN,
	}
	for _, l := range c.LinksOf(self.Name) {
		name, _ := l.Other(self.Name)
		site, _ := c.Site(name)
		for _, p := range site.Subnets {
			r := hostnet.Route{Prefix: p, Congctl: c.Local.TUN.CongCtl}
			if self.Pair != nil {
				// Only the active node may send with the site's other addresses.
				r.Src = ownAddress(c.SelfNode(), p.Addr().Is4())
			}
			hc.Routes = append(hc.Routes, r)
		}
	}
	return hc
}

// ownAddress is the node's address of a family; not valid if it has none.
func ownAddress(n configs.Node, v4 bool) netip.Addr {
	for _, a := range n.Addresses {
		if a.Is4() == v4 {
			return a
		}
	}
	return netip.Addr{}
}

// checkConfig is what the host is to be fit for.
func checkConfig(c configs.Config, h hostnet.Config) hostnet.CheckConfig {
	cc := hostnet.CheckConfig{Device: h.Device, MTU: c.Local.TUN.MTU, LAN: h.LAN, Site: h.Site}
	for _, r := range h.Routes {
		cc.Remote = append(cc.Remote, r.Prefix)
	}
	for _, p := range linkPeers(c) {
		if ap, err := netip.ParseAddrPort(p.Endpoint); err == nil && p.Dial {
			cc.Endpoints = append(cc.Endpoints, ap.Addr())
		}
		if p.Dial {
			continue
		}
		// It dials this node, where that says that it can be dialled.
		at := c.SelfNode().Endpoint
		if p.Site == c.SelfSite().Name {
			at = c.SelfNode().SiblingEndpoint
		}
		ap, err := netip.ParseAddrPort(at)
		cc.ListenPort = c.Local.ListenPort
		cc.Listen4 = cc.Listen4 || err != nil || ap.Addr().Is4() // a name's address is hardly IPv6 only
		cc.Listen6 = cc.Listen6 || err == nil && ap.Addr().Is6()
	}
	return cc
}

// siteOf finds the site that an address belongs to, or -1.
func siteOf(c configs.Config, a netip.Addr) int {
	return slices.IndexFunc(c.Sites, func(s configs.Site) bool {
		return slices.ContainsFunc(s.Subnets, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

// siteIndex finds a site by name.
func siteIndex(c configs.Config, name string) int {
	return slices.IndexFunc(c.Sites, func(s configs.Site) bool { return s.Name == name })
}
