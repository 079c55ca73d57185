package relay

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/onewaylink/gw/gateway/sites"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/gateway/trunk"
	"github.com/onewaylink/gw/netstack/legs"
)

// Conns is what people see of each relayed connection.
func (r *Relayer) Conns() map[legs.Ends]*status.ConnRelay {
	list := r.legs.Describe()
	out := make(map[legs.Ends]*status.ConnRelay, len(list))
	for ends, i := range list {
		p := i.Trunk.(*relayTrunk).Path()
		out[ends] = &status.ConnRelay{
			NearRTT: status.Seconds(i.NearRTT), NearRetransmits: i.NearRetransmits, WaitingOut: uint64(i.Out), WaitingIn: uint64(i.In),
			LinkRTT: status.Seconds(p.RTT), LinkRetransmits: p.Retransmits,
		}
	}
	return out
}

// Status is what people see of relays; begun is how many connections began to be relayed.
func (r *Relayer) Status(begun uint64) status.Relay {
	legs, pool := r.legs.Stats(), r.pool.Stats()
	return status.Relay{
		Violations: status.NewViolations(legs.Violations),
		Relayed:    legs.Relayed, Begun: begun, Full: legs.Full, Ends: status.NewRelayEnds(legs.Ends),
		TrunksInUse: pool.InUse, TrunksRefused: pool.Refused, TrunkPacketsBad: pool.Strange,
		TrunksAbandoned: pool.Abandoned, TrunksExhausted: pool.Exhausted,
		TrunksOpened: pool.Opened, TrunksAccepted: pool.Accepted, PeerRestarts: pool.Restarted,
		LegsMade: legs.Made, LegsFailed: legs.Failed,
		TrunkMemory: uint64(pool.Memory), TrunkMemoryLimit: uint64(pool.MaxMemory),
		Ways: pathsStatus(r.cfg.Sites, pool.Ways),
	}
}

// pathsStatus is what people see of the paths of trunks, by site and node. What hello has measured
// is shown with the links: a path that has carried nothing knows nothing itself.
func pathsStatus(list []sites.Site, paths map[netip.Addr]trunk.Way) []status.Way {
	out := make([]status.Way, 0, len(paths))
	for _, s := range list {
		for _, n := range s.Nodes {
			for _, a := range n.Addresses {
				p, ok := paths[a]
				if !ok {
					continue
				}
				shown := status.Way{Site: s.Name, Node: n.Name}
				if p.Packets > 0 {
					shown.RTT, shown.LeastRTT = status.Seconds(p.RTT), status.Seconds(p.MinRTT)
					shown.Bandwidth, shown.InFlight = uint64(p.Bandwidth), uint64(p.Inside)
					shown.Sent, shown.Lost = p.Packets, p.Lost
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
