package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Effect is what it takes until a changed setting counts on a node that runs.
type Effect string

// The effects, from the least to the most.
const (
	EffectNone    Effect = "none"    // it concerns other nodes only, or nothing until the next start
	EffectReload  Effect = "reload"  // a reload applies it
	EffectRestart Effect = "restart" // the process has to restart
)

// ChangeKind says in which way two configurations differ.
type ChangeKind string

// The kinds of a Change.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed"
)

// Change is one difference between two configurations of a node.
type Change struct {
	// Name is that of a setting, as in Attr, or of what has come or gone as a whole:
	// policy.rule.NAME, site.NAME.node.NAME.
	Name     string
	Kind     ChangeKind
	Old, New string // in canonical form; "" where there is none
	Effect   Effect
}

// effects classifies the settings by pattern; "*" stands for a name. Scalars are classified in
// their tables. A reload replaces what is read when something happens, and leaves alone what
// sockets, routes, tunnels and the election were made from: a restart lets connections live, too.
var effects = withEffects(map[string]Effect{
	"node":                     EffectRestart, // which node this is
	"site.*.subnets":           EffectRestart,
	"site.*.nodes":             EffectRestart,
	"site.*.node.*.public_key": EffectRestart,
	"site.*.node.*.address":    EffectRestart,
	"site.*.node.*.endpoint":   EffectRestart,
	"site.*.pair.vip":          EffectRestart,
	"site.*.pair.on_active":    EffectRestart,
	"site.*.pair.on_standby":   EffectRestart,

	"site.*.node.*.sibling_endpoint": EffectRestart,

	"policy.order":        EffectReload,
	"policy.rule.*.from":  EffectReload,
	"policy.rule.*.to":    EffectReload,
	"policy.rule.*.ports": EffectReload,
	"policy.rule.*.mode":  EffectReload,
})

// withEffects adds the settings that have rows.
func withEffects(m map[string]Effect) map[string]Effect {
	addEffects(m, localSettings, "local")
	addEffects(m, pairSettings, "site.*.pair")
	addEffects(m, linkSettings, "link.*.*")
	return m
}

// Changes lists what differs between the configuration that a node runs with and
// another one for it, sorted by name. Where something stands in a file, the order of
// sites, and that of lists that are sets make no difference. It panics unless Self is
// known in both.
func Changes(running, next Config) []Change {
	was, is := running.attrs(), next.attrs()
	var out []Change
	for _, name := range names(was, is) {
		old, had := was[name]
		now, has := is[name]
		switch {
		case had && has && old == now || name == "policy.order" && sameOrder(old, now):
			continue
		case had && has:
			out = append(out, Change{Name: name, Kind: Changed, Old: old, New: now})
		case had:
			out = append(out, Change{Name: name, Kind: Removed, Old: old})
		default:
			out = append(out, Change{Name: name, Kind: Added, New: now})
		}
		c := &out[len(out)-1]
		c.Effect = effectOn(running, next, name)
	}
	return wholes(out, was, is)
}

// attrs lists all settings in canonical form.
func (c Config) attrs() map[string]string {
	out := map[string]string{"node": c.SelfNode().Name}
	add := func(list []Attr) {
		for _, a := range list {
			out[a.Name] = a.Value
		}
	}
	for _, s := range c.Sites {
		add(siteAttrs(s))
		if s.Pair != nil {
			add(pairSection(s).Attrs)
		}
	}
	for _, l := range c.Links {
		add(linkAttrs(l))
	}
	add(c.policyAttrs(func(string, string) bool { return true }))
	add(settingAttrs(localSettings, "local", &c.Local))
	return out
}

func names(maps ...map[string]string) []string {
	var out []string
	for _, m := range maps {
		for name := range m {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// sameOrder reports whether the rules that both lists name stand in the same order.
func sameOrder(a, b string) bool {
	x, y := strings.Split(a, ", "), strings.Split(b, ", ")
	both := func(list, other []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !slices.Contains(other, s) })
	}
	return slices.Equal(both(x, y), both(y, x))
}

// effectOn is what a change of a setting does on this node: that of other sites' pairs,
// and of links between others, does nothing.
func effectOn(running, next Config, name string) Effect {
	parts := strings.Split(name, ".")
	self := running.SelfSite().Name
	switch {
	case parts[0] == "site" && parts[1] != self && (parts[2] == "pair" || parts[len(parts)-1] == "sibling_endpoint"):
		return EffectNone
	case parts[0] == "link" && parts[1] != self && parts[2] != self:
		return EffectNone
	}
	e, ok := effects[pattern(parts)]
	if !ok {
		return EffectRestart // which is always right
	}
	return e
}

// pattern puts "*" in the place of the names of sites, nodes and rules, which have no
// dots.
func pattern(parts []string) string {
	parts = slices.Clone(parts)
	for i := 1; i < len(parts); i++ {
		switch before := parts[i-1]; {
		case i == 1 && before == "site", i == 3 && before == "node", i == 2 && before == "rule", parts[0] == "link" && i < 3:
			parts[i] = "*"
		}
	}
	return strings.Join(parts, ".")
}

// wholes puts one Change in the place of those of all settings of a thing that has come
// or gone.
func wholes(list []Change, was, is map[string]string) []Change {
	owner := func(name string) string { return name[:max(strings.LastIndexByte(name, '.'), 0)] }
	owned := func(m map[string]string) map[string]bool {
		out := map[string]bool{}
		for name := range m {
			out[owner(name)] = true
		}
		return out
	}
	had, has := owned(was), owned(is)
	var out []Change
	for _, c := range list {
		o := owner(c.Name)
		if c.Kind == Changed || had[o] && has[o] {
			out = append(out, c)
			continue
		}
		setting := fmt.Sprintf("%s = %s", c.Name[len(o)+1:], cmp.Or(c.Old, c.New))
		n := slices.IndexFunc(out, func(x Change) bool { return x.Name == o })
		if n < 0 {
			n = len(out)
			out = append(out, Change{Name: o, Kind: c.Kind, Effect: c.Effect})
		} else {
			setting = cmp.Or(out[n].Old, out[n].New) + "; " + setting
			out[n].Effect = most(out[n].Effect, c.Effect)
		}
		if c.Kind == Added {
			out[n].New = setting
		} else {
			out[n].Old = setting
		}
	}
	return out
}

// most returns the larger of two effects.
func most(a, b Effect) Effect {
	order := []Effect{EffectNone, EffectReload, EffectRestart}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}
