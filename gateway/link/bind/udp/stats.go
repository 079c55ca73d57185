package udp

import (
	"sync/atomic"

	"github.com/onewaylink/gw/gateway/link/bind"
)

type counters struct {
	sentDatagrams, sentBytes         atomic.Uint64
	receivedDatagrams, receivedBytes atomic.Uint64
	drops                            [bind.NumReasons]atomic.Uint64
	receiveErrors, splitSends        atomic.Uint64
}

// Stats returns the counters, which live as long as the Carrier.
func (c *Carrier) Stats() bind.CarrierStats {
	n := &c.counters
	s := bind.CarrierStats{
		SentDatagrams:     n.sentDatagrams.Load(),
		SentBytes:         n.sentBytes.Load(),
		ReceivedDatagrams: n.receivedDatagrams.Load(),
		ReceivedBytes:     n.receivedBytes.Load(),
		ReceiveErrors:     n.receiveErrors.Load(),
		SplitSends:        n.splitSends.Load(),
	}
	for i := range n.drops {
		s.Drops[i] = n.drops[i].Load()
	}
	return s
}
