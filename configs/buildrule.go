package configs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

func (b *builder) rules() {
	seen := map[string]hcl.Range{}
	for _, r := range b.raw.rules {
		b.nameOK("rule", r.name)
		if prev, dup := seen[r.name.s]; dup {
			b.errorAt(r.name.at, fmt.Sprintf("The first is at %s. Give each rule its own name.", at(prev)), "a second rule %q", r.name.s)
			continue
		}
		seen[r.name.s] = r.name.at
		rule := Rule{Name: r.name.s, Mode: ModeAuto, Pos: posOf(r.at)}
		var fromAt, toAt []hcl.Range
		rule.From, fromAt = b.ruleEndpoints(r.from)
		rule.To, toAt = b.ruleEndpoints(r.to)
		if len(fromAt) == len(r.from) && len(toAt) == len(r.to) && len(fromAt) > 0 && len(toAt) > 0 {
			b.reach(r, rule, fromAt, toAt)
		}
		for _, t := range r.ports {
			p, err := parsePorts(t.s)
			if err != nil {
				b.errorAt(t.at, "Write \"tcp/5432\", \"tcp/5000-5010\", \"udp/53\", \"tcp\", \"udp\", \"icmp\" or \"any\".", "ports: %v", err)
				continue
			}
			if slices.Contains(rule.Ports, p) {
				b.errorAt(t.at, "Take one of them away.", "ports: %s is there twice", p)
				continue
			}
			rule.Ports = append(rule.Ports, p)
		}
		if r.mode != nil {
			rule.Mode = b.mode(*r.mode, rule)
		}
		b.cfg.Rules = append(b.cfg.Rules, rule)
		b.ruleAt = append(b.ruleAt, r.at)
	}
}

// ruleEndpoints resolves entries of from or to, with the places of those that
// could be.
func (b *builder) ruleEndpoints(list []text) ([]Endpoint, []hcl.Range) {
	var out []Endpoint
	var places []hcl.Range
	for _, t := range list {
		e, ok := b.ruleEndpoint(t)
		if !ok {
			continue
		}
		if slices.ContainsFunc(out, func(o Endpoint) bool { return o.String() == e.String() }) {
			b.errorAt(t.at, "Take one of them away.", "%s is there twice", t.s)
			continue
		}
		out = append(out, e)
		places = append(places, t.at)
	}
	return out, places
}

func (b *builder) ruleEndpoint(t text) (Endpoint, bool) {
	if _, ok := b.siteAt[t.s]; ok {
		i := slices.IndexFunc(b.cfg.Sites, func(s Site) bool { return s.Name == t.s })
		return wholeSite(b.cfg.Sites[i]), true
	}
	if e, ok := b.named(t.s); ok {
		return e, true
	}
	p, err := parsePrefixOrAddr(t.s)
	if err != nil {
		if strings.ContainsAny(t.s, ".:/") {
			b.errorAt(t.at, "Name a site, a node, a prefix (\"10.77.1.0/28\") or an address (\"10.77.1.10\").", "%q is neither a site, a node, a prefix nor an address", t.s)
		} else {
			b.errorAt(t.at, unknownHint(t.s, slices.Concat(b.siteNames(), b.nodeNames()), "sites and nodes"), "there is no site or node %q", t.s)
		}
		return Endpoint{}, false
	}
	if m := p.Masked(); m != p {
		b.errorAt(t.at, fmt.Sprintf("Did you mean %q, or %q alone?", m, p.Addr()), "%s has bits set behind its length", t.s)
		return Endpoint{}, false
	}
	site, ok := b.owner(p)
	if !ok {
		b.errorAt(t.at, "Choose one that lies inside the subnets of a site, or name the site.", "%s lies in no site's subnets", t.s)
		return Endpoint{}, false
	}
	return Endpoint{Site: site, Prefixes: []netip.Prefix{p}}, true
}

func (b *builder) nodeNames() (out []string) {
	for _, s := range b.cfg.Sites {
		for _, n := range s.Nodes {
			out = append(out, n.Name)
		}
	}
	return out
}

func parsePrefixOrAddr(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, aerr := netip.ParseAddr(s)
		if aerr != nil || a.Zone() != "" {
			return p, err
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() {
		return p, fmt.Errorf("%s is an IPv4 address written as IPv6", s)
	}
	return p, nil
}

// reach reports entries that can never match: traffic within one site doesn't
// pass a gateway, and no packet goes from one family to the other.
func (b *builder) reach(r rawRule, rule Rule, fromAt, toAt []hcl.Range) {
	crosses := func(e Endpoint, others []Endpoint) bool {
		return slices.ContainsFunc(others, func(o Endpoint) bool { return o.Site != e.Site })
	}
	if !slices.ContainsFunc(rule.From, func(e Endpoint) bool { return crosses(e, rule.To) }) {
		b.errorAt(r.at, "Traffic inside a site doesn't pass a gateway: name two sites, or take the rule away.", "rule %q begins and ends in site %q", r.name.s, rule.From[0].Site)
		return
	}
	check := func(list, others []Endpoint, places []hcl.Range, side string) {
		for i, e := range list {
			switch {
			case !crosses(e, others):
				b.warnAt(places[i], "Traffic inside a site doesn't pass a gateway.", "%s never matches: rule %q names no other site in %s", e, r.name.s, side)
			case !slices.ContainsFunc(others, func(o Endpoint) bool { return o.Site != e.Site && sameFamily(e, o) }):
				b.errorAt(places[i], "Add an entry of the same family, or take this one away.", "%s never matches: %s of rule %q has no address of its family", e, side, r.name.s)
			}
		}
	}
	check(rule.From, rule.To, fromAt, "to")
	check(rule.To, rule.From, toAt, "from")
}

// sameFamily tells whether two entries have a family in common. An entry whose
// site's subnets are broken counts as any.
func sameFamily(a, b Endpoint) bool {
	if len(a.Prefixes) == 0 || len(b.Prefixes) == 0 {
		return true
	}
	for _, p := range a.Prefixes {
		for _, q := range b.Prefixes {
			if p.Addr().Is4() == q.Addr().Is4() {
				return true
			}
		}
	}
	return false
}

// parsePorts reads one entry of ports.
func parsePorts(s string) (PortRange, error) {
	name, rest, hasPorts := strings.Cut(s, "/")
	p := PortRange{Lo: 0, Hi: 65535}
	switch name {
	case "any":
		p.Proto = ProtoAny
	case "icmp":
		p.Proto = ProtoICMP
	case "tcp":
		p.Proto = ProtoTCP
	case "udp":
		p.Proto = ProtoUDP
	default:
		if _, err := strconv.Atoi(name); err == nil && !hasPorts {
			return p, fmt.Errorf("%q doesn't say whether TCP or UDP", s)
		}
		if n := nearest(name, []string{"tcp", "udp", "icmp", "any"}); n != "" {
			return p, fmt.Errorf("unknown protocol in %q, did you mean %q", s, n)
		}
		return p, fmt.Errorf("unknown protocol in %q", s)
	}
	if !hasPorts {
		return p, nil
	}
	if p.Proto != ProtoTCP && p.Proto != ProtoUDP {
		return p, fmt.Errorf("%q: %s has no ports", s, name)
	}
	lo, hi, isRange := strings.Cut(rest, "-")
	if !isRange {
		hi = lo
	}
	var err error
	if p.Lo, err = parsePort(lo); err == nil {
		p.Hi, err = parsePort(hi)
	}
	if err != nil {
		return p, fmt.Errorf("%q: %v", s, err)
	}
	if p.Lo > p.Hi {
		return p, fmt.Errorf("%q: %d comes before %d", s, p.Hi, p.Lo)
	}
	return p, nil
}

var errPort = errors.New("a port is a number from 1 to 65535")

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, errPort
	}
	return uint16(n), nil
}

func (b *builder) mode(t text, rule Rule) Mode {
	m := Mode(t.s)
	switch m {
	case ModeAuto:
		return m
	case ModeRelay, ModeRoute:
		tcp := func(p PortRange) bool { return p.Proto == ProtoTCP || p.Proto == ProtoAny }
		if len(rule.Ports) > 0 && !slices.ContainsFunc(rule.Ports, tcp) {
			b.errorAt(t.at, "Take the mode away: what is not TCP is always forwarded as it is.", "mode of rule %q, which covers no TCP", rule.Name)
		}
		return m
	}
	b.errorAt(t.at, unknownHint(t.s, []string{"auto", "relay", "route"}, "modes"), "unknown mode %q", t.s)
	return ModeAuto
}
