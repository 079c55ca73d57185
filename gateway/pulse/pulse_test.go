package pulse

import (
	"testing"
	"time"
)

func TestGap(t *testing.T) {
	var now time.Duration
	var p *Pulse
	cleared := 0
	p = New(func() time.Duration { return now }, func() {
		cleared++
		if p.Alive() {
			t.Error("writing was allowed before everything was discarded")
		}
	})
	for range 20 { // running: no gap however long it takes in all
		now += beat
		if !p.Alive() {
			t.Fatal("taken for frozen while running")
		}
		p.renew()
	}
	now += Gap
	if p.Alive() {
		t.Error("a frozen process was taken for running")
	}
	p.renew()
	if !p.Alive() || cleared != 1 || p.Gaps() != 1 {
		t.Errorf("after the gap: alive %v, cleared %d times, %d gaps", p.Alive(), cleared, p.Gaps())
	}
}
