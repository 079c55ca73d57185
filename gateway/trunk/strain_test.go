package trunk

import (
	"slices"
	"testing"
	"time"
)

// A path has become longer if the round trip has been too long for a while on end, and the
// window has held back most of that time.
func TestStrain(t *testing.T) {
	const every = strainAfter / 20
	for _, c := range []struct {
		name       string
		long, held func(look int) bool
		longer     []int // looks, the first being 0
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
		var longer []int
		for look := range 45 {
			rtt := time.Second + time.Duration(look%7)*time.Millisecond
			if s.see(time.Duration(look)*every, c.long(look), c.held(look), rtt) {
				longer = append(longer, look)
				if s.least != time.Second {
					t.Errorf("%s: the least round trip meanwhile is %v", c.name, s.least)
				}
				s = strain{}
			}
		}
		if !slices.Equal(longer, c.longer) {
			t.Errorf("%s: longer at looks %v, want %v", c.name, longer, c.longer)
		}
	}
}

func never(int) bool { return false }

// often is each n-th time.
func often(n int) func(int) bool { return func(look int) bool { return look%n == 0 } }

// A queue of our own makes no round trip too long, on a short way neither, and one that is
// not known has none.
func TestIsLong(t *testing.T) {
	for _, c := range []struct {
		rtt, least time.Duration
		want       bool
	}{
		{time.Hour, 0, false},
		{40 * time.Millisecond, 40 * time.Millisecond, false},
		{80 * time.Millisecond, 40 * time.Millisecond, false},
		{time.Second, 40 * time.Millisecond, true},
		{5 * time.Millisecond, 100 * time.Microsecond, false},
		{50 * time.Millisecond, 100 * time.Microsecond, true},
	} {
		if got := isLong(c.rtt, c.least); got != c.want {
			t.Errorf("%v where %v is the least: %v", c.rtt, c.least, got)
		}
	}
}
