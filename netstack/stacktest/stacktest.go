// Package stacktest is what the tests of the TCP stacks in user space share: waiting for events,
// and finding goroutines that a stack has left behind.
package stacktest

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Deadline bounds what a test waits for.
const Deadline = 60 * time.Second

// A Bell rings whenever something may have changed that a test waits for.
type Bell chan struct{}

// NewBell returns a Bell that nothing has rung yet.
func NewBell() Bell { return make(Bell, 1) }

// Ring wakes the test. It never blocks.
func (b Bell) Ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// Await waits until cond holds, and fails the test after Deadline. It evaluates cond when the bell
// rings, and once a millisecond for what rings no bell.
func (b Bell) Await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	timeout := time.After(Deadline)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !cond() {
		select {
		case <-b:
		case <-look.C:
		case <-timeout:
			stacks := make([]byte, 1<<20)
			t.Fatalf("not within %v: %s\n%s", Deadline, what, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// CheckLeaks fails when goroutines of gVisor or of this module's stacks are left. It waits for
// their end: Host.Close waits for gVisor's WaitGroup only, and after its Done a goroutine is still
// visible until it has returned.
func CheckLeaks(t *testing.T) {
	t.Helper()
	NewBell().Await(t, "end of all goroutines", func() bool { return len(Leaks()) == 0 })
}

// Leaks returns the stack traces of such goroutines.
func Leaks() (found []string) {
	b := make([]byte, 1<<20)
	b = b[:runtime.Stack(b, true)]
	for _, g := range strings.Split(string(b), "\n\n")[1:] { // the first is this one
		if strings.Contains(g, "gvisor.dev") || strings.Contains(g, "gw/netstack.(*") || strings.Contains(g, "gw/netstack/legs.(*") {
			found = append(found, g)
		}
	}
	return found
}

// Noise returns n random bytes that seed determines.
func Noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

// Heap returns the bytes of live objects after two garbage collections: the second one empties the
// pools.
func Heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
