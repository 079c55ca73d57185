package vip

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// awaitStats waits until the counters of a Keeper fit.
func awaitStats(t *testing.T, k *Keeper, what string, ok func(Stats) bool) Stats {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		s := k.Stats()
		if ok(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: %+v", what, s)
		}
	}
}

// TestStats: requests for a held address, answers, announcements and probes count, and other
// requests do not.
func TestStats(t *testing.T) {
	gateway, host := wire(t)
	h := newARPHost(t, host)
	k := runWith(t, gateway, Config{Addresses: []netip.Addr{vip4}, ProbeEvery: 20 * time.Millisecond, Logger: hclog.NewNullLogger()})
	k.Hold()
	h.ask(asks) // another address
	h.ask(vip4)
	if m := h.next(patience, answer); m == nil {
		t.Fatal("no answer")
	}
	s := awaitStats(t, k, "each kind counts", func(s Stats) bool {
		return s.Requests == 1 && s.Answers == 1 && s.Announcements >= 2 && s.Probes >= 1 && !s.Announced.IsZero()
	})
	if s.SendErrors != 0 {
		t.Errorf("%+v", s)
	}
}

// TestAnnouncedIsMeasured: Announced is the first announcement of the present holding, and an
// address that could not be announced has none.
func TestAnnouncedIsMeasured(t *testing.T) {
	gateway, _ := wire(t)
	k := run(t, gateway, vip4, vip6)
	if at := k.Stats().Announced; !at.IsZero() {
		t.Errorf("announced at %v before the first Hold", at)
	}
	k.Hold()
	first := awaitStats(t, k, "announced", func(s Stats) bool { return !s.Announced.IsZero() })
	k.Hold() // of an address that is held: still announced since then
	awaitStats(t, k, "announced again", func(s Stats) bool { return s.Announcements > first.Announcements })
	if at := k.Stats().Announced; at != first.Announced {
		t.Errorf("a repeated Hold moved Announced from %v to %v", first.Announced, at)
	}
	k.Drop()
	if at := k.Stats().Announced; at != first.Announced {
		t.Errorf("Drop changed Announced to %v", at)
	}
	before := time.Now()
	k.Hold()
	awaitStats(t, k, "announced after another Hold", func(s Stats) bool { return !s.Announced.Before(before) })
}

// TestUnsentIsNotAnnounced: what the kernel refuses counts as an error and as nothing else.
func TestUnsentIsNotAnnounced(t *testing.T) {
	gateway, _ := wire(t)
	var k *Keeper
	gateway.do(t, func() (err error) {
		k, err = New(Config{Interface: "lan0", Addresses: []netip.Addr{vip4}, Logger: hclog.NewNullLogger()})
		return err
	})
	if err := k.arp.Close(); err != nil {
		t.Fatal(err)
	}
	k.Hold()
	k.announceOnce()
	k.probe()
	if s := k.Stats(); s.SendErrors != 3 || s.Announcements != 0 || s.Probes != 0 || !s.Announced.IsZero() {
		t.Errorf("%+v", s)
	}
}
