package flow

import (
	"net/netip"
	"slices"
)

const (
	// mostHosts bounds what LocalHosts returns, and mostSeen the flows that it looks at.
	mostHosts = 16
	mostSeen  = 4096
)

// LocalHosts returns some hosts of this site that have flows, dormant ones included: at most 16. It
// looks at a bounded number of flows, beginning with those that a map yields first.
func (t *Table) LocalHosts() (out []netip.Addr) {
	seen := 0
	look := func(k key) bool {
		a, b := k.ends(false)
		for _, h := range [...]netip.Addr{a.Addr(), b.Addr()} {
			if t.siteOf(h) == t.cfg.Self && !slices.Contains(out, h) {
				out = append(out, h)
			}
		}
		seen++
		return seen < mostSeen && len(out) < mostHosts
	}
	t.eachOf(func(f *flow) bool { return look(f.key) }, func(_ *shard, k key, _ dormant) bool { return look(k) })
	return out
}
