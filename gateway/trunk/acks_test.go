package trunk

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// What has come is told of before long, and at once if it is much or something is missing.
func TestAcksDue(t *testing.T) {
	const now, small = time.Second, 1000
	for _, rtt := range []time.Duration{0, 100 * time.Microsecond, 20 * time.Millisecond, 10 * time.Second} {
		var a acks
		never := func(when string) {
			t.Helper()
			if at := a.due(rtt); at != 0 {
				t.Errorf("round trip %v, %s: due at %v", rtt, when, at)
			}
		}
		never("at first")
		a.see(now, 5, small) // the first may have any number
		at := a.due(rtt)
		if at <= now || at > now+ackDelay {
			t.Errorf("round trip %v: due %v after it came", rtt, at-now)
		}
		a.see(now+1, 6, small)
		if a.due(rtt) != at {
			t.Errorf("round trip %v: another lets the first wait for longer", rtt)
		}
		a.told()
		never("when all was told")
		if a.see(now+2, 6, small) {
			t.Error("a packet that comes again is new")
		}
		never("when one has come again")
		a.see(now+3, 8, small)
		if at := a.due(rtt); at == 0 || at > now+3 {
			t.Errorf("round trip %v, one is missing: due %v later", rtt, at-now-3)
		}
		a.told()
		a.see(now+4, 9, small)
		if at := a.due(rtt); at <= now+4 {
			t.Errorf("round trip %v: due at once, though it was told that one is missing", rtt)
		}
		a.told()
		for n := range uint64(ackBytes / small) {
			a.see(now+5, 10+n, small)
		}
		if at := a.due(rtt); at <= now+5 {
			t.Errorf("round trip %v: due at once, and it is not much", rtt)
		}
		a.see(now+5, 7, small)
		if at := a.due(rtt); at == 0 || at > now+5 {
			t.Errorf("round trip %v, much has come: due %v later", rtt, at-now-5)
		}
	}
}

// The delay that is told is that of the packet with the largest number.
func TestAcksNewest(t *testing.T) {
	var a acks
	for i, n := range []uint64{3, 7, 4, 7, 2} {
		a.see(time.Duration(1+i), n, 100)
	}
	if a.newest != 2 {
		t.Errorf("the newest came at %d", a.newest)
	}
}

// Of what has come, the newest ranges are kept, and what is in them is not new again.
func TestAcksKeepTheNewest(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(3, seed))
		var a acks
		var all ranges
		var newest, floor uint64 // what lies below floor may have been forgotten
		for range 1000 {
			n := max(newest, 300) - 300 + r.Uint64N(310)
			lowest := n
			if len(a.got) > 0 {
				lowest = min(n, a.got[0].from)
			}
			fresh := a.see(1, n, 100)
			if n >= floor && fresh == all.has(span{n, n + 1}) {
				t.Fatalf("seed %d: packet %d is new: %v", seed, n, fresh)
			}
			all.add(span{n, n + 1})
			newest = max(newest, n)
			checkRanges(t, "came", a.got)
			if len(a.got) > maxSpans || a.got[len(a.got)-1].to != newest+1 {
				t.Fatalf("seed %d: %v, and %d has come", seed, a.got, newest)
			}
			if a.got[0].from > lowest {
				if len(a.got) < maxSpans {
					t.Fatalf("seed %d: %d is forgotten, and there is room", seed, lowest)
				}
				floor = max(floor, a.got[0].from)
			}
			for _, s := range a.got {
				if !all.has(s) {
					t.Fatalf("seed %d: %v, and %v has come", seed, a.got, all)
				}
			}
			kept, want := slices.Clone(a.got), slices.Clone(all)
			kept.remove(span{0, floor})
			want.remove(span{0, floor})
			if !slices.Equal(kept, want) {
				t.Fatalf("seed %d: %v of %v", seed, kept, want)
			}
		}
		if floor == 0 {
			t.Fatalf("seed %d: nothing was forgotten", seed)
		}
	}
}
