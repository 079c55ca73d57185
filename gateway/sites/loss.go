package sites

import "time"

const (
	// leastPackets is the least number of packets by which loss is judged.
	leastPackets = 500
	// lossKept is how long the latest judgment counts.
	lossKept = 5 * time.Minute
)

// Counters count the packets of trunks to a node: sent, retransmitted, and retransmitted although
// they had arrived.
type Counters struct{ Packets, Lost, Late uint64 }

// lossSample judges how much the path to a node loses by what trunks retransmit: they send
// thousands of packets where hellos are a few a second. The zero value has seen nothing.
type lossSample struct {
	sent, lost uint64 // when the sample under way began
	ratio      float64
	judged     bool
	at         time.Duration // when ratio was measured
}

// add takes in what has been counted so far.
func (s *lossSample) add(c Counters, now time.Duration) {
	if c.Packets < s.sent {
		s.sent, s.lost = 0, 0 // the counters began again
	}
	lost := c.Lost - c.Late
	if sent := c.Packets - s.sent; sent >= leastPackets {
		s.ratio, s.at, s.judged = float64(lost-min(lost, s.lost))/float64(sent), now, true
		s.sent, s.lost = c.Packets, lost
	}
}

// ratioAt is the share lost lately; 0 is unknown, too.
func (s *lossSample) ratioAt(now time.Duration) float64 {
	if !s.judged || now-s.at >= lossKept {
		return 0
	}
	return s.ratio
}
