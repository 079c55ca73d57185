package capture

import (
	"cmp"
	"slices"

	"github.com/onewaylink/gw/netstack/wire"
)

// Record is a Sight that was kept. The larger Seq was seen later.
type Record struct {
	Sight
	Seq uint64
}

// Reader reads a Ring. Several may read at the same time, each at its own pace. Its methods must
// not be called concurrently.
type Reader struct {
	ring *Ring
	pos  [len(Ring{}.lane)]uint64
	buf  []byte
}

// chunk is how many bytes are copied under the lock of a lane.
const chunk = 16 << 10

// NewReader begins with the oldest record that is still there.
func (r *Ring) NewReader() *Reader { return &Reader{ring: r, buf: make([]byte, 0, chunk)} }

// NewTail begins with the next packet.
func (r *Ring) NewTail() *Reader {
	rd := r.NewReader()
	for i := range r.lane {
		l := &r.lane[i]
		l.mu.Lock()
		rd.pos[i] = l.next
		l.mu.Unlock()
	}
	return rd
}

// Read returns what was recorded since the last call and passes want, in the order in which it was
// seen. What was overwritten before it could be read is missing. want must keep nothing of its
// Record.
func (rd *Reader) Read(want func(*Record) bool) []Record {
	var out []Record
	for i := range rd.ring.lane {
		l := &rd.ring.lane[i]
		l.mu.Lock()
		end := l.next
		l.mu.Unlock()
		for rd.pos[i] < end {
			names := rd.take(l, i)
			out = rd.split(out, names, want)
		}
	}
	slices.SortFunc(out, func(a, b Record) int { return cmp.Compare(a.Seq, b.Seq) })
	return out
}

// take copies the next records of a lane to buf. It holds the lock only for the copy, so that
// writers rarely find both lanes of a kind in use.
func (rd *Reader) take(l *lane, i int) []name {
	l.mu.Lock()
	defer l.mu.Unlock()
	pos := max(rd.pos[i], l.oldest)
	rd.buf = rd.buf[:0]
	for pos < l.next {
		at := pos % uint64(len(l.buf))
		size := uint64(order.Uint32(l.buf[at:]))
		if size&skipped != 0 {
			pos += size &^ skipped
			continue
		}
		if len(rd.buf)+int(size) > chunk {
			break
		}
		rd.buf = append(rd.buf, l.buf[at:at+size]...)
		pos += size
	}
	rd.pos[i] = pos
	return l.names
}

// split decodes the Records that take has copied.
func (rd *Reader) split(out []Record, names []name, want func(*Record) bool) []Record {
	for b := rd.buf; len(b) > 0; b = b[order.Uint32(b):] {
		rule := names[order.Uint16(b[24:])]
		r := Record{Seq: order.Uint64(b[16:]), Sight: Sight{
			Point: Point(b[27]), Reason: wire.Reason(b[26]), Note: Note(b[28]),
			At: int64(order.Uint64(b[8:])), Length: int(order.Uint32(b[4:])),
			Head: b[recordHead:][:order.Uint16(b[30:])], Rule: rule.rule, Pos: rule.pos,
		}}
		if want == nil || want(&r) {
			r.Head = slices.Clone(r.Head)
			out = append(out, r)
		}
	}
	return out
}
