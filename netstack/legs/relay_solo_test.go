package legs

import (
	"bytes"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/onewaylink/gw/netstack/stacktest"
	"github.com/onewaylink/gw/netstack/wire"
)

// Payload crosses both ways, and what each side acknowledges and allows is told to
// the other, no earlier than it was heard.
func TestRelayCarries(t *testing.T) {
	eitherRole(t, func(s *soloist) {
		// From the far database to the near one.
		s.data(0, 0, soloEdge, []byte("far says"))
		if got := s.awaitPayload(8); string(got) != "far says" {
			t.Errorf("got %q", got)
		}
		if s.host(wire.ACK, 0, 8, soloEdge+8, nil) {
			t.Error("an acknowledgement of the leg's bytes goes raw")
		}
		s.frameUntil("acknowledgement", func(g *wire.Frame) bool { return g.Ack == f(8) && g.Edge == f(soloEdge+8) })

		// And back. Nothing is acknowledged that the far database has not.
		if s.host(wire.ACK|wire.PSH, 0, 8, soloEdge+8, []byte("near says")) {
			t.Error("payload goes raw, too")
		}
		if g := s.frameUntil("payload", func(g *wire.Frame) bool { return len(g.Payload) > 0 }); string(g.Payload) != "near says" || g.Seq != n(0) {
			t.Errorf("frame %+v", g)
		}
		for _, w := range s.segments() {
			if w.ack != n(0) {
				t.Errorf("acknowledged early: %+v", w)
			}
		}
		s.data(8, 9, soloEdge+32, nil)
		w := s.awaitSegment("acknowledgement", func(w *written) bool { return w.ack == n(9) })
		if w.seq != f(8) || w.flags != wire.ACK || w.window != (soloEdge+32-9)>>soloScaleF || len(w.payload) > 0 {
			t.Errorf("told by %+v", w)
		}
	})
}

// When a router toward the near database takes smaller packets only, the leg sends
// again what is not acknowledged, in such, and the connection stays relayed. What is
// no smaller changes nothing.
func TestRelayPathNarrows(t *testing.T) {
	eitherRole(t, func(s *soloist) {
		const sent, mtu = 900, 700
		s.data(0, 0, soloEdge, stacktest.Noise(1, sent))
		s.awaitPayload(sent)
		s.relay.TooBig(mtu)
		s.relay.TooBig(mtu + 100)
		s.mu.Lock()
		s.out = nil
		s.mu.Unlock()
		if got := s.awaitPayload(sent); !bytes.Equal(got, stacktest.Noise(1, sent)) {
			s.Error("something else was sent again")
		}
		for _, w := range s.segments() {
			if w.size > mtu {
				s.Errorf("a packet of %d bytes", w.size)
			}
		}
		if e := s.relay.Ended(); e != nil {
			s.Errorf("ended: %s", e.Why)
		}
	})
}

// A segment that begins before the relay did is carried on raw: nobody else brings
// those bytes to the far database.
func TestRelayBelowTheMark(t *testing.T) {
	for _, c := range []struct {
		name     string
		flags    uint8
		seq, end int
		raw      bool
	}{
		{"below", wire.ACK, -1000, -500, true},
		{"up to the mark", wire.ACK, -1000, 0, true},
		{"across the mark", wire.ACK, -1000, 500, true},
		{"from the mark on", wire.ACK, 0, 500, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := asked(t)
			payload := stacktest.Noise(3, c.end-c.seq)
			if raw := s.host(c.flags, c.seq, 0, soloEdge, payload); raw != c.raw {
				t.Errorf("raw %t", raw)
			}
			if c.end > 0 {
				g := s.frame()
				if want := payload[max(-c.seq, 0):]; g.Seq != n(0) || !bytes.Equal(g.Payload, want) {
					t.Errorf("frame at %d with %d bytes", int32(g.Seq-n(0)), len(g.Payload))
				}
			}
		})
	}
}

// The same where the FIN has been said before the relay began, and comes again.
func TestRelayFinBelowTheMark(t *testing.T) {
	said := func(s *soloist, _ *Config) { s.conn.NearSaid.Fin = true }
	for _, payload := range []int{0, 400} {
		s := asked(t, said)
		if !s.host(wire.ACK|wire.FIN, -1-payload, 0, soloEdge, make([]byte, payload)) {
			t.Errorf("a FIN behind %d bytes, said before, is swallowed", payload)
		}
		s.stop()
	}
}

// What a segment below the mark or with nothing but a FIN acknowledges is told to
// the leg, which would send it again otherwise.
func TestRelayLegHearsEveryAck(t *testing.T) {
	for _, c := range []struct {
		name    string
		flags   uint8
		seq     int
		payload []byte
	}{
		{"fin", wire.ACK | wire.FIN, 0, nil},
		{"payload below the mark", wire.ACK, -100, make([]byte, 100)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := asked(t)
			s.data(0, 0, soloEdge, stacktest.Noise(1, 900))
			s.awaitPayload(900)
			before := s.cwnd()
			s.host(c.flags, c.seq, 900, soloEdge, c.payload)
			// In slow start, each acknowledgement opens the congestion window.
			s.Await(t, "leg that has heard it", func() bool { return s.cwnd() > before })
		})
	}
}

func (s *soloist) cwnd() uint32 {
	var o tcpip.TCPInfoOption
	if err := s.relay.leg.ep.GetSockOpt(&o); err != nil {
		s.Fatal(err)
	}
	return o.SndCwnd
}

// A duplicate of what the leg has goes to the leg alone; but raw, too, when it comes
// again: then something is wrong with the trunk.
func TestRelayDuplicates(t *testing.T) {
	s := asked(t)
	payload := stacktest.Noise(5, 800)
	if s.host(wire.ACK, 0, 0, soloEdge, payload) {
		t.Error("raw at first")
	}
	s.frameUntil("payload", func(g *wire.Frame) bool { return len(g.Payload) > 0 })
	for i, want := range []bool{false, true, true} {
		if raw := s.host(wire.ACK, 0, 0, soloEdge, payload); raw != want {
			t.Errorf("duplicate %d: raw %t", i, raw)
		}
	}
	if i := s.legs.Describe()[Ends{Near: s.conn.Near, Far: s.conn.Far}]; i.NearRetransmits != 3 {
		t.Errorf("%d segments sent again, want 3", i.NearRetransmits)
	}
}

// What comes behind a gap goes raw, too, until the gap is filled, for the far database to
// select it: the leg may not. No more than some of it.
func TestRelayBehindGap(t *testing.T) {
	s := asked(t)
	payload := stacktest.Noise(11, (gapShows+3)*soloMSS)
	say := func(i int) bool {
		return s.host(wire.ACK, i*soloMSS, 0, soloEdge, payload[i*soloMSS:(i+1)*soloMSS])
	}
	for i := 1; i < gapShows+3; i++ {
		if raw, want := say(i), i <= gapShows; raw != want {
			t.Errorf("segment %d behind the gap: raw %t", i, raw)
		}
	}
	if say(0) {
		t.Error("what fills the gap goes raw")
	}
	var got []byte
	for len(got) < len(payload) {
		got = append(got, s.frameUntil("payload", func(g *wire.Frame) bool { return len(g.Payload) > 0 }).Payload...)
	}
	if !bytes.Equal(got, payload) {
		t.Error("something else came out")
	}
	if end := len(payload); s.host(wire.ACK, end, 0, soloEdge, []byte("and on")) {
		t.Error("what comes after it goes raw")
	}
	if end := len(payload) + len("and on"); !s.host(wire.ACK, end+soloMSS, 0, soloEdge, []byte("another gap")) {
		t.Error("what is behind another gap does not go raw")
	}
}

// A probe, a keepalive and the answers to them say nothing new. They go raw, since
// the gateway never answers in a database's place, and to the leg.
func TestRelayProbes(t *testing.T) {
	s := asked(t)
	s.data(0, 0, soloEdge, []byte("12345678"))
	s.awaitPayload(8)
	sack := func(start, end int) []byte { return wire.AppendSACK(nil, []wire.Block{{Start: f(start), End: f(end)}}) }
	for _, c := range []struct {
		what     string
		seq, ack int
		edge     int
		options  []byte
		raw      bool
	}{
		{"an acknowledgement of new bytes", 0, 8, soloEdge + 8, nil, false},
		{"the same again", 0, 8, soloEdge + 8, nil, true},
		{"a keepalive", -1, 8, soloEdge + 8, nil, true},
		{"more window", 0, 8, soloEdge + 800, nil, false},
		{"less window", 0, 8, 8, nil, true},
		{"sack", 0, 8, soloEdge + 800, sack(2, 4), false},
		{"the same sack again", 0, 8, soloEdge + 800, sack(2, 4), true},
		{"sack of what went past the leg", 0, 8, soloEdge + 800, sack(100, 200), true},
		{"an old acknowledgement", 0, 4, soloEdge, nil, true},
	} {
		if raw := s.host(wire.ACK, c.seq, c.ack, c.edge, nil, c.options...); raw != c.raw {
			t.Errorf("%s: raw %t", c.what, raw)
		}
	}
}

// What acknowledges bytes that passed before the leg's is for their sender to see.
func TestRelayAcksBelowTheMark(t *testing.T) {
	s := asked(t, func(s *soloist, _ *Config) { s.conn.NearSaid.Ack = f(-700) })
	for _, ack := range []int{-600, -1} {
		if !s.host(wire.ACK, 0, ack, soloEdge, nil) {
			t.Errorf("acknowledges raw bytes at %d, and is swallowed", ack)
		}
	}
	if s.host(wire.ACK, 0, 0, soloEdge+800, nil) {
		t.Error("acknowledges all that went raw, and goes raw itself")
	}
	g := s.frameUntil("acknowledgement", func(g *wire.Frame) bool { return g.Edge == f(soloEdge+800) })
	if g.Ack != f(0) {
		t.Errorf("%+v", g)
	}
}

// What comes while the leg is made, or the other gateway has not answered, is not
// lost.
func TestRelayEarly(t *testing.T) {
	s := newSolo(t)
	r, err := s.legs.Offer(s.conn, s, s.mine, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.relay = r
	payload := stacktest.Noise(9, 20*soloMSS)
	for at := 0; at < len(payload); at += soloMSS {
		if s.host(wire.ACK, at, 0, soloEdge, payload[at:at+soloMSS]) {
			t.Error("raw")
		}
	}
	if open := s.frame(); open.Kind != wire.FrameOpen || open.Seq != n(0) {
		t.Fatalf("%+v", open)
	}
	var got []byte
	for len(got) < len(payload) {
		g := s.frame()
		if g.Kind != wire.FrameData || g.Seq != n(len(got)) {
			t.Fatalf("%+v", g)
		}
		got = append(got, g.Payload...)
	}
	if !bytes.Equal(got, payload) {
		t.Error("something else came out")
	}
	if out := s.segments(); len(out) > 0 {
		t.Errorf("said before the other gateway has agreed: %+v", out)
	}
	s.answer(wire.Frame{Kind: wire.FrameAccept, Seq: f(0), Ack: n(len(payload)), Edge: n(soloEdge + len(payload))})
	s.awaitSegment("acknowledgement", func(w *written) bool { return w.ack == n(len(payload)) })
}

// A window that the near database opens while the leg is made is the leg's, too: no
// probe of its own goes out that would ask for it.
func TestRelayOpensWindowEarly(t *testing.T) {
	closed := func(s *soloist, _ *Config) { s.conn.NearSaid.Edge = f(0) }
	s := newSolo(t, closed)
	open, o := s.opening()
	r, err := s.legs.Accept(s.conn, s, s.mine, open, o)
	if err != nil {
		t.Fatal(err)
	}
	s.relay = r
	s.host(wire.ACK, 0, 0, soloEdge, nil)
	s.data(0, 0, soloEdge, []byte("far says"))
	s.awaitPayload(8)
}

// Acknowledgements that come in bunches are told in steps, the last of them without
// anything else having to happen.
func TestRelaySpacesAcks(t *testing.T) {
	s := asked(t)
	payload := stacktest.Noise(2, 50*soloMSS)
	for at := 0; at < len(payload); at += soloMSS {
		s.host(wire.ACK, at, 0, soloEdge, payload[at:at+soloMSS])
	}
	for got := 0; got < len(payload); {
		got += len(s.frame().Payload)
	}
	s.data(0, 10*soloMSS, 10*soloMSS+soloEdge, nil)
	s.data(0, 20*soloMSS, 20*soloMSS+soloEdge, nil)
	s.data(0, 30*soloMSS, 30*soloMSS+soloEdge, nil)
	w := s.awaitSegment("the last of three", func(w *written) bool { return w.ack == n(30*soloMSS) })
	if w.window != soloEdge>>soloScaleF {
		t.Errorf("%+v", w)
	}
}

// The reach follows from what the trunk says of the way.
func TestRelayReach(t *testing.T) {
	const long = 100*time.Millisecond - tellDelay
	for _, c := range []struct {
		name string
		q    Quality
		says int // bytes that the far database has said lately
		want int
	}{
		{"short", Quality{RTT: time.Millisecond, Rate: 100 << 20}, 0, minReach},
		{"long", Quality{RTT: long, Rate: 10 << 20}, 0, reachFactor << 20},
		{"paced", Quality{RTT: 10 * time.Millisecond, Rate: 1 << 20, Paced: true}, 0, pacedReach},
		{"paced and near", Quality{RTT: 1, Rate: 300e6, Paced: true}, 0, reachFactor * 300e6 * int(tellDelay) / int(time.Second)},
		{"answers", Quality{RTT: long, Rate: 10 << 20, Backlog: 512 << 10}, pumpBytes, reachFactor << 20},
		{"both ways", Quality{RTT: long, Rate: 10 << 20, Backlog: 512 << 10}, pumpBytes + 1, reachFactor<<20 + 512<<10 + pumpBytes},
	} {
		t.Run(c.name, func(t *testing.T) {
			const far = 64 << 20
			s := asked(t, func(s *soloist, _ *Config) {
				s.conn.FarSaid.Scale, s.conn.FarSaid.Edge, s.conn.NearSaid.Edge = 14, n(0), f(2*pumpBytes)
			})
			s.mine.quality.Store(&c.q)
			says := make([]byte, c.says)
			half := len(says) / 2
			s.data(0, 0, 0, says[:half])
			s.data(half, 0, 0, says[half:])
			s.Await(t, "feed", func() bool {
				s.relay.mu.Lock()
				defer s.relay.mu.Unlock()
				return s.relay.gate.Fed() == f(len(says))
			})
			s.clock.advance(watchEvery)
			s.relay.watch(s.clock.now())
			s.data(len(says), 0, far, nil)
			w := s.awaitSegment("window", func(w *written) bool { return w.window > 0 })
			if edge := int(w.window) << 14; edge > c.want || edge < c.want-1<<14 {
				t.Errorf("opened %d bytes, want %d", edge, c.want)
			}
		})
	}
}
