package conntrack

import (
	"testing"
	"time"
)

// TestWatch: a full table is a fault while it drops new connections, and a drop without a full
// table is none.
func TestWatch(t *testing.T) {
	const limit = 1000
	start := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		name string
		// entries and drops as read at each second.
		entries, drops []uint64
		want           []bool
	}{
		{"calm", []uint64{10, 10, 10}, []uint64{7, 7, 7}, []bool{false, false, false}},
		{"full, and nothing is new", []uint64{1000, 1000, 1000}, []uint64{7, 7, 7}, []bool{false, false, false}},
		{"full, and drops", []uint64{10, 1000, 1000, 999, 10}, []uint64{0, 1, 3, 4, 4}, []bool{false, false, true, true, false}},
		{"drops before this process", []uint64{1000, 1000, 1000}, []uint64{90, 90, 90}, []bool{false, false, false}},
		{"drops for other reasons", []uint64{10, 10, 10}, []uint64{0, 5, 9}, []bool{false, false, false}},
		{
			"the last drop was long ago", []uint64{1000, 1000, 1000, 1000, 1000, 1000, 1000}, []uint64{0, 1, 1, 1, 1, 1, 1},
			[]bool{false, true, true, true, true, true, false},
		},
	} {
		var w Watch
		for i := range c.entries {
			now := start.Add(time.Duration(i) * time.Second)
			w.add(now, Usage{Entries: c.entries[i], Limit: limit, Drops: c.drops[i]})
			if got := w.dropping(now); got != c.want[i] {
				t.Errorf("%s: second %d: %v, want %v", c.name, i, got, c.want[i])
			}
		}
	}
}
