package ha

import (
	"iter"
	"slices"
	"time"
)

// Limits of replication.
const (
	// MaxKey and MaxValue bound a record, in bytes, so that a message fits into
	// every link's MTU. A key has at least one byte.
	MaxKey   = 255
	MaxValue = 768
	// MaxReplica is the largest payload of a Replicator, in bytes.
	MaxReplica = 1180

	window     = 64                     // unacknowledged batches
	maxChanged = 1 << 16                // keys that wait for the window
	flushEvery = 10 * time.Millisecond  // the longest wait of a change for others
	ackDelay   = 5 * time.Millisecond   // of the standby
	ackEvery   = 8                      // batches at most
	openEvery  = 100 * time.Millisecond // attempts to find the standby
	digestGap  = time.Second            // between two digests
	giveUp     = 2 * time.Second        // without progress: the standby is gone
	lateFor    = 100 * time.Millisecond // the old active node's last batches count
	minRTO     = 25 * time.Millisecond
	maxRTO     = 500 * time.Millisecond
)

// Store is the owner's store of records. The Replicator calls it only from
// within its own methods.
type Store interface {
	// Value appends the value of the record key to b; false when there is none.
	Value(b, key []byte) ([]byte, bool)
	// Apply stores a record of the sibling, replacing any with the same key, and Remove
	// removes one. Neither may keep the slices, nor cause a call of Changed.
	Apply(key, value []byte)
	Remove(key []byte)
}

// ReplicatorConfig is what a Replicator needs.
type ReplicatorConfig struct {
	Boot  uint64 // as Config.Boot
	Store Store
}

// Replicator keeps the records of a site's two nodes equal: the active node's
// go to the standby. It begins on the standby's side.
//
// It holds no values, only keys and hashes: what it sends it reads from the Store
// when it sends it, so that changes of one record within a batch cost one. It
// isn't safe for concurrent use. The slices that its methods return are payloads
// for the sibling, in order, valid until the next call; they may get lost.
type Replicator struct {
	cfg  ReplicatorConfig
	now  time.Duration
	idx  index
	lead bool
	src  source
	dst  sink

	stats ReplicatorStats
	out   [][]byte
	buf   []byte
	val   []byte
}

// ReplicatorStats counts what a Replicator has done. All but the first are totals.
type ReplicatorStats struct {
	Records     int // known to it
	Messages    uint64
	Bytes       uint64 // of payloads sent
	Puts        uint64 // sent
	Deletes     uint64 // sent
	Applied     uint64 // records received from the sibling
	Removed     uint64
	Retransmits uint64
	Repairs     uint64 // buckets sent again, or for the first time
	Refused     uint64 // records beyond the limits, not replicated
	Overflows   uint64 // of the queue of changes; a repair follows each
	Sessions    uint64 // begun
}

// NewReplicator returns a Replicator that follows.
func NewReplicator(now time.Duration, cfg ReplicatorConfig) *Replicator {
	return &Replicator{cfg: cfg, now: now}
}

// Lead makes this node the source, as Machine's Activate requests. The epoch orders its
// sessions against its sibling's.
func (r *Replicator) Lead(now time.Duration, epoch uint64) [][]byte {
	r.begin(now)
	if !r.lead {
		r.idx.round++ // what changes from here on is newer than the sibling's last change
	}
	r.lead = true
	r.src = source{epoch: epoch, since: now, openAt: now}
	r.drive()
	return r.out
}

// Follow makes this node the destination, as Deactivate requests. It sends the queued
// changes at once.
func (r *Replicator) Follow(now time.Duration) [][]byte {
	r.begin(now)
	if !r.lead {
		return r.out
	}
	if r.src.open {
		for i := range r.src.flight {
			r.emit(r.src.flight[i].payload)
		}
		for len(r.src.queue.keys) > r.src.queue.sent && len(r.src.flight) < 2*window {
			r.batch()
		}
	}
	r.settle()
	r.lead = false
	r.src = source{}
	r.dst.complete = false
	return r.out
}

// Changed reports that the record key was made, changed or removed in the Store. The
// owner also calls it for every record that it has restored. On the standby it has no
// effect on the stream.
func (r *Replicator) Changed(now time.Duration, key []byte) [][]byte {
	r.begin(now)
	if !r.lead || len(key) == 0 || len(key) > MaxKey {
		if len(key) == 0 || len(key) > MaxKey {
			r.stats.Refused++
		} else {
			r.absorb(string(key))
		}
		return r.out
	}
	r.change(key)
	r.drive()
	return r.out
}

// Tick lets time pass.
func (r *Replicator) Tick(now time.Duration) [][]byte {
	r.begin(now)
	r.drive()
	return r.out
}

// Handle processes a payload of the sibling. It does not keep payload. An error is why
// the payload was rejected; the returned payloads must be sent with it, too.
func (r *Replicator) Handle(now time.Duration, payload []byte) ([][]byte, error) {
	r.begin(now)
	var f frame
	if err := f.decode(payload); err != nil {
		return r.out, err
	}
	switch f.kind {
	case frameOpen:
		r.handleOpen(&f)
	case frameData:
		r.handleData(&f)
	case frameSums:
		r.handleSums(&f)
	case frameAck:
		r.handleAck(&f)
	}
	r.drive()
	return r.out, nil
}

// Next is the time of the next Tick.
func (r *Replicator) Next() time.Duration {
	if r.lead {
		return r.src.next(r.now)
	}
	if r.dst.ackAt != 0 {
		return r.dst.ackAt
	}
	return r.now + time.Second
}

// InSync reports whether the standby has all records. On the active node: the standby has
// acknowledged the first complete set, and no repair is due. On the standby: it has
// received a complete set once, and no digest has differed since.
func (r *Replicator) InSync() bool {
	if r.lead {
		return r.src.open && r.src.all.acked && !r.src.repairing()
	}
	return r.dst.complete
}

// Lag is the number of records whose change the standby has not acknowledged: queued
// ones and those in flight. On the standby it is 0.
func (r *Replicator) Lag() int {
	n := len(r.src.queue.keys) - r.src.queue.sent
	for i := range r.src.flight {
		n += len(r.src.flight[i].keys)
	}
	return n
}

// Unacknowledged yields the keys that Lag counts; one that has changed again appears more
// than once.
func (r *Replicator) Unacknowledged() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range r.src.flight {
			for _, k := range r.src.flight[i].keys {
				if !yield(k) {
					return
				}
			}
		}
		for _, k := range r.src.queue.keys[r.src.queue.sent:] {
			if !yield(k) {
				return
			}
		}
	}
}

// ReplicatorStatus is a snapshot of a Replicator.
type ReplicatorStatus struct {
	ReplicatorStats
	Leads   bool
	Open    bool // the sibling takes part
	InSync  bool
	Lag     int
	Repair  int           // buckets of 256 yet to be sent
	Digest  uint64        // of all records; equal on both nodes when nothing is on its way
	Equal   bool          // the last digest that was compared was equal
	Checked time.Duration // age of that comparison, -1 before the first
}

// Status returns a snapshot.
func (r *Replicator) Status(now time.Duration) ReplicatorStatus {
	s := ReplicatorStatus{
		ReplicatorStats: r.stats, Leads: r.lead, Open: r.src.open, InSync: r.InSync(), Lag: r.Lag(), Digest: r.idx.digest(),
		Equal: r.src.digest.equal, Checked: -1,
	}
	at := r.src.digest.equalAt
	if !r.lead {
		s.Open, s.Equal = r.dst.session.epoch != 0, r.dst.equal
		at = r.dst.equalAt
	}
	if at != 0 {
		s.Checked = now - at
	}
	for _, d := range r.src.repair.dirty {
		if d {
			s.Repair++
		}
	}
	s.Records = r.idx.len
	return s
}

func (r *Replicator) begin(now time.Duration) {
	r.now = max(r.now, now)
	clear(r.out)
	r.out, r.buf = r.out[:0], r.buf[:0]
}

func (r *Replicator) emit(payload []byte) {
	r.out = append(r.out, payload)
	r.stats.Messages++
	r.stats.Bytes += uint64(len(payload))
}

// emitFrame encodes f and sends it.
func (r *Replicator) emitFrame(f *frame) {
	at := len(r.buf)
	r.buf = f.append(slices.Grow(r.buf, MaxReplica))
	r.emit(r.buf[at:len(r.buf):len(r.buf)])
}
