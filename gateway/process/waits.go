package process

import "runtime/metrics"

// longWait is how long a goroutine that could run has to wait for it, in seconds,
// to tell that there are too few processors. It was not seen in 770 periods of
// which a third had bulk to move, on a machine with little else to do.
const longWait = 0.020

// waits tells whether goroutines wait long before they run, by what the runtime
// samples of it.
type waits struct {
	sample []metrics.Sample
	before uint64
}

func newWaits() *waits {
	w := &waits{sample: []metrics.Sample{{Name: "/sched/latencies:seconds"}}}
	w.long()
	return w
}

// long reports whether any did since the last call.
func (w *waits) long() bool {
	metrics.Read(w.sample)
	if w.sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return false // a runtime that doesn't tell
	}
	h := w.sample[0].Value.Float64Histogram()
	var n uint64
	for i, count := range h.Counts {
		if h.Buckets[i] >= longWait {
			n += count
		}
	}
	more := n > w.before
	w.before = n
	return more
}
