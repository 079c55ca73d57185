package trunk

import "time"

const (
	// maxRefusals is how many resets of refused streams wait to be sent, and how many may be
	// sent at once; refusalsPerSecond is how many more may be.
	maxRefusals       = 64
	refusalsPerSecond = 256
)

// refusals are the streams whose reset is still to be sent, by number: a refused stream has no
// other state. A reset that does not fit, or is lost, is not sent again; the other end then finds
// out by its own timer. The zero value is empty.
type refusals struct {
	ids    [maxRefusals]uint32
	n      int
	credit float64
	at     time.Duration // of the credit
}

// add notes a stream, and reports whether its reset will be sent.
func (r *refusals) add(now time.Duration, id uint32) bool {
	if r.at == 0 {
		r.credit = maxRefusals
	} else {
		r.credit = min(r.credit+(now-r.at).Seconds()*refusalsPerSecond, maxRefusals)
	}
	r.at = now
	if r.n == len(r.ids) || r.credit < 1 {
		return false
	}
	r.credit--
	r.ids[r.n] = id
	r.n++
	return true
}

// pop removes and returns one of the streams, of which there is at least one.
func (r *refusals) pop() uint32 {
	r.n--
	return r.ids[r.n]
}

// refuse has the other node told that a stream is not, or no longer, known here.
func (w *path) refuse(id uint32) {
	if w.refusals.add(w.now, id) && w.pacing.idle {
		w.pacing.idle, w.pacing.wake = false, true
	}
}
