package bind

import (
	"testing"
	"time"
)

// Waiting begins when many messages come, and ends when few do.
func TestModeration(t *testing.T) {
	const us = time.Microsecond
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
		m.brought(step.got, step.asked)
		if got := m.waits(began.Add(step.now)); got != step.want {
			t.Errorf("%s: waits %v, want %v: %+v", step.name, got, step.want, m)
		}
	}
}
