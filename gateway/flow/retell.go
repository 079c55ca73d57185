package flow

import (
	"context"
	"time"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
)

// When a gateway of the other site dies, the acknowledgements that were on their
// way through it are lost, and its database waits for a timer of its own, 200 ms
// and a few round trips long, though much of what it waits for has arrived. This
// gateway has heard them: it says the last one of each connection again, to the
// gateway that has taken over. An acknowledgement that advances has the sender go
// on at once. It is a repetition, without options: where the end that hears it
// insists on timestamps (RFC 7323 section 3.2) it is dropped, and nothing is lost.

// lively is how lately a connection must have moved to have something on its way.
const lively = time.Second

// retellPause is how long Retell waits where the link has not yet taken what it
// was given.
const retellPause = time.Millisecond

// Retell repeats toward the site with index i the last acknowledgement that the
// local end of each lively connection has sent, no faster than recallsPerSecond. It
// returns how many that were, when they are on their way or ctx has ended.
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

// lastACK is the highest acknowledgement of the local end, as that end said it;
// nil where it is not known for sure.
func (f *flow) lastACK() []byte {
	t := &f.tcp
	// Where both ends have said FIN the other one may be gone by now, and a kernel
	// answers by a reset for a socket that it has no more.
	if f.revoked || t.Phase() != tcptrack.Established && t.Phase() != tcptrack.HalfClosed || !t.Exact() {
		return nil
	}
	// A far end whose FIN is acknowledged waits for nothing more. It may be gone, too:
	// the local end's FIN may have passed by a node that died before this one knew of it.
	if t.FINAcked(f.end(!f.localB)) {
		return nil
	}
	// The edge that the checks allow has room for error: what is repeated is the one
	// that was said.
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
