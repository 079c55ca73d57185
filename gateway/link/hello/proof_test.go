package hello

import (
	"testing"
	"time"
)

// forged is a hello of a host that has read none of ours.
func forged(boot uint64, seq uint32, echo *echoMsg) []byte {
	return appendMessage(nil, &message{kind: kindHello, hello: helloMsg{
		boot: boot, seq: seq, nonce: 7, answer: true, interval: time.Second, mtu: 1280, echo: echo, software: "forged", site: "gray", node: "gray-1",
		sections: []sectionMsg{{name: "link", fatal: true}},
	}})
}

// inject hands a payload that is not the peer's to peer 0.
func (s *sim) inject(b []byte) {
	o, _ := s.peers[0].Handle(s.now, "192.0.2.66:6", b)
	s.do(0, o)
}

// Whatever a host sends that cannot read the node's hellos, a link that is up stays as it is.
func TestUnprovenHelloChangesNothing(t *testing.T) {
	for name, b := range map[string]func(i int) []byte{
		"of another process": func(i int) []byte { return forged(uint64(i+1), 1, nil) },
		"of one process":     func(i int) []byte { return forged(99, uint32(i), nil) },
		"with an invented echo": func(i int) []byte {
			return forged(uint64(i+1), 1, &echoMsg{boot: uint64(i), nonce: uint64(i)})
		},
		"of another version": func(int) []byte { return []byte("gwh\x09\x01\x00\x00\x00") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, 1, nil)
			s.up()
			s.must("up", time.Second, s.both(Up))
			s.must("mtu", 2*time.Second, s.mtu(1420))
			s.run(3*time.Second, nil)
			s.events, s.sent = [2][]Event{}, [2]int{}
			before, start := s.peers[0].Snapshot(s.now), s.now
			for i := range 10000 {
				s.inject(b(i))
				s.run(time.Millisecond, nil)
			}
			if len(s.events[0])+len(s.events[1]) > 0 {
				t.Errorf("events %v at the node and %v at the peer", s.events[0], s.events[1])
			}
			after := s.peers[0].Snapshot(s.now)
			if after.State != Up || after.Since != before.Since || after.Boot != before.Boot || after.Software != "test" || after.Duplicate || after.MTUIn != before.MTUIn {
				t.Errorf("was %+v\nis %+v", before, after)
			}
			if most := 40 * int((s.now-start)/time.Second); s.sent[0] > most {
				t.Errorf("%d messages sent in %v, want at most %d", s.sent[0], s.now-start, most)
			}
		})
	}
}

// A peer that is taken for stock WireGuard carries data. A host behind it does not end that.
func TestUnprovenHelloToASilentLink(t *testing.T) {
	s := newSim(t, 1, nil)
	s.out[0].cut, s.out[1].cut = true, true
	s.do(0, s.peers[0].Session(s.now, true))
	for s.state(0) != Silent {
		if s.now > time.Minute {
			t.Fatal("a host keeps the link from being silent")
		}
		s.inject(forged(5, uint32(s.now), nil))
		s.run(100*time.Millisecond, nil)
	}
	s.events[0] = nil
	for i := range 100 {
		s.inject(forged(uint64(i+1), 1, nil))
		s.inject([]byte("gwh\x09 once"))
		s.inject([]byte("gwh\x08 and once"))
		s.run(100*time.Millisecond, nil)
	}
	if s.state(0) != Silent || len(s.events[0]) > 0 {
		t.Errorf("%v after %v", s.state(0), s.events[0])
	}
}

// A version that differs counts when it is repeated while nothing else is proven.
func TestOtherVersionMustLast(t *testing.T) {
	s := newSim(t, 1, nil)
	s.up()
	s.must("up", time.Second, s.both(Up))
	other := []byte("gwh\x02 whatever comes then")
	s.out[0].cut, s.out[1].cut = true, true // the peer is replaced by another version
	start := s.now
	for s.state(0) != Refused && s.now < start+time.Minute {
		s.inject(other)
		s.run(250*time.Millisecond, nil)
	}
	if took := s.now - start; took > 4*time.Second {
		t.Errorf("refused after %v", took)
	}
	if n := count(s.events[0], EventRefused); n != 1 {
		t.Errorf("%d events say that it is refused", n)
	}
	// And the former version returns.
	s.out[0].cut, s.out[1].cut = false, false
	s.restart(1, 1, nil)
	s.do(1, s.peers[1].Session(s.now, true))
	s.must("up", 5*time.Second, s.both(Up))
}

// A restart is seen a round trip after the new process's handshake, which is news to both ends.
func TestRestartIsSeenInARoundTrip(t *testing.T) {
	s := newSim(t, 1, nil)
	s.up()
	s.must("up", time.Second, s.both(Up))
	s.run(5*time.Second, nil)
	s.restart(1, 1, nil)
	s.up()
	seen := func() bool { return count(s.events[0], EventRestarted) == 1 }
	if took := s.must("seen", time.Second, seen); took > 40*time.Millisecond {
		t.Errorf("the restart is seen after %v, the round trip is 40ms", took)
	}
	if took := s.must("up", time.Second, s.both(Up)); took > 40*time.Millisecond {
		t.Errorf("up %v after that", took)
	}
}

// A flood of forged hellos doesn't hide a real restart.
func TestRestartDuringAFlood(t *testing.T) {
	s := newSim(t, 1, nil)
	s.up()
	s.must("up", time.Second, s.both(Up))
	s.restart(1, 1, nil)
	s.do(1, s.peers[1].Session(s.now, true))
	start := s.now
	for i := 0; !s.both(Up)() || count(s.events[0], EventRestarted) == 0; i++ {
		if s.now-start > 3*time.Second {
			t.Fatalf("%v after %v", s.state(0), s.events[0])
		}
		s.inject(forged(uint64(i+1), 1, nil))
		s.run(200*time.Microsecond, nil)
	}
	if s.peers[0].Snapshot(s.now).Duplicate {
		t.Error("the flood looks like a second process")
	}
}

// A peer that restarts without end, each time with a proof, is followed at a limited rate.
func TestRestartsAreLimited(t *testing.T) {
	s := newSim(t, 1, nil)
	s.up()
	s.must("up", time.Second, s.both(Up))
	p := s.peers[0]
	restarts := 0
	for i := range uint64(10000) {
		s.now += time.Millisecond
		b := forged(i+1, 1, &echoMsg{boot: p.cfg.Boot, nonce: p.nonces.next(s.now)})
		o, err := p.Handle(s.now, "192.0.2.66:6", b)
		if err != nil {
			t.Fatal(err)
		}
		restarts += count(o.Events, EventRestarted)
	}
	if restarts < 10 || restarts > restartBurst+10 {
		t.Errorf("%d restarts in 10s", restarts)
	}
}

func TestDifferencesAreBounded(t *testing.T) {
	const many = 3000
	attrs := func(first int) (out []Attr) {
		for i := range many {
			out = append(out, Attr{Name: string(rune('a'+first)) + time.Duration(i).String(), Fatal: i == many-1 && first == 1})
		}
		return out
	}
	c := newComparison([]Section{{Name: "s", Digest: [32]byte{1}, Attrs: attrs(0)}})
	c.remote(0, []sectionMsg{{name: "s"}})
	c.tick(0, time.Second)
	c.received(0, &attrsMsg{section: "s", total: many / 3, attrs: attrs(1)[many-many/3:]})
	if !c.complete || len(c.result) != maxDifferences || c.omitted != many+many/3-maxDifferences {
		t.Fatalf("complete %v, %d kept, %d omitted", c.complete, len(c.result), c.omitted)
	}
	if !c.fatal() {
		t.Error("the fatal difference was omitted")
	}
}

func TestProbeIDsCannotBeGuessed(t *testing.T) {
	s := newSim(t, 1, nil)
	m := &s.peers[0].pmtu
	seen := map[uint32]bool{}
	for range 1000 {
		id := m.id()
		if id == 0 || seen[id] || seen[id-1] || seen[id+1] {
			t.Fatalf("id %d follows from another", id)
		}
		seen[id] = true
	}
}
