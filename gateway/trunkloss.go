package gateway

import (
	"net/netip"
	"time"

	"github.com/onewaylink/gw/gateway/trunk"
)

const (
	// lossSample is the least number of packets that tells anything of loss.
	lossSample = 500
	// lossKept is how long what was seen last is believed.
	lossKept = 5 * time.Minute
)

// trunkLoss tells how much the ways to other nodes lose, by what trunks send again:
// they send thousands of packets where hellos are a few a second. The zero value
// has seen nothing.
type trunkLoss map[netip.Addr]*wayLoss

// wayLoss is the sample under way to a node, and what the last whole one said.
type wayLoss struct {
	sent, lost uint64 // when the sample began
	ratio      float64
	at         time.Time
}

// look takes what has been counted, and returns the part that each node's way has lost
// lately.
func (l *trunkLoss) look(ways map[netip.Addr]trunk.Way, now time.Time) map[netip.Addr]float64 {
	if *l == nil {
		*l = make(trunkLoss)
	}
	out := make(map[netip.Addr]float64, len(ways))
	for node, n := range ways {
		w := (*l)[node]
		if w == nil {
			w = new(wayLoss)
			(*l)[node] = w
		}
		if n.Packets < w.sent {
			w.sent, w.lost = 0, 0 // the way has begun anew
		}
		lost := n.Lost - n.Late
		if sent := n.Packets - w.sent; sent >= lossSample {
			w.ratio, w.at = float64(lost-min(lost, w.lost))/float64(sent), now
			w.sent, w.lost = n.Packets, lost
		}
		if now.Sub(w.at) < lossKept {
			out[node] = w.ratio
		}
	}
	return out
}
