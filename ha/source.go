package ha

import (
	"encoding/binary"
	"time"
)

// source is the active node's side of a stream.
type source struct {
	epoch  uint64
	number uint32
	since  time.Duration // when this node began to lead

	open     bool // the standby has sent its sums
	peerBoot uint64
	openAt   time.Duration

	pos    uint64 // of the next batch
	flight []flying
	loss   loss

	queue  queue
	repair repair
	all    all
	digest digest
	ids    ids
}

// loss finds batches that got lost.
type loss struct {
	progress time.Duration // when the standby last acknowledged something new, or nothing was in flight
	srtt     time.Duration
	backoff  uint
	rtoAt    time.Duration
	dups     int
}

// queue holds the keys whose change has yet to be sent: keys[sent:].
type queue struct {
	keys    []string
	sent    int
	set     map[string]struct{}
	firstAt time.Duration // when the first of them changed
}

// repair sends whole buckets that differ on the standby.
type repair struct {
	dirty  [buckets]bool
	left   int      // how many are dirty
	bucket int      // under repair, where on
	on     bool     // its begin was sent
	keys   []string // of it, yet to be sent
}

// all is the statement that the standby has been sent every record.
type all struct {
	sent  bool // opAll was sent
	pos   uint64
	acked bool
}

// digest compares the records of both nodes.
type digest struct {
	at      time.Duration // of the next one
	pos     uint64        // of the last one
	sums    [buckets]uint32
	equal   bool // as the standby last answered
	equalAt time.Duration
}

// ids are the short names of records in this stream.
type ids struct {
	last uint32
	free []uint32
}

// flying is a batch on its way.
type flying struct {
	pos     uint64
	payload []byte
	keys    []string // of its changes; those of a repair are in no list
	sentAt  time.Duration
	again   bool
}

func (s *source) repairing() bool { return s.repair.on || s.repair.left > 0 }

func (s *source) rto() time.Duration {
	return min(maxRTO, (minRTO+2*s.loss.srtt)<<min(s.loss.backoff, 5))
}

// due reports whether to make a batch now. Changes wait a moment for more, so that the
// several changes of a short connection cost one.
func (s *source) due(now time.Duration) bool {
	n := len(s.queue.keys) - s.queue.sent
	switch {
	case s.repairing(), n >= 16:
		return true
	case n > 0:
		return now >= s.queue.firstAt+flushEvery
	}
	return !s.all.sent || now >= s.digest.at
}

func (s *source) next(now time.Duration) time.Duration {
	if !s.open {
		return s.openAt
	}
	next := s.digest.at
	if next <= now {
		next = now + digestGap // it waits for the changes before it
	}
	if len(s.flight) > 0 {
		next = min(next, s.loss.rtoAt)
	}
	if len(s.flight) < window {
		switch {
		case s.due(now):
			next = now
		case len(s.queue.keys) > s.queue.sent:
			next = min(next, s.queue.firstAt+flushEvery)
		}
	}
	return next
}

// drive does everything that is due, on either side.
func (r *Replicator) drive() {
	if !r.lead {
		if r.dst.ackAt != 0 && r.now >= r.dst.ackAt {
			r.ack()
		}
		return
	}
	s := &r.src
	if !s.open {
		if s.number == 0 {
			r.session()
		}
		if r.now >= s.openAt {
			s.openAt = r.now + openEvery
			r.emitFrame(&frame{kind: frameOpen, boot: r.cfg.Boot, session: session{s.epoch, s.number}})
		}
		return
	}
	if len(s.flight) > 0 && r.now >= s.loss.rtoAt {
		if r.now-s.loss.progress >= giveUp {
			r.restart()
			return
		}
		s.loss.backoff++
		r.again()
	}
	for len(s.flight) < window {
		if !s.due(r.now) || !r.batch() {
			return
		}
	}
}

// session chooses a new number. The standby's sums will show what differs.
func (r *Replicator) session() {
	r.stats.Sessions++
	r.src.number = uint32(r.stats.Sessions)
}

// restart abandons the stream and looks for the standby again.
func (r *Replicator) restart() {
	r.settle()
	old := r.src
	r.src = source{epoch: old.epoch, since: old.since, openAt: r.now, loss: loss{srtt: old.loss.srtt}}
	r.session()
}

// settle puts into the index the changes that will not be sent.
func (r *Replicator) settle() {
	s := &r.src
	for _, key := range s.queue.keys[s.queue.sent:] {
		r.absorb(key)
	}
	s.queue.keys, s.queue.sent, s.queue.set = nil, 0, nil
}

// absorb brings the index up to date with the Store's record.
func (r *Replicator) absorb(key string) {
	b := bucketOf(key)
	v, ok := r.value(key)
	if !ok {
		r.idx.drop(b, key)
		return
	}
	e, _ := r.idx.get(b, key)
	e.hash, e.round = hashOf(key, v), r.idx.round
	r.idx.put(b, key, e)
}

// value reads a record of the Store; the bytes hold until the next call.
func (r *Replicator) value(key string) ([]byte, bool) {
	v, ok := r.cfg.Store.Value(r.val[:0], []byte(key))
	r.val = v
	if ok && len(v) > MaxValue {
		r.stats.Refused++
		return nil, false
	}
	return v, ok
}

// change queues a key of the active node.
func (r *Replicator) change(key []byte) {
	s := &r.src
	if !s.open {
		r.absorb(string(key))
		return
	}
	if _, is := s.queue.set[string(key)]; is {
		return
	}
	if len(s.queue.keys)-s.queue.sent >= maxChanged {
		// The standby is too slow. Discard the queue: its buckets are sent instead.
		r.stats.Overflows++
		for _, k := range s.queue.keys[s.queue.sent:] {
			r.markDirty(bucketOf(k))
		}
		r.settle()
	}
	k := string(key)
	if s.queue.set == nil {
		s.queue.set = map[string]struct{}{}
	}
	if len(s.queue.keys) == s.queue.sent {
		s.queue.firstAt = r.now
	}
	s.queue.set[k] = struct{}{}
	s.queue.keys = append(s.queue.keys, k)
}

// markDirty makes a bucket be sent again.
func (r *Replicator) markDirty(b int) {
	if !r.src.repair.dirty[b] {
		r.src.repair.dirty[b] = true
		r.src.repair.left++
	}
	r.src.all.sent, r.src.all.acked = false, false
}

// batch sends as much as fits into one message, and reports false when there was
// nothing to send.
func (r *Replicator) batch() bool {
	s := &r.src
	ops := make([]byte, 0, MaxReplica)
	var keys []string
	for s.queue.sent < len(s.queue.keys) {
		key := s.queue.keys[s.queue.sent]
		next, fits := r.appendChange(ops, key, false)
		if !fits {
			break
		}
		if len(next) > len(ops) {
			keys = append(keys, key)
		}
		ops = next
		s.queue.keys[s.queue.sent] = ""
		s.queue.sent++
		delete(s.queue.set, key)
	}
	rest := s.queue.sent < len(s.queue.keys)
	if !rest {
		s.queue.keys, s.queue.sent = s.queue.keys[:0], 0
		ops = r.repair(ops)
	} else if s.queue.sent > maxChanged/2 {
		s.queue.keys = append(s.queue.keys[:0], s.queue.keys[s.queue.sent:]...)
		s.queue.sent = 0
	}
	if !rest && !s.repairing() && len(ops) < room-16 {
		if !s.all.sent {
			s.all.sent, s.all.pos = true, s.pos
			ops = append(ops, opAll)
		}
		if r.now >= s.digest.at {
			s.digest.at, s.digest.pos, s.digest.sums = r.now+digestGap, s.pos, r.idx.short()
			ops = binary.BigEndian.AppendUint64(append(ops, opDigest), r.idx.digest())
		}
	}
	if len(ops) == 0 {
		return false
	}
	f := frame{kind: frameData, boot: r.cfg.Boot, session: session{s.epoch, s.number}, pos: s.pos, ops: ops}
	payload := f.append(make([]byte, 0, frameHeader+8+len(ops)))
	if len(s.flight) == 0 {
		s.loss.progress, s.loss.rtoAt = r.now, r.now+s.rto()
	}
	s.flight = append(s.flight, flying{pos: s.pos, payload: payload, keys: keys, sentAt: r.now})
	s.pos++
	r.emit(payload)
	return true
}

// room is the number of bytes that a batch has for operations.
const room = MaxReplica - frameHeader - 8

// repair continues with the buckets that are sent again.
func (r *Replicator) repair(ops []byte) []byte {
	s := &r.src
	for len(ops) < room-8 {
		if !s.repair.on {
			if s.repair.left == 0 {
				return ops
			}
			for !s.repair.dirty[s.repair.bucket] {
				s.repair.bucket = (s.repair.bucket + 1) % buckets
			}
			s.repair.dirty[s.repair.bucket] = false
			s.repair.left--
			s.repair.on = true
			r.stats.Repairs++
			s.repair.keys = s.repair.keys[:0]
			for k := range r.idx.bucket[s.repair.bucket] {
				s.repair.keys = append(s.repair.keys, k)
			}
			ops = append(ops, opBegin, byte(s.repair.bucket))
		}
		for len(s.repair.keys) > 0 {
			next, fits := r.appendChange(ops, s.repair.keys[len(s.repair.keys)-1], true)
			if !fits {
				return ops
			}
			ops = next
			s.repair.keys = s.repair.keys[:len(s.repair.keys)-1]
		}
		if len(ops) > room-2 {
			return ops
		}
		ops = append(ops, opEnd, byte(s.repair.bucket))
		s.repair.on = false
	}
	return ops
}

// appendChange appends the change of a record, or reports false if it does not fit. With
// always, it appends a record that the standby has already, too.
func (r *Replicator) appendChange(ops []byte, key string, always bool) ([]byte, bool) {
	s := &r.src
	b := bucketOf(key)
	v, ok := r.value(key)
	e, had := r.idx.get(b, key)
	named := had && e.session == s.number
	if ok && !named && len(s.ids.free) == 0 && s.ids.last == maxID {
		r.stats.Refused++
		ok = false
	}
	start := len(ops)
	switch {
	case ok:
		h := hashOf(key, v)
		if had && e.hash == h && !always {
			return ops, true
		}
		id, fresh := e.id, false
		if !named {
			if id, fresh = s.ids.last+1, true; len(s.ids.free) > 0 {
				id, fresh = s.ids.free[len(s.ids.free)-1], false
			}
			ops = binary.AppendUvarint(append(ops, opName), uint64(id))
			ops = binary.AppendUvarint(append(ops, byte(len(key))), uint64(len(v)))
			ops = append(ops, key...)
		} else {
			ops = binary.AppendUvarint(append(ops, opPut), uint64(id))
			ops = binary.AppendUvarint(ops, uint64(len(v)))
		}
		if ops = append(ops, v...); len(ops) > room {
			return ops[:start], false
		}
		switch {
		case fresh:
			s.ids.last = id
		case !named:
			s.ids.free = s.ids.free[:len(s.ids.free)-1]
		}
		r.idx.put(b, key, entry{hash: h, id: id, session: s.number, round: r.idx.round})
		r.stats.Puts++
	case had:
		if named {
			ops = binary.AppendUvarint(append(ops, opDelete), uint64(e.id))
		} else {
			ops = append(append(ops, opDrop, byte(len(key))), key...)
		}
		if len(ops) > room {
			return ops[:start], false
		}
		if named {
			s.ids.free = append(s.ids.free, e.id)
		}
		r.idx.drop(b, key)
		r.stats.Deletes++
	}
	return ops, true
}

// again retransmits the oldest batch in flight; the standby keeps those behind it.
func (r *Replicator) again() {
	s := &r.src
	s.flight[0].again = true
	s.loss.rtoAt = r.now + s.rto()
	r.stats.Retransmits++
	r.emit(s.flight[0].payload)
}

// handleSums compares what the standby has: at first, and when a digest differed.
func (r *Replicator) handleSums(f *frame) {
	s := &r.src
	if !r.lead || f.session != (session{s.epoch, s.number}) {
		return
	}
	ours := &s.digest.sums
	switch {
	case !s.open && f.pos == 0:
		sums := r.idx.short()
		ours = &sums
		s.open, s.peerBoot, s.pos, s.digest.at = true, f.boot, 1, r.now+digestGap
	case !s.open || f.boot != s.peerBoot || f.pos == 0 || f.pos != s.digest.pos:
		return
	default:
		s.digest.pos = 0
	}
	for b := range f.sums {
		if f.sums[b] != ours[b] {
			r.markDirty(b)
		}
	}
}

func (r *Replicator) handleAck(f *frame) {
	s := &r.src
	if !r.lead || !s.open || f.session != (session{s.epoch, s.number}) {
		return
	}
	if f.boot != s.peerBoot {
		r.restart()
		return
	}
	if f.pos > s.pos {
		return
	}
	if f.flags != 0 {
		s.digest.equal, s.digest.equalAt = f.flags == flagEqual, max(r.now, 1)
	}
	n := 0
	for n < len(s.flight) && s.flight[n].pos < f.pos {
		n++
	}
	if n == 0 {
		if len(s.flight) > 1 && f.pos == s.flight[0].pos {
			if s.loss.dups++; s.loss.dups == 3 {
				r.again()
			}
		}
		return
	}
	if last := &s.flight[n-1]; !last.again {
		rtt := r.now - last.sentAt
		if s.loss.srtt == 0 {
			s.loss.srtt = rtt
		}
		s.loss.srtt += (rtt - s.loss.srtt) / 8
	}
	s.flight = append(s.flight[:0], s.flight[n:]...)
	s.loss.progress, s.loss.dups, s.loss.backoff = r.now, 0, 0
	s.loss.rtoAt = r.now + s.rto()
	s.all.acked = s.all.sent && f.pos > s.all.pos
}
