package legs

import (
	"sync"
	"sync/atomic"
	"testing"
)

// Whatever is asked of a turn is done, after it was asked, and never by two at a time.
func TestTurn(t *testing.T) {
	var asked, inside, most atomic.Int64
	var done int64 // what had been asked when it was done last
	var tn turn
	tn.do = func() {
		most.Store(max(most.Load(), inside.Add(1)))
		done = asked.Load()
		inside.Add(-1)
	}
	for range 2000 {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				asked.Add(1)
				tn.take()
			})
		}
		wg.Wait()
		tn.finish()
		if done != asked.Load() {
			t.Fatalf("%d asked, and the last saw %d", asked.Load(), done)
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d at a time", most.Load())
	}
}
