package legs

import (
	"time"

	"gvisor.dev/gvisor/pkg/buffer"

	"github.com/onewaylink/gw/netstack/wire"
)

// Segments of bulk that follow each other are given to the leg together, and small ones are
// put together; of acknowledgements it gets the last. To handle a segment costs about as much
// there whether it has 1 KB or 64, and so does to be woken for it.
const (
	// holdPart is the part of the spacing of acknowledgements for which they are held, so
	// that a round trip gets longer by a 16th.
	holdPart = 2
	// leastHold is what is worth it. Over a shorter way nothing is held.
	leastHold = 500 * time.Microsecond
	// heldBytes are enough, and heldAcked that are acknowledged: more are not waited for.
	heldBytes = 120 << 10
	heldAcked = 32 << 10
	// maxTogether is how much is put together: with its headers, it has to fit one IP packet.
	maxTogether = 60_000
)

// holding is what is held for the leg. The goroutine that calls FromHost has it.
type holding struct {
	list  []heldSegment // each follows the one before
	size  int           // of their payload
	acked uint32        // what the leg has been told is acknowledged, in its terms
	last  time.Duration // when the last segment came that could be held
}

// heldSegment is a segment that is held, with neither payload nor options in seg.
type heldSegment struct {
	seg  wire.Segment
	data buffer.Buffer
	size int // of data
}

// toLegSoon gives the leg a segment of the near database, or holds it for most at most. It
// returns most if what is held begins with it, and otherwise 0. news says that it
// acknowledges something, or opens the window.
func (r *Relay) toLegSoon(now time.Duration, s *wire.Segment, payload []byte, news bool, most time.Duration) (hold time.Duration) {
	h := &r.held
	soon := now-h.last < most // a single message, or its end, waits for nothing
	h.last = now
	plain := len(s.Options) == 0 && (len(payload) > 0 || news) // no duplicate, each of which counts
	may := plain && soon && most >= leastHold && (len(payload) == 0 || len(payload) >= int(r.conn.FarSaid.MSS))
	if len(h.list) > 0 && !(plain && h.ends(s.Seq)) {
		r.Settle()
	}
	enough := !may || h.size+len(payload) >= heldBytes || s.Ack-h.acked >= heldAcked
	if len(h.list) == 0 {
		if enough {
			h.acked = s.Ack
			r.inject(s, payload)
			return 0
		}
		hold = most
	}
	h.add(s, payload)
	if enough {
		r.Settle()
		return 0
	}
	return hold
}

// ends reports whether what is held ends before a sequence number.
func (h *holding) ends(seq uint32) bool {
	last := &h.list[len(h.list)-1]
	return last.seg.Seq+uint32(last.size) == seq
}

// add holds a segment that follows what is held.
func (h *holding) add(s *wire.Segment, payload []byte) {
	if n := len(h.list); n == 0 || h.list[n-1].size+len(payload) > maxTogether {
		h.list = append(h.list, heldSegment{seg: wire.Segment{Seq: s.Seq}})
	}
	last := &h.list[len(h.list)-1]
	last.seg.Ack, last.seg.Window, last.seg.Flags = s.Ack, s.Window, s.Flags
	if len(payload) > 0 {
		_ = last.data.Append(buffer.NewViewWithData(payload)) // it has no error to return
		last.size += len(payload)
		h.size += len(payload)
	}
}

// Settle gives the leg what is held for it. It is called by the goroutine that calls
// FromHost.
func (r *Relay) Settle() {
	h := &r.held
	gone := r.Ended() != nil // the next leg of this connection may have other numbers
	for i := range h.list {
		s := &h.list[i]
		if gone {
			s.data.Release()
			continue
		}
		h.acked = s.seg.Ack
		r.deliver(&s.seg, s.data, s.size)
	}
	clear(h.list)
	h.list, h.size = h.list[:0], 0
}
