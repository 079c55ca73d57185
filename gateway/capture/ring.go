package capture

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/onewaylink/gw/netstack/wire"
)

// A Ring holds the latest packets. It is made of lanes. Half of the memory is for the packets of
// bulk; the other half for those that begin, end or refuse something, which are few, so that bulk
// does not drive them out. Of each kind there is a lane for either direction, so that the
// goroutines that move packets seldom meet.
//
// Put never waits: where its lane is being used, by a reader or another writer, it takes the other
// one of the kind, and where both are, the packet is not kept, and counted.
type Ring struct {
	lane [4]lane
	seq  atomic.Uint64
	lost atomic.Uint64
}

// New returns a Ring of about size bytes, and at least 64 KiB. The kernel provides the memory as
// packets arrive.
func New(size int) *Ring {
	r := new(Ring)
	for i := range r.lane {
		r.lane[i].buf = make([]byte, max(size/len(r.lane), 16<<10)&^7)
		r.lane[i].ids = make(map[name]uint16)
		r.lane[i].names = []name{{}} // 0 is none
	}
	return r
}

// Lost is how many packets were not kept since all that could have held them was in use at that
// moment.
func (r *Ring) Lost() uint64 { return r.lost.Load() }

// Put keeps a sight. It keeps nothing of s itself. Safe for concurrent use.
func (r *Ring) Put(s *Sight) {
	keep, rare := head(s.Head)
	i := 0
	if rare || s.Reason != wire.OK {
		i = 2
	}
	if s.Point >= FromLink {
		i++
	}
	l := &r.lane[i]
	if !l.mu.TryLock() {
		if l = &r.lane[i^1]; !l.mu.TryLock() {
			r.lost.Add(1)
			return
		}
	}
	l.put(r.seq.Add(1), s, s.Head[:keep])
	l.mu.Unlock()
}

// lane is a queue of records in a circle of bytes.
type lane struct {
	mu  sync.Mutex
	buf []byte // its length is a multiple of 8
	// next and oldest are positions since the beginning; that in buf is the rest of the division by
	// its length.
	next, oldest uint64
	// Rules are kept by number. There are few, and names only grows.
	names []name
	ids   map[name]uint16
	last  uint16 // the one used last
	_     [64]byte
}

type name struct{ rule, pos string }

// A record is
//
//	4 size, with all    4 length of the packet    8 time    8 sequence number
//	2 rule   1 reason   1 point   1 note   1 -    2 length of the head    head
//
// in the machine's byte order, and a multiple of 8 in size. One that would not fit before the end
// of the circle begins at its start, behind a size with skipped set.
const (
	recordHead = 32
	skipped    = 1 << 31
)

var order = binary.NativeEndian

func (l *lane) put(seq uint64, s *Sight, head []byte) {
	size := (recordHead + len(head) + 7) &^ 7
	n := uint64(len(l.buf))
	at := l.next % n
	if rest := int(n - at); rest < size {
		l.free(rest)
		order.PutUint32(l.buf[at:], uint32(rest)|skipped)
		l.next += uint64(rest)
		at = 0
	}
	l.free(size)
	b := l.buf[at : at+uint64(size)]
	order.PutUint32(b, uint32(size))
	order.PutUint32(b[4:], uint32(s.Length))
	order.PutUint64(b[8:], uint64(s.At))
	order.PutUint64(b[16:], seq)
	order.PutUint16(b[24:], l.id(name{s.Rule, s.Pos}))
	b[26], b[27], b[28] = byte(s.Reason), byte(s.Point), byte(s.Note)
	order.PutUint16(b[30:], uint16(len(head)))
	copy(b[recordHead:], head)
	l.next += uint64(size)
}

// free makes room for size bytes by forgetting the oldest records.
func (l *lane) free(size int) {
	for l.next+uint64(size)-l.oldest > uint64(len(l.buf)) {
		l.oldest += uint64(order.Uint32(l.buf[l.oldest%uint64(len(l.buf)):]) &^ skipped)
	}
}

// id is the number of a rule.
func (l *lane) id(n name) uint16 {
	if l.names[l.last] == n {
		return l.last
	}
	id, ok := l.ids[n]
	if !ok && n != (name{}) && len(l.names) < 1<<16 {
		id = uint16(len(l.names))
		l.names = append(l.names, n)
		l.ids[n] = id
	}
	l.last = id
	return id
}
