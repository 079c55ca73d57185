package quota

import (
	"testing"
	"time"
)

func TestAtOnce(t *testing.T) {
	l := New(Config{AtOnce: 2, Burst: 9, Every: time.Second})
	first, ok := l.Enter("gray")
	if !ok {
		t.Fatal("the first is refused")
	}
	if _, ok := l.Enter("gray"); !ok {
		t.Fatal("the second is refused")
	}
	if _, ok := l.Enter("gray"); ok {
		t.Error("three are served at once")
	}
	if _, ok := l.Enter("blue"); !ok {
		t.Error("gray's requests keep blue out")
	}
	first()
	if _, ok := l.Enter("gray"); !ok {
		t.Error("no other is served after the first")
	}
	if st := l.Stats("gray"); st != (Stats{Busy: 1}) {
		t.Errorf("%+v", st)
	}
}

func TestOverTime(t *testing.T) {
	now := time.Unix(1000, 0)
	l := New(Config{AtOnce: 1, Burst: 3, Every: time.Second, Now: func() time.Time { return now }})
	spend := func(site string, want int) {
		t.Helper()
		got := 0
		for range 10 {
			if l.Spend(site) {
				got++
			}
		}
		if got != want {
			t.Errorf("%s: %d requests, want %d", site, got, want)
		}
	}
	spend("gray", 3)
	spend("blue", 3)
	now = now.Add(1500 * time.Millisecond)
	spend("gray", 1)
	now = now.Add(500 * time.Millisecond)
	spend("gray", 1) // the half second before is not lost
	now = now.Add(time.Hour)
	spend("gray", 3)
	if st := l.Stats("gray"); st != (Stats{Answered: 8, Frequent: 32}) {
		t.Errorf("%+v", st)
	}
	if st := l.Stats("nobody"); st != (Stats{}) {
		t.Errorf("%+v", st)
	}
}
