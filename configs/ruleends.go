package configs

import (
	"net/netip"
	"slices"
	"strings"
)

// wholeSite returns the entry for a site that a rule names.
//
// It does not cover the own addresses of the site's nodes: a rule for databases must not open the
// gateway's sshd as well. A rule that means a gateway names the node, its address or a prefix. Only
// a site that consists of nothing but its nodes, as a database host with its own gateway does, is
// covered in full, for otherwise its name would cover nothing.
func wholeSite(s Site) Endpoint {
	e := Endpoint{Site: s.Name, Whole: true, Prefixes: s.Subnets}
	var own []netip.Addr
	for _, n := range s.Nodes {
		own = append(own, n.Addresses...)
	}
	if slices.ContainsFunc(s.Subnets, func(p netip.Prefix) bool { return !p.IsSingleIP() || !slices.Contains(own, p.Addr()) }) {
		e.Except = own
	}
	return e
}

// named returns the entry for a node that a rule names.
func (b *builder) named(name string) (Endpoint, bool) {
	for _, s := range b.cfg.Sites {
		for _, n := range s.Nodes {
			if n.Name != name {
				continue
			}
			e := Endpoint{Site: s.Name, Node: name}
			for _, a := range n.Addresses {
				e.Prefixes = append(e.Prefixes, single(a))
			}
			return e, true
		}
	}
	return Endpoint{}, false
}

// leftOut warns of the nodes that the rules leave out: a rule names their site, and none covers
// their own addresses. Earlier releases covered these by the site's name, so a file that relies on
// that must not fail silently. Naming a node in any rule ends the warning for it.
func (b *builder) leftOut() {
	var names []string
	first := len(b.cfg.Rules)
	for _, s := range b.cfg.Sites {
		for _, n := range s.Nodes {
			if r, ok := b.leavesOut(n); ok {
				names = append(names, n.Name)
				first = min(first, r)
			}
		}
	}
	if len(names) > 0 {
		b.warnAt(b.ruleAt[first], "A site's name does not cover its gateways' own addresses. Name a node beside its site in each rule that is meant for the gateway itself, such as one for ping.",
			"no rule covers the gateways themselves: %s", strings.Join(names, ", "))
	}
}

// leavesOut returns the first rule that names the node's site and leaves the node out, unless some
// rule covers it.
func (b *builder) leavesOut(n Node) (rule int, out bool) {
	excepted := func(list, others []Endpoint) bool {
		return slices.ContainsFunc(list, func(e Endpoint) bool {
			return slices.ContainsFunc(n.Addresses, func(a netip.Addr) bool { return slices.Contains(e.Except, a) }) &&
				slices.ContainsFunc(others, func(o Endpoint) bool { _, ok := b.cfg.linkBetween(e.Site, o.Site); return ok })
		})
	}
	rule = -1
	for i, r := range b.cfg.Rules {
		for _, e := range slices.Concat(r.From, r.To) {
			if slices.ContainsFunc(n.Addresses, e.covers) {
				return 0, false
			}
		}
		if rule < 0 && (excepted(r.From, r.To) || excepted(r.To, r.From)) {
			rule = i
		}
	}
	return rule, rule >= 0
}

// covers reports whether the entry holds for an address.
func (e Endpoint) covers(a netip.Addr) bool {
	return !slices.Contains(e.Except, a) && slices.ContainsFunc(e.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}
