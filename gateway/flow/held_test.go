package flow

import (
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// holder is a Relay that holds what comes.
type holder struct {
	carried
	hold    time.Duration
	held    bool
	settled int
}

func (h *holder) FromHost(*wire.Packet, bool) (raw bool, hold time.Duration) {
	if h.held {
		return false, 0
	}
	h.held = true
	return false, h.hold
}

func (h *holder) Settle() { h.held, h.settled = false, h.settled+1 }

// What Relays hold is settled when the first of them is due, and the device that is read
// has a deadline by which that is seen.
func TestHeld(t *testing.T) {
	const minute = time.Minute // so that no deadline passes by itself
	g := newGW(t, policy(ModeRelay, 5432))
	var relays []*holder
	var talks []*talk
	for i, hold := range []time.Duration{3 * minute, 2 * minute} {
		k := newTalk(redDB, grayDB)
		k.src = at([]string{"10.77.1.10:40000", "10.77.1.10:40001"}[i])
		g.open(k)
		h := &holder{hold: hold}
		if err := g.table.Attach(k.src, k.dst, "", nil, func(wire.Connection, *Handle) (Relay, error) { return h, nil }); err != nil {
			t.Fatal(err)
		}
		relays, talks = append(relays, h), append(talks, k)
	}
	settled := func(want int) {
		t.Helper()
		for i, h := range relays {
			if h.settled != want || h.held {
				t.Errorf("relay %d: settled %d times, holds: %v; want %d times", i, h.settled, h.held, want)
			}
		}
	}
	say := func() {
		for _, k := range talks {
			g.out(k.call(wiretest.ACK, 'x'))
		}
	}
	say()
	if left := time.Until(g.host.Until()); left <= minute || left > 3*minute {
		t.Errorf("the device's deadline is in %v", left)
	}
	say() // more of it
	for _, h := range relays {
		if !h.held || h.settled > 0 {
			t.Error("settled too early")
		}
	}
	g.now += 2*minute - 30*time.Second
	// The deadline passes, by another's doing or not quite on time.
	if err := g.host.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	g.readAll()
	if left := time.Until(g.host.Until()); left > 90*time.Second || !relays[0].held || !relays[1].held {
		t.Errorf("not due yet, but it has settled, or nothing is waited for any more: %v", left)
	}
	g.now += 30 * time.Second
	g.readAll()
	settled(1)
	if !g.host.Until().IsZero() {
		t.Error("the device has a deadline still, and nothing is held")
	}

	say()
	g.now += 2 * minute
	g.readAll()
	settled(2)
	g.now += time.Hour
	g.readAll()
	settled(2)
}

// A Wake that comes while the device gets a deadline is not lost.
func TestHeldWake(t *testing.T) {
	g := newGW(t, policy(ModeRelay, 5432))
	k := newTalk(redDB, grayDB)
	g.open(k)
	h := &holder{hold: time.Minute}
	if err := g.table.Attach(k.src, k.dst, "", nil, func(wire.Connection, *Handle) (Relay, error) { return h, nil }); err != nil {
		t.Fatal(err)
	}
	woken, passed := false, 0
	g.host.Setting = func(at time.Time) {
		switch {
		case at.After(time.Now()) && !woken:
			woken = true
			g.path.Wake()
		case !at.IsZero() && !at.After(time.Now()):
			passed++
		}
	}
	g.out(k.call(wiretest.ACK, 'x'))
	if !woken || passed != 2 {
		t.Errorf("woken: %v; a Read that waits was made to return %d times, want a second time after the deadline", woken, passed)
	}
	if g.host.Passed() || !h.held {
		t.Errorf("a deadline that has passed: %v; held: %v", g.host.Passed(), h.held)
	}
}
