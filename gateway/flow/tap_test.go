package flow

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onewaylink/gw/gateway/capture"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// told are the packets that a tap has seen since the last call, in words.
func told(rd *capture.Reader) (out []string) {
	names := [...]string{capture.FromHost: "from host", capture.ToLink: "to link", capture.FromLink: "from link", capture.ToHost: "to host"}
	for _, r := range rd.Read(nil) {
		out = append(out, strings.TrimSpace(names[r.Point]+" "+r.Comment()))
	}
	return out
}

// TestTap: each packet is seen on both sides of the gateway, with the rule and with why
// it was dropped; and as it came, not as it left.
func TestTap(t *testing.T) {
	g := newGW(t, callsGray)
	ring := capture.New(1 << 20)
	g.path.SetTap(ring)
	rd := ring.NewReader()
	talk := newTalk(redDB, grayDB)
	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"opened", func() { g.out(talk.call(wiretest.SYN)) }, []string{"from host rule some (site.hcl:1)", "to link rule some (site.hcl:1)"}},
		{"answered", func() { g.in(talk.answer(wiretest.SYN | wiretest.ACK)) }, []string{"from link rule some (site.hcl:1)", "to host rule some (site.hcl:1)"}},
		{"acknowledged", func() { g.out(talk.call(wiretest.ACK)) }, []string{"from host rule some (site.hcl:1)", "to link rule some (site.hcl:1)"}},
		{"bulk", func() {
			b, o := super(talk, 3*1368)
			g.fromHost(b, o)
		}, []string{"from host rule some (site.hcl:1)", "to link rule some (site.hcl:1)", "to link rule some (site.hcl:1)", "to link rule some (site.hcl:1)"}},
		{"denied", func() { g.in(newTalk(grayDB, redDB).call(wiretest.SYN)) }, []string{"from link dropped: denied", "to link from the gateway's queue"}},
		{"out of the window", func() {
			far := *talk
			far.b += 1 << 30
			g.in(far.answer(wiretest.ACK, 'x'))
		}, []string{"from link dropped: out-of-window, rule some (site.hcl:1)"}},
		{"no packet", func() { g.out([]byte{0x45, 0}) }, []string{"from host dropped: short"}},
		{"a fragment", func() { g.in(fragment(t, wiretest.UDP(grayDB, redDB, make([]byte, 2000)))) }, []string{"from link waits for other fragments"}},
	} {
		if step.name == "denied" { // another tuple than that of the connection
			g.readAll()
		}
		step.do()
		g.readAll()
		if d := cmp.Diff(step.want, told(rd)); d != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, d)
		}
	}
	g.path.SetTap(nil)
	g.out(talk.call(wiretest.ACK))
	if got := told(rd); got != nil {
		t.Errorf("seen without a tap: %q", got)
	}
}

// fragment is the first one of a packet.
func fragment(t *testing.T, b []byte) (first []byte) {
	t.Helper()
	b[6] = 0 // without DF
	if err := wire.Fragment(wiretest.Finish(b), 1400, 0, func(piece []byte) {
		if first == nil {
			first = append(first, piece...)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return first
}

// TestTapSeesWhatCame: the gateway clamps the MSS, and a tap shows both.
func TestTapSeesWhatCame(t *testing.T) {
	g := newGW(t, allow)
	ring := capture.New(1 << 20)
	g.path.SetTap(ring)
	syn := newTalk(redDB, grayDB).call(wiretest.SYN)
	out, _ := g.fromHost(syn, wire.Offload{})
	got := ring.NewReader().Read(nil)
	if len(got) != 2 || len(out) != 1 {
		t.Fatalf("%d packets seen, %d sent", len(got), len(out))
	}
	if d := cmp.Diff(syn, got[0].Head); d != "" {
		t.Errorf("from the host (-sent +seen):\n%s", d)
	}
	if d := cmp.Diff(out[0], got[1].Head); d != "" {
		t.Errorf("to the link (-sent +seen):\n%s", d)
	}
	if cmp.Equal(syn, out[0]) {
		t.Error("the gateway changed nothing, so this shows nothing")
	}
}

// TestTapOfRelay: what a relay writes to the host and has kept for the link shows the rule
// of its connection, and no other packet that nobody has judged.
func TestTapOfRelay(t *testing.T) {
	g := newGW(t, callsGray)
	talk := newTalk(redDB, grayDB)
	g.open(talk)
	ring := capture.New(1 << 20)
	g.path.SetTap(ring)
	rd := ring.NewReader()
	g.path.WriteHost([][]byte{talk.answer(wiretest.ACK, 'x')[:40], []byte("x")}, wire.Offload{})
	g.path.SendLink(talk.call(wiretest.RST))
	g.path.SendLink(wiretest.TCP{Src: at("10.77.1.99:1"), Dst: grayDB, Flags: wiretest.RST}.Packet())
	g.readAll()
	if d := cmp.Diff([]string{
		"to host rule some (site.hcl:1), from the relay",
		"to link rule some (site.hcl:1), from the gateway's queue",
		"to link from the gateway's queue",
	}, told(rd)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func benchTap(b *testing.B, p *Path) {
	p.SetTap(capture.New(4 << 20))
}

func BenchmarkTapReadSuper(b *testing.B)  { benchReadWith(b, 46*1368, true, benchTap) }
func BenchmarkTapReadSmall(b *testing.B)  { benchReadWith(b, 100, true, benchTap) }
func BenchmarkTapWriteBatch(b *testing.B) { benchWriteWith(b, 128, 1368, true, benchTap) }
func BenchmarkTapWriteOne(b *testing.B)   { benchWriteWith(b, 1, 100, true, benchTap) }

// TestTapAllocatesNothing: neither while it records, nor when the Ring is full.
func TestTapAllocatesNothing(t *testing.T) {
	g := newGW(t, allow)
	talk := newTalk(redDB, grayDB)
	g.open(talk)
	start := time.Now()
	g.table.cfg.Now = func() time.Duration { return time.Since(start) }
	r := &replay{}
	r.packet, r.o = super(talk, 10*1368)
	p := NewPath(g.table, r)
	p.SetSite(gray, SiteState{Up: true, Partial: true})
	p.SetTap(capture.New(64 << 10))
	bufs, sizes := make([][]byte, 128), make([]int, 128)
	for i := range bufs {
		bufs[i] = make([]byte, 2048)
	}
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := p.Read(bufs, sizes, 16); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a super-segment", n)
	}
	vec := [][]byte{talk.answer(wiretest.ACK, 'x')}
	if n := testing.AllocsPerRun(1000, func() { p.WriteHost(vec, wire.Offload{}) }); n != 0 {
		t.Errorf("%v allocations for a segment of a relay", n)
	}
}
