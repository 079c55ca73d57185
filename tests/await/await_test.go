package await

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		True(t, "a second has passed", func() bool { return time.Since(start) >= time.Second })
		if d := time.Since(start); d > time.Second+every {
			t.Errorf("waited %v for a second", d)
		}
	})
}

func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if Within(time.Minute, func() bool { return false }) {
			t.Error("what never holds is true")
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("waited %v, want a minute", d)
		}
		if !Within(0, func() bool { return true }) {
			t.Error("what holds is false")
		}
	})
}

// recorder is a test whose cleanups the outer test runs and whose failure it reads.
type recorder struct {
	testing.TB
	cleanup func()
	failed  string
}

func (r *recorder) Cleanup(f func())                  { r.cleanup = f }
func (r *recorder) Errorf(format string, args ...any) { r.failed = format }

func TestNoLeaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{TB: t}
		NoLeaks(r)
		stop := make(chan struct{})
		go func() { <-stop }()
		r.cleanup()
		if !strings.Contains(r.failed, "goroutines are left") {
			t.Errorf("a goroutine is left, and the test says %q", r.failed)
		}
		r.failed = ""
		time.AfterFunc(time.Second, func() { close(stop) })
		if r.cleanup(); r.failed != "" {
			t.Errorf("no goroutine is left, and the test says %q", r.failed)
		}
	})
}
