package parts

import (
	"net/netip"
	"slices"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/hostnet"
	"github.com/onewaylink/gw/gateway/link"
	"github.com/onewaylink/gw/gateway/link/hello"
	"github.com/onewaylink/gw/gateway/sites"
)

// FlowSites lists the sites with their addresses, for the flow table.
func FlowSites(c configs.Config) []flow.Site {
	self := c.SelfSite().Name
	var out []flow.Site
	for _, s := range c.Sites {
		fs := flow.Site{Name: s.Name, Prefixes: s.Subnets}
		for _, l := range c.LinksOf(self) {
			if other, _ := l.Other(self); other == s.Name {
				fs.Linked = true
			}
		}
		out = append(out, fs)
	}
	return out
}

// Sites lists the sites with their nodes, in the order of FlowSites.
func Sites(c configs.Config) []sites.Site {
	v4 := c.SelfNode().Addresses[0].Is4()
	var out []sites.Site
	for _, s := range c.Sites {
		st := sites.Site{Name: s.Name}
		for _, n := range s.Nodes {
			st.Nodes = append(st.Nodes, sites.Node{Name: n.Name, Addresses: n.Addresses, Trunk: OwnAddress(n, v4)})
		}
		out = append(out, st)
	}
	return out
}

// NodeAddresses lists the own addresses of all nodes.
func NodeAddresses(c configs.Config) []netip.Addr {
	var out []netip.Addr
	for _, s := range c.Sites {
		for _, n := range s.Nodes {
			out = append(out, n.Addresses...)
		}
	}
	return out
}

// LinkPeers lists the sibling and the nodes at the other ends of this node's links.
func LinkPeers(c configs.Config) []link.Peer {
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
				p.Subnets = site.Subnets // the site's first node is active until an election
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

// HostSpec returns what the node needs of its host.
func HostSpec(c configs.Config) hostnet.Spec {
	t, net := c.Local.TUN, hostConfig(c)
	return hostnet.Spec{
		TUN:   hostnet.TUNConfig{Name: t.Name, MTU: t.MTU, Driver: string(t.Driver), Persist: t.Persist},
		Net:   net,
		Check: checkConfig(c, net),
	}
}

// hostConfig returns the addresses and routes that the node's host needs.
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
				r.Src = OwnAddress(c.SelfNode(), p.Addr().Is4())
			}
			hc.Routes = append(hc.Routes, r)
		}
	}
	return hc
}

// OwnAddress returns the node's address of an IP version, or the zero Addr.
func OwnAddress(n configs.Node, v4 bool) netip.Addr {
	for _, a := range n.Addresses {
		if a.Is4() == v4 {
			return a
		}
	}
	return netip.Addr{}
}

// checkConfig returns what the checks of the host must know.
func checkConfig(c configs.Config, h hostnet.Config) hostnet.CheckConfig {
	cc := hostnet.CheckConfig{Device: h.Device, MTU: c.Local.TUN.MTU, LAN: h.LAN, Site: h.Site}
	for _, r := range h.Routes {
		cc.Remote = append(cc.Remote, r.Prefix)
	}
	for _, p := range LinkPeers(c) {
		if ap, err := netip.ParseAddrPort(p.Endpoint); err == nil && p.Dial {
			cc.Endpoints = append(cc.Endpoints, ap.Addr())
		}
		if p.Dial {
			continue
		}
		// The peer dials this node, at the endpoint that this node's block names.
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

// SiteOf returns the index of the site that an address belongs to, or -1.
func SiteOf(c configs.Config, a netip.Addr) int {
	return slices.IndexFunc(c.Sites, func(s configs.Site) bool {
		return slices.ContainsFunc(s.Subnets, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

// SiteIndex returns the index of the site of that name, or -1.
func SiteIndex(c configs.Config, name string) int {
	return slices.IndexFunc(c.Sites, func(s configs.Site) bool { return s.Name == name })
}

// LinkedPrefixes returns the subnets of the sites that this node's site has a link with.
func LinkedPrefixes(c configs.Config) (out []netip.Prefix) {
	for _, r := range hostConfig(c).Routes {
		out = append(out, r.Prefix)
	}
	return out
}

// SiteOfNode names the site whose node has an address.
func SiteOfNode(c configs.Config, a netip.Addr) (site string, ok bool) {
	for _, s := range c.Sites {
		for _, n := range s.Nodes {
			if slices.Contains(n.Addresses, a) {
				return s.Name, true
			}
		}
	}
	return "", false
}
