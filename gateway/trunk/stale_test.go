package trunk

import (
	"slices"
	"testing"
	"time"
)

// What is stale has had a round trip that is too long for a second on end, and has been
// held back by its window most of that time.
func TestStrain(t *testing.T) {
	const every = 50 * time.Millisecond
	for _, c := range []struct {
		name       string
		long, held func(look int) bool
		stale      []int // looks, the first being 0
	}{
		{"as ever", never, often(1), nil},
		{"longer, and not held back", often(1), never, nil},
		{"longer, and held back now and then", often(1), often(3), nil},
		{"longer, and held back each other time", often(1), often(2), []int{20}}, // 11 of 21, then 10
		{"longer, and held back", often(1), often(1), []int{20, 41}},
		{"longer since a while ago", func(look int) bool { return look > 9 }, often(1), []int{30}},
		{"a queue that goes", func(look int) bool { return look%20 > 0 }, often(1), nil},
	} {
		var s strain
		var stale []int
		for look := range 45 {
			if s.see(time.Duration(look)*every, c.long(look), c.held(look)) {
				stale = append(stale, look)
			}
		}
		if !slices.Equal(stale, c.stale) {
			t.Errorf("%s: stale at looks %v, want %v", c.name, stale, c.stale)
		}
	}
}

func never(int) bool { return false }

// often is each n-th time.
func often(n int) func(int) bool { return func(look int) bool { return look%n == 0 } }

// Whoever has a stale connection is told, and what was made on the way as it was goes
// with it.
func TestGiveUp(t *testing.T) {
	r, g := pair(t)
	told := make(chan *Conn, 1)
	r.cfg.Stale = func(c *Conn) { told <- c }
	near, far := dialled(t, r, g)
	defer near.Close()
	defer far.Close()
	r.SawRTT(gray, time.Microsecond)
	var before Stats
	r.await("warm connections", func(s Stats) bool { before = s; return s.Warm == DefaultWarm })
	r.giveUp([]*Conn{near})
	if c := <-told; c != near {
		t.Error("another connection is stale")
	}
	r.await("others in their place", func(s Stats) bool {
		return s.Stale == 1 && s.Warm == DefaultWarm && s.Dialled >= before.Dialled+DefaultWarm
	})
	// Another of the same event takes nothing else along.
	before = r.Stats()
	r.giveUp([]*Conn{near})
	<-told
	if s := r.Stats(); s.Stale != 2 || s.Warm != before.Warm {
		t.Errorf("%+v after the second, %+v before", s, before)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.way(gray)
	if base := w.base.value(); base != 0 {
		t.Errorf("the round trip is still %v", base)
	}
	for after, may := range map[time.Duration]bool{0: true, sameEvent: false, leastFor: false, leastFor + 1: true} {
		if w.mayGiveUp(w.gaveUp+after) != may {
			t.Errorf("%v later: %t", after, !may)
		}
	}
}
