package process

import (
	"context"
	"math"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func TestWidth(t *testing.T) {
	type step struct {
		used    float64 // negative: goroutines waited long, too
		periods int
		want    int
	}
	for _, tt := range []struct {
		name  string
		most  int
		steps []step
	}{
		{"idle", 4, []step{{0, 100, 1}}},
		{"one does", 4, []step{{0.8, 100, 1}}},
		{"grows with the load", 4, []step{{1, 1, 2}, {1.9, 1, 3}, {2.9, 1, 4}, {4, 100, 4}}},
		{"no more than there are", 2, []step{{1, 1, 2}, {2, 100, 2}}},
		{"shrinks after a while", 4, []step{{1, 1, 2}, {0.5, calm - 1, 2}, {0.5, 1, 1}, {0, 100, 1}}},
		{"a burst restarts the wait", 4, []step{{1, 1, 2}, {0.1, calm - 1, 2}, {1, 1, 2}, {0.1, calm - 1, 2}, {0.1, 1, 1}}},
		{"the same load costs more on two", 4, []step{{0.9, 1, 2}, {1.1, 100, 2}, {0.7, 100, 2}}},
		{"goroutines wait", 2, []step{{-0.2, 1, 2}, {0.2, calm - 1, 2}, {-0.2, 1, 2}, {0.2, calm, 1}}},
		{"shrinks one by one", 3, []step{{1, 1, 2}, {2, 1, 3}, {0, calm, 2}, {0, calm, 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := width{now: 1, most: tt.most}
			for i, s := range tt.steps {
				for range s.periods {
					before := w.now
					if changed := w.load(math.Abs(s.used), s.used < 0); changed != (w.now != before) {
						t.Fatalf("step %d: changed is %v, from %d to %d", i, changed, before, w.now)
					}
				}
				if w.now != s.want {
					t.Fatalf("step %d: %d processors, want %d", i, w.now, s.want)
				}
			}
		})
	}
}

func TestRunGivesBackAll(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	all := runtime.GOMAXPROCS(3)
	defer runtime.GOMAXPROCS(all)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Run(ctx); err != nil {
		t.Fatal(err)
	}
	if n := runtime.GOMAXPROCS(0); n != 3 {
		t.Errorf("%d processors left, want 3", n)
	}
}

func TestRunObeysTheEnvironment(t *testing.T) {
	t.Setenv("GOMAXPROCS", "2")
	if err := Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestWaitsAreKnown: more goroutines want to run than there are processors, each
// for longer than the runtime lets it.
func TestWaitsAreKnown(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	w := newWaits()
	var done atomic.Bool
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			for !done.Load() {
			}
			return nil
		})
	}
	deadline := time.Now().Add(10 * time.Second)
	found := false
	for !found && time.Now().Before(deadline) {
		runtime.Gosched() // comes back when the others have had their turn
		found = w.long()
	}
	done.Store(true)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if !found {
		t.Error("8 goroutines on one processor, and none is found to wait")
	}
}
