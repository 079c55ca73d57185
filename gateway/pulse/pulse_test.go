package pulse

import (
	"testing"
	"time"
)

func TestGap(t *testing.T) {
	var now time.Duration
	p := New(func() time.Duration { return now })
	cleared := 0
	discard := func() {
		cleared++
		if p.Alive() {
			t.Error("writing was allowed before everything was discarded")
		}
	}
	for range 20 { // running: no gap however long it takes in all
		now += beat
		if !p.Alive() {
			t.Fatal("taken for frozen while running")
		}
		p.renew(discard)
	}
	now += Gap
	if p.Alive() {
		t.Error("a frozen process was taken for running")
	}
	p.renew(discard)
	if !p.Alive() || cleared != 1 || p.Gaps() != 1 {
		t.Errorf("after the gap: alive %v, cleared %d times, %d gaps", p.Alive(), cleared, p.Gaps())
	}
}

// What may be written depends on the election, too; whether the process runs does not.
func TestSuspend(t *testing.T) {
	var now time.Duration
	p := New(func() time.Duration { return now })
	p.Suspend(true)
	if p.MayWrite() || !p.Alive() {
		t.Errorf("suspended: may write %v, alive %v", p.MayWrite(), p.Alive())
	}
	p.Suspend(false)
	if !p.MayWrite() {
		t.Error("may not write, though the suspension has ended")
	}
	if now += Gap; p.MayWrite() {
		t.Error("may write after a gap")
	}
}
