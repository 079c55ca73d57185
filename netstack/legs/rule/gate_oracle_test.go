package rule

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// span is a SACK block in numbers that don't wrap.
type span struct{ start, end int64 }

// state is where an oracle stood before it did something.
type state struct {
	op                                                                                     int
	farAck, farEdge, legAck, legEdge, toldAck, toldEdge, nearAck, nearEdge, fed, sent, una int64
}

// An oracle knows all that a gate has been told, in numbers that don't wrap, and
// judges by design.md's rule what the gate says. It is driven by bytes: each
// decides what happens next, or by how much.
type oracle struct {
	testing.TB
	in   []byte
	log  []state
	gate Gate

	now                 time.Duration
	nearBase, farBase   uint32
	iss                 uint32
	nearShift, farShift uint8

	farAck, farEdge   int64 // the most that the far database has said
	legAck, legEdge   int64
	fin               bool
	finAt             int64
	reach             int64
	nearEnd           int64
	fed, sent, una    int64
	nearAck, nearEdge int64

	toldAck, toldEdge int64
	toldAt            time.Duration
	shown             []span
}

func newOracle(tb testing.TB, in []byte) *oracle {
	o := &oracle{TB: tb, in: in, now: time.Hour, toldAt: -time.Hour}
	o.nearBase = uint32(o.byte())<<24 | uint32(o.byte())<<8
	o.farBase = uint32(o.byte())<<24 | uint32(o.byte())<<8
	o.iss = o.farBase*31 + 7
	o.nearShift, o.farShift = uint8(o.below(15)), uint8(o.below(15))
	inFlight := o.size() // bytes of the near database that passed raw
	raw := o.size()      // and of the far one
	c := wire.Connection{
		NearSaid: wire.Position{End: o.n(0), Ack: o.f(-raw), Scale: o.nearShift, MSS: uint16(1 + o.size()%1460)},
		FarSaid:  wire.Position{End: o.f(0), Ack: o.n(-inFlight), Scale: o.farShift},
		SACK:     o.below(8) > 0,
	}
	o.farAck, o.nearAck = -inFlight, -raw
	o.farEdge, o.nearEdge = o.farAck+o.window()<<o.farShift, o.nearAck+o.window()<<o.nearShift
	c.FarSaid.Edge, c.NearSaid.Edge = o.n(o.farEdge), o.f(o.nearEdge)
	o.toldAck, o.toldEdge = o.farAck, o.farEdge
	o.gate = NewGate(&c)
	o.gate.LegScale(0)
	o.gate.Begin(o.f(0), o.iss)
	o.gate.LegHas(o.n(0), 0)
	return o
}

func (o *oracle) n(x int64) uint32 { return o.nearBase + uint32(x) }
func (o *oracle) f(x int64) uint32 { return o.farBase + uint32(x) }

// byte is the next of those that drive the test, 0 after the last.
func (o *oracle) byte() byte {
	if len(o.in) == 0 {
		return 0
	}
	b := o.in[0]
	o.in = o.in[1:]
	return b
}

func (o *oracle) below(n int) int { return int(o.byte()) % n }

// size is a length: often small, sometimes that of a window.
func (o *oracle) size() int64 {
	b := int64(o.byte())
	return b & 31 << (b >> 5 * 2)
}

// window is what a window field may hold.
func (o *oracle) window() int64 { return min(o.size(), 65535) }

// around is a number near x.
func (o *oracle) around(x int64) int64 {
	switch o.below(4) {
	case 0:
		return x
	case 1:
		return x + 1
	case 2:
		return x - 1
	}
	return x + o.size() - o.size()
}

func (o *oracle) failf(format string, args ...any) {
	o.Helper()
	for _, l := range o.log {
		o.Logf("before: %+v", l)
	}
	o.Fatalf(format, args...)
}

func (o *oracle) received() int64 {
	if o.fin && o.legAck == o.finAt {
		return o.finAt + 1
	}
	return o.legAck
}

// most is the most that may be told, by the rule alone.
func (o *oracle) most() (ack, edge int64) {
	ack, edge = min(o.farAck, o.received()), min(o.farEdge, o.legEdge)
	if o.reach > 0 {
		edge = min(edge, o.farAck+o.reach)
	}
	return max(ack, o.toldAck), max(edge, o.toldEdge)
}

// holds reports whether an acknowledgement would look like reneging.
func (o *oracle) holds(ack int64) bool {
	for _, s := range o.shown {
		if s.start <= ack && ack < s.end {
			return true
		}
	}
	return false
}

// says judges a segment to the near database.
func (o *oracle) says(what string, s wire.Segment) {
	o.Helper()
	ack := o.toldAck + int64(int32(s.Ack-o.n(o.toldAck)))
	edge := ack + int64(s.Window)<<o.farShift
	maxAck, maxEdge := o.most()
	switch {
	case ack < o.toldAck:
		o.failf("%s: ack %d after %d", what, ack, o.toldAck)
	case ack > o.farAck:
		o.failf("%s: ack %d, but the far database has said %d", what, ack, o.farAck)
	case ack > maxAck:
		o.failf("%s: ack %d, but no more than %d may be told", what, ack, maxAck)
	case edge > o.farEdge && s.Window > 0:
		o.failf("%s: edge %d, but the far database has said %d", what, edge, o.farEdge)
	case edge > maxEdge && s.Window > 0:
		o.failf("%s: edge %d, but no more than %d may be told", what, edge, maxEdge)
	case ack != o.toldAck && o.holds(ack):
		o.failf("%s: ack %d is inside a block shown", what, ack)
	}
	if s.Flags&^(wire.ACK|wire.PSH|wire.FIN) != 0 || s.Flags&wire.ACK == 0 {
		o.failf("%s: flags %#x", what, s.Flags)
	}
}

// told notes that progress has been told, after which nothing new is left.
func (o *oracle) told(what string, s wire.Segment) {
	o.Helper()
	o.says(what, s)
	ack, edge := o.most()
	if o.holds(ack) {
		ack = o.toldAck
	}
	if s.Ack != o.n(ack) {
		o.failf("%s: ack %d, and %d may be told", what, o.toldAck+int64(int32(s.Ack-o.n(o.toldAck))), ack)
	}
	if want := min(max(edge-ack, 0)>>o.farShift, 65535); int64(s.Window) != want {
		o.failf("%s: window %d, and %d may be told", what, s.Window, want)
	}
	if ack != o.toldAck || edge != o.toldEdge {
		o.toldAck, o.toldEdge, o.toldAt = ack, edge, o.now
	}
	o.prune()
}

func (o *oracle) prune() {
	kept := o.shown[:0]
	for _, s := range o.shown {
		if o.toldAck < s.end {
			kept = append(kept, s)
		}
	}
	o.shown = kept
}

// due checks what Due says and returns it.
func (o *oracle) due() (wait time.Duration, news bool) {
	o.Helper()
	wait, news = o.gate.Due(o.now)
	ack, edge := o.most()
	if o.holds(ack) {
		ack = o.toldAck
	}
	if want := ack != o.toldAck || edge != o.toldEdge; news != want {
		o.failf("news %t, want %t", news, want)
	}
	var want time.Duration
	if since := o.now - o.toldAt; news && since < maxSpacing && o.nearEnd-ack > spacedMSS*int64(o.gate.nearMSS) {
		want = maxSpacing - since
	}
	if wait != want {
		o.failf("wait %v, want %v", wait, want)
	}
	return wait, news
}

// step does one thing.
func (o *oracle) step() {
	op := o.below(13)
	o.log = append(o.log, state{
		op: op, farAck: o.farAck, farEdge: o.farEdge, legAck: o.legAck, legEdge: o.legEdge, toldAck: o.toldAck, toldEdge: o.toldEdge,
		nearAck: o.nearAck, nearEdge: o.nearEdge, fed: o.fed, sent: o.sent, una: o.una,
	})
	switch op {
	case 0: // the far database says something, or something old comes late
		ack := min(o.around(o.farAck+o.size()), o.nearEnd)
		if o.fin && o.below(2) == 0 {
			ack = o.finAt + 1
		}
		edge := ack + o.window()<<o.farShift
		moved := o.gate.HeardFar(o.n(ack), o.n(edge))
		if want := ack > o.farAck || edge > o.farEdge; moved != want {
			o.failf("heard ack %d, edge %d: moved %t, want %t", ack, edge, moved, want)
		}
		o.farAck, o.farEdge = max(o.farAck, ack), max(o.farEdge, edge)
	case 1:
		o.hearNear(min(o.around(o.nearAck+o.size()), o.fed))
	case 2: // the near database sends, the leg receives some of it
		if !o.fin {
			o.nearEnd += o.size()
			o.gate.SentNear(o.n(o.nearEnd))
		}
		o.leg(max(0, min(o.nearEnd, o.legAck+o.size())))
	case 3:
		n := o.size()
		o.gate.Feed(int(n))
		o.fed += n
	case 4, 5:
		o.outPayload()
	case 6:
		o.outAck()
	case 7:
		o.due()
		s := o.gate.Tell(o.now)
		if want := max(o.sent, o.nearAck); s.Seq != o.f(want) || s.Flags != wire.ACK {
			o.failf("tell: seq %d, want %d", int32(s.Seq-o.f(0)), want)
		}
		o.told("tell", s)
	case 8:
		o.now += time.Duration(o.below(8)) * time.Millisecond
		o.due()
	case 9:
		o.reach = o.size() << 4
		o.gate.SetReach(uint32(o.reach))
	case 10:
		if !o.fin && o.below(4) == 0 {
			o.fin, o.finAt = true, o.nearEnd
			o.gate.FinNear(o.n(o.finAt))
		}
		s := o.gate.Fin(o.now)
		if s.Seq != o.f(o.fed) || s.Flags != wire.FIN|wire.ACK {
			o.failf("fin: %+v", s)
		}
		o.told("fin", s)
	case 11: // a segment of the far database passes raw
		ack := min(max(o.around(o.farAck), o.farAck), o.nearEnd)
		edge := ack + o.window()<<o.farShift
		o.farAck, o.farEdge = max(o.farAck, ack), max(o.farEdge, edge)
		o.toldAck, o.toldEdge = max(o.toldAck, ack), max(o.toldEdge, edge)
		o.gate.HeardFar(o.n(ack), o.n(edge))
		o.gate.Told(o.n(ack), o.n(edge))
		if len(o.shown) < maxShown && o.below(2) == 0 {
			at := o.around(o.toldAck)
			b := span{at, at + o.size()}
			o.gate.Shown([]wire.Block{{Start: o.n(b.start), End: o.n(b.end)}})
			if b.start < b.end && o.toldAck < b.end {
				o.shown = append(o.shown, b)
			}
		}
	case 12:
		o.inward()
	}
}

func (o *oracle) leg(ack int64) {
	w := o.size() * 100
	o.gate.LegHas(o.n(ack), uint16(min(w, 65535)))
	o.legAck, o.legEdge = max(o.legAck, ack), max(o.legEdge, ack+min(w, 65535))
}

func (o *oracle) hearNear(ack int64) {
	edge := ack + o.window()<<o.nearShift
	moved := o.gate.HeardNear(o.f(ack), o.f(edge))
	if want := ack > o.nearAck || edge > o.nearEdge; moved != want {
		o.failf("near ack %d, edge %d: moved %t, want %t", ack, edge, moved, want)
	}
	o.nearAck, o.nearEdge = max(o.nearAck, ack), max(o.nearEdge, edge)
}

// outPayload is a segment of the leg with payload, which may be nonsense.
func (o *oracle) outPayload() {
	starts := []int64{o.una, o.sent, o.una - 1, 0}
	seq := o.around(starts[o.below(len(starts))])
	n := max(1, o.size())
	if o.below(2) == 0 {
		n = max(1, o.fed-seq)
	}
	if n > 1<<20 {
		return
	}
	flags := []uint8{wire.ACK, wire.ACK | wire.PSH, wire.ACK | wire.FIN, wire.RST | wire.ACK, wire.SYN}[max(o.below(32)-27, 0)]
	wait, news := o.due()
	s := wire.Segment{Seq: o.iss + 1 + uint32(seq), Ack: o.n(o.legAck), Flags: flags}
	ok := o.gate.Out(o.now, &s, int(n))
	want := flags&^(wire.ACK|wire.PSH) == 0 && seq >= 0 && seq+n <= o.fed && seq+n > o.una
	if ok != want {
		o.failf("payload %d+%d, flags %#x: %t, want %t", seq, n, flags, ok, want)
	}
	if !ok {
		return
	}
	if s.Seq != o.f(seq) || s.Flags != flags {
		o.failf("payload %d+%d: %+v", seq, n, s)
	}
	o.sent = max(o.sent, seq+n)
	if news && wait == 0 {
		o.told("payload", s)
		return
	}
	o.says("payload", s)
	if s.Ack != o.n(o.toldAck) {
		o.failf("payload tells too early")
	}
}

// outAck is an acknowledgement of the leg.
func (o *oracle) outAck() {
	o.leg(max(o.legAck, min(o.nearEnd, o.legAck+o.size())))
	wait, news := o.due()
	seq := o.sent
	s := wire.Segment{Seq: o.iss + 1 + uint32(seq), Ack: o.n(o.legAck), Flags: wire.ACK}
	ok := o.gate.Out(o.now, &s, 0)
	if ok != (news && wait == 0) {
		o.failf("ack: %t, news %t in %v", ok, news, wait)
	}
	if !ok {
		return
	}
	if want := max(o.sent, o.nearAck); s.Seq != o.f(want) {
		o.failf("ack: seq %d, want %d", int32(s.Seq-o.f(0)), want)
	}
	o.told("ack", s)
}

// inward is a segment of the near database for the leg.
func (o *oracle) inward() {
	ack := min(o.around(o.una+o.size()), o.fed)
	window := int64(o.below(256)) << o.below(8)
	s := wire.Segment{Ack: o.f(ack), Window: uint16(window)}
	window = int64(s.Window)
	block := wire.Block{Start: o.f(ack + 1), End: o.f(ack + 1 + o.size())}
	keep := o.gate.In(&s, []wire.Block{block})
	got := int64(int32(s.Ack - (o.iss + 1)))
	if want := min(max(ack, o.una), o.sent); got != want {
		o.failf("in: ack %d becomes %d, want %d", ack, got, want)
	}
	o.una = got
	edge := ack + window<<o.nearShift
	if want := min(max(edge-got, 0)>>o.nearShift, 65535); int64(s.Window) != want {
		o.failf("in: window %d, want %d", s.Window, want)
	}
	if start, end := ack+1, ack+1+int64(int32(block.End-block.Start)); keep == 1 && (start <= got || end > o.sent || start == end) {
		o.failf("in: block %d-%d, acknowledged %d, sent %d", start, end, got, o.sent)
	}
}

func (o *oracle) run() {
	for len(o.in) > 0 {
		o.step()
	}
}

// TestGateOracle holds the gate against the rule through random lives.
func TestGateOracle(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 300
	}
	for seed := range n {
		in := make([]byte, 100+seed%1500)
		rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(in)
		newOracle(t, in).run()
	}
}

func FuzzGate(f *testing.F) {
	for seed := range 8 {
		in := make([]byte, 400)
		rand.NewChaCha8([32]byte{byte(seed), 99}).Read(in)
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) { newOracle(t, in).run() })
}
