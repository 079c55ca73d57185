package legs

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/stacktest"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// Each way in which a relay ends, and that nothing is said from then on: the leg is
// gone, with no RST of its own, the trunk has ended, and all goes raw.
func TestRelayEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(s *soloist)
		want End
		// finished says that the trunk has delivered what was sent.
		finished bool
	}{
		{"the trunk breaks", func(s *soloist) { s.trunk.Close() }, endTrunk, false},
		{"the trunk ends without a word", func(s *soloist) { s.trunk.Finish() }, endTrunk, false},
		{"a frame out of sequence", func(s *soloist) { s.data(101, 0, soloEdge, []byte("x")) }, endSequence, false},
		{"a frame repeated", func(s *soloist) { s.data(99, 0, soloEdge, nil) }, endSequence, false},
		{"a second answer", func(s *soloist) { s.answer(wire.Frame{Kind: wire.FrameAccept, Seq: f(100)}) }, endNonsense, false},
		{"a late refusal", func(s *soloist) { s.answer(wire.Frame{Kind: wire.FrameRefuse}) }, endRefused, false},
		{"a second opening", func(s *soloist) { s.answer(wire.Frame{Kind: wire.FrameOpen}) }, endNonsense, false},
		{"the other side hands back", func(s *soloist) {
			s.host(wire.ACK, 0, 100, soloEdge, nil)
			s.answer(wire.Frame{Kind: wire.FrameClose, Seq: f(100), Ack: n(0), Edge: n(soloEdge)})
			s.frameUntil("last frame", func(g *wire.Frame) bool { return g.Kind == wire.FrameClose && g.Seq == n(0) && g.Ack == f(100) })
		}, endThere, true},
		{"urgent data", func(s *soloist) {
			if !s.host(wire.ACK|wire.URG, 0, 0, soloEdge, []byte("!")) {
				s.Error("not forwarded")
			}
		}, endUrgent, false},
		{"the near database goes on after its FIN", func(s *soloist) {
			s.host(wire.ACK|wire.FIN, 0, 0, soloEdge, []byte("end"))
			s.frameUntil("FIN", func(g *wire.Frame) bool { return g.Fin })
			s.host(wire.ACK, 3, 0, soloEdge, []byte("and more"))
		}, endPastFin, false},
		{"the far database goes on after its FIN", func(s *soloist) {
			s.answer(wire.Frame{Kind: wire.FrameData, Seq: f(100), Ack: n(0), Edge: n(soloEdge), Fin: true})
			s.data(100, 0, soloEdge, []byte("and more"))
		}, endPastFin, false},
		{"a second FIN", func(s *soloist) {
			for range 2 {
				s.answer(wire.Frame{Kind: wire.FrameData, Seq: f(100), Ack: n(0), Edge: n(soloEdge), Fin: true})
			}
		}, endPastFin, false},
		{"the flow is forgotten", func(s *soloist) { s.relay.Forget(); s.Detach(endForgotten) }, endForgotten, false},
		{"the flow is revoked", func(s *soloist) { s.relay.Revoke(); s.Detach(endRevoked) }, endRevoked, false},
		{"the rule says route", func(s *soloist) {
			s.host(wire.ACK, 0, 100, soloEdge, nil)
			s.relay.HandBack()
			s.frameUntil("last frame", func(g *wire.Frame) bool { return g.Kind == wire.FrameClose && g.Seq == n(0) })
			s.answer(wire.Frame{Kind: wire.FrameClose, Seq: f(100), Ack: n(0), Edge: n(soloEdge)})
		}, endRoute, true},
		{"the far database resets", func(s *soloist) { s.link(wire.RST, 100, 0, 0, nil) }, endReset, true},
		{"the near database resets", func(s *soloist) {
			if !s.host(wire.RST, 0, 0, 0, nil) {
				s.Error("not forwarded")
			}
		}, endReset, true},
		{"release", func(s *soloist) { s.legs.ReleaseAll(EndMoved) }, EndMoved, false},
		{"release of another", func(s *soloist) {
			s.legs.Release(EndFrozen, func(t Trunk) bool { return t != s.mine })
			s.legs.Release(EndMoved, func(t Trunk) bool { return t == s.mine })
		}, EndMoved, false},
		{"the leg fails", func(s *soloist) { s.relay.leg.ep.Abort() }, endLeg, false},
		{"nothing is acknowledged", func(s *soloist) {
			s.host(wire.ACK, 0, 0, soloEdge, []byte("lost"))
			s.frameUntil("payload", func(g *wire.Frame) bool { return len(g.Payload) > 0 })
			s.Await(s.T, "watch that has seen it", func() bool { s.relay.watch(s.clock.now()); return s.held() })
			s.clock.advance(stallAfter + time.Millisecond)
		}, endStall, false},
		{"nothing is acknowledged on a way that is slow now", func(s *soloist) {
			s.mine.quality.Store(&Quality{RTT: time.Millisecond, Delay: stallAfter})
			s.host(wire.ACK, 0, 0, soloEdge, []byte("lost"))
			s.frameUntil("payload", func(g *wire.Frame) bool { return len(g.Payload) > 0 })
			s.Await(s.T, "watch that has seen it", func() bool { s.relay.watch(s.clock.now()); return s.held() })
			s.clock.advance(3 * stallAfter)
			if s.relay.watch(s.clock.now()); s.trunk.ended() {
				s.Error("ended too early")
			}
			s.clock.advance(stallAfter + time.Millisecond)
		}, endStall, false},
		{"more is acknowledged than the leg has", func(s *soloist) {
			s.link(wire.ACK, 100, 700, soloEdge, nil)
			s.relay.watch(s.clock.now())
			s.clock.advance(beyondFor + watchEvery + time.Millisecond)
		}, endBeyond, false},
		{"idle", func(s *soloist) {
			s.host(wire.ACK, 0, 100, soloEdge, nil)
			s.clock.advance(idleAfter + time.Millisecond)
			s.frameUntil("last frame", func(g *wire.Frame) bool { return g.Kind == wire.FrameClose && g.Seq == n(0) })
			s.answer(wire.Frame{Kind: wire.FrameClose, Seq: f(100), Ack: n(0), Edge: n(soloEdge)})
		}, endIdle, true},
		{"the gateway is closed", func(s *soloist) { s.stop() }, EndClosing, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			eitherRole(t, func(s *soloist) {
				s.data(0, 0, soloEdge, stacktest.Noise(4, 100))
				s.awaitPayload(100)
				before := len(s.segments())
				c.end(s)
				s.awaitEnd(c.want)
				s.Await(t, "end of the trunk", s.trunk.ended)
				// The bytes that nobody has acknowledged would have been sent again by now,
				// were there a leg; and a RST, as it was destroyed.
				s.silent(before)
				for _, flags := range []uint8{wire.ACK, wire.ACK | wire.PSH, wire.ACK | wire.FIN, wire.RST, wire.RST | wire.ACK} {
					if !s.host(flags, 0, 100, soloEdge, nil) {
						t.Errorf("flags %#x are not forwarded after the end", flags)
					}
				}
				s.link(wire.ACK, 0, 0, soloEdge, nil)
				s.silent(before)
				if len(s.raw) > 0 {
					t.Errorf("sent by itself: %x", s.raw)
				}
				if err := s.drained(); (err == io.EOF) != c.finished {
					t.Errorf("the trunk ended by %v", err)
				}
				if got := s.legs.Stats().Ends; got[c.want.Cause] != 1 {
					t.Errorf("counted %v", got)
				}
			})
		})
	}
}

// drained is how the trunk ends after the last frame that the node has sent.
func (s *soloist) drained() error {
	for {
		var f wire.Frame
		if err := s.trunk.receive(&f); err != nil {
			return err
		}
	}
}

// held reports whether the relay waits for the far database's acknowledgement.
func (s *soloist) held() bool {
	s.relay.mu.Lock()
	defer s.relay.mu.Unlock()
	return wire.SeqLess(s.relay.gate.FarAck(), s.relay.gate.Received())
}

// While the other gateway has not agreed, nothing is said, and a no or no answer
// leaves all as it was.
func TestRelayNotAgreed(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(s *soloist)
		want End
	}{
		{"refused", func(s *soloist) { s.answer(wire.Frame{Kind: wire.FrameRefuse, Payload: []byte("no room")}) }, endRefused},
		{"no answer", func(s *soloist) { s.clock.advance(patience + time.Millisecond) }, endNoAnswer},
		{"data without an answer", func(s *soloist) { s.data(0, 0, soloEdge, []byte("x")) }, endNonsense},
		{"the trunk ends", func(s *soloist) { s.trunk.Close() }, endTrunk},
		{"released", func(s *soloist) { s.legs.ReleaseAll(EndStandby) }, EndStandby},
		{"reset", func(s *soloist) { s.link(wire.RST, 0, 0, 0, nil) }, endReset},
		{"closed", func(s *soloist) { s.stop() }, EndClosing},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSolo(t)
			s.offer()
			if s.host(wire.ACK, 0, 0, soloEdge, []byte("near says")) {
				t.Error("payload goes raw, too")
			}
			if !s.host(wire.ACK, 0, 0, soloEdge+800, nil) {
				t.Error("an acknowledgement does not go raw")
			}
			s.frameUntil("payload", func(g *wire.Frame) bool { return len(g.Payload) > 0 })
			c.end(s)
			s.awaitEnd(c.want)
			s.silent(0)
			if c.want == endRefused && !strings.HasSuffix(s.detached[0].Why, ": no room") {
				t.Errorf("people are told %q", s.detached[0].Why)
			}
		})
	}
}

// A connection that is released while its leg is made leaves nothing behind.
func TestRelayReleasedInTheMaking(t *testing.T) {
	s := newSolo(t)
	for i := range 100 {
		s.mine, s.trunk = newTrunks(s.Bell)
		s.detached = nil
		r, err := s.legs.Offer(s.conn, s, s.mine, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.relay = r
		for range i % 10 {
			runtime.Gosched()
		}
		s.legs.ReleaseAll(EndLinkDown)
		s.awaitEnd(EndLinkDown)
		s.silent(0)
	}
	if st := s.legs.Stats(); st.Ends[EndLinkDown.Cause] != 100 {
		t.Errorf("%+v", st)
	}
}

// There is one relay of a connection, and none after the end.
func TestLegsRefuse(t *testing.T) {
	s := newSolo(t)
	s.offer()
	mine, _ := newTrunks(s.Bell)
	if _, err := s.legs.Offer(s.conn, s, mine, 0); err != errTaken {
		t.Errorf("a second relay of one connection: %v", err)
	}
	s.stop()
	if _, err := s.legs.Offer(s.conn, s, mine, 0); err != errClosed {
		t.Errorf("a relay after the end: %v", err)
	}
}

// What the two gateways know of a connection has to fit together.
func TestLegsAcceptRefuses(t *testing.T) {
	s := newSolo(t)
	open, o := s.opening()
	for name, change := range map[string]func(*Opening){
		"near scale": func(o *Opening) { o.NearScale++ }, "far scale": func(o *Opening) { o.FarScale++ }, "sack": func(o *Opening) { o.SACK = !o.SACK },
	} {
		other := *o
		change(&other)
		if _, err := s.legs.Accept(s.conn, s, s.mine, open, &other); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if st := s.legs.Stats(); st.Relayed != 0 || st.Made != 0 {
		t.Errorf("%+v", st)
	}
}

// ReleaseAll returns when nothing can be written any more, though a segment is on its
// way out at that moment.
func TestReleaseAllIsFinal(t *testing.T) {
	s := asked(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	hold := func() {
		s.hold.Store(nil)
		close(entered)
		<-leave
	}
	s.hold.Store(&hold)
	s.data(0, 0, soloEdge, []byte("on its way"))
	<-entered
	returned := make(chan struct{})
	go func() {
		s.legs.ReleaseAll(EndFrozen)
		close(returned)
	}()
	<-s.relay.ending.done
	for range 100 {
		runtime.Gosched()
	}
	select {
	case <-returned:
		t.Error("ReleaseAll has returned while a segment is being written")
	default:
	}
	close(leave)
	<-returned
	s.awaitEnd(EndFrozen)
	s.silent(1)
}

// A process that was frozen writes nothing, whatever there is to write.
func TestNotAliveWritesNothing(t *testing.T) {
	s := asked(t)
	s.dead.Store(true)
	s.data(0, 0, soloEdge+3200, []byte("far says"))
	// The leg sends it again and again, the gate tells the edge.
	s.Await(t, "sent", func() bool {
		s.relay.mu.Lock()
		defer s.relay.mu.Unlock()
		return s.relay.gate.Tell(s.clock.now()).Seq == f(8)
	})
	s.legs.ReleaseAll(EndFrozen)
	s.awaitEnd(EndFrozen)
	s.silent(0)
}

// A RST of the near database waits for what it has said before, and passes as it was,
// once. From then on nothing is said to it.
func TestRelayReset(t *testing.T) {
	eitherRole(t, func(s *soloist) {
		payload := stacktest.Noise(6, 700)
		s.host(wire.ACK, 0, 0, soloEdge, payload)
		s.frameUntil("payload", func(g *wire.Frame) bool { return len(g.Payload) > 0 })
		rst := wiretest.TCP{Src: s.conn.Near, Dst: s.conn.Far, Seq: n(700), Ack: f(0), Flags: wire.RST | wire.ACK, Window: 9}.Packet()
		var p wire.Packet
		wire.Parse(&p, bytes.Clone(rst))
		p.SetPartial()
		for range 2 {
			if raw, _ := s.relay.FromHost(&p, true); raw {
				t.Error("the RST overtakes the bytes before it")
			}
		}
		before := len(s.segments())
		if s.host(wire.ACK, 700, 0, soloEdge+800, nil) {
			t.Error("forwarded behind the RST")
		}
		s.data(0, 300, soloEdge, []byte("too late"))
		s.data(8, 699, soloEdge, nil)
		s.Await(t, "last frame", func() bool { return s.heard(n(699)) })
		if len(s.raw) > 0 || s.relay.Ended() != nil {
			t.Fatal("the RST goes before the last byte is acknowledged")
		}
		s.data(8, 700, soloEdge, nil)
		s.awaitEnd(endReset)
		s.silent(before)
		if len(s.raw) != 1 || !bytes.Equal(s.raw[0], rst) {
			t.Errorf("passed %x, want %x", s.raw, rst)
		}
	})
}

// heard reports whether the flow table has been told of an acknowledgement.
func (s *soloist) heard(ack uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.said) > 0 && s.said[len(s.said)-1].Ack == ack
}

// An acknowledgement that comes raw lets a RST go as well.
func TestRelayResetAckedRaw(t *testing.T) {
	s := asked(t)
	s.host(wire.ACK, 0, 0, soloEdge, stacktest.Noise(6, 700))
	s.host(wire.RST|wire.ACK, 700, 0, soloEdge, nil)
	s.link(wire.ACK, 0, 700, soloEdge, nil)
	s.awaitEnd(endReset)
	if len(s.raw) != 1 {
		t.Errorf("%d packets", len(s.raw))
	}
}

// A RST waits for a second at most.
func TestRelayResetWaits(t *testing.T) {
	s := asked(t)
	s.host(wire.ACK, 0, 0, soloEdge, stacktest.Noise(6, 700))
	s.host(wire.RST|wire.ACK, 700, 0, soloEdge, nil)
	s.clock.advance(resetAfter + time.Millisecond)
	s.awaitEnd(endReset)
	if len(s.raw) != 1 {
		t.Errorf("%d packets", len(s.raw))
	}
}

// The near database's FIN goes into the trunk behind its last byte, once; said again,
// it goes raw.
func TestRelayFinOut(t *testing.T) {
	for _, with := range []int{0, 300} {
		eitherRole(t, func(s *soloist) {
			s.host(wire.ACK, 0, 0, soloEdge, stacktest.Noise(6, 500))
			if s.host(wire.ACK|wire.FIN, 500, 0, soloEdge, stacktest.Noise(7, with)) {
				t.Error("the FIN overtakes the trunk")
			}
			got := 0
			g := s.frameUntil("fin", func(g *wire.Frame) bool { got += len(g.Payload); return g.Fin })
			if got != 500+with || g.Seq+uint32(len(g.Payload)) != n(500+with) {
				t.Errorf("%d bytes, then %+v", got, g)
			}
			if with == 0 && !s.host(wire.ACK|wire.FIN, 500, 0, soloEdge, nil) {
				t.Error("a second FIN is swallowed")
			}
			s.data(0, 501+with, soloEdge, nil)
			s.awaitSegment("acknowledgement of the FIN", func(w *written) bool { return w.ack == n(501+with) })
			// The other way goes on.
			s.data(0, 501+with, soloEdge, stacktest.Noise(8, 5000))
			s.awaitPayload(5000)
			s.host(wire.ACK, 501+with, 5000, soloEdge+5000, nil)
			s.frameUntil("acknowledgement", func(g *wire.Frame) bool { return g.Ack == f(5000) && !g.Fin })
		})
	}
}

// The far database's FIN is said when all before it has been acknowledged, and once.
func TestRelayFinIn(t *testing.T) {
	eitherRole(t, func(s *soloist) {
		s.answer(wire.Frame{Kind: wire.FrameData, Seq: f(0), Ack: n(0), Edge: n(soloEdge), Payload: stacktest.Noise(3, 900), Fin: true})
		s.awaitPayload(900)
		s.host(wire.ACK, 0, 899, soloEdge, nil)
		for _, w := range s.segments() {
			if w.flags&wire.FIN != 0 {
				t.Fatal("the FIN comes before what precedes it is acknowledged")
			}
		}
		s.host(wire.ACK, 0, 900, soloEdge, nil)
		w := s.awaitSegment("FIN", func(w *written) bool { return w.flags&wire.FIN != 0 })
		if w.seq != f(900) || w.flags != wire.FIN|wire.ACK || len(w.payload) > 0 {
			t.Errorf("%+v", w)
		}
		s.host(wire.ACK, 0, 901, soloEdge, nil)
		s.frameUntil("acknowledgement of the FIN", func(g *wire.Frame) bool { return g.Ack == f(901) })
		// The near database goes on, and hears about it.
		s.host(wire.ACK, 0, 901, soloEdge, stacktest.Noise(4, 2000))
		for got := 0; got < 2000; {
			got += len(s.frame().Payload)
		}
		s.data(900, 2000, soloEdge+3200, nil)
		w = s.awaitSegment("acknowledgement", func(w *written) bool { return w.ack == n(2000) })
		if w.seq != f(901) {
			t.Errorf("behind the FIN: %+v", w)
		}
		fins := 0
		for _, w := range s.segments() {
			if w.flags&wire.FIN != 0 {
				fins++
			}
		}
		if fins != 1 {
			t.Errorf("%d FINs", fins)
		}
	})
}

// When both have said FIN and know it of each other, the relay is over.
func TestRelayOver(t *testing.T) {
	eitherRole(t, func(s *soloist) {
		s.host(wire.ACK|wire.FIN, 0, 0, soloEdge, []byte("bye"))
		s.answer(wire.Frame{Kind: wire.FrameData, Seq: f(0), Ack: n(4), Edge: n(soloEdge), Fin: true})
		s.awaitSegment("FIN", func(w *written) bool { return w.flags&wire.FIN != 0 })
		s.awaitSegment("acknowledgement", func(w *written) bool { return w.ack == n(4) })
		s.host(wire.ACK, 4, 1, soloEdge, nil)
		s.frameUntil("acknowledgement of the FIN", func(g *wire.Frame) bool { return g.Ack == f(1) })
		s.awaitEnd(endOver)
		if err := s.drained(); err != io.EOF {
			t.Errorf("the trunk ended by %v", err)
		}
	})
}

// A SYN goes raw at any time.
func TestRelaySYN(t *testing.T) {
	s := asked(t)
	for _, flags := range []uint8{wire.SYN, wire.SYN | wire.ACK} {
		if !s.host(flags, -1, 0, soloEdge, nil) {
			t.Errorf("flags %#x are swallowed", flags)
		}
		s.link(flags, -1, 0, soloEdge, nil)
	}
	if s.relay.Ended() != nil {
		t.Errorf("ended by %+v", s.relay.Ended())
	}
}

// The yes of the other gateway brings nothing that a database has said: neither bytes nor
// a FIN that nonsense adds to it reach the near one.
func TestRelayAgreedBringsNoBytes(t *testing.T) {
	s := newSolo(t)
	s.offer()
	s.answer(wire.Frame{Kind: wire.FrameAccept, Fin: true, Seq: f(0), Ack: s.conn.FarSaid.Ack, Edge: s.conn.FarSaid.Edge, Payload: []byte("nonsense")})
	s.Await(t, "begin", s.begun)
	said := stacktest.Noise(1, 3000)
	s.data(0, 0, soloEdge, said)
	if got := s.awaitPayload(len(said)); !bytes.Equal(got, said) {
		t.Error("other bytes come")
	}
	for _, w := range s.segments() {
		if w.flags&wire.FIN != 0 {
			t.Error("a FIN has been said")
		}
	}
}
