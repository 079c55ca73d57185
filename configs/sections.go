package configs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
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
// between them. For this node's own site, peerSite is the sibling's: then it is
// the site with its pair, and what is shared with all linked sites in one section
// of each kind, so that their number doesn't grow with that of the links.
// Nodes that hold the whole file and nodes that hold one rendered for their
// site get equal sections. It returns nil when nothing joins the two sites, and
// panics unless Self.Known.
//
//	site.NAME              subnets, order of nodes; each node's key, addresses, endpoint
//	link.A.B               the site names sorted
//	policy.A.B             the same
//	site.NAME.pair         only between siblings: how the two stand in for each other
//	sites, links, policy   only between siblings
func (c Config) Sections(peerSite string) []Section {
	self := c.SelfSite()
	var out []Section
	switch {
	case peerSite == self.Name:
		out = append(out, siteSection(self))
		if self.Pair != nil {
			out = append(out, pairSection(self))
		}
		out = append(out, c.linked(self.Name)...)
	default:
		l, ok := c.linkBetween(self.Name, peerSite)
		if !ok {
			return nil
		}
		other, _ := c.Site(peerSite)
		a, b := min(l.A, l.B), max(l.A, l.B)
		joined := func(x, y string) bool { return x == a && y == b || x == b && y == a }
		out = append(out, siteSection(self), siteSection(other),
			newSection(linkName(l), linkAttrs(l)),
			newSection("policy."+a+"."+b, c.policyAttrs(joined)))
	}
	slices.SortFunc(out, func(a, b Section) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// linked returns the sections of all sites that have a link with one, of the
// links, and of the rules that use them.
func (c Config) linked(site string) []Section {
	var sites, links []Attr
	joined := map[string]bool{}
	for _, l := range c.LinksOf(site) {
		name, _ := l.Other(site)
		other, _ := c.Site(name)
		sites = append(sites, siteAttrs(other)...)
		links = append(links, linkAttrs(l)...)
		joined[name] = true
	}
	rules := c.policyAttrs(func(x, y string) bool { return x == site && joined[y] || y == site && joined[x] })
	return []Section{newSection("sites", sites), newSection("links", links), newSection("policy", rules)}
}

func siteSection(s Site) Section { return newSection("site."+s.Name, siteAttrs(s)) }

func siteAttrs(s Site) []Attr {
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
	return append(attrs, Attr{Name: name + ".nodes", Value: strings.Join(order, ", "), Fatal: true})
}

// pairSection holds what only the two nodes of a site know. How they reach each
// other is no fatal difference, for it fails at once and visibly.
func pairSection(s Site) Section {
	name := "site." + s.Name + ".pair"
	attrs := append(settingAttrs(pairSettings, name, s.Pair),
		Attr{Name: name + ".vip", Value: sortedText(s.Pair.VIP), Fatal: true},
		Attr{Name: name + ".on_active", Value: commandText(s.Pair.OnActive)},
		Attr{Name: name + ".on_standby", Value: commandText(s.Pair.OnStandby)},
	)
	for _, n := range s.Nodes {
		attrs = append(attrs, Attr{Name: "site." + s.Name + ".node." + n.Name + ".sibling_endpoint", Value: n.SiblingEndpoint})
	}
	return newSection(name, attrs)
}

// commandText is the canonical form of a program and its arguments.
func commandText(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strconv.Quote(s)
	}
	return strings.Join(out, " ")
}

// linkName is the same whichever site is named first in the file.
func linkName(l Link) string { return "link." + min(l.A, l.B) + "." + max(l.A, l.B) }

func linkAttrs(l Link) []Attr { return settingAttrs(linkSettings, linkName(l), &l) }

// policyAttrs holds the rules about traffic between sites for which joined
// holds, each reduced to the entries of these sites, and their order: the first
// match wins, so it decides the mode.
func (c Config) policyAttrs(joined func(a, b string) bool) []Attr {
	var attrs []Attr
	var order []string
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
	return append(attrs, Attr{Name: "policy.order", Value: strings.Join(order, ", ")})
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
