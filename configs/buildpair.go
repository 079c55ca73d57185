package configs

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxDeadAfter is the longest silence: beyond it databases give up.
const maxDeadAfter = 10 * time.Second

// pair returns how a site's two nodes stand in for each other, nil with one node.
func (b *builder) pair(s rawSite) *Pair {
	if s.pair != nil && len(s.nodes) < 2 {
		b.errorAt(s.pair.at, "Add the second node, or take the pair block away.", "site %q has a pair block but %d node", s.name.s, len(s.nodes))
		return nil
	}
	if len(s.nodes) < 2 {
		return nil
	}
	p := &Pair{}
	setDefaults(pairSettings, p)
	if s.pair == nil {
		return p
	}
	p.OnActive = b.command("on_active", s.pair.onActive)
	p.OnStandby = b.command("on_standby", s.pair.onStandby)
	setValues(b, pairSettings, s.pair.rawSettings, p)
	b.timing(s.pair, p)
	return p
}

// timing checks when a sibling counts as dead.
func (b *builder) timing(raw *rawPair, p *Pair) {
	rng := raw.at
	if h := raw.periods["heartbeat"]; h != nil {
		if rng = h.at; h.d != p.Heartbeat {
			return // reported
		}
	}
	if h := raw.periods["dead_after"]; h != nil {
		rng = h.at
	}
	if p.DeadAfter < 2*p.Heartbeat || p.DeadAfter > maxDeadAfter {
		b.errorAt(rng, fmt.Sprintf("One heartbeat may be late: choose dead_after between %s and 10s.", 2*p.Heartbeat), "dead_after of %s with a heartbeat of %s", p.DeadAfter, p.Heartbeat)
	}
}

// command checks a program and its arguments; nil when there is none. Whether
// the program is there only its node can know.
func (b *builder) command(name string, list []text) []string {
	if len(list) == 0 {
		return nil
	}
	var out []string
	for _, t := range list {
		if strings.ContainsFunc(t.s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			b.errorAt(t.at, "Write it on one line; a longer text belongs into the program.", "%s: an argument holds a control character", name)
		}
		out = append(out, t.s)
	}
	const form = "No shell reads it: name the program by its whole path, and give each argument an entry of its own: [\"/usr/local/bin/move-address\", \"eth0\"]."
	switch program := list[0]; {
	case !filepath.IsAbs(program.s):
		b.errorAt(program.at, form, "%s: %q is not the whole path of a program", name, program.s)
	case len(list) == 1 && strings.Contains(program.s, " "):
		b.errorAt(program.at, form, "%s: %q looks like a program with arguments", name, program.s)
	}
	return out
}

// siblingEndpoints fills in and checks where the nodes of each pair dial each
// other. It needs the addresses and endpoints of all nodes.
func (b *builder) siblingEndpoints() {
	for i, raw := range b.built {
		nodes := b.cfg.Sites[i].Nodes
		for j, n := range raw.nodes {
			switch t := n.sibling; {
			case t == nil && len(nodes) == 2:
				nodes[j].SiblingEndpoint = nodes[j].Endpoint
			case t == nil:
			case len(nodes) < 2:
				b.errorAt(t.at, "Take the line away, or add the second node.", "node %q has a sibling_endpoint but no sibling", n.name.s)
			case b.siblingEndpoint(raw, *t):
				nodes[j].SiblingEndpoint = t.s
			}
		}
		if len(nodes) != 2 || nodes[0].SiblingEndpoint == "" {
			continue
		}
		if t := raw.nodes[1].sibling; t != nil && (t.s == nodes[0].SiblingEndpoint || t.s == nodes[0].Endpoint) {
			b.errorAt(t.at, "Each has its own.", "sibling_endpoint %s belongs to the other node of the pair", t.s)
		} else if t := raw.nodes[0].sibling; t != nil && (t.s == nodes[1].SiblingEndpoint || t.s == nodes[1].Endpoint) {
			b.errorAt(t.at, "Each has its own.", "sibling_endpoint %s belongs to the other node of the pair", t.s)
		}
	}
}

// siblingEndpoint checks the host:port under which one node of a pair dials the
// other. Unlike an endpoint it may lie in the site's own subnets, which the
// nodes reach on the LAN.
func (b *builder) siblingEndpoint(s rawSite, t text) bool {
	host, ok := b.hostPort("sibling_endpoint", t)
	if !ok {
		return false
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return true
	}
	const hint = "Give the address that the node has on the LAN or on a wire between the two."
	if site, ok := b.owner(single(a)); ok && site != s.name.s {
		b.errorAt(t.at, hint, "sibling_endpoint %s lies in the subnets of site %q: packets to it would enter the tunnel", t.s, site)
		return false
	}
	if _, ok := b.addrAt[a.Unmap()]; ok {
		b.errorAt(t.at, hint, "sibling_endpoint %s is a node's address inside the tunnel: packets to it would enter the tunnel that they carry", t.s)
		return false
	}
	return true
}

// vips fills in and checks the pairs' LAN addresses. It needs the addresses of
// all nodes.
func (b *builder) vips() {
	for i, raw := range b.built {
		p := b.cfg.Sites[i].Pair
		if p == nil || raw.pair == nil {
			continue
		}
		for _, t := range raw.pair.vip {
			if v, ok := b.vip(raw, p.VIP, t); ok {
				p.VIP = append(p.VIP, v)
			}
		}
	}
}

func (b *builder) vip(s rawSite, others []netip.Prefix, t text) (netip.Prefix, bool) {
	v, err := netip.ParsePrefix(t.s)
	a := v.Addr()
	wrong := func(hint, format string, args ...any) (netip.Prefix, bool) {
		b.errorAt(t.at, hint, format, args...)
		return v, false
	}
	if err != nil || a.Is4In6() {
		return wrong("Write the address with the length of the LAN's subnet: \"192.168.1.10/24\".", "vip: %q is not an address with a length", t.s)
	}
	const free = "Choose a free address of the LAN, with the length of the LAN's subnet."
	switch {
	case v.Bits() == 0 || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
		return wrong(free, "vip: %s can't be an address of a LAN", v)
	case v.Bits() < a.BitLen()-1 && (a == v.Masked().Addr() || a.Is4() && !v.Contains(a.Next())):
		return wrong(free, "vip: %s is the first or the last address of its subnet, which no host may have", v)
	}
	if slices.ContainsFunc(others, func(o netip.Prefix) bool { return o.Addr() == a }) {
		return wrong("Take one of them away.", "vip: %s is there twice", a)
	}
	if prev, ok := b.addrAt[a]; ok {
		return wrong(fmt.Sprintf("The node has it at %s, and keeps it. %s", at(prev), free), "vip: %s is the address of a node", a)
	}
	if site, ok := b.owner(single(a)); ok && site != s.name.s {
		return wrong(free, "vip: %s lies in the subnets of site %q", a, site)
	}
	for _, n := range s.nodes {
		if n.sibling == nil {
			continue
		}
		if host, _, _ := net.SplitHostPort(n.sibling.s); host == a.String() {
			return wrong("The vip moves between the nodes. "+free, "vip: %s is the sibling_endpoint of node %q", a, n.name.s)
		}
	}
	return v, true
}

// ownPair checks what a node needs to form a pair with its sibling. A file that
// was rendered for another site doesn't tell how the nodes of this one reach
// each other, so only the own site counts; where that is unknown,
// any whose pair block is there.
func (b *builder) ownPair() {
	for i, raw := range b.built {
		own := b.cfg.Self.Known && b.cfg.Self.Site == i
		if len(raw.nodes) != 2 || !own && (b.cfg.Self.Known || raw.pair == nil) {
			continue
		}
		for _, n := range raw.nodes {
			if n.endpoint == nil && n.sibling == nil {
				b.errorAt(n.at, "Add sibling_endpoint = \"HOST:PORT\": where its sibling reaches it outside the tunnel, on the LAN or on a wire between the two.",
					"node %q of a pair has neither sibling_endpoint nor endpoint", n.name.s)
			}
		}
		if !own {
			continue
		}
		if raw.pair != nil && len(raw.pair.vip) > 0 && b.cfg.Local.LAN == "" && b.raw.local.texts["lan"] == nil {
			b.errorAt(raw.pair.vip[0].at, "Add it to the local block of this machine: lan = \"eth0\".", "a vip, but no lan: the interface that it belongs to isn't told")
		}
		b.listenPort(raw.nodes[b.cfg.Self.Node])
	}
}

// listenPort checks that the one socket of this node is the one that its
// sibling dials. The endpoint's port may be another: a NAT may map it.
func (b *builder) listenPort(n rawNode) {
	node, l := b.cfg.SelfNode(), b.cfg.Local
	if n.sibling == nil || node.SiblingEndpoint == "" || portOf(node.SiblingEndpoint) == l.ListenPort {
		return
	}
	b.errorAt(n.sibling.at, fmt.Sprintf("Make it the same port; or, where a NAT maps the endpoint's port, add listen_port = %d to the local block.", portOf(node.SiblingEndpoint)),
		"sibling_endpoint %s, but this node listens on port %d", node.SiblingEndpoint, l.ListenPort)
}

// portOf returns the port of a checked host:port, 0 when there is none.
func portOf(hostPort string) uint16 {
	_, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(port, 10, 16) // checked before
	return uint16(n)
}
