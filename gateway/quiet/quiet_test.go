package quiet

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// world is a Logger with a clock and what it has written.
type world struct {
	*Logger
	now time.Time
	out bytes.Buffer
}

func newWorld(c Config) *world {
	w := &world{now: time.Unix(1e9, 0)}
	c.Logger = hclog.New(&hclog.LoggerOptions{Output: &w.out, DisableTime: true, Level: hclog.Info})
	c.Now = func() time.Time { return w.now }
	w.Logger = New(c)
	return w
}

// lines returns what was written since the last call.
func (w *world) lines() (out []string) {
	for s := range strings.Lines(w.out.String()) {
		out = append(out, strings.TrimSpace(s))
	}
	w.out.Reset()
	return out
}

func (w *world) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := w.lines(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("wrote\n %q, want\n %q", got, want)
	}
}

func TestBurstThenOneAnInterval(t *testing.T) {
	w := newWorld(Config{Burst: 2, Every: time.Minute})
	for i := range 1000 {
		w.Warn("key", "it happened", "n", i)
	}
	w.expect(t, "[WARN]  it happened: n=0", "[WARN]  it happened: n=1")

	w.now = w.now.Add(time.Minute)
	w.Warn("key", "it happened", "n", 1000)
	w.Warn("key", "it happened", "n", 1001)
	w.expect(t, "[WARN]  it happened: n=1000 suppressed=998")

	// After a quiet time the whole burst is back, and no more than that.
	w.now = w.now.Add(24 * time.Hour)
	for i := range 3 {
		w.Warn("key", "it happened", "n", i)
	}
	w.expect(t, "[WARN]  it happened: n=0 suppressed=1", "[WARN]  it happened: n=1")
}

func TestFlushWritesTheNewestLine(t *testing.T) {
	w := newWorld(Config{Burst: 1, Every: time.Minute})
	if next := w.Flush(); !next.IsZero() {
		t.Errorf("nothing waits, and Flush asks to be called at %v", next)
	}
	began := w.now
	w.Info("state", "peer is up")
	w.Error("state", "peer is refused")
	w.Info("state", "peer is up again")
	w.expect(t, "[INFO]  peer is up")
	w.now = w.now.Add(10 * time.Second)
	if next := w.Flush(); !next.Equal(began.Add(time.Minute)) {
		t.Errorf("Flush asks to be called %v after the start", next.Sub(began))
	}
	w.expect(t)
	w.now = began.Add(time.Minute)
	if next := w.Flush(); !next.IsZero() {
		t.Errorf("all was written, and Flush asks to be called at %v", next)
	}
	w.expect(t, "[INFO]  peer is up again: suppressed=1")

	// A single line that waited was not left out.
	w.Info("state", "peer is up")
	w.now = w.now.Add(time.Minute)
	w.Flush()
	w.expect(t, "[INFO]  peer is up")
}

func TestKeysDoNotShareALimit(t *testing.T) {
	w := newWorld(Config{Burst: 1})
	w.Info("a", "a")
	w.Info("b", "b")
	w.Info("a", "a")
	w.expect(t, "[INFO]  a", "[INFO]  b")
}

// Lines below the logger's level cost no budget.
func TestLevel(t *testing.T) {
	w := newWorld(Config{Burst: 1})
	w.Debug("key", "too detailed")
	w.Info("key", "written")
	w.expect(t, "[INFO]  written")
}

// A party that chooses the keys can neither fill the memory nor exceed the rate.
func TestManyKeys(t *testing.T) {
	w := newWorld(Config{Burst: 1, Every: time.Minute, Keys: 8})
	for i := range 10000 {
		w.Info(fmt.Sprint(i), "line", "key", i)
	}
	if got := w.lines(); len(got) != 9 {
		t.Errorf("10000 keys wrote %d lines, want 8 and one for the others", len(got))
	}
	if len(w.keys) != 8 {
		t.Errorf("%d keys are kept", len(w.keys))
	}
	// Idle keys make room.
	w.now = w.now.Add(time.Minute)
	w.Info("new", "line")
	if got := w.lines(); len(got) != 1 || strings.Contains(got[0], Suppressed) || w.keys["new"] == nil {
		t.Errorf("a new key after a quiet time: %q", got)
	}
}

func TestLogDoesNotChangeItsArguments(t *testing.T) {
	w := newWorld(Config{Burst: 1, Every: time.Minute})
	args := append(make([]any, 0, 8), "k", "v")
	w.Info("key", "line", args...)
	w.Info("key", "line", args...)
	w.now = w.now.Add(time.Minute)
	w.Info("key", "line", args...)
	if full := args[:4]; full[2] != nil {
		t.Errorf("the Logger wrote %v into the caller's slice", full[2])
	}
}

func TestRunFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := New(Config{Logger: hclog.New(&hclog.LoggerOptions{Output: &out, DisableTime: true}), Burst: 1, Every: time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		for i := range 3 {
			l.Info("key", "line", "n", i)
		}
		time.Sleep(2 * time.Minute) // on the bubble's clock
		synctest.Wait()
		if got := out.String(); got != "[INFO]  line: n=0\n[INFO]  line: n=2 suppressed=1\n" {
			t.Errorf("wrote %q", got)
		}
		cancel()
		<-done
	})
}

func TestConcurrentUse(t *testing.T) {
	w := newWorld(Config{Burst: 3, Every: time.Hour})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				w.Info("key", "line")
				w.Flush()
			}
		})
	}
	wg.Wait()
	if got := w.lines(); len(got) != 3 {
		t.Errorf("%d lines, want 3", len(got))
	}
}
