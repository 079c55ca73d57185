package flow

import (
	"context"
	"time"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
)

// When a gateway of the other site dies, the acknowledgments in flight through it are lost. Its
// database then waits for its retransmission timer, 200 ms and a few round trips, although much of
// what it waits for has arrived. This gateway has seen those acknowledgments. It repeats the last
// one of each connection to the gateway that has taken over, and the sender continues as soon as
// one advances. The repetition carries no options: an end that requires timestamps (RFC 7323
// section 3.2) drops it, and nothing is lost.

// lively is how recently a connection must have carried packets to have some in flight.
const lively = time.Second

// retellPause is how long Retell waits while the link has not yet sent what was queued.
const retellPause = time.Millisecond

// Retell repeats toward the site with index i the last acknowledgment that the local end of each
// lively connection has sent, no faster than recallsPerSecond. It returns their number when they
// have been sent or ctx has ended.
func (p *Path) Retell(ctx context.Context, i int) int {
	now := p.table.cfg.Now()
	var acks [][]byte
	p.table.each(func(f *flow) bool {
		if f.site == i && now-f.last < lively {
			if b := f.lastACK(); b != nil {
				acks = append(acks, b)
			}
		}
		return true
	})
	pause := time.NewTimer(0)
	defer pause.Stop()
	for at, b := range acks {
		if p.retells.limit.Tokens() < 1 {
			p.Wake() // what is queued need not wait for the rest
		}
		if p.retells.wait(ctx) != nil {
			p.retells.left.Add(uint64(len(acks) - at))
			return len(acks)
		}
		for !p.box.put(b) {
			p.Wake()
			pause.Reset(retellPause)
			select {
			case <-ctx.Done():
				p.retells.left.Add(uint64(len(acks) - at))
				return len(acks)
			case <-pause.C:
			}
		}
		p.retells.sent.Add(1)
	}
	if len(acks) > 0 {
		p.Wake()
	}
	return len(acks)
}

// lastACK returns the highest acknowledgment that the local end has sent; nil if it is not known
// for certain.
func (f *flow) lastACK() []byte {
	t := &f.tcp
	// When both ends have sent FIN, the other one may be gone, and its kernel would answer with a
	// reset for a socket that it no longer has.
	if f.revoked || t.Phase() != tcptrack.Established && t.Phase() != tcptrack.HalfClosed || !t.Exact() {
		return nil
	}
	// A far end whose FIN is acknowledged waits for nothing more. It may be gone, too:
	// the local end's FIN may have passed by a node that died before this one knew of it.
	if t.FINAcked(f.end(!f.localB)) {
		return nil
	}
	// The window edge that the checks allow has room for error: repeat the one that was advertised.
	local := f.end(f.localB)
	ack, acked := t.ACK(local)
	edge, opened := t.RightEdge(local)
	if !acked || !opened || wire.SeqLess(edge, ack) {
		return nil
	}
	window := wire.WindowField(ack, edge, t.Scale(local))
	src, dst := f.key.ends(f.localB)
	return wire.AppendACK(nil, src, dst, t.End(local), ack, window)
}
