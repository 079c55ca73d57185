package rule

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// bases are the initial numbers of both databases under which each rule is tried:
// plain ones, and ones at which a number passes 2^32 or 2^31 within the test.
var bases = []struct{ near, far uint32 }{
	{1000, 500000}, {1<<32 - 900, 1<<31 - 900}, {1<<31 - 1500, 1<<32 - 3}, {1<<32 - 40000, 1<<32 - 40000},
}

// A bench is a gate in which the near database has said all up to 0 and the far one
// all up to 0: numbers are relative to where the relay begins, n in the near
// database's space and f in the far one's. 10,000 bytes of the near database are
// under way, and the leg has none of them yet.
type bench struct {
	*testing.T
	gate      Gate
	now       time.Duration
	nearBase  uint32
	farBase   uint32
	legISS    uint32
	nearScale uint8
}

const (
	benchEdge = 64000   // how far either database has opened its window, by both scales
	benchLeg  = 1 << 20 // and the leg
)

// everywhere runs a test with numbers that wrap in all places. change alters what
// is known of the connection.
func everywhere(t *testing.T, test func(b *bench), change ...func(*wire.Connection)) {
	for _, base := range bases {
		t.Run(fmt.Sprintf("%#x-%#x", base.near, base.far), func(t *testing.T) {
			b := &bench{T: t, now: time.Hour, nearBase: base.near, farBase: base.far, legISS: base.far ^ 0xa5a5a5a5}
			c := wire.Connection{
				NearSaid: wire.Position{End: b.n(0), Ack: b.f(0), Edge: b.f(benchEdge), Scale: 3, MSS: 100},
				FarSaid:  wire.Position{End: b.f(0), Ack: b.n(0), Edge: b.n(benchEdge), Scale: 5, MSS: 100},
				SACK:     true,
			}
			for _, f := range change {
				f(&c)
			}
			b.nearScale = c.NearSaid.Scale
			b.gate = NewGate(&c)
			b.gate.LegScale(8)
			b.gate.Begin(b.f(0), b.legISS)
			b.legHas(0)
			b.sent(10000)
			test(b)
		})
	}
}

func (b *bench) n(x int) uint32 { return b.nearBase + uint32(x) }
func (b *bench) f(x int) uint32 { return b.farBase + uint32(x) }

// leg is a number of the far database as the leg has it.
func (b *bench) leg(x int) uint32 { return b.legISS + 1 + uint32(x) }

func (b *bench) legHas(ack int)               { b.gate.LegHas(b.n(ack), benchLeg>>8) }
func (b *bench) sent(end int)                 { b.gate.SentNear(b.n(end)) }
func (b *bench) farSays(ack, edge int)        { b.gate.HeardFar(b.n(ack), b.n(edge)) }
func (b *bench) later(d time.Duration)        { b.now += d }
func (b *bench) blocks(x ...int) []wire.Block { return blocksAt(b.nearBase, x...) }

func blocksAt(base uint32, x ...int) (out []wire.Block) {
	for i := 0; i < len(x); i += 2 {
		out = append(out, wire.Block{Start: base + uint32(x[i]), End: base + uint32(x[i+1])})
	}
	return out
}

// wantTold checks what the near database is told, if it is told now.
func (b *bench) wantTold(ack, edge int) {
	b.Helper()
	b.later(maxSpacing)
	b.wantSays(b.gate.Tell(b.now), ack, edge)
}

// wantSays checks acknowledgement and window of a segment for the near database.
func (b *bench) wantSays(s wire.Segment, ack, edge int) {
	b.Helper()
	want := uint16(max(edge-ack, 0) >> 5)
	if s.Ack != b.n(ack) || s.Window != want {
		b.Errorf("tells ack %d, window %d (<<5); want %d, %d", int32(s.Ack-b.n(0)), s.Window, ack, want)
	}
}

// out gives the gate a segment of the leg, whose numbers are relative.
func (b *bench) out(seq, ack, n int, flags uint8) (s wire.Segment, ok bool) {
	b.gate.LegHas(b.n(ack), benchLeg>>8)
	s = wire.Segment{Seq: b.leg(seq), Ack: b.n(ack), Window: benchLeg >> 8, Flags: flags}
	ok = b.gate.Out(b.now, &s, n)
	return s, ok
}

// The acknowledgement is the lesser of what the far database has acknowledged and
// what the leg has received.
func TestGateAck(t *testing.T) {
	for _, c := range []struct{ far, leg, want int }{
		{0, 0, 0}, {0, 5000, 0}, {5000, 0, 0}, {3000, 5000, 3000}, {5000, 3000, 3000}, {5000, 5000, 5000}, {10000, 10000, 10000},
	} {
		t.Run(fmt.Sprintf("far %d leg %d", c.far, c.leg), func(t *testing.T) {
			everywhere(t, func(b *bench) {
				b.farSays(c.far, benchEdge)
				b.legHas(c.leg)
				b.wantTold(c.want, benchEdge)
			})
		})
	}
}

// What has been told is never taken back, however old what comes then.
func TestGateNeverBack(t *testing.T) {
	everywhere(t, func(b *bench) {
		b.legHas(6000)
		b.farSays(5000, benchEdge+4096)
		b.wantTold(5000, benchEdge+4096)
		if b.gate.HeardFar(b.n(2000), b.n(benchEdge)) {
			b.Error("an old acknowledgement is news")
		}
		b.legHas(1000)
		b.wantTold(5000, benchEdge+4096)
		b.farSays(9000, 0)
		b.wantTold(6000, benchEdge+4096)
	})
}

// The right edge is the least of what the far database, the leg and the reach allow.
func TestGateEdge(t *testing.T) {
	everywhere(t, func(b *bench) {
		b.legHas(1000)
		b.farSays(1000, 1000+benchLeg+99999)
		b.wantTold(1000, 1000+benchLeg)
		b.legHas(5000)
		b.wantTold(1000, 5000+benchLeg)
		b.legHas(1 << 18)
		b.wantTold(1000, 1000+benchLeg+99999)
	})
}

// A far window of zero is told as one, and told open again.
func TestGateZeroWindow(t *testing.T) {
	everywhere(t, func(b *bench) {
		b.sent(benchEdge)
		b.legHas(benchEdge)
		b.farSays(benchEdge, benchEdge)
		b.wantTold(benchEdge, benchEdge)
		if s := b.gate.Tell(b.now); s.Window != 0 {
			b.Errorf("window %d", s.Window)
		}
		b.farSays(benchEdge, 2*benchEdge)
		if wait, news := b.gate.Due(b.now); !news || wait != 0 {
			b.Errorf("news %t in %v", news, wait)
		}
		b.wantTold(benchEdge, 2*benchEdge)
	})
}

// The window field is rounded down, so that the edge it tells is none beyond the
// far one's, and it holds no more than 16 bits.
func TestGateWindowField(t *testing.T) {
	for _, c := range []struct {
		scale     uint8
		ack, edge int
		want      uint16
		leavesOut int
	}{
		{0, 1000, 1000 + 65535, 65535, 0},
		{0, 1000, 1000 + 70000, 65535, 70000 - 65535},
		{5, 1001, 1000 + 64, 1, 31},
		{5, 1000, 1000 + 31, 0, 31},
		{14, 0, 1 << 20, 64, 0},
		{14, 1, 1 << 20, 63, 1<<14 - 1},
	} {
		t.Run(fmt.Sprintf("scale %d %d-%d", c.scale, c.ack, c.edge), func(t *testing.T) {
			everywhere(t, func(b *bench) {
				b.legHas(c.ack)
				b.farSays(c.ack, c.edge)
				s := b.gate.Tell(b.now)
				if s.Window != c.want {
					b.Fatalf("window %d, want %d", s.Window, c.want)
				}
				edge := s.Ack + uint32(s.Window)<<c.scale
				if left := int32(b.n(c.edge) - edge); left != int32(c.leavesOut) {
					b.Errorf("%d bytes left out, want %d", left, c.leavesOut)
				}
			}, func(c2 *wire.Connection) {
				c2.FarSaid.Scale, c2.FarSaid.Edge = c.scale, c2.FarSaid.Ack
			})
		})
	}
}

// The reach bounds the edge; what has been told stays.
func TestGateReach(t *testing.T) {
	everywhere(t, func(b *bench) {
		b.legHas(1000)
		b.gate.SetReach(benchEdge + 32000)
		b.farSays(1000, 1000+500000)
		b.wantTold(1000, 1000+benchEdge+32000)
		b.gate.SetReach(3200)
		b.wantTold(1000, 1000+benchEdge+32000)
		b.legHas(9000)
		b.farSays(9000, 600000)
		b.wantTold(9000, 1000+benchEdge+32000)
		b.gate.SetReach(0)
		b.wantTold(9000, 600000)
	})
}

// While much is outstanding, progress is told every 5 ms; at most 16 segments less
// than that never wait.
func TestGateSpacing(t *testing.T) {
	const much = 16 * 100 // bytes, by the near MSS
	everywhere(t, func(b *bench) {
		step := func(ack int) (time.Duration, bool) {
			b.legHas(ack)
			b.farSays(ack, benchEdge)
			return b.gate.Due(b.now)
		}
		if wait, news := b.gate.Due(b.now); news || wait != 0 {
			b.Errorf("without anything new: %v, %t", wait, news)
		}
		if wait, news := step(1000); !news || wait != 0 {
			b.Errorf("the first: %v, %t", wait, news)
		}
		b.gate.Tell(b.now)
		b.later(2 * time.Millisecond)
		if wait, news := step(2000); !news || wait != 3*time.Millisecond {
			b.Errorf("2 ms later: %v, %t", wait, news)
		}
		// A segment with payload repeats what was told.
		b.gate.Feed(50)
		if s, ok := b.out(0, 2000, 50, wire.ACK); !ok || s.Ack != b.n(1000) {
			b.Errorf("payload meanwhile: %t, ack %d", ok, s.Ack-b.n(0))
		}
		// An acknowledgement of the leg's own does not go out at all.
		if _, ok := b.out(50, 2000, 0, wire.ACK); ok {
			b.Error("an acknowledgement meanwhile")
		}
		if wait, news := step(10000 - much - 1); !news || wait != 3*time.Millisecond {
			b.Errorf("17 segments outstanding: %v, %t", wait, news)
		}
		if wait, news := step(10000 - much); !news || wait != 0 {
			b.Errorf("16 segments outstanding: %v, %t", wait, news)
		}
		if s, ok := b.out(50, 10000-much, 0, wire.ACK); !ok || s.Ack != b.n(10000-much) {
			b.Errorf("an acknowledgement then: %t, ack %d", ok, s.Ack-b.n(0))
		}
		b.later(maxSpacing)
		b.sent(50000)
		if wait, news := step(10000); !news || wait != 0 {
			b.Errorf("after 5 ms: %v, %t", wait, news)
		}
	})
}

// A segment with payload tells progress when it is time.
func TestGatePayloadTells(t *testing.T) {
	everywhere(t, func(b *bench) {
		b.gate.Feed(500)
		b.legHas(4000)
		b.farSays(4000, benchEdge+320)
		s, ok := b.out(0, 4000, 500, wire.ACK|wire.PSH)
		if !ok || s.Seq != b.f(0) || s.Flags != wire.ACK|wire.PSH {
			b.Fatalf("%t, %+v", ok, s)
		}
		b.wantSays(s, 4000, benchEdge+320)
		if _, news := b.gate.Due(b.now); news {
			b.Error("it is still news")
		}
	})
}

// More blocks than are remembered hold nothing, until there is room again.
func TestGateSACKMany(t *testing.T) {
	everywhere(t, func(b *bench) {
		for i := range maxShown + 1 {
			b.gate.Shown(b.blocks(100+200*i, 200+200*i))
		}
		last := 100 + 200*maxShown
		b.legHas(9000)
		b.farSays(last-150, benchEdge) // in the last one that is remembered
		b.wantTold(0, benchEdge)
		b.farSays(last+50, benchEdge) // in the one too many
		b.wantTold(last+50, benchEdge)
		b.gate.Shown(b.blocks(8000, 8500))
		b.farSays(8200, benchEdge)
		b.wantTold(last+50, benchEdge)
	})
}

// An acknowledgement inside a block that has been shown, its start included, looks
// like reneging. It is held at what was told until it leaves the block behind.
func TestGateReneging(t *testing.T) {
	for _, c := range []struct {
		name      string
		far, want int
	}{
		{"before the block", 2999, 2999}, {"its start", 3000, 0}, {"inside", 3500, 0}, {"its last byte", 3999, 0}, {"its end", 4000, 4000},
		{"in the second", 6500, 0}, {"behind both", 7000, 7000},
	} {
		t.Run(c.name, func(t *testing.T) {
			everywhere(t, func(b *bench) {
				b.gate.Shown(b.blocks(3000, 4000, 6000, 7000))
				b.legHas(8000)
				b.farSays(c.far, benchEdge+3200)
				b.wantTold(c.want, benchEdge+3200) // the edge is not held
			})
		})
	}
}

// A block that a later SACK reports shorter, or in parts, still counts as reported whole.
func TestGateRenegingGrown(t *testing.T) {
	everywhere(t, func(b *bench) {
		for _, blocks := range [][]wire.Block{b.blocks(3000, 5000), b.blocks(2500, 4000), b.blocks(7000, 8000), b.blocks(4500, 7500)} {
			b.gate.Shown(blocks)
		}
		b.legHas(9000)
		for _, ack := range []int{2500, 2999, 4000, 4999, 6000, 7999} {
			b.farSays(ack, benchEdge)
			b.wantTold(0, benchEdge)
		}
		b.farSays(8000, benchEdge)
		b.wantTold(8000, benchEdge)
	})
}

// Blocks that passed in segments of the far database itself count as much.
func TestGateRenegingRaw(t *testing.T) {
	everywhere(t, func(b *bench) {
		b.gate.Shown(b.blocks(3000, 4000, 5000, 5000))
		b.legHas(8000)
		b.farSays(3500, benchEdge)
		b.wantTold(0, benchEdge)
		b.farSays(5000, benchEdge)
		b.wantTold(5000, benchEdge)
		b.gate.Shown(b.blocks(1000, 4000)) // long acknowledged
		b.farSays(6000, benchEdge)
		b.wantTold(6000, benchEdge)
	})
}

// What passed raw has been told.
func TestGateTold(t *testing.T) {
	everywhere(t, func(b *bench) {
		b.farSays(4000, benchEdge+640)
		b.gate.Told(b.n(4000), b.n(benchEdge+640))
		if _, news := b.gate.Due(b.now); news {
			b.Error("news for a database that knows it")
		}
		b.wantTold(4000, benchEdge+640) // though the leg has nothing of it
	})
}

// Only what the far database has said is payload, and only what is new can be:
// netstack's zero-window probe carries an invented byte, one below what has been
// acknowledged.
func TestGatePayload(t *testing.T) {
	for _, c := range []struct {
		name   string
		seq, n int
		ok     bool
	}{
		{"all", 0, 1000, true}, {"the rest", 400, 600, true}, {"partly acknowledged", 100, 500, true},
		{"a byte too many", 0, 1001, false}, {"beyond", 1000, 1, false}, {"far beyond", 5000, 10, false},
		{"before the mark", -1, 1, false}, {"across the mark", -1, 2, false},
		{"a probe of a closed window", 299, 1, false}, {"acknowledged", 100, 200, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			everywhere(t, func(b *bench) {
				b.gate.Feed(1000)
				if s, ok := b.out(0, 0, 1000, wire.ACK); !ok || s.Seq != b.f(0) {
					b.Fatalf("the first segment: %t, %+v", ok, s)
				}
				in := wire.Segment{Ack: b.f(300)}
				b.gate.HeardNear(b.f(300), b.f(300))
				b.gate.In(&in, nil)
				s, ok := b.out(c.seq, 0, c.n, wire.ACK|wire.PSH)
				if ok != c.ok || ok && s.Seq != b.f(c.seq) {
					b.Errorf("%t, %+v", ok, s)
				}
			})
		})
	}
}

// A probe with nothing acknowledged yet carries the byte before the mark.
func TestGateProbeAtFirst(t *testing.T) {
	everywhere(t, func(b *bench) {
		b.gate.Feed(1000)
		if _, ok := b.out(-1, 0, 1, wire.ACK); ok {
			b.Error("it goes out")
		}
	})
}

// Neither SYN nor FIN nor RST of a leg goes out, nor flags that mean anything else.
func TestGateFlags(t *testing.T) {
	for _, c := range []struct {
		flags, want uint8
		ok          bool
	}{
		{wire.ACK, wire.ACK, true}, {wire.ACK | wire.PSH, wire.ACK | wire.PSH, true}, {wire.PSH, wire.ACK | wire.PSH, true}, {wire.ACK | wire.URG | wire.ECE | wire.CWR, wire.ACK, true},
		{wire.SYN, 0, false}, {wire.SYN | wire.ACK, 0, false}, {wire.FIN | wire.ACK, 0, false}, {wire.FIN | wire.PSH | wire.ACK, 0, false}, {wire.RST, 0, false}, {wire.RST | wire.ACK, 0, false},
	} {
		everywhere(t, func(b *bench) {
			b.gate.Feed(10)
			b.legHas(100)
			b.farSays(100, benchEdge)
			for _, n := range []int{10, 0} {
				s, ok := b.out(0, 100, n, c.flags)
				want := c.want
				if n == 0 {
					want &^= wire.PSH // it is set again
					b.farSays(200, benchEdge)
					b.later(maxSpacing)
					b.legHas(200)
					s, ok = b.out(10, 200, n, c.flags)
				}
				if ok != c.ok || ok && s.Flags != want {
					b.Errorf("flags %#x, %d bytes: %t, %#x", c.flags, n, ok, s.Flags)
				}
			}
		})
	}
}

// An acknowledgement without payload has the highest sequence number that the near
// database can know: below what it has acknowledged it would be dropped.
func TestGatePureAckSeq(t *testing.T) {
	everywhere(t, func(b *bench) {
		want := func(what string, x int) {
			b.Helper()
			if s := b.gate.Tell(b.now); s.Seq != b.f(x) || s.Flags != wire.ACK {
				b.Errorf("%s: seq %d, flags %#x; want %d", what, int32(s.Seq-b.f(0)), s.Flags, x)
			}
		}
		want("at first", 0)
		b.gate.Feed(1000)
		want("fed", 0)
		b.out(0, 0, 600, wire.ACK)
		want("sent", 600)
		b.out(0, 0, 300, wire.ACK)
		want("sent again", 600)
		b.gate.HeardNear(b.f(800), b.f(benchEdge))
		want("acknowledged what went raw", 800)
		b.out(600, 0, 400, wire.ACK)
		want("sent the rest", 1000)
	})
}

// A database that acknowledges bytes from before the relay is told with what it
// knows.
func TestGatePureAckSeqBelowMark(t *testing.T) {
	everywhere(t, func(b *bench) {
		if s := b.gate.Tell(b.now); s.Seq != b.f(0) {
			b.Errorf("seq %d", int32(s.Seq-b.f(0)))
		}
	}, func(c *wire.Connection) { c.NearSaid.Ack -= 5000 })
}

// The near database's FIN, which the leg never sees, counts as received with the
// last byte before it.
func TestGateFinNear(t *testing.T) {
	everywhere(t, func(b *bench) {
		b.gate.FinNear(b.n(10000))
		b.farSays(9000, benchEdge)
		b.legHas(9000)
		b.wantTold(9000, benchEdge)
		b.farSays(10001, benchEdge)
		if got := b.gate.Received(); got != b.n(9000) {
			b.Errorf("received %d", got-b.n(0))
		}
		b.wantTold(9000, benchEdge)
		b.legHas(10000)
		if got := b.gate.Received(); got != b.n(10001) {
			b.Errorf("received %d", got-b.n(0))
		}
		b.wantTold(10001, benchEdge)
	})
}

// The far database's FIN follows its last byte, and tells what there is to tell.
func TestGateFin(t *testing.T) {
	everywhere(t, func(b *bench) {
		b.gate.Feed(700)
		b.out(0, 0, 700, wire.ACK)
		b.legHas(300)
		b.farSays(300, benchEdge+3200)
		s := b.gate.Fin(b.now)
		if s.Seq != b.f(700) || s.Flags != wire.FIN|wire.ACK {
			b.Errorf("%+v", s)
		}
		b.wantSays(s, 300, benchEdge+3200)
	})
}

// What the near database acknowledges is brought into the range that the leg has
// sent: beyond it, netstack would take it for nonsense.
func TestGateIn(t *testing.T) {
	const scale = 3
	for _, c := range []struct {
		name      string
		ack, edge int
		want      int // the acknowledgement that the leg sees
	}{
		{"in the middle", 600, 8600, 600}, {"all", 1000, 9000, 1000}, {"again", 200, 9000, 200},
		{"before what the leg knows", 100, 8100, 200}, {"before the mark", -4000, 4000, 200},
		{"what went raw", 1500, 9500, 1000}, {"no window", 600, 600, 600}, {"no window before the mark", -4000, -4000, 200},
		{"the largest window", 600, 600 + 65535<<scale, 600}, {"the largest, with what went raw", 1500, 1500 + 65535<<scale, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			everywhere(t, func(b *bench) {
				b.gate.Feed(2000)
				b.out(0, 0, 1000, wire.ACK)
				first := wire.Segment{Ack: b.f(200)}
				b.gate.In(&first, nil)
				s := wire.Segment{Ack: b.f(c.ack), Window: uint16((c.edge - c.ack) >> scale)}
				b.gate.In(&s, nil)
				if s.Ack != b.leg(c.want) {
					b.Errorf("ack %d, want %d", int32(s.Ack-b.leg(0)), c.want)
				}
				window := min(max(c.edge-c.want, 0)>>scale, 65535)
				if int(s.Window) != window {
					b.Errorf("window %d, want %d", s.Window, window)
				}
			})
		})
	}
}

func TestGateInSACK(t *testing.T) {
	everywhere(t, func(b *bench) {
		b.gate.Feed(2000)
		b.out(0, 0, 1000, wire.ACK)
		blocks := blocksAt(b.farBase, 400, 500, 200, 300, 700, 1000, 900, 1100, -500, -400, 600, 600, 800, 700)
		s := wire.Segment{Ack: b.f(200)}
		keep := b.gate.In(&s, blocks)
		want := []wire.Block{{Start: b.leg(400), End: b.leg(500)}, {Start: b.leg(700), End: b.leg(1000)}}
		if !slices.Equal(blocks[:keep], want) {
			b.Errorf("%v, want %v", blocks[:keep], want)
		}
	})
}

// HeardNear tells whether there is something to pass on.
func TestGateHeardNear(t *testing.T) {
	everywhere(t, func(b *bench) {
		for _, c := range []struct {
			ack, edge int
			moved     bool
		}{
			{0, benchEdge, false}, {100, benchEdge, true}, {50, benchEdge, false}, {50, benchEdge + 8, true}, {100, benchEdge + 8, false}, {101, 0, true},
		} {
			if got := b.gate.HeardNear(b.f(c.ack), b.f(c.edge)); got != c.moved {
				b.Errorf("%+v: moved %t", c, got)
			}
		}
		if b.gate.NearAck() != b.f(101) || b.gate.NearEdge() != b.f(benchEdge+8) {
			b.Errorf("%d, %d", b.gate.NearAck()-b.f(0), b.gate.NearEdge()-b.f(0))
		}
	})
}

// A relay may last for any number of bytes, in one direction alone: where it began is
// forgotten before it looks like what is yet to come.
func TestGateLasts(t *testing.T) {
	everywhere(t, func(b *bench) {
		const step = 1 << 20
		for at := 0; at < 5<<30; at += step {
			b.gate.Feed(step)
			s := wire.Segment{Seq: b.leg(at), Ack: b.n(0), Flags: wire.ACK}
			if !b.gate.Out(b.now, &s, step) || s.Seq != b.f(at) {
				b.Fatalf("after %d bytes: %+v", at, s)
			}
			if wire.SeqLess(b.f(at+step), b.gate.Mark()) {
				b.Fatalf("after %d bytes the mark is above", at)
			}
			b.gate.HeardNear(b.f(at+step), b.f(at+step+benchEdge))
			in := wire.Segment{Ack: b.f(at + step)}
			if b.gate.In(&in, nil); in.Ack != b.leg(at+step) {
				b.Fatalf("after %d bytes: %+v", at, in)
			}
		}
	})
}

func TestGateLastsOut(t *testing.T) {
	everywhere(t, func(b *bench) {
		const step = 1 << 20
		for at := 10000; at < 5<<30; at += step {
			b.sent(at)
			b.legHas(at)
			b.farSays(at, at+benchEdge)
			if !wire.SeqLess(b.gate.NearMark(), b.n(at)) {
				b.Fatalf("after %d bytes the mark is above", at)
			}
			b.wantTold(at, at+benchEdge)
			if b.Failed() {
				b.Fatalf("after %d bytes", at)
			}
		}
	})
}
