package hello

import "math/bits"

// lossWindow is the number of hellos over which loss is counted: a minute's
// worth at the default interval.
const lossWindow = 60

// window remembers which of the latest sequence numbers were heard.
type window struct {
	any     bool
	highest uint32
	seen    uint64 // bit i: highest-i was heard
	span    uint8  // numbers since the first one heard, at most lossWindow
}

// add notes seq. It reports whether seq is new and whether it is the highest.
// Comparison is modulo 2^32 (RFC 1982).
func (w *window) add(seq uint32) (fresh, newest bool) {
	if !w.any {
		*w = window{any: true, highest: seq, seen: 1, span: 1}
		return true, true
	}
	if ahead := seq - w.highest; int32(ahead) > 0 {
		w.seen = w.seen<<min(ahead, 64) | 1
		w.highest = seq
		w.span = uint8(min(uint32(w.span)+min(ahead, lossWindow), lossWindow))
		return true, true
	}
	back := w.highest - seq
	if back >= 64 || w.seen&(1<<back) != 0 {
		return false, false
	}
	w.seen |= 1 << back
	return true, false
}

// heard is the report that goes to the sender of the numbers.
func (w *window) heard() heardMsg {
	if !w.any {
		return heardMsg{}
	}
	return heardMsg{highest: w.highest, window: w.span, count: uint8(bits.OnesCount64(w.seen & (1<<w.span - 1)))}
}

// loss is the fraction of the window's hellos that are missing.
func (h heardMsg) loss() float64 {
	if h.window == 0 || h.count >= h.window {
		return 0
	}
	return float64(h.window-h.count) / float64(h.window)
}
