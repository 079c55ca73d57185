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

	open     bool // the standby has told its sums
	peerBoot uint64
	openAt   time.Duration

	pos      uint64 // of the next batch
	flight   []flying
	progress time.Duration // when the standby last acknowledged something new, or had nothing to
	srtt     time.Duration
	backoff  uint
	rtoAt    time.Duration
	dups     int

	changed []string // keys to say, from taken on
	taken   int
	queued  map[string]struct{}
	firstAt time.Duration // when the first of them changed

	dirty     [buckets]bool
	dirtyLeft int
	bucket    int      // under repair, where inRepair
	inRepair  bool     // its begin was said
	keys      []string // of it, yet to be said
	said      bool     // opAll was said
	allPos    uint64
	synced    bool // and acknowledged

	digestAt   time.Duration
	digestPos  uint64
	digestSums [buckets]uint32
	equal      bool
	equalAt    time.Duration

	lastID uint32
	freeID []uint32
}

// flying is a batch on its way.
type flying struct {
	pos     uint64
	payload []byte
	keys    []string // whose changes it says; what a repair says is in no list
	sentAt  time.Duration
	again   bool
}

func (s *source) repairing() bool { return s.inRepair || s.dirtyLeft > 0 }

func (s *source) rto() time.Duration {
	return min(maxRTO, (minRTO+2*s.srtt)<<min(s.backoff, 5))
}

// due reports whether a batch is to be made now. Changes wait a moment for more:
// a short connection's, which are several, then cost one.
func (s *source) due(now time.Duration) bool {
	n := len(s.changed) - s.taken
	switch {
	case s.repairing(), n >= 16:
		return true
	case n > 0:
		return now >= s.firstAt+flushEvery
	}
	return !s.said || now >= s.digestAt
}

func (s *source) next(now time.Duration) time.Duration {
	if !s.open {
		return s.openAt
	}
	next := s.digestAt
	if next <= now {
		next = now + digestGap // it waits for what is before it
	}
	if len(s.flight) > 0 {
		next = min(next, s.rtoAt)
	}
	if len(s.flight) < window {
		switch {
		case s.due(now):
			next = now
		case len(s.changed) > s.taken:
			next = min(next, s.firstAt+flushEvery)
		}
	}
	return next
}

// drive does all that is due, on either side.
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
	if len(s.flight) > 0 && r.now >= s.rtoAt {
		if r.now-s.progress >= giveUp {
			r.restart()
			return
		}
		s.backoff++
		r.again()
	}
	for len(s.flight) < window {
		if !s.due(r.now) || !r.batch() {
			return
		}
	}
}

// session takes a new number; what it begins, the standby's sums will tell.
func (r *Replicator) session() {
	r.stats.Sessions++
	r.src.number = uint32(r.stats.Sessions)
}

// restart gives the stream up and looks for the standby again.
func (r *Replicator) restart() {
	r.settle()
	old := r.src
	r.src = source{epoch: old.epoch, since: old.since, openAt: r.now, srtt: old.srtt}
	r.session()
}

// settle puts into the index what nobody is told.
func (r *Replicator) settle() {
	s := &r.src
	for _, key := range s.changed[s.taken:] {
		r.absorb(key)
	}
	s.changed, s.taken, s.queued = nil, 0, nil
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
	if _, is := s.queued[string(key)]; is {
		return
	}
	if len(s.changed)-s.taken >= maxChanged {
		// The standby doesn't keep up. Forget what there was to say: what it comes to
		// is seen from the buckets.
		r.stats.Overflows++
		for _, k := range s.changed[s.taken:] {
			r.soil(bucketOf(k))
		}
		r.settle()
	}
	k := string(key)
	if s.queued == nil {
		s.queued = map[string]struct{}{}
	}
	if len(s.changed) == s.taken {
		s.firstAt = r.now
	}
	s.queued[k] = struct{}{}
	s.changed = append(s.changed, k)
}

// soil has a bucket sent again.
func (r *Replicator) soil(b int) {
	if !r.src.dirty[b] {
		r.src.dirty[b] = true
		r.src.dirtyLeft++
	}
	r.src.said, r.src.synced = false, false
}

// batch says as much as fits into one message; false when there was nothing after
// all.
func (r *Replicator) batch() bool {
	s := &r.src
	ops := make([]byte, 0, MaxReplica)
	var keys []string
	for s.taken < len(s.changed) {
		key := s.changed[s.taken]
		next, fits := r.say(ops, key, false)
		if !fits {
			break
		}
		if len(next) > len(ops) {
			keys = append(keys, key)
		}
		ops = next
		s.changed[s.taken] = ""
		s.taken++
		delete(s.queued, key)
	}
	rest := s.taken < len(s.changed)
	if !rest {
		s.changed, s.taken = s.changed[:0], 0
		ops = r.repair(ops)
	} else if s.taken > maxChanged/2 {
		s.changed = append(s.changed[:0], s.changed[s.taken:]...)
		s.taken = 0
	}
	if !rest && !s.repairing() && len(ops) < room-16 {
		if !s.said {
			s.said, s.allPos = true, s.pos
			ops = append(ops, opAll)
		}
		if r.now >= s.digestAt {
			s.digestAt, s.digestPos, s.digestSums = r.now+digestGap, s.pos, r.idx.short()
			ops = binary.BigEndian.AppendUint64(append(ops, opDigest), r.idx.digest())
		}
	}
	if len(ops) == 0 {
		return false
	}
	f := frame{kind: frameData, boot: r.cfg.Boot, session: session{s.epoch, s.number}, pos: s.pos, ops: ops}
	payload := f.append(make([]byte, 0, frameHeader+8+len(ops)))
	if len(s.flight) == 0 {
		s.progress, s.rtoAt = r.now, r.now+s.rto()
	}
	s.flight = append(s.flight, flying{pos: s.pos, payload: payload, keys: keys, sentAt: r.now})
	s.pos++
	r.emit(payload)
	return true
}

// room is what a batch has for operations.
const room = MaxReplica - frameHeader - 8

// repair goes on with the buckets that the standby has to get anew.
func (r *Replicator) repair(ops []byte) []byte {
	s := &r.src
	for len(ops) < room-8 {
		if !s.inRepair {
			if s.dirtyLeft == 0 {
				return ops
			}
			for !s.dirty[s.bucket] {
				s.bucket = (s.bucket + 1) % buckets
			}
			s.dirty[s.bucket] = false
			s.dirtyLeft--
			s.inRepair = true
			r.stats.Repairs++
			s.keys = s.keys[:0]
			for k := range r.idx.bucket[s.bucket] {
				s.keys = append(s.keys, k)
			}
			ops = append(ops, opBegin, byte(s.bucket))
		}
		for len(s.keys) > 0 {
			next, fits := r.say(ops, s.keys[len(s.keys)-1], true)
			if !fits {
				return ops
			}
			ops = next
			s.keys = s.keys[:len(s.keys)-1]
		}
		if len(ops) > room-2 {
			return ops
		}
		ops = append(ops, opEnd, byte(s.bucket))
		s.inRepair = false
	}
	return ops
}

// say appends what is to be said of a record, unless it doesn't fit. What the
// standby has already is said only where always.
func (r *Replicator) say(ops []byte, key string, always bool) ([]byte, bool) {
	s := &r.src
	b := bucketOf(key)
	v, ok := r.value(key)
	e, had := r.idx.get(b, key)
	named := had && e.session == s.number
	if ok && !named && len(s.freeID) == 0 && s.lastID == maxID {
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
			if id, fresh = s.lastID+1, true; len(s.freeID) > 0 {
				id, fresh = s.freeID[len(s.freeID)-1], false
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
			s.lastID = id
		case !named:
			s.freeID = s.freeID[:len(s.freeID)-1]
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
			s.freeID = append(s.freeID, e.id)
		}
		r.idx.drop(b, key)
		r.stats.Deletes++
	}
	return ops, true
}

// again sends the oldest batch in flight once more; the standby keeps those behind
// it.
func (r *Replicator) again() {
	s := &r.src
	s.flight[0].again = true
	s.rtoAt = r.now + s.rto()
	r.stats.Retransmits++
	r.emit(s.flight[0].payload)
}

// takeSums learns what the standby has: at first, and when a digest differed.
func (r *Replicator) takeSums(f *frame) {
	s := &r.src
	if !r.lead || f.session != (session{s.epoch, s.number}) {
		return
	}
	ours := &s.digestSums
	switch {
	case !s.open && f.pos == 0:
		sums := r.idx.short()
		ours = &sums
		s.open, s.peerBoot, s.pos, s.digestAt = true, f.boot, 1, r.now+digestGap
	case !s.open || f.boot != s.peerBoot || f.pos == 0 || f.pos != s.digestPos:
		return
	default:
		s.digestPos = 0
	}
	for b := range f.sums {
		if f.sums[b] != ours[b] {
			r.soil(b)
		}
	}
}

func (r *Replicator) takeAck(f *frame) {
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
		s.equal, s.equalAt = f.flags == flagEqual, max(r.now, 1)
	}
	n := 0
	for n < len(s.flight) && s.flight[n].pos < f.pos {
		n++
	}
	if n == 0 {
		if len(s.flight) > 1 && f.pos == s.flight[0].pos {
			if s.dups++; s.dups == 3 {
				r.again()
			}
		}
		return
	}
	if last := &s.flight[n-1]; !last.again {
		rtt := r.now - last.sentAt
		if s.srtt == 0 {
			s.srtt = rtt
		}
		s.srtt += (rtt - s.srtt) / 8
	}
	s.flight = append(s.flight[:0], s.flight[n:]...)
	s.progress, s.dups, s.backoff = r.now, 0, 0
	s.rtoAt = r.now + s.rto()
	s.synced = s.said && f.pos > s.allPos
}
