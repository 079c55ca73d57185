package configs

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"strings"
)

// StateRoot is the directory in which a node has its state directory, under the node's name,
// unless local.state_dir names another one.
const StateRoot = "/var/lib/gw"

const defaultSocketDir = "/run/gw"

// Bounds of an MTU: what every IPv4 host can receive (RFC 791, section 3.1),
// what IPv6 demands of a link (RFC 8200, section 5), and what a length field holds.
const (
	minMTU4 = 576
	minMTU6 = 1280
	maxMTU  = math.MaxUint16
)

// maxSocketPath is the room in sockaddr_un.sun_path without its final zero.
const maxSocketPath = 107

func (b *builder) local(opt Options) {
	l := &b.cfg.Local
	setDefaults(localSettings, l)
	b.findKey(opt)
	if b.cfg.Self.Known {
		l.StateDir = filepath.Join(StateRoot, b.cfg.SelfNode().Name)
		l.Socket = filepath.Join(defaultSocketDir, b.cfg.SelfNode().Name+".sock")
		node := b.cfg.SelfNode()
		l.ListenPort = portOf(cmp.Or(node.Endpoint, node.SiblingEndpoint))
	}
	setValues(b, localSettings, b.raw.local, l)
	b.ownPair()
	if n, v6 := b.raw.local.numbers["tun.mtu"], b.firstIPv6(); n != nil && l.TUN.MTU < minMTU6 && v6 != "" {
		b.errorAt(n.at, fmt.Sprintf("IPv6 needs %d at least (RFC 8200): raise it, or take the IPv6 subnets away.", minMTU6), "mtu of %d with IPv6 (%s)", n.n, v6)
	}
}

// firstIPv6 returns an IPv6 subnet of the network, or "". Addresses lie inside
// subnets, so there is no IPv6 address without one.
func (b *builder) firstIPv6() string {
	for _, n := range b.nets {
		if n.prefix.Addr().Is6() {
			return n.prefix.String()
		}
	}
	return ""
}

// ifname checks the name of a network interface as the kernel does
// (dev_valid_name).
func (b *builder) ifname(t text, what string) bool {
	if t.s == "" || len(t.s) > 15 || t.s == "." || t.s == ".." || strings.ContainsFunc(t.s, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == ':' || r == '%' }) {
		b.errorAt(t.at, "Use at most 15 characters without blanks, \"/\", \":\" or \"%\".", "%s: %q can't be the name of an interface", what, t.s)
		return false
	}
	return true
}

func (b *builder) notEmpty(t text, name string) bool {
	if t.s == "" {
		b.errorAt(t.at, "Leave the line out for the default.", "%s is empty", name)
		return false
	}
	return true
}

// relativeTo resolves a path against the file that says it.
func relativeTo(file, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(filepath.Dir(file), path)
}

// whole makes the remarks that need everything else.
func (b *builder) whole() {
	if b.hasErrors() {
		return
	}
	for i, s := range b.cfg.Sites {
		if len(b.cfg.Sites) < 2 || len(b.cfg.LinksOf(s.Name)) > 0 || (b.cfg.Self.Known && b.cfg.Self.Site != i) {
			continue
		}
		b.warnAt(b.siteAt[s.Name], "Add a link block that names it.", "site %q has no link: it reaches no other site", s.Name)
	}
	if len(b.cfg.Sites) == 1 {
		b.warnAt(b.siteAt[b.cfg.Sites[0].Name], "Add the other site and a link between them.", "site %q is the only site: there is none to link it with", b.cfg.Sites[0].Name)
	}
	if len(b.cfg.Links) > 0 && len(b.cfg.Rules) == 0 {
		b.warnAt(nowhere, "Add a policy block with a rule; what no rule allows is denied.", "there is no rule: no connection is allowed")
	}
	for i, r := range b.cfg.Rules {
		if !b.linked(r) {
			b.warnAt(b.ruleAt[i], "Add a link between its sites.", "rule %q never matches: its sites have no link", r.Name)
		}
	}
	b.leftOut()
}

// linked tells whether any traffic of a rule has a link to cross.
func (b *builder) linked(r Rule) bool {
	for _, f := range r.From {
		for _, t := range r.To {
			if _, ok := b.cfg.linkBetween(f.Site, t.Site); ok {
				return true
			}
		}
	}
	return false
}
