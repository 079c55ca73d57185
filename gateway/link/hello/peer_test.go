package hello

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSilentPeerIsStockWireGuard(t *testing.T) {
	s := newSim(t, 1, nil)
	s.out[0].cut = true // the peer's gw isn't there yet
	s.do(0, s.peers[0].Session(s.now, true))
	took := s.must("silent", 10*time.Second, func() bool { return s.state(0) == Silent })
	if took != silence*DefaultInterval {
		t.Errorf("silent after %v", took)
	}
	before := s.sent[0]
	s.run(time.Minute, nil)
	if n := s.sent[0] - before; n > 7 {
		t.Errorf("%d hellos a minute to a peer that knows none", n)
	}
	if m := s.peers[0].Snapshot(s.now).MTUOut; m != 1420 {
		t.Errorf("MTU %d toward stock WireGuard", m)
	}
	// It is upgraded and speaks.
	s.out[0].cut = false
	s.do(1, s.peers[1].Session(s.now, true))
	s.must("up", 5*time.Second, s.both(Up))
}

func TestNoHelloWithoutSession(t *testing.T) {
	s := newSim(t, 1, nil)
	s.up()
	s.must("up", time.Second, s.both(Up))
	s.out[0].cut, s.out[1].cut = true, true
	s.must("lost", 5*time.Second, s.both(Lost))
	s.do(0, s.peers[0].Session(s.now, false))
	before := s.sent[0]
	s.run(10*time.Second, nil)
	s.out[1].cut = false // the peer still sends under the old keys
	s.run(5*time.Second, nil)
	if s.sent[0] != before {
		t.Error("hellos were sent into no session, and would arrive stale")
	}
	s.out[0].cut = false
	s.do(0, s.peers[0].Session(s.now, true))
	s.must("up", time.Second, func() bool { return s.state(0) == Up })
}

func TestProbeFindsLossFast(t *testing.T) {
	s := newSim(t, 1, nil)
	s.up()
	s.must("up", time.Second, s.both(Up))
	s.run(10*time.Second, nil)
	s.do(0, s.peers[0].Probe(s.now))
	s.run(time.Second, nil)
	if s.state(0) != Up {
		t.Fatal("a probe that was answered broke the link")
	}
	s.out[1].cut = true
	s.do(0, s.peers[0].Probe(s.now))
	if took := s.must("lost", time.Second, func() bool { return s.state(0) == Lost }); took != patienceFloor {
		t.Errorf("lost after %v, want %v", took, patienceFloor)
	}
}

func TestRestartIsNoDuplicate(t *testing.T) {
	s := newSim(t, 1, nil)
	s.up()
	s.must("up", time.Second, s.both(Up))
	s.run(5*time.Second, nil)
	s.restart(1, 1, nil)
	s.do(1, s.peers[1].Session(s.now, true))
	s.must("up again", time.Second, s.both(Up))
	s.run(10*time.Second, nil)
	if n := count(s.events[0], EventRestarted); n != 1 {
		t.Errorf("%d restarts seen", n)
	}
	if s.peers[0].Snapshot(s.now).Duplicate {
		t.Error("a restart was taken for a duplicate")
	}
}

func TestDuplicate(t *testing.T) {
	s := newSim(t, 1, nil)
	first := s.peers[1]
	s.up()
	s.must("up", time.Second, s.both(Up))
	s.restart(1, 1, nil) // the second process, with the same key
	second := s.peers[1]
	for n, p := range []*Peer{second, first, second, first} {
		s.now += time.Second
		s.exchange(p, []string{"192.0.2.2:2", "192.0.2.1:1"}[n%2], p.Session(s.now, true).Messages)
	}
	want := [2]string{"192.0.2.1:1", "192.0.2.2:2"}
	if got := s.peers[0].Snapshot(s.now); !got.Duplicate || got.DuplicateEndpoints != want {
		t.Errorf("duplicate not seen: %v %v", got.Duplicate, got.DuplicateEndpoints)
	}
	if got := first.Snapshot(s.now); !got.DuplicateSelf || got.DuplicateSelfEndpoints != want {
		t.Errorf("the duplicate wasn't told: %v %v", got.DuplicateSelf, got.DuplicateSelfEndpoints)
	}
	s.peers[1] = first
	s.run(duplicateMemory+time.Second, nil)
	if s.peers[0].Snapshot(s.now).Duplicate || count(s.events[0], EventDuplicate) != 2 {
		t.Error("the duplicate is gone and still shown")
	}
}

func TestOtherVersion(t *testing.T) {
	s := newSim(t, 1, nil)
	p := s.peers[0]
	p.Session(s.now, true)
	other := []byte("gwh\x02 whatever comes then")
	replies := 0
	for range 150 {
		s.now += 10 * time.Millisecond
		out, err := p.Handle(s.now, "192.0.2.1:1", other)
		var v *VersionError
		if !errors.As(err, &v) || v.Theirs != 2 {
			t.Fatalf("%v", err)
		}
		replies += len(out.Messages)
	}
	if replies != 2 {
		t.Errorf("%d hellos of our version in 1.5 seconds, want 2", replies)
	}
	got := p.Snapshot(s.now)
	if got.State != Refused || got.Protocol != 2 || len(got.Reasons) != 1 || !strings.Contains(got.Reasons[0], "version 2") {
		t.Errorf("%+v", got)
	}
	s.do(1, s.peers[1].Session(s.now, true)) // the peer was replaced
	s.must("up", 5*time.Second, s.both(Up))
}

func sections(subnets, keepalive byte) []Section {
	return []Section{{Name: "link", Digest: [32]byte{subnets, keepalive}, Attrs: []Attr{
		{Name: "subnets", Digest: [8]byte{subnets}, Fatal: true},
		{Name: "keepalive", Digest: [8]byte{keepalive}},
	}}}
}

func TestFatalDifference(t *testing.T) {
	s := newSim(t, 1, func(i int, c *Config) { c.Sections = sections(byte(i), 0) })
	s.up()
	s.must("refused", time.Second, s.both(Refused))
	if got := s.peers[0].Snapshot(s.now).Reasons; !slices.Equal(got, []string{"subnets: differs"}) {
		t.Errorf("reasons %q", got)
	}
	s.run(20*time.Second, nil)
	if !s.both(Refused)() || count(s.events[0], EventLost) > 0 || count(s.events[0], EventUp) > 0 {
		t.Errorf("refused, it went on with %v", s.events[0])
	}
	s.do(1, s.peers[1].SetSections(s.now, sections(0, 1)))
	s.must("mended", time.Second, s.both(Up))

	// A fatal difference that arises while running is shown, no more.
	s.do(0, s.peers[0].SetSections(s.now, sections(7, 1)))
	s.run(5*time.Second, nil)
	got := s.peers[0].Snapshot(s.now)
	if !s.both(Up)() || !slices.Equal(got.Differences, []Difference{{Section: "link", Name: "subnets", Kind: Differs, Fatal: true}}) {
		t.Errorf("%+v", got)
	}
	s.do(1, s.peers[1].SetSections(s.now, sections(7, 1)))
	s.must("cleared", time.Second, func() bool {
		return len(s.peers[0].Snapshot(s.now).Differences) == 0 && len(s.peers[1].Snapshot(s.now).Differences) == 0
	})

	// It counts again when the peer's process restarts.
	s.restart(1, 1, func(_ int, c *Config) { c.Sections = sections(9, 1) })
	s.do(1, s.peers[1].Session(s.now, true))
	s.must("refused again", time.Second, s.both(Refused))
}

func TestOutageDoesNotShrinkMTU(t *testing.T) {
	s := newSim(t, 1, nil)
	s.up()
	s.must("mtu", 2*time.Second, s.mtu(1420))
	s.events = [2][]Event{}
	for range 5 {
		s.out[0].cut = true
		s.run(2500*time.Millisecond, nil)
		s.out[0].cut = false
		s.run(7*time.Second, nil)
	}
	if n := count(s.events[0], EventMTU); n != 0 {
		t.Errorf("the MTU moved %d times while the path was down or well", n)
	}
}

func TestHealthyPathIsKnownAfterARoundTrip(t *testing.T) {
	s := newSim(t, 1, nil)
	s.up()
	s.must("up", time.Second, s.both(Up))
	if took := s.must("mtu", time.Second, s.mtu(1420)); took > 41*time.Millisecond {
		t.Errorf("%v for a round trip of 40ms", took)
	}
	got := s.peers[0].Snapshot(s.now)
	if got.RTT != 40*time.Millisecond || got.Skew.Abs() > 20*time.Millisecond || got.Capabilities != PartialChecksums {
		t.Errorf("%+v", got)
	}
}

func TestTooBigHint(t *testing.T) {
	s := newSim(t, 1, nil)
	s.up()
	s.must("mtu", 2*time.Second, s.mtu(1420))
	s.run(50*time.Millisecond, nil)
	s.out[0].mtu = 1300
	s.do(0, s.peers[0].TooBig(s.now))
	if took := s.must("usable", 3*time.Second, func() bool { return s.peers[0].Snapshot(s.now).MTUOut <= 1300 }); took > patienceFloor {
		t.Errorf("took %v", took)
	}
	sent := len(s.probes[0])
	for range 100 { // each probe that is too big hints again
		s.do(0, s.peers[0].TooBig(s.now))
	}
	if n := len(s.probes[0]) - sent; n > pmtuParallel {
		t.Errorf("hints caused %d probes", n)
	}
}

func TestLossIsMeasuredBothWays(t *testing.T) {
	s := newSim(t, 3, nil)
	s.out[0].loss = 0.3
	s.up()
	s.run(5*time.Minute, nil)
	a, b := s.peers[0].Snapshot(s.now), s.peers[1].Snapshot(s.now)
	if a.LossOut < 0.15 || a.LossOut > 0.45 || a.LossIn != 0 || b.LossIn < 0.15 || b.LossOut != 0 {
		t.Errorf("out %.2f in %.2f, the peer: out %.2f in %.2f", a.LossOut, a.LossIn, b.LossOut, b.LossIn)
	}
}

func TestFit(t *testing.T) {
	long := strings.Repeat("subnet.", 30)
	for in, want := range map[string]string{"red": "red", "": "", "a\x1bb": "ab~1b036bb7"} {
		if got := fit(in, MaxName); got != want {
			t.Errorf("fit(%q) = %q, want %q", in, got, want)
		}
	}
	if a, b := fit(long+"a", MaxName), fit(long+"b", MaxName); a == b || len(a) != MaxName {
		t.Errorf("%q and %q", a, b)
	}
}
