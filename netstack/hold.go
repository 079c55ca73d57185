package netstack

import (
	"time"

	"gvisor.dev/gvisor/pkg/buffer"

	"github.com/onewaylink/gw/netstack/wire"
)

// Small segments of bulk that follow each other are put together before the leg gets them,
// and of acknowledgements it gets the last, since each costs about as much there as one of
// 64 KB: several databases' kernels that share a WAN send little at a time.
const (
	// holdPart is the part of the spacing of acknowledgements for which they are held, so
	// that a round trip gets longer by a 16th at most.
	holdPart = 2
	// leastHold is what is worth it. Over a shorter way nothing is held.
	leastHold = 500 * time.Microsecond
	// heldBytes are enough, that are said or acknowledged: more are not waited for. With
	// its headers, what is put together has to fit one IP packet.
	heldBytes    = 32 << 10
	maxHeldBytes = 60_000
)

// holding is what is held for the leg. The goroutine that calls FromHost has it.
type holding struct {
	any   bool         // there is something
	seg   wire.Segment // with neither payload nor options
	data  buffer.Buffer
	size  int           // of data
	acked uint32        // what the leg has been told is acknowledged, in its terms
	last  time.Duration // when the last segment came that could be held
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
	follows := plain && s.Seq == h.seg.Seq+uint32(h.size) && h.size+len(payload) <= maxHeldBytes
	if h.any && !follows {
		r.Settle()
	}
	enough := !may || h.size+len(payload) >= heldBytes || s.Ack-h.acked >= heldBytes
	if !h.any {
		if enough {
			h.acked = s.Ack
			r.inject(s, payload)
			return 0
		}
		h.any, h.seg.Seq, hold = true, s.Seq, most
	}
	h.seg.Ack, h.seg.Window, h.seg.Flags = s.Ack, s.Window, s.Flags
	if len(payload) > 0 {
		_ = h.data.Append(buffer.NewViewWithData(payload)) // it has no error to return
		h.size += len(payload)
	}
	if enough {
		r.Settle()
		return 0
	}
	return hold
}

// Settle gives the leg what is held for it. It is called by the goroutine that calls
// FromHost.
func (r *Relay) Settle() {
	h := &r.held
	if !h.any {
		return
	}
	if r.Ended() == nil {
		h.acked = h.seg.Ack
		r.deliver(&h.seg, h.data, h.size)
	} else {
		h.data.Release() // the next leg of this connection may have other numbers
	}
	h.any, h.data, h.size = false, buffer.Buffer{}, 0
}
