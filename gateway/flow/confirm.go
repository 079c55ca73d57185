package flow

import (
	"context"
	"sync"
	"time"

	"github.com/onewaylink/gw/gateway/capture"
	"github.com/onewaylink/gw/netstack/wire"
)

// The gateway asks the local end of each unconfirmed flow whether it knows the connection: with a
// keepalive (RFC 1122 section 4.2.3.6), an acknowledgement without data whose sequence number the end
// has received already. An end that has the connection answers with an acknowledgement (RFC 9293
// section 3.10.7.4), any other with a RST. The question changes nothing at the end, and its answer
// takes the same path as every packet of the host; see Table.followUnconfirmed.
//
// A packet that the far end has sent tells better than the record what the local end has received,
// and which timestamps it accepts (RFC 7323 section 5): the next question about its flow uses them. An
// end that requires timestamps ignores a question without them, and confirms when it sends by itself.

const (
	// askWindow is how many questions of one giver's flows may be without an answer. It bounds what
	// made-up records cost the hosts of this site, and entries for absent hosts in the kernel's
	// neighbor table; honest records are answered at the speed of the LAN.
	askWindow = 64
	// askWait is how long a question occupies its place in the window.
	askWait = time.Second
	// askTries is how often one flow is asked about.
	askTries = 4
	// askTick is how often ConfirmFlows looks for answers while it waits for some.
	askTick = 10 * time.Millisecond
	// askBytes is the window that a question offers where the far end's is not known, in bytes.
	askBytes = 1024
)

// question is what a question about a flow says: what a packet of the far end has said.
type question struct {
	seq, ack uint32
	window   uint16
	options  [12]byte // timestamps, where stamped says so
	stamped  bool
}

// questionOf makes a question from a packet of the far end.
func questionOf(p *wire.Packet) question {
	q := question{seq: p.Seq - 1, ack: p.Ack, window: p.Window}
	q.options, q.stamped = p.TimestampOption()
	return q
}

// askQueue holds the flows of one giver that wait to be asked about.
type askQueue struct {
	mu   sync.Mutex
	keys []key
}

// enqueue has ConfirmFlows ask about a flow, unless it waits already, was asked about often enough, or
// the queue is full. The lock of its shard is held.
func (t *Table) enqueue(f *flow) {
	u := f.unconfirmed
	if u.queued || u.tries >= askTries || f.tcp.phase < phaseSynAck || f.tcp.phase.over() {
		return
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

// awaits reports whether the answer to a question about a flow may still come. Late says that it has
// taken too long: then the flow waits for another question.
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
	q := u.far
	if !u.heard {
		local, far := &f.tcp.side[f.end(f.localB)], &f.tcp.side[f.end(!f.localB)]
		q = question{seq: far.end - 1, ack: local.end, window: askBytes}
	}
	var options []byte
	if q.stamped {
		options = q.options[:]
	}
	dst, src := f.key.ends(f.localB)
	return wire.AppendSegment(nil, src, dst, q.seq, q.ack, wire.ACK, q.window, options, 0)
}
