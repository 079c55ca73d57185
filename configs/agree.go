package configs

import (
	"slices"
	"strings"
)

// Agreement says which of the settings that would change this node compares with the
// nodes of a site, and what comes of it while these have others.
type Agreement struct {
	// Site is the other end of a link, or the node's own: then its sibling compares.
	Site string
	// Refused are those with which no session starts as long as they differ: a process
	// that starts in between carries nothing to a node that has others. What runs
	// is not stopped by them.
	Refused []string
	// Shown are those that are only shown as different.
	Shown []string
}

// Agreements lists, own site first, with whom a node that takes over another
// configuration has to agree. Names are those that Changes gives. It panics unless Self is known in
// both.
func Agreements(running, next Config) []Agreement {
	own := running.SelfSite().Name
	var peers []string
	if len(running.SelfSite().Nodes) > 1 {
		peers = append(peers, own)
	}
	for _, l := range running.LinksOf(own) {
		name, _ := l.Other(own)
		if _, stays := next.linkBetween(own, name); stays {
			peers = append(peers, name)
		}
	}
	changes := Changes(running, next)
	var out []Agreement
	for _, site := range peers {
		a := Agreement{Site: site}
		was, is := compared(running, site), compared(next, site)
		for _, name := range names(was.values, is.values) {
			old, had := was.values[name]
			now, has := is.values[name]
			if had && has && old == now {
				continue
			}
			list := &a.Shown
			if was.fatal[name] || is.fatal[name] {
				list = &a.Refused
			}
			if c := within(changes, name); c != "" && !slices.Contains(*list, c) {
				*list = append(*list, c)
			}
		}
		if len(a.Refused)+len(a.Shown) > 0 {
			out = append(out, a)
		}
	}
	return out
}

// within names the change that a setting's is, or is a part of; "" where the order of
// rules differs only by those that have come or gone.
func within(changes []Change, name string) string {
	for _, c := range changes {
		if c.Name == name || strings.HasPrefix(name, c.Name+".") {
			return c.Name
		}
	}
	return ""
}

type comparedAttrs struct {
	values map[string]string
	fatal  map[string]bool
}

// compared is what a node compares with those of a site.
func compared(c Config, site string) comparedAttrs {
	out := comparedAttrs{map[string]string{}, map[string]bool{}}
	for _, s := range c.Sections(site) {
		for _, a := range s.Attrs {
			out.values[a.Name], out.fatal[a.Name] = a.Value, a.Fatal
		}
	}
	return out
}
