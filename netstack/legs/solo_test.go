package legs

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/netstack/stacktest"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// written is a segment that reached the near database.
type written struct {
	seq, ack uint32
	window   uint16
	flags    uint8
	payload  []byte
	blocks   []wire.Block
	size     int // of the largest packet that the host makes of it
}

// A soloist is one node that relays one connection. The test is the near database,
// segment by segment, and the other gateway, frame by frame. Numbers are relative to
// the moment at which the relay began: n in the near database's space, f in the
// far one's.
type soloist struct {
	*testing.T
	stacktest.Bell
	clock   *clock
	legs    *Stack
	relay   *Relay
	mine    *memTrunk // the node's end of the trunk
	trunk   *memTrunk // the other gateway's
	conn    wire.Connection
	stop    func()
	sins    bool          // the rule is broken on purpose
	holds   bool          // the test calls Settle, and not host
	stopped atomic.Int64  // what a clock shows that stands still
	kept    time.Duration // for which host's last segment may be held

	mu       sync.Mutex
	out      []written
	raw      [][]byte // what SendLink was given
	said     []wire.Position
	detached []End
	dead     atomic.Bool // what Alive says the opposite of
	// hold, where it isn't nil, is called while a segment is written.
	hold atomic.Pointer[func()]
}

const (
	soloN = 1<<32 - 3000 // so that both pass 2^32 soon
	soloF = 1<<32 - 5000

	soloScaleN, soloScaleF = 3, 5
	soloMSS                = 1000
	soloEdge               = 64000 // how far both windows are open
)

func n(x int) uint32 { return uint32(soloN + x) }
func f(x int) uint32 { return uint32(soloF + x) }

type soloOption func(*soloist, *Config)

func overV6(s *soloist, _ *Config) {
	s.conn.Near, s.conn.Far = netip.AddrPortFrom(red6, 40000), netip.AddrPortFrom(gray6, 5432)
}

func offloaded(_ *soloist, c *Config) { c.Offload = true }

// newSolo makes a node with legs.
func newSolo(t *testing.T, options ...soloOption) *soloist {
	t.Helper()
	s := &soloist{T: t, Bell: stacktest.NewBell(), clock: newClock()}
	s.conn = wire.Connection{
		Near: netip.AddrPortFrom(red4, 40000), Far: netip.AddrPortFrom(gray4, 5432), SACK: true,
		NearSaid: wire.Position{End: n(0), Ack: f(0), Edge: f(soloEdge), Scale: soloScaleN, MSS: soloMSS},
		FarSaid:  wire.Position{End: f(0), Ack: n(0), Edge: n(soloEdge), Scale: soloScaleF, MSS: soloMSS},
	}
	cfg := Config{
		Near: s, Now: s.clock.now, Alive: func() bool { return !s.dead.Load() }, Logger: hclog.NewNullLogger(),
		Check: true,
	}
	for _, o := range options {
		o(s, &cfg)
	}
	legs, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.legs = legs
	s.mine, s.trunk = newTrunks(s.Bell)
	s.mine.inPieces = true
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- legs.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		for v, n := range legs.Stats().Violations {
			if n > 0 && !s.sins {
				t.Errorf("%d segments would have broken the rule: %s", n, v)
			}
		}
		cancel()
		select {
		case err := <-ran:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(stacktest.Deadline):
			t.Error("Run does not return")
		}
		stacktest.CheckLeaks(t)
	})
	t.Cleanup(s.stop)
	return s
}

// offer makes the node ask, and does not answer yet.
func (s *soloist) offer() *wire.Frame {
	s.Helper()
	r, err := s.legs.Offer(s.conn, s, s.mine, 0)
	if err != nil {
		s.Fatal(err)
	}
	s.relay = r
	open := s.frame()
	if open.Kind != wire.FrameOpen || open.Seq != s.conn.NearSaid.End || open.Ack != s.conn.NearSaid.Ack || open.Edge != s.conn.NearSaid.Edge {
		s.Fatalf("open frame %+v", open)
	}
	return open
}

// asked makes the node ask, and agrees.
func asked(t *testing.T, options ...soloOption) *soloist {
	t.Helper()
	s := newSolo(t, options...)
	s.offer()
	s.answer(wire.Frame{Kind: wire.FrameAccept, Seq: f(0), Ack: s.conn.FarSaid.Ack, Edge: s.conn.FarSaid.Edge})
	s.Await(t, "begin", s.begun)
	return s
}

// asks makes the other gateway ask, and the node agrees.
func asks(t *testing.T, options ...soloOption) *soloist {
	t.Helper()
	s := newSolo(t, options...)
	open, o := s.opening()
	var err error
	if s.relay, err = s.legs.Accept(s.conn, s, s.mine, open, o); err != nil {
		t.Fatal(err)
	}
	if a := s.frame(); a.Kind != wire.FrameAccept || a.Seq != n(0) || a.Ack != f(0) || a.Edge != f(soloEdge) {
		t.Fatalf("accept frame %+v", a)
	}
	return s
}

// opening is the frame by which the other gateway asks.
func (s *soloist) opening() (*wire.Frame, *Opening) {
	s.Helper()
	other := wire.Connection{Near: s.conn.Far, Far: s.conn.Near, NearSaid: s.conn.FarSaid, FarSaid: s.conn.NearSaid, SACK: s.conn.SACK}
	open := wire.Frame{Kind: wire.FrameOpen, Seq: f(0), Ack: s.conn.FarSaid.Ack, Edge: s.conn.FarSaid.Edge, Payload: appendOpening(nil, &other)}
	o, err := ParseOpening(&open)
	if err != nil {
		s.Fatal(err)
	}
	return &open, &o
}

// eitherRole runs a test for the node that asks and for the one that is asked, over
// both families, with and without offloads.
func eitherRole(t *testing.T, test func(s *soloist)) {
	t.Run("asks", func(t *testing.T) { test(asked(t)) })
	t.Run("is asked", func(t *testing.T) { test(asks(t)) })
	t.Run("v6, offloads", func(t *testing.T) { test(asked(t, overV6, offloaded)) })
}

func (s *soloist) begun() bool {
	s.relay.mu.Lock()
	defer s.relay.mu.Unlock()
	return s.relay.opening.begun && s.relay.opening.live
}

// WriteHost implements Near.
func (s *soloist) WriteHost(vec [][]byte, o wire.Offload) {
	if h := s.hold.Load(); h != nil {
		(*h)()
	}
	p := parsed(s, slices.Concat(vec...), o)
	w := written{seq: p.Seq, ack: p.Ack, window: p.Window, flags: p.Flags, payload: p.Payload(), size: len(p.B)}
	if o.GSOSize > 0 {
		w.size = min(w.size, p.Data+int(o.GSOSize))
	}
	var blocks [wire.MaxBlocks]wire.Block
	w.blocks = append(w.blocks, blocks[:p.SACK(&blocks)]...)
	if p.Src() != s.conn.Far.Addr() || p.Dst() != s.conn.Near.Addr() || p.SrcPort != s.conn.Far.Port() || p.DstPort != s.conn.Near.Port() {
		s.Errorf("a segment from %s to %s", p.Src(), p.Dst())
	}
	s.mu.Lock()
	s.out = append(s.out, w)
	s.mu.Unlock()
	s.Ring()
}

// parsed is a packet whose checksum, finished as a device would where that was left
// to it, holds.
func parsed(t testing.TB, b []byte, o wire.Offload) *wire.Packet {
	var p wire.Packet
	if r := wire.Parse(&p, b); r != wire.OK {
		t.Errorf("wrote a packet that is %v", r)
		return &p
	}
	if o.NeedsCsum {
		if !p.IsPartial() || int(o.CsumStart) != p.L4 || o.CsumOffset != 16 {
			t.Errorf("a checksum to be finished: %+v", o)
		}
		p.FinishChecksum()
	}
	if o.GSOSize > 0 && int(o.HdrLen) != p.Data {
		t.Errorf("headers of %d bytes: %+v", p.Data, o)
	}
	if !p.ChecksumOK() {
		t.Errorf("the checksum of a packet does not hold: %x", b[:min(len(b), 80)])
	}
	return &p
}

// SendLink implements Near.
func (s *soloist) SendLink(pkt []byte) {
	s.mu.Lock()
	s.raw = append(s.raw, pkt)
	s.mu.Unlock()
	s.Ring()
}

// Heard implements Tracker.
func (s *soloist) Heard(p wire.Position) {
	s.mu.Lock()
	s.said = append(s.said, p)
	s.mu.Unlock()
	s.Ring()
}

// Detach implements Tracker.
func (s *soloist) Detach(e End) {
	s.mu.Lock()
	s.detached = append(s.detached, e)
	s.mu.Unlock()
	s.Ring()
}

// frame is the next frame of the node.
func (s *soloist) frame() *wire.Frame {
	s.Helper()
	l := s.trunk.in
	s.Await(s.T, "frame", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.frames) > 0 || l.dead || l.finished
	})
	var f wire.Frame
	if err := s.trunk.receive(&f); err != nil {
		s.Fatalf("receive: %v", err)
	}
	f.Payload = bytes.Clone(f.Payload)
	return &f
}

// frames reads the node's frames until cond holds of the last.
func (s *soloist) frameUntil(what string, cond func(*wire.Frame) bool) *wire.Frame {
	s.Helper()
	for range 1000 {
		if f := s.frame(); cond(f) {
			return f
		}
	}
	s.Fatalf("no frame: %s", what)
	return nil
}

// answer sends a frame of the other gateway.
func (s *soloist) answer(f wire.Frame) {
	s.Helper()
	if err := s.trunk.Send(&f); err != nil {
		s.Fatal(err)
	}
}

// data sends a frame of the far database.
func (s *soloist) data(seq, ack, edge int, payload []byte) {
	s.Helper()
	s.answer(wire.Frame{Kind: wire.FrameData, Seq: f(seq), Ack: n(ack), Edge: n(edge), Payload: payload})
}

// packet is one of the near database.
func (s *soloist) packet(flags uint8, seq, ack, edge int, payload []byte, options ...byte) *wire.Packet {
	b := wiretest.TCP{
		Src: s.conn.Near, Dst: s.conn.Far, Seq: n(seq), Ack: f(ack), Window: uint16((edge - ack) >> soloScaleN), Flags: flags,
		Payload: payload, Options: options,
	}.Packet()
	var p wire.Packet
	if r := wire.Parse(&p, b); r != wire.OK {
		s.Fatalf("a packet of the test is %v", r)
	}
	return &p
}

// host gives the relay a segment of the near database, and reports whether it goes
// raw too.
func (s *soloist) host(flags uint8, seq, ack, edge int, payload []byte, options ...byte) bool {
	s.Helper()
	p := s.packet(flags, seq, ack, edge, payload, options...)
	raw, hold := s.relay.FromHost(p, false)
	if s.kept = hold; !s.holds {
		s.relay.Settle()
	}
	clear(p.B) // it keeps nothing of it
	return raw
}

// link gives the relay a segment of the far database that passes raw.
func (s *soloist) link(flags uint8, seq, ack, edge int, payload []byte, options ...byte) {
	b := wiretest.TCP{
		Src: s.conn.Far, Dst: s.conn.Near, Seq: f(seq), Ack: n(ack), Window: uint16((edge - ack) >> soloScaleF), Flags: flags,
		Payload: payload, Options: options,
	}.Packet()
	var p wire.Packet
	if r := wire.Parse(&p, b); r != wire.OK {
		s.Fatalf("a packet of the test is %v", r)
	}
	s.relay.FromLink(&p)
}

// segments is what the near database was written so far.
func (s *soloist) segments() []written {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.out)
}

// awaitSegment waits for one segment for which cond holds.
func (s *soloist) awaitSegment(what string, cond func(*written) bool) (found written) {
	s.Helper()
	s.Await(s.T, what, func() bool {
		for _, w := range s.segments() {
			if cond(&w) {
				found = w
				return true
			}
		}
		return false
	})
	return found
}

// awaitPayload waits until the near database has all bytes of the far one from 0 to
// end, in order or not, and returns them.
func (s *soloist) awaitPayload(end int) []byte {
	s.Helper()
	got, have := make([]byte, end), make([]bool, end)
	s.Await(s.T, "payload", func() bool {
		for _, w := range s.segments() {
			for i, b := range w.payload {
				if at := int(w.seq + uint32(i) - f(0)); at >= 0 && at < end {
					got[at], have[at] = b, true
				}
			}
		}
		return !slices.Contains(have, false)
	})
	return got
}

// awaitEnd waits until the relay has been released and its leg is gone.
func (s *soloist) awaitEnd(want End) {
	s.Helper()
	s.Await(s.T, "end", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.detached) > 0 && s.legs.Stats().Relayed == 0
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.detached) != 1 || s.detached[0].Cause != want.Cause || s.detached[0].Clean != want.Clean || s.detached[0].Never != want.Never {
		s.Errorf("ended by %+v, want %+v", s.detached, want)
	}
}

// silent fails when anything is written to the near database after mark segments. It
// is called when the relay has ended.
func (s *soloist) silent(mark int) {
	s.Helper()
	if out := s.segments(); len(out) > mark {
		s.Errorf("said after the end: %+v", out[mark:])
	}
}
