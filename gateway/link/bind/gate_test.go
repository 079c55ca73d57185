package bind

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestGateLetsInUpToItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(10)
		g.Enter(9)
		g.Enter(5) // room for one is room for a batch
		entered := make(chan struct{})
		go func() { g.Enter(3); close(entered) }()
		synctest.Wait()
		g.Leave(4) // 10 inside: still full
		synctest.Wait()
		select {
		case <-entered:
			t.Fatal("entered a full gate")
		default:
		}
		g.Leave(1)
		<-entered
		if g.Inside() != 12 || g.Waits() != 1 || g.Resets() != 0 {
			t.Errorf("inside %d, waits %d, resets %d; want 12, 1, 0", g.Inside(), g.Waits(), g.Resets())
		}
	})
}

// A gate full of packets that will never leave lets a caller pass now and
// then, and forgets them in the end.
func TestGateForgetsWhatNeverLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(4)
		g.Enter(4)
		for i, want := range gatePatience {
			start := time.Now()
			g.Enter(1)
			if d := time.Since(start); d != want {
				t.Errorf("blocked for %v, want %v", d, want)
			}
			if last := i == len(gatePatience)-1; last != (g.Resets() == 1) {
				t.Errorf("%d resets after Enter %d", g.Resets(), i)
			}
			g.Leave(1) // this one does leave
		}
		if g.Inside() != 0 {
			t.Errorf("inside %d, want 0", g.Inside())
		}
		g.Leave(4) // they leave after all
		if g.Inside() != 0 {
			t.Errorf("inside %d, want 0", g.Inside())
		}
	})
}

// A pipeline that stood still for a while is held to its bound again as soon
// as it moves.
func TestGateIsPatientWithABusyMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(4)
		g.Enter(4)
		for range 10 {
			for range len(gatePatience) - 1 {
				g.Enter(1)
			}
			g.Leave(len(gatePatience)) // it moves: one below the limit
			g.Enter(1)
		}
		if g.Inside() != 4 || g.Resets() != 0 {
			t.Errorf("inside %d, resets %d; want 4, 0", g.Inside(), g.Resets())
		}
	})
}

func TestIdleGateForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(4)
		g.Enter(3)
		time.Sleep(gateIdle + 1)
		g.Enter(1)
		if g.Inside() != 1 || g.Resets() != 0 {
			t.Errorf("inside %d, resets %d; want 1, 0", g.Inside(), g.Resets())
		}
	})
}

// A pipeline that is slow, but moves, is not taken for a leak.
func TestGateWaitsForProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(1)
		g.Enter(10)
		entered := make(chan struct{})
		go func() { g.Enter(1); close(entered) }()
		for range 9 {
			time.Sleep(gatePatience[0] - 1)
			g.Leave(1)
		}
		select {
		case <-entered:
			t.Fatal("entered a full gate")
		default:
		}
		g.Leave(1)
		<-entered
		if g.Resets() != 0 {
			t.Errorf("resets %d, want 0", g.Resets())
		}
	})
}

func TestGateCloseUnblocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(1)
		g.Enter(1)
		start := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { g.Enter(1) })
		}
		synctest.Wait()
		g.Close()
		g.Close()
		wg.Wait()
		g.Enter(1)
		if d := time.Since(start); d != 0 {
			t.Errorf("blocked for %v after Close", d)
		}
	})
}

func TestNilGateIsOpen(t *testing.T) {
	var g *Gate
	g.Enter(1 << 30)
	g.Enter(1)
	g.Leave(1)
	g.Close()
	if g.Inside() != 0 || g.Waits() != 0 || g.Resets() != 0 {
		t.Error("a nil gate counts")
	}
}

// Several producers and consumers: the count returns to zero.
func TestGateConcurrently(t *testing.T) {
	g := NewGate(8)
	pipe := make(chan int, 1000)
	var in, out sync.WaitGroup
	for range 3 {
		in.Go(func() {
			for i := range 2000 {
				n := i%5 + 1
				g.Enter(n)
				pipe <- n
			}
		})
		out.Go(func() {
			for n := range pipe {
				g.Leave(n)
			}
		})
	}
	in.Wait()
	close(pipe)
	out.Wait()
	// A reset may have let late leavers find nothing to count down from.
	if n := g.Inside(); g.Resets() == 0 && n != 0 {
		t.Errorf("inside %d, want 0", n)
	}
}

func BenchmarkGate(b *testing.B) {
	g := NewGate(1024)
	b.ReportAllocs()
	for b.Loop() {
		g.Enter(64)
		g.Leave(64)
	}
}
