package rule

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// A witness is a checker that has heard 1000 bytes of the far database, from f(0) on,
// the acknowledgement n(500) and the edge n(6400).
type witness struct {
	*testing.T
	k          Checker
	near, far  uint32
	said       []byte
	legitimate int
}

func witnesses(t *testing.T, test func(w *witness)) {
	for _, base := range bases {
		t.Run(fmt.Sprintf("%#x-%#x", base.near, base.far), func(t *testing.T) {
			w := &witness{T: t, near: base.near, far: base.far, said: wiretest.Pattern(1000)}
			w.k = NewChecker(&wire.Connection{
				NearSaid: wire.Position{End: w.n(0), Ack: w.f(0), Edge: w.f(64000)},
				FarSaid:  wire.Position{End: w.f(0), Ack: w.n(0), Edge: w.n(3200), Scale: 5},
				SACK:     true,
			})
			w.k.Begin(w.f(0))
			w.k.Heard(w.said)
			w.k.HeardFar(w.n(500), w.n(6400))
			test(w)
		})
	}
}

func (w *witness) n(x int) uint32 { return w.near + uint32(x) }
func (w *witness) f(x int) uint32 { return w.far + uint32(x) }

// segment is a good one at f(seq) with the bytes up to f(end).
func (w *witness) segment(seq, end int) (wire.Segment, [][]byte) {
	s := wire.Segment{Seq: w.f(seq), Ack: w.n(500), Window: (6400 - 500) >> 5, Flags: wire.ACK}
	if seq == end {
		return s, nil
	}
	mid := (seq + end) / 2
	return s, [][]byte{w.said[seq:mid], nil, w.said[mid:end]}
}

func (w *witness) want(what string, s wire.Segment, payload [][]byte, want Violation) {
	w.Helper()
	if got := w.k.Segment(&s, payload); got != want {
		w.Errorf("%s: %v, want %v", what, got, want)
	}
}

// Each way to break the rule is found, and what is at its limit is none.
func TestCheckerFinds(t *testing.T) {
	for _, c := range []struct {
		name     string
		seq, end int
		change   func(w *witness, s *wire.Segment, payload [][]byte)
		want     Violation
	}{
		{"all bytes", 0, 1000, nil, NoViolation},
		{"some", 300, 301, nil, NoViolation},
		{"no bytes", 1000, 1000, nil, NoViolation},
		{"an old number", 0, 0, nil, NoViolation},
		{"push", 0, 9, func(_ *witness, s *wire.Segment, _ [][]byte) { s.Flags |= wire.PSH }, NoViolation},
		{"no ack", 0, 9, func(_ *witness, s *wire.Segment, _ [][]byte) { s.Flags = wire.PSH }, ViolationFlags},
		{"syn", 0, 0, func(_ *witness, s *wire.Segment, _ [][]byte) { s.Flags = wire.SYN | wire.ACK }, ViolationFlags},
		{"rst", 0, 0, func(_ *witness, s *wire.Segment, _ [][]byte) { s.Flags = wire.RST | wire.ACK }, ViolationFlags},
		{"urgent", 0, 9, func(_ *witness, s *wire.Segment, _ [][]byte) { s.Flags |= wire.URG }, ViolationFlags},
		{"an older ack", 0, 9, func(w *witness, s *wire.Segment, _ [][]byte) { s.Ack = w.n(499) }, NoViolation},
		{"an ack too high", 0, 9, func(w *witness, s *wire.Segment, _ [][]byte) { s.Ack, s.Window = w.n(501), 0 }, ViolationAck},
		{"an edge too far", 0, 9, func(w *witness, s *wire.Segment, _ [][]byte) { s.Window++ }, ViolationEdge},
		{"an edge one byte too far", 0, 9, func(w *witness, s *wire.Segment, _ [][]byte) {
			w.k = NewChecker(&wire.Connection{FarSaid: wire.Position{Ack: w.n(500), Edge: w.n(500 + 32*10 - 1), Scale: 5}})
			s.Window = 10
		}, ViolationEdge},
		{"a closed window", 0, 9, func(w *witness, s *wire.Segment, _ [][]byte) { s.Window = 0 }, NoViolation},
		{"sack", 0, 0, func(w *witness, s *wire.Segment, _ [][]byte) {
			s.Options = wire.AppendSACK(nil, []wire.Block{{Start: 1, End: 2}, {Start: 3, End: 4}})
		}, NoViolation},
		{"timestamps", 0, 0, func(w *witness, s *wire.Segment, _ [][]byte) { s.Options = []byte{1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0} }, ViolationOptions},
		{"sack of a wrong length", 0, 0, func(w *witness, s *wire.Segment, _ [][]byte) { s.Options = []byte{5, 2, 1, 1} }, ViolationOptions},
		{"sack cut off", 0, 0, func(w *witness, s *wire.Segment, _ [][]byte) { s.Options = []byte{1, 1, 5, 10} }, ViolationOptions},
		{"a number too high", 1001, 1001, nil, ViolationSeq},
		{"a number that the near database knows", 1001, 1001, func(w *witness, _ *wire.Segment, _ [][]byte) { w.k.HeardNear(w.f(1001)) }, NoViolation},
		{"a byte too many", 0, 1000, func(w *witness, s *wire.Segment, _ [][]byte) { s.Seq++ }, ViolationUnheard},
		{"bytes before the mark", 0, 1000, func(w *witness, s *wire.Segment, _ [][]byte) { s.Seq -= 1000 }, NoViolation}, // none of the checker's business
		{"across the mark", 0, 1000, func(w *witness, s *wire.Segment, _ [][]byte) { s.Seq-- }, ViolationPayload},
		{"another byte at first", 10, 90, func(w *witness, _ *wire.Segment, p [][]byte) { p[0] = invented(p[0], 0) }, ViolationPayload},
		{"another byte at last", 10, 90, func(w *witness, _ *wire.Segment, p [][]byte) { p[2] = invented(p[2], 39) }, ViolationPayload},
		{"bytes from another place", 10, 90, func(w *witness, s *wire.Segment, _ [][]byte) { s.Seq++ }, ViolationPayload},
		{"a probe of a closed window", 499, 500, func(w *witness, _ *wire.Segment, p [][]byte) {
			w.k.HeardNear(w.f(500))
			p[2] = []byte{p[2][0] ^ 1}
		}, ViolationPayload},
		{"a fin", 1000, 1000, func(_ *witness, s *wire.Segment, _ [][]byte) { s.Flags |= wire.FIN }, ViolationFin},
		{"a fin that was said", 1000, 1000, func(w *witness, s *wire.Segment, _ [][]byte) { w.k.HeardFin(w.f(1000)); s.Flags |= wire.FIN }, NoViolation},
		{"a fin too early", 900, 999, func(w *witness, s *wire.Segment, _ [][]byte) { w.k.HeardFin(w.f(1000)); s.Flags |= wire.FIN }, ViolationFin},
		{"after a fin", 1001, 1001, func(w *witness, s *wire.Segment, _ [][]byte) { w.k.HeardFin(w.f(1000)) }, NoViolation},
		{"beyond a fin", 1002, 1002, func(w *witness, s *wire.Segment, _ [][]byte) { w.k.HeardFin(w.f(1000)) }, ViolationSeq},
		{"after a reset", 0, 0, func(w *witness, s *wire.Segment, _ [][]byte) { w.k.HeardReset() }, ViolationReset},
	} {
		t.Run(c.name, func(t *testing.T) {
			witnesses(t, func(w *witness) {
				s, payload := w.segment(0, 0)
				if c.end <= len(w.said) {
					s, payload = w.segment(c.seq, c.end)
				} else {
					s.Seq = w.f(c.seq)
				}
				if c.change != nil {
					c.change(w, &s, payload)
				}
				w.want(c.name, s, payload, c.want)
			})
		})
	}
}

// invented is b with another byte at i.
func invented(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i]++
	return b
}

func TestCheckerNoSACK(t *testing.T) {
	k := NewChecker(&wire.Connection{})
	if v := k.Segment(&wire.Segment{Flags: wire.ACK, Options: wire.AppendSACK(nil, []wire.Block{{Start: 1, End: 2}})}, nil); v != ViolationOptions {
		t.Errorf("%v", v)
	}
}

// Before the first byte can have been heard, none may be said.
func TestCheckerBegins(t *testing.T) {
	k := NewChecker(&wire.Connection{NearSaid: wire.Position{Ack: 100}, FarSaid: wire.Position{End: 100}})
	if v := k.Segment(&wire.Segment{Seq: 50, Flags: wire.ACK}, [][]byte{{1}}); v != ViolationUnheard {
		t.Errorf("before: %v", v)
	}
	k.Begin(200) // more had passed than was known
	k.Heard([]byte{7})
	if v := k.Segment(&wire.Segment{Seq: 200, Flags: wire.ACK}, [][]byte{{7}}); v != NoViolation {
		t.Errorf("after: %v", v)
	}
	if v := k.Segment(&wire.Segment{Seq: 200, Flags: wire.ACK}, [][]byte{{8}}); v != ViolationPayload {
		t.Errorf("another: %v", v)
	}
}

// TestCheckerStream carries far more than is remembered past a checker, against all
// that was ever said, with a near database that is behind by more or less.
func TestCheckerStream(t *testing.T) {
	said := make([]byte, 48<<20)
	rand.NewChaCha8([32]byte{7}).Read(said)
	rng := rand.New(rand.NewPCG(1, 2))
	const base = 1<<32 - 20<<20
	k := NewChecker(&wire.Connection{NearSaid: wire.Position{Ack: base}})
	k.Begin(base)
	at := func(n int) uint32 { return uint32(base + n) }
	largest := 0
	for heard, acked := 0, 0; heard < len(said); {
		n := min(1+rng.IntN(100<<10), len(said)-heard)
		k.Heard(said[heard : heard+n])
		heard += n
		most := 100 << 10
		if heard>>23&1 == 1 {
			most = 12 << 20 // a near database that takes nothing for a while
		}
		if heard-acked > most {
			acked = heard - rng.IntN(min(most, heard))
			k.HeardNear(at(acked))
		}
		largest = max(largest, memory(&k))
		for range 4 {
			from := acked - min(acked, keptBehind) + rng.IntN(heard-acked+1)
			end := min(from+1+rng.IntN(64<<10), heard)
			if end <= from {
				continue
			}
			s := wire.Segment{Seq: at(from), Flags: wire.ACK}
			good := said[from:end]
			if v := k.Segment(&s, [][]byte{good}); v != NoViolation {
				t.Fatalf("bytes %d-%d with %d heard and %d acknowledged: %v", from, end, heard, acked, v)
			}
			if v := k.Segment(&s, [][]byte{invented(good, rng.IntN(len(good)))}); v != ViolationPayload {
				t.Fatalf("an invented byte in %d-%d with %d heard and %d acknowledged: %v", from, end, heard, acked, v)
			}
		}
		if held := heard - acked; memory(&k) > held+keptBehind+2*len(chunk{}) {
			t.Fatalf("%d bytes of memory for %d", memory(&k), held)
		}
	}
	if largest < 8<<20 || largest > maxHeard {
		t.Errorf("it grew to %d bytes", largest)
	}
}

func memory(k *Checker) int { return len(k.chunks) * len(chunk{}) }

// What it can't remember it lets pass, and its memory is bounded.
func TestCheckerBounded(t *testing.T) {
	k := NewChecker(&wire.Connection{})
	k.Begin(0)
	part := make([]byte, wire.MaxFramePayload)
	for range 2 * maxHeard / len(part) {
		k.Heard(part)
	}
	if memory(&k) > maxHeard+2*len(chunk{}) {
		t.Errorf("%d bytes of memory", memory(&k))
	}
	for _, c := range []struct {
		seq  uint32
		want Violation
	}{{0, NoViolation}, {maxHeard - 2, NoViolation}, {maxHeard - 1, ViolationPayload}, {2*maxHeard - 2, ViolationPayload}, {2*maxHeard - 1, ViolationUnheard}} {
		if v := k.Segment(&wire.Segment{Seq: c.seq, Flags: wire.ACK}, [][]byte{{0, 1}}); v != c.want {
			t.Errorf("at %d: %v, want %v", c.seq, v, c.want)
		}
	}
}

func TestViolationNames(t *testing.T) {
	seen := map[string]bool{"unknown": true}
	for v := range NumViolations {
		if name := v.String(); name == "" || seen[name] {
			t.Errorf("%d is called %q", v, name)
		} else {
			seen[name] = true
		}
	}
	if NumViolations.String() != "unknown" {
		t.Error(NumViolations.String())
	}
}

// BenchmarkChecker carries bulk past a checker, with a near database that acknowledges
// at once, and with one that takes two megabytes at a time.
func BenchmarkChecker(b *testing.B) {
	payload := make([]byte, 64<<10)
	parts := [][]byte{payload[:10000], payload[10000:]}
	for _, behind := range []uint32{0, 2 << 20} {
		b.Run(fmt.Sprintf("behind=%d", behind), func(b *testing.B) {
			k := NewChecker(&wire.Connection{})
			k.Begin(0)
			var seq, acked uint32
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				k.Heard(payload)
				s := wire.Segment{Seq: seq, Flags: wire.ACK}
				if v := k.Segment(&s, parts); v != NoViolation {
					b.Fatal(v)
				}
				if seq += uint32(len(payload)); seq-acked >= behind {
					acked = seq
					k.HeardNear(acked)
				}
			}
		})
	}
}
