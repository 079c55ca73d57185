package gateway

import (
	"net/netip"
	"time"

	"github.com/onewaylink/gw/gateway/trunk"
	"github.com/onewaylink/gw/netstack"
)

const (
	// lossSample is the least number of segments that tells anything of loss.
	lossSample = 500
	// lossKept is how long what was seen last is believed.
	lossKept = 5 * time.Minute
)

// trunkLoss tells how much the ways to other nodes lose, by what trunks send again:
// they send thousands of segments where hellos are a few a second. The zero value
// has seen nothing.
type trunkLoss struct {
	conns map[*trunk.Conn]sent
	nodes map[netip.Addr]*wayLoss
}

// sent is what a trunk has counted.
type sent struct{ segments, again uint64 }

// wayLoss is the sample under way to a node, and what the last whole one said.
type wayLoss struct {
	sent
	ratio float64
	at    time.Time
}

// look takes what the trunks have counted, and returns the part that each node's way
// has lost lately.
func (l *trunkLoss) look(relays map[netstack.Ends]netstack.RelayInfo, now time.Time) map[netip.Addr]float64 {
	if l.nodes == nil {
		l.nodes = make(map[netip.Addr]*wayLoss)
	}
	conns := make(map[*trunk.Conn]sent, len(relays))
	for _, i := range relays {
		c := i.Trunk.(*relayTrunk).Conn
		p, err := c.Path()
		if err != nil {
			continue
		}
		n, before := sent{p.Segments, p.Retransmits}, l.conns[c]
		conns[c] = n
		w := l.nodes[c.Remote()]
		if w == nil {
			w = new(wayLoss)
			l.nodes[c.Remote()] = w
		}
		w.segments += n.segments - before.segments
		w.again += n.again - before.again
	}
	l.conns = conns
	out := make(map[netip.Addr]float64, len(l.nodes))
	for node, w := range l.nodes {
		if w.segments >= lossSample {
			w.ratio, w.at = float64(w.again)/float64(w.segments), now
			w.sent = sent{}
		}
		if now.Sub(w.at) < lossKept {
			out[node] = w.ratio
		}
	}
	return out
}
