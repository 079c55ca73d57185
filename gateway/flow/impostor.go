package flow

import (
	"net/netip"

	"github.com/onewaylink/gw/netstack/wire"
)

// Only the process speaks as the node. Control packets of this gateway go to the link directly,
// and those of another gateway are taken out of the stream before they reach the Path. So a packet
// of that kind that does reach the Path, from either side, was made by a host or by a local user.
// It is dropped before policy or the flow table sees it.

// impostor reports whether p, which is no fragment, goes between two nodes' own addresses and is of
// a kind that only gateways send.
func (t *Table) impostor(p *wire.Packet) bool {
	return p.ReservedForNodes() && t.isNode(p.Src()) && t.isNode(p.Dst())
}

func (t *Table) isNode(a netip.Addr) bool {
	_, ok := t.nodes[a]
	return ok
}
