package flow

import (
	"context"
	"sync"
	"time"

	"github.com/onewaylink/gw/gateway/capture"
	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
)

// The gateway asks the local end of each unconfirmed flow whether it knows the connection: with an
// acknowledgement without data whose sequence number and acknowledgement number are both far in the
// past. An end that has the connection takes nothing from a segment outside its window, and answers
// with an acknowledgement (RFC 9293 section 3.10.7.4), which takes the same path as every packet of
// the host. Any other end answers with a RST, whose number is as old, so that it means nothing to
// the far end; see Table.followUnconfirmed.
//
// The numbers must be old, and not merely the record's: the record tells how far each end has sent,
// so an acknowledgement of that would cover bytes that the far end has yet to receive. Their sender
// would then discard them.
//
// A packet that the far end has sent tells which timestamps the local end accepts (RFC 7323 section
// 5): the next question about its flow repeats them. An end that requires timestamps ignores a
// question without them, and confirms when it sends by itself.

const (
	// askWindow is how many questions of one giver's flows may be without an answer. It bounds what
	// made-up records cost the hosts of this site, and entries for absent hosts in the kernel's
	// neighbor table; honest records are answered at the speed of the LAN.
	askWindow = 64
	// askWait is how long a question occupies its place in the window.
	askWait = time.Second
	// askTries is how often one flow is asked about.
	askTries = 4
	// handshakeFor is how old a connection that the far end opened must be. A younger one may lack
	// its third packet, which died with a gateway: the local end, in SYN-RECEIVED, would answer
	// with a RST (RFC 9293 section 3.10.7.4), and resends its SYN-ACK by itself.
	handshakeFor = 5 * time.Second
	// askTick is how often ConfirmFlows looks for answers while it waits for some.
	askTick = 10 * time.Millisecond
	// askBehind is how far behind the record's positions the numbers of a question are, in bytes:
	// more than the record may be wrong by (lenient), and less than half of the sequence space.
	askBehind = 1 << 30
)

// askQueue holds the flows of one giver that wait to be asked about.
type askQueue struct {
	mu   sync.Mutex
	keys []key
}

// enqueue has ConfirmFlows ask about a flow, unless it waits already, was asked about often enough,
// or the queue is full. The lock of its shard is held.
func (t *Table) enqueue(f *flow) {
	u := f.unconfirmed
	if u.queued || u.tries >= askTries || f.tcp.Phase() <= tcptrack.SynReceived || f.tcp.Phase().Over() {
		return
	}
	if f.localB != f.openerB && t.cfg.Now()-f.opened < handshakeFor {
		return // expireForeign asks later
	}
	q := &t.foreign[u.giver].queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.keys) >= t.cfg.MaxFlows/giverShare {
		return
	}
	u.queued = true
	q.keys = append(q.keys, f.key)
	select {
	case t.asks <- struct{}{}:
	default:
	}
}

// next removes up to n keys from the queue.
func (q *askQueue) next(n int) []key {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.keys))
	out := q.keys[:n:n]
	if q.keys = q.keys[n:]; len(q.keys) == 0 {
		q.keys = nil
	}
	return out
}

func (q *askQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.keys)
}

func (q *askQueue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.keys = nil
}

// asked is a question whose answer may still come.
type asked struct {
	key key
	at  time.Duration
}

// ConfirmFlows asks the local ends of unconfirmed flows, until ctx ends.
func (p *Path) ConfirmFlows(ctx context.Context) error {
	open := make([][]asked, len(p.table.foreign))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		waiting := false
		for i := range open {
			open[i] = p.confirmFrom(i, open[i])
			waiting = waiting || len(open[i]) > 0 || p.table.foreign[i].queue.len() > 0
		}
		var tick <-chan time.Time
		if waiting {
			timer.Reset(askTick)
			tick = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.table.asks:
		case <-tick:
		}
	}
}

// confirmFrom asks about flows of one giver, as far as the window allows. It returns the questions
// that are still without an answer.
func (p *Path) confirmFrom(giver int, open []asked) []asked {
	now := p.table.cfg.Now()
	if !p.table.alive() {
		return open
	}
	kept := open[:0]
	for _, a := range open {
		if p.table.awaits(a.key, now-a.at >= askWait) {
			kept = append(kept, a)
		}
	}
	for _, k := range p.table.foreign[giver].queue.next(askWindow - len(kept)) {
		if b := p.table.question(k); b != nil {
			kept = append(kept, asked{k, now})
			p.toHost([][]byte{b}, wire.Offload{}, capture.Own)
		}
	}
	return kept
}

// awaits reports whether the answer to a question about a flow may still come. Late says that it
// has taken too long: then the flow waits for another question.
func (t *Table) awaits(k key, late bool) bool {
	s := t.shardOf(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flows[k]
	if f == nil || f.unconfirmed == nil {
		return false
	}
	if late {
		t.enqueue(f)
	}
	return !late
}

// question makes the question about an unconfirmed flow; nil where there is nothing to ask.
func (t *Table) question(k key) []byte {
	s := t.shardOf(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flows[k]
	if f == nil || f.unconfirmed == nil {
		return nil
	}
	u := f.unconfirmed
	u.queued = false
	u.tries++
	var options []byte
	if u.stamped {
		options = u.stamps[:]
	}
	local, far := f.tcp.End(f.end(f.localB)), f.tcp.End(f.end(!f.localB))
	u.asked = local - askBehind
	dst, src := f.key.ends(f.localB)
	return wire.AppendSegment(nil, src, dst, far-askBehind, u.asked, wire.ACK, 0, options, 0)
}
