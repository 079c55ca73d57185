package hello

import (
	"cmp"
	"slices"
	"time"
)

const (
	// compareTries is how often a part of a list is asked for in vain before
	// the difference is shown without its attributes.
	compareTries = 10
	// compareRate bounds how often the peer can make this node compare.
	compareRate  = time.Second
	compareBurst = 2 * MaxSections
	// changeBurst is how many changes of the peer's sections are followed at once, and one each
	// compareRate after that.
	changeBurst = 4
	// maxDifferences bounds the differences that are kept for display. Fatal ones go first.
	maxDifferences = 256
	// partPayload bounds a part of a list, so that it passes wherever the
	// smallest probe does.
	partPayload = pmtuFloor - 48
)

// comparison finds out where two nodes' sections differ. Digests come with
// every hello; only for a section whose digests differ are attributes fetched.
type comparison struct {
	here   []Section
	there  []sectionMsg
	heard  bool                // a hello has told the peer's sections
	lists  map[string]attrList // fetched, by section
	result []Difference
	// omitted counts the differences that found no room in result.
	omitted int

	fetch    *fetching
	complete bool // result is about here and there as they are now
	rate     bucket
	changes  bucket // of the peer's sections
}

type attrList struct {
	digest sectionDigest
	attrs  []Attr
	failed bool // couldn't be fetched; attrs says nothing
}

type fetching struct {
	section  string
	digest   sectionDigest
	got      []Attr
	tries    int
	deadline time.Duration // of the latest request; before the first, when to send it
}

func newComparison(here []Section) comparison {
	return comparison{
		here: prepare(here), lists: map[string]attrList{}, rate: bucket{every: compareRate, burst: compareBurst},
		changes: bucket{every: compareRate, burst: changeBurst},
	}
}

// announce is what the hello says of this node's sections.
func (c *comparison) announce() []sectionMsg {
	out := make([]sectionMsg, len(c.here))
	for i, s := range c.here {
		out[i] = sectionMsg{name: s.Name, digest: sectionDigest(s.Digest[:16]), fatal: anyFatal(s.Attrs)}
	}
	return out
}

func anyFatal(attrs []Attr) bool {
	return slices.ContainsFunc(attrs, func(a Attr) bool { return a.Fatal })
}

// local replaces this node's sections.
func (c *comparison) local(now time.Duration, here []Section) {
	c.here = prepare(here)
	c.plan(now)
}

// remote takes the sections of a hello of the peer.
func (c *comparison) remote(now time.Duration, there []sectionMsg) {
	if c.heard && (slices.Equal(c.there, there) || !c.changes.take(now)) {
		return // what changes too often is taken from a later hello
	}
	c.heard = true
	c.there = slices.Clone(there)
	c.plan(now)
}

// restarted forgets the sections of the peer's former process, which the new one may not have.
// The lists stay, under their digests.
func (c *comparison) restarted() { c.heard, c.complete, c.there, c.fetch = false, false, nil, nil }

// plan sees what must be fetched, and draws the result when nothing is left.
func (c *comparison) plan(now time.Duration) {
	c.complete, c.fetch = false, nil
	if !c.heard {
		return
	}
	for _, there := range c.there {
		here, ok := c.section(there.name)
		if !ok || sectionDigest(here.Digest[:16]) == there.digest {
			delete(c.lists, there.name)
			continue
		}
		if have, ok := c.lists[there.name]; ok && have.digest == there.digest {
			continue
		}
		at := c.rate.ready(now)
		c.rate.take(now)
		c.fetch = &fetching{section: there.name, digest: there.digest, deadline: at}
		return
	}
	c.conclude()
}

func (c *comparison) section(name string) (Section, bool) {
	i, ok := slices.BinarySearchFunc(c.here, name, func(s Section, n string) int { return cmp.Compare(s.Name, n) })
	if !ok {
		return Section{}, false
	}
	return c.here[i], true
}

func (c *comparison) conclude() {
	c.result, c.complete = nil, true
	announced := map[string]bool{}
	for _, there := range c.there {
		if announced[there.name] {
			continue
		}
		announced[there.name] = true
		here, ok := c.section(there.name)
		if !ok {
			c.result = append(c.result, Difference{Section: there.name, Kind: OnlyThere, Fatal: there.fatal})
			continue
		}
		list, ok := c.lists[there.name]
		if !ok {
			continue
		}
		var found []Difference
		if !list.failed {
			found = diff(there.name, here.Attrs, list.attrs)
		}
		if len(found) == 0 {
			found = []Difference{{Section: there.name, Kind: Differs}}
		}
		c.result = append(c.result, found...)
	}
	for _, here := range c.here {
		if !announced[here.Name] {
			c.result = append(c.result, Difference{Section: here.Name, Kind: OnlyHere, Fatal: anyFatal(here.Attrs)})
		}
	}
	for name := range c.lists {
		if !announced[name] {
			delete(c.lists, name)
		}
	}
	c.omitted = max(len(c.result)-maxDifferences, 0)
	if c.omitted > 0 {
		slices.SortStableFunc(c.result, func(a, b Difference) int { return cmp.Compare(order(a.Fatal), order(b.Fatal)) })
		c.result = slices.Clip(c.result[:maxDifferences])
	}
	slices.SortFunc(c.result, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Section, b.Section), cmp.Compare(a.Name, b.Name))
	})
}

func order(fatal bool) int {
	if fatal {
		return 0
	}
	return 1
}

// fatal says whether something differs with which no session may start.
func (c *comparison) fatal() bool {
	return slices.ContainsFunc(c.result, func(d Difference) bool { return d.Fatal })
}

// tick asks for the next part of a list when it is time.
func (c *comparison) tick(now, patience time.Duration) (want *wantMsg) {
	f := c.fetch
	if f == nil || now < f.deadline {
		return nil
	}
	if f.tries == compareTries {
		c.lists[f.section] = attrList{digest: f.digest, failed: true}
		c.plan(now)
		return nil
	}
	f.tries++
	f.deadline = now + patience
	return &wantMsg{section: f.section, offset: uint16(len(f.got))}
}

func (c *comparison) next() time.Duration {
	if c.fetch == nil {
		return never
	}
	return c.fetch.deadline
}

// received takes a part of a list.
func (c *comparison) received(now time.Duration, m *attrsMsg) {
	f := c.fetch
	if f == nil || m.section != f.section || m.digest != f.digest || int(m.offset) != len(f.got) {
		return // late, repeated, or of a configuration that is gone
	}
	room := MaxAttrs - len(f.got)
	for _, l := range c.lists {
		room -= len(l.attrs)
	}
	if len(m.attrs) > room {
		c.lists[f.section] = attrList{digest: f.digest, failed: true}
		c.plan(now)
		return
	}
	f.got = append(f.got, m.attrs...)
	f.tries, f.deadline = 0, now
	if len(f.got) < int(m.total) && len(m.attrs) > 0 {
		return
	}
	// The peer's order isn't to be trusted, and a merge depends on it.
	slices.SortFunc(f.got, func(a, b Attr) int { return cmp.Compare(a.Name, b.Name) })
	c.lists[f.section] = attrList{digest: f.digest, attrs: slices.Clip(f.got)}
	c.plan(now)
}

// serve answers the peer's request for a part of this node's list.
func (c *comparison) serve(w wantMsg) (attrsMsg, bool) {
	s, ok := c.section(w.section)
	if !ok || int(w.offset) > len(s.Attrs) {
		return attrsMsg{}, false
	}
	m := attrsMsg{section: s.Name, digest: sectionDigest(s.Digest[:16]), offset: w.offset, total: uint16(len(s.Attrs))}
	room := partPayload - headerLen - fieldLen - attrsBase - len(s.Name)
	for _, a := range s.Attrs[w.offset:] {
		if room -= attrLen(a); room < 0 {
			break
		}
		m.attrs = append(m.attrs, a)
	}
	return m, true
}
