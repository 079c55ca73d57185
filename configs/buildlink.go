package configs

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
)

func (b *builder) links() {
	type pairOf [2]string
	seen := map[pairOf]hcl.Range{}
	for _, l := range b.raw.links {
		knownA, knownB := b.knownSite(l.a), b.knownSite(l.b) // both, so that both are reported
		if !knownA || !knownB {
			continue
		}
		if l.a.s == l.b.s {
			b.errorAt(l.b.at, "A link joins two sites.", "site %q is linked with itself", l.a.s)
			continue
		}
		key := pairOf{min(l.a.s, l.b.s), max(l.a.s, l.b.s)}
		if prev, dup := seen[key]; dup {
			b.errorAt(l.at, fmt.Sprintf("The first is at %s. Put both into one.", at(prev)), "a second link between %q and %q", l.a.s, l.b.s)
			continue
		}
		seen[key] = l.at
		link := Link{A: l.a.s, B: l.b.s, Pos: posOf(l.at)}
		setDefaults(linkSettings, &link)
		setValues(b, linkSettings, l.rawSettings, &link)
		if i := l.texts["initiator"]; i != nil {
			link.Initiator = i.s
			b.initiator(l, link)
		}
		b.cfg.Links = append(b.cfg.Links, link)
	}
}

// initiator checks who dials, and that there is somebody to dial.
func (b *builder) initiator(raw rawLink, l Link) {
	peer, ok := l.Other(l.Initiator)
	if !ok {
		hint := fmt.Sprintf("Name the site that the firewall lets dial out: %q or %q.", l.A, l.B)
		b.errorAt(raw.texts["initiator"].at, hint, "initiator %q is no end of this link", l.Initiator)
		return
	}
	i := slices.IndexFunc(b.raw.sites, func(s rawSite) bool { return s.name.s == peer })
	nodes := b.raw.sites[i].nodes
	none := func(n rawNode) bool { return n.endpoint == nil }
	switch {
	case len(nodes) == 0: // reported with the site
	case !slices.ContainsFunc(nodes, func(n rawNode) bool { return !none(n) }):
		b.errorAt(raw.texts["initiator"].at, fmt.Sprintf("Add endpoint = \"HOST:PORT\" to node %q at %s.", nodes[0].name.s, at(nodes[0].at)),
			"site %q has no node to dial: no node of site %q has an endpoint", l.Initiator, peer)
	case slices.ContainsFunc(nodes, none):
		n := nodes[slices.IndexFunc(nodes, none)]
		b.warnAt(n.at, "Add its endpoint: a standby that can't be dialled can't take over.", "node %q has no endpoint, but site %q dials site %q", n.name.s, l.Initiator, peer)
	}
}

// knownSite reports a name that no site has.
func (b *builder) knownSite(t text) bool {
	if _, ok := b.siteAt[t.s]; ok {
		return true
	}
	b.errorAt(t.at, unknownHint(t.s, b.siteNames(), "sites"), "there is no site %q", t.s)
	return false
}

func (b *builder) siteNames() []string { return slices.Sorted(maps.Keys(b.siteAt)) }
