package udp

import (
	"testing"
	"time"
)

// Waiting begins when many messages come, and ends when few do.
func TestModeration(t *testing.T) {
	const us = time.Microsecond
	const most = 2000 * us
	var m moderation
	began := time.Now()
	for _, step := range []struct {
		name       string
		now        time.Duration
		got, asked int // of the call before
		want       bool
	}{
		{"a first one", 5000 * us, 1, 32, false},
		{"too early to tell", 5500 * us, 9, 32, false},
		{"many", 6000 * us, 3, 32, true},
		{"still many", 7100 * us, 5, 32, true},
		{"more may be there", 7200 * us, 32, 32, false},
		{"all is there, and it was many", 7300 * us, 2, 32, true},
		{"a few", 9200 * us, 1, 32, true},
		{"fewer", 10300 * us, 4, 32, false},
		{"a burst after a pause", 60_000 * us, 31, 32, false},
		{"that goes on", 61_000 * us, 31, 32, true},
		{"after another pause", 90_000 * us, 20, 32, false},
	} {
		m.brought(step.got, step.asked, 100*step.got)
		got := m.wait(began.Add(step.now), most)
		if got != 0 && got != most || (got > 0) != step.want {
			t.Errorf("%s: waits %v, want %v: %+v", step.name, got, step.want, m)
		}
	}
}

// At a rate at which a whole segment comes within what may be waited, one comes at a time,
// or several, whatever else takes time; and it is never waited longer than may be.
func TestModerationWholeSegments(t *testing.T) {
	const most = 2 * time.Millisecond
	const size = 1452
	for _, c := range []struct {
		rate     float64       // bytes per second
		over     time.Duration // until wait is called again
		segments float64       // 0 is less than one
	}{
		{10e6, 500 * time.Microsecond, 0},
		{25e6, 400 * time.Microsecond, 0},
		{30e6, 500 * time.Microsecond, 1},
		{38e6, 0, 1},
		{38e6, 300 * time.Microsecond, 1},
		{38e6, 600 * time.Microsecond, 1},
		{70e6, 300 * time.Microsecond, 2},
		{300e6, 300 * time.Microsecond, 10},
	} {
		var m moderation
		now := time.Now()
		came, last := 0.0, 0
		for range 500 {
			n := int(came / size)
			came -= float64(n * size)
			m.brought(n, n+1, n*size)
			last = n * size
			d := m.wait(now, most)
			if d > most {
				t.Fatalf("at %.0f MB/s, it waits for %v", c.rate/1e6, d)
			}
			d = max(d, 50*time.Microsecond) + c.over
			now = now.Add(d)
			came += c.rate * d.Seconds()
		}
		got := float64(last) / segmentBytes
		if c.segments > 0 && (got < c.segments-0.1 || got > c.segments+0.1) || c.segments == 0 && m.slept != most {
			t.Errorf("at %.0f MB/s, %v late: %.2f segments at a time, want %v; it waits for %v", c.rate/1e6, c.over, got, c.segments, m.slept)
		}
	}
}
