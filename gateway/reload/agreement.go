package reload

import (
	"slices"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/status"
)

// agreement lists the nodes that must agree with this one on what changes, in the order in which to
// restart them; nil if there is nothing to agree on.
func agreement(running configs.Config, list []configs.Agreement, carries func(site, node string) bool) *status.Agreement {
	if len(list) == 0 {
		return nil
	}
	own := running.SelfSite().Name
	out := &status.Agreement{Pair: true}
	concerned := map[string]bool{}
	for _, a := range list {
		out.Refused, out.Shown = append(out.Refused, a.Refused...), append(out.Shown, a.Shown...)
		if len(a.Refused) > 0 {
			concerned[own], concerned[a.Site] = true, true
			out.Pair = out.Pair && a.Site == own
		}
		site, _ := running.Site(a.Site)
		for _, n := range site.Nodes {
			if len(a.Shown) > 0 && n.Name != running.SelfNode().Name {
				out.ShownOn = append(out.ShownOn, n.Name)
			}
		}
	}
	out.Pair = out.Pair && len(out.Refused) > 0
	for _, s := range running.Sites {
		if !concerned[s.Name] {
			continue
		}
		for _, n := range s.Nodes {
			if carries(s.Name, n.Name) {
				out.Then = append(out.Then, n.Name)
			} else {
				out.First = append(out.First, n.Name)
			}
		}
	}
	for _, l := range []*[]string{&out.Refused, &out.Shown, &out.ShownOn} {
		slices.Sort(*l)
		*l = slices.Compact(*l)
	}
	return out
}

// carries reports whether a node carries its site, as far as this one knows.
func (r *Reloader) carries(site, node string) bool {
	running := r.Running()
	if site != running.SelfSite().Name {
		return r.cfg.Carrier(site) == node
	}
	return (running.SelfNode().Name == node) != r.cfg.Flows.Standby()
}
