package legs

import (
	"context"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// A relay that ends in good order hands the connection back to the raw path at a
// mark, as it has taken it over at one: what the near database sends from the cut on
// goes raw, what lies before it still goes by the trunk, and each gateway tells the
// other where its cut is by the last frame of its direction. When all before both
// cuts has been acknowledged, nothing is held, and the relay is over.

// handBack is where a relay stands in that.
type handBack struct {
	why  *End   // it has begun, and why
	cut  uint32 // what the near database sends from here on is raw
	said bool   // the other gateway knows the cut
	// far says that the other gateway's cut has come: it is all that was fed.
	far   bool
	began time.Duration
}

// handOver begins to hand the connection back, if that has not begun yet.
func (r *Relay) handOver(e *End) {
	r.mu.Lock()
	r.beginBack(e)
	r.mu.Unlock()
	r.wake()
}

func (r *Relay) beginBack(e *End) {
	if r.handBack.why != nil {
		return
	}
	r.handBack = handBack{why: e, cut: r.gate.NearEnd(), far: r.handBack.far, began: r.legs.cfg.Now()}
	if r.near.fin && r.gate.FinAt() == r.handBack.cut {
		r.handBack.cut++
	}
}

// isBack reports whether nothing is held any more, and why the relay was to end.
func (r *Relay) isBack() (End, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := &r.handBack
	if b.why == nil || !b.said || !b.far || wire.SeqLess(r.gate.FarAck(), b.cut) || r.sent.ack != r.gate.NearAck() {
		return End{}, false
	}
	fed := r.gate.Fed()
	if r.far.fin && r.far.finAt == fed {
		fed++
	}
	return *b.why, !wire.SeqLess(r.gate.NearAck(), fed)
}

// cutDue reports whether the last frame is due, which tells the cut: all before it is in
// the trunk.
func (r *Relay) cutDue() bool {
	b := &r.handBack
	return b.why != nil && !b.said && !wire.SeqLess(r.inTrunk(), b.cut)
}

// inTrunk is the number after the last byte, or the FIN, that is in the trunk.
func (r *Relay) inTrunk() uint32 {
	if r.near.finInTrunk && r.near.inTrunk == r.gate.FinAt() {
		return r.near.inTrunk + 1
	}
	return r.near.inTrunk
}

// otherCut takes the other gateway's last frame.
func (r *Relay) otherCut() {
	r.mu.Lock()
	r.handBack.far = true
	r.beginBack(&endThere)
	r.mu.Unlock()
	r.wake()
}

// HandBack ends all relays in good order. It returns when they have ended, or ctx
// has.
func (l *Stack) HandBack(ctx context.Context, e *End) {
	list := l.all()
	for _, r := range list {
		r.handOver(e)
	}
	for _, r := range list {
		select {
		case <-r.ending.done:
		case <-ctx.Done():
			return
		}
	}
}
