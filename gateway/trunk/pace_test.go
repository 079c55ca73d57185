package trunk

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The bound is the kernel's, small changes are left out, and it is taken off again.
func TestSetPace(t *testing.T) {
	r, g := pair(t)
	near, far := dialled(t, r, g)
	defer near.Close()
	defer far.Close()
	r.mu.Lock() // runPace sets none meanwhile
	defer r.mu.Unlock()
	for _, c := range []struct{ set, kernel, path uint64 }{
		{0, unbounded, 0},
		{1_000_000, 1_000_000, 1_000_000},
		{1_010_000, 1_000_000, 1_000_000},
		{2_000_000, 2_000_000, 2_000_000},
		{0, unbounded, 0},
	} {
		near.setPace(c.set)
		var kernel uint64
		var err error
		if cerr := near.raw.Control(func(fd uintptr) {
			kernel, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE)
		}); cerr != nil || err != nil {
			t.Fatal(cerr, err)
		}
		p, err := near.Path()
		if err != nil {
			t.Fatal(err)
		}
		if kernel != c.kernel || p.Pace != c.path {
			t.Errorf("set %d: the kernel has %d, the path says %d", c.set, kernel, p.Pace)
		}
	}
}

// Looking finds those in use, leaves alone what has ended, and knows the round trip
// that it is told.
func TestPaceLooks(t *testing.T) {
	r, g := pair(t)
	near, far := dialled(t, r, g)
	defer far.Close()
	r.SawRTT(gray, time.Microsecond)
	if used, _ := r.pace(); used != 1 {
		t.Errorf("%d in use", used)
	}
	near.Close()
	if used, _ := r.pace(); used != 0 {
		t.Errorf("%d in use after the end", used)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if base := r.way(gray).base.value(); base != time.Microsecond {
		t.Errorf("the round trip is %v", base)
	}
}
