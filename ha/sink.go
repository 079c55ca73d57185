package ha

import (
	"fmt"
	"time"
)

// sink is the standby's side of a stream.
type sink struct {
	session session
	boot    uint64   // of the source
	expect  uint64   // position
	ids     []string // keys by id
	held    map[uint64][]byte

	unacked int
	ackAt   time.Duration // 0: nothing to acknowledge
	flags   uint8

	complete bool // a complete set has arrived
	equal    bool
	equalAt  time.Duration
}

// handleOpen begins a stream: it sends its source the sums of what is here already.
func (r *Replicator) handleOpen(f *frame) {
	d := &r.dst
	same := f.session == d.session && f.boot == d.boot
	if r.lead || !same && !f.session.after(d.session) || same && d.expect > 1 {
		return
	}
	if !same {
		r.stats.Sessions++
		*d = sink{session: f.session, boot: f.boot, expect: 1, equal: d.equal, equalAt: d.equalAt}
	}
	r.sendSums(0)
}

// sendSums sends the sums of the buckets as they are at a position.
func (r *Replicator) sendSums(pos uint64) {
	r.emitFrame(&frame{kind: frameSums, boot: r.cfg.Boot, session: r.dst.session, pos: pos, sums: r.idx.short()})
}

func (r *Replicator) handleData(f *frame) {
	d := &r.dst
	if r.lead && (r.src.open || r.now-r.src.since >= lateFor) {
		return
	}
	if f.session != d.session || f.boot != d.boot {
		if !r.lead { // so that the source sees that this node was restarted
			r.emitFrame(&frame{kind: frameAck, boot: r.cfg.Boot, session: f.session})
		}
		return
	}
	switch {
	case f.pos == d.expect:
		r.apply(f.ops)
		for len(d.held) > 0 {
			ops, is := d.held[d.expect]
			if !is {
				break
			}
			delete(d.held, d.expect)
			r.apply(ops)
		}
		if d.ackAt == 0 {
			d.ackAt = r.now + ackDelay
		}
		if d.unacked < ackEvery && d.flags == 0 && len(d.held) == 0 {
			return
		}
	case f.pos > d.expect && f.pos < d.expect+window:
		if d.held == nil {
			d.held = map[uint64][]byte{}
		}
		if _, is := d.held[f.pos]; !is {
			d.held[f.pos] = append([]byte(nil), f.ops...)
		}
	}
	r.ack()
}

func (r *Replicator) ack() {
	d := &r.dst
	r.emitFrame(&frame{kind: frameAck, boot: r.cfg.Boot, session: d.session, pos: d.expect, flags: d.flags})
	d.unacked, d.ackAt, d.flags = 0, 0, 0
}

// apply carries out a batch. A malformed one ends the stream, which its
// source restarts.
func (r *Replicator) apply(ops []byte) {
	d := &r.dst
	for len(ops) > 0 {
		var o op
		var err error
		if o, ops, err = nextOp(ops); err == nil {
			err = r.do(&o)
		}
		if err != nil {
			d.session = session{}
			return
		}
	}
	d.expect++
	d.unacked++
}

func (r *Replicator) do(o *op) error {
	d := &r.dst
	key := ""
	switch o.kind {
	case opName:
		key = string(o.key)
		for int(o.id) >= len(d.ids) {
			if int(o.id) > len(d.ids)+window*room {
				return fmt.Errorf("%w: id %d", ErrMalformed, o.id)
			}
			d.ids = append(d.ids, "")
		}
		d.ids[o.id] = key
	case opPut, opDelete:
		if int(o.id) >= len(d.ids) || d.ids[o.id] == "" {
			return fmt.Errorf("%w: id %d", ErrMalformed, o.id)
		}
		key = d.ids[o.id]
	case opDrop:
		key = string(o.key)
	}
	switch o.kind {
	case opName, opPut:
		r.store(key, o.value)
	case opDelete:
		d.ids[o.id] = ""
		r.remove(key)
	case opDrop:
		r.remove(key)
	case opBegin:
		if !r.lead {
			r.idx.round++
		}
	case opEnd:
		if r.lead {
			break // its own changes are marked alike
		}
		for k, e := range r.idx.bucket[o.bucket] {
			if e.round != r.idx.round {
				r.remove(k)
			}
		}
	case opDigest:
		d.equal, d.equalAt = r.idx.digest() == o.digest, max(r.now, 1)
		d.flags = flagEqual
		if !d.equal {
			d.flags, d.complete = flagDiffers, false
			r.sendSums(d.expect)
		}
	case opAll:
		d.complete = true
	}
	return nil
}

// newer reports whether this node has changed the record since it leads: the change of
// the former active node is too late.
func (r *Replicator) newer(b int, key string) bool {
	e, had := r.idx.get(b, key)
	return r.lead && had && e.round == r.idx.round
}

func (r *Replicator) store(key string, value []byte) {
	b := bucketOf(key)
	if r.newer(b, key) {
		return
	}
	e, _ := r.idx.get(b, key)
	e.hash, e.round = hashOf(key, value), r.idx.round
	if r.lead {
		e.round-- // not this node's own
	}
	r.idx.put(b, key, e)
	r.stats.Applied++
	r.cfg.Store.Apply([]byte(key), value)
}

func (r *Replicator) remove(key string) {
	b := bucketOf(key)
	if r.newer(b, key) {
		return
	}
	r.idx.drop(b, key)
	r.stats.Removed++
	r.cfg.Store.Remove([]byte(key))
}
