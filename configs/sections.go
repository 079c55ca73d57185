package configs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Section is one part of the configuration that two nodes share. Hello compares
// digests of sections first, and names attributes only where they differ.
type Section struct {
	Name   string
	Digest [32]byte // over the names and values of Attrs
	Attrs  []Attr   // sorted by Name, which is unique
}

// Attr is one setting of a section in canonical form: the order of lists that
// are sets, comments, and formatting don't count.
type Attr struct {
	Name   string  // dotted, as operators are shown it: site.red.subnets
	Digest [8]byte // over Name and Value
	Fatal  bool    // a difference would fail silently later: refuse to start with it
	Value  string  // for display inside a site; never sent to another one
}

// sectionVersion separates digests of this encoding from those of any other.
// Change it whenever the form of a value changes.
const sectionVersion = "gw section 1"

// Sections returns what this node shares with a node of site peerSite, sorted
// by name: the two sites, the link between them, and the rules about traffic
// between them. For this node's own site, peerSite is the sibling's: the
// section of the pair is added, and what is shared with every linked site.
// Nodes that hold the whole file and nodes that hold one rendered for their
// site get equal sections. It returns nil when nothing joins the two sites, and
// panics unless Self.Known.
//
//	site.NAME         subnets, order of nodes; each node's key, addresses, endpoint
//	site.NAME.pair    only between siblings
//	link.A.B          the site names sorted
//	policy.A.B        the same
func (c Config) Sections(peerSite string) []Section {
	self := c.SelfSite()
	var out []Section
	switch {
	case peerSite == self.Name:
		out = append(out, siteSection(self))
		if self.Pair != nil {
			out = append(out, pairSection(self))
		}
		for _, l := range c.LinksOf(self.Name) {
			other, _ := l.Other(self.Name)
			out = append(out, c.between(l, other)...)
		}
	default:
		l, ok := c.linkBetween(self.Name, peerSite)
		if !ok {
			return nil
		}
		out = append(out, siteSection(self))
		out = append(out, c.between(l, peerSite)...)
	}
	slices.SortFunc(out, func(a, b Section) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// between returns the sections of the site at the other end of a link, of the
// link, and of the rules that use it.
func (c Config) between(l Link, other string) []Section {
	site, _ := c.Site(other)
	a, b := min(l.A, l.B), max(l.A, l.B)
	return []Section{siteSection(site), linkSection(l, a, b), c.policySection(a, b)}
}

func siteSection(s Site) Section {
	name := "site." + s.Name
	var order []string
	attrs := []Attr{{Name: name + ".subnets", Value: sortedText(s.Subnets), Fatal: true}}
	for _, n := range s.Nodes {
		order = append(order, n.Name)
		node := name + ".node." + n.Name
		attrs = append(attrs,
			Attr{Name: node + ".public_key", Value: n.PublicKey.String(), Fatal: true},
			Attr{Name: node + ".address", Value: sortedText(n.Addresses), Fatal: true},
		)
		if n.Endpoint != "" {
			attrs = append(attrs, Attr{Name: node + ".endpoint", Value: n.Endpoint})
		}
	}
	// The first node carries the site's subnets until one claims them, so both
	// ends have to mean the same one.
	attrs = append(attrs, Attr{Name: name + ".nodes", Value: strings.Join(order, ", "), Fatal: true})
	return newSection(name, attrs)
}

func pairSection(s Site) Section {
	name := "site." + s.Name + ".pair"
	return newSection(name, []Attr{
		{Name: name + ".heartbeat", Value: s.Pair.Heartbeat.String(), Fatal: true},
		{Name: name + ".dead_after", Value: s.Pair.DeadAfter.String(), Fatal: true},
		{Name: name + ".vip", Value: sortedText(s.Pair.VIP)},
	})
}

func linkSection(l Link, a, b string) Section {
	name := "link." + a + "." + b
	return newSection(name, []Attr{
		{Name: name + ".initiator", Value: l.Initiator},
		{Name: name + ".keepalive", Value: l.Keepalive.String()},
	})
}

// policySection holds the rules about traffic between two sites, each reduced
// to the entries of these sites, and their order: the first match wins, so it
// decides the mode.
func (c Config) policySection(a, b string) Section {
	var attrs []Attr
	var order []string
	joined := func(x, y string) bool { return x == a && y == b || x == b && y == a }
	for _, r := range c.Rules {
		r, ok := r.restrict(joined)
		if !ok {
			continue
		}
		order = append(order, r.Name)
		name := "policy.rule." + r.Name
		attrs = append(attrs,
			Attr{Name: name + ".from", Value: sortedText(r.From)},
			Attr{Name: name + ".to", Value: sortedText(r.To)},
			Attr{Name: name + ".ports", Value: sortedText(r.Ports)},
			Attr{Name: name + ".mode", Value: string(r.Mode)},
		)
	}
	attrs = append(attrs, Attr{Name: "policy.order", Value: strings.Join(order, ", ")})
	return newSection("policy."+a+"."+b, attrs)
}

// restrict reduces a rule to the entries that take part in traffic between two
// sites for which joined holds; false when none do.
func (r Rule) restrict(joined func(a, b string) bool) (Rule, bool) {
	keep := func(list, others []Endpoint) []Endpoint {
		var out []Endpoint
		for _, e := range list {
			if slices.ContainsFunc(others, func(o Endpoint) bool { return joined(e.Site, o.Site) }) {
				out = append(out, e)
			}
		}
		return out
	}
	r.From, r.To = keep(r.From, r.To), keep(r.To, r.From)
	return r, len(r.From) > 0 // entries are kept by twos, so To isn't empty either
}

// sortedText is the canonical form of a list that is a set.
func sortedText[T fmt.Stringer](list []T) string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = x.String()
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func newSection(name string, attrs []Attr) Section {
	slices.SortFunc(attrs, func(a, b Attr) int { return strings.Compare(a.Name, b.Name) })
	all := appendText(nil, sectionVersion)
	all = appendText(all, name)
	for i := range attrs {
		one := appendText(appendText(nil, attrs[i].Name), attrs[i].Value)
		sum := sha256.Sum256(append(appendText(nil, sectionVersion), one...))
		copy(attrs[i].Digest[:], sum[:])
		all = append(all, one...)
	}
	return Section{Name: name, Digest: sha256.Sum256(all), Attrs: attrs}
}

// appendText appends a length and the text, so that no two lists of texts look alike.
func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}
