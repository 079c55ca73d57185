package gateway

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/gateway/trunk"
)

// waysStatus is what people see of the ways, by site and node. What hello has measured is
// shown with the links: a way that has sent nothing knows nothing itself.
func waysStatus(sites []configs.Site, ways map[netip.Addr]trunk.Way) []status.Way {
	out := make([]status.Way, 0, len(ways))
	for _, s := range sites {
		for _, n := range s.Nodes {
			for _, a := range n.Addresses {
				w, ok := ways[a]
				if !ok {
					continue
				}
				shown := status.Way{Site: s.Name, Node: n.Name}
				if w.Packets > 0 {
					shown.RTT, shown.LeastRTT = status.Seconds(w.RTT), status.Seconds(w.MinRTT)
					shown.Bandwidth, shown.InFlight = uint64(w.Bandwidth), uint64(w.Inside)
					shown.Sent, shown.Lost = w.Packets, w.Lost
				}
				out = append(out, shown)
			}
		}
	}
	slices.SortFunc(out, func(a, b status.Way) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Node, b.Node))
	})
	return out
}
