package capture

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

var (
	here  = netip.MustParseAddrPort("10.77.1.10:40000")
	there = netip.MustParseAddrPort("10.77.2.10:5432")
	here6 = netip.MustParseAddrPort("[fd77:1::a]:40000")
	far6  = netip.MustParseAddrPort("[fd77:2::a]:5432")
)

// data is a segment of bulk, syn one that opens a connection.
func data(n int) []byte {
	return wiretest.TCP{Src: here, Dst: there, Seq: 1, Ack: 1, Flags: wiretest.ACK, Payload: make([]byte, n)}.Packet()
}

func syn() []byte { return wiretest.TCP{Src: here, Dst: there, Seq: 1, Flags: wiretest.SYN}.Packet() }

func put(r *Ring, s Sight, b []byte) {
	s.Head, s.Length = b, len(b)
	r.Put(&s)
}

func numbers(list []Record) (out []int64) {
	for _, r := range list {
		out = append(out, r.At)
	}
	return out
}

// TestRing: what was put comes out once, in order over all lanes, headers only.
func TestRing(t *testing.T) {
	r := New(1 << 20)
	put(r, Sight{At: 1, Point: FromHost, Rule: "a", Pos: "site.hcl:1"}, syn())
	put(r, Sight{At: 2, Point: ToLink, Rule: "b"}, data(100))
	put(r, Sight{At: 3, Point: FromLink, Reason: wire.Denied}, data(100))
	put(r, Sight{At: 4, Point: ToHost, Rule: "a", Pos: "site.hcl:1", Note: Taken}, data(100))
	rd, tail := r.NewReader(), r.NewTail()
	got := rd.Read(nil)
	head := data(0)[:40]
	want := []Record{
		{Seq: 1, Sight: Sight{At: 1, Point: FromHost, Rule: "a", Pos: "site.hcl:1", Length: 40, Head: syn()}},
		{Seq: 2, Sight: Sight{At: 2, Point: ToLink, Rule: "b", Length: 140}},
		{Seq: 3, Sight: Sight{At: 3, Point: FromLink, Reason: wire.Denied, Length: 140}},
		{Seq: 4, Sight: Sight{At: 4, Point: ToHost, Rule: "a", Pos: "site.hcl:1", Note: Taken, Length: 140}},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Sight{}, "Head")); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	for _, g := range got {
		if len(g.Head) != len(head) {
			t.Errorf("%d bytes of record %d were kept, want the headers, %d", len(g.Head), g.Seq, len(head))
		}
	}
	put(r, Sight{At: 5}, syn())
	put(r, Sight{At: 6}, data(1))
	for name, rd := range map[string]*Reader{"reader": rd, "tail": tail} {
		if d := cmp.Diff([]int64{6}, numbers(rd.Read(func(r *Record) bool { return r.Length == 41 }))); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		if got := rd.Read(nil); len(got) != 0 {
			t.Errorf("%s: %d records come again", name, len(got))
		}
	}
}

// TestRingIsBounded: it holds the latest packets and no more than its size; bulk does
// not drive out what is rare.
func TestRingIsBounded(t *testing.T) {
	const size = 64 << 10
	r := New(size)
	put(r, Sight{At: -1}, syn())
	put(r, Sight{At: -2, Reason: wire.NoFlow}, data(1))
	const n = 100_000
	for i := range n {
		put(r, Sight{At: int64(i), Rule: "bulk"}, data(i%3))
	}
	bytes := 0
	for i := range r.lane {
		bytes += len(r.lane[i].buf)
	}
	if bytes > size {
		t.Errorf("it takes %d bytes, want at most %d", bytes, size)
	}
	got := numbers(r.NewReader().Read(nil))
	if len(got) < 4 || got[0] != -1 || got[1] != -2 {
		t.Fatalf("what is rare was driven out: %v", got)
	}
	// Of bulk one direction has a quarter of the memory.
	if kept := len(got) - 2; kept < size/4/80 || kept > size/4/(recordHead+40) {
		t.Errorf("%d packets of bulk were kept in %d bytes", kept, size/4)
	}
	for i, at := range got[2:] {
		if want := int64(n - (len(got) - 2) + i); at != want {
			t.Fatalf("kept %d where %d belongs: not the latest, or not in order", at, want)
		}
	}
}

// TestRingOfManyRules: a rule's number runs out before the rules do.
func TestRingOfManyRules(t *testing.T) {
	r := New(64 << 10)
	for i := range 1<<16 + 10 {
		put(r, Sight{Rule: fmt.Sprint("rule ", i)}, syn())
	}
	if got := len(r.lane[2].names); got != 1<<16 {
		t.Errorf("%d names are kept", got)
	}
	list := r.NewReader().Read(nil)
	if last := list[len(list)-1]; last.Rule != "" {
		t.Errorf("a rule without a number is taken for %q", last.Rule)
	}
}

// TestReadWhileWriting: readers never see a record in halves, and writers neither wait
// nor lose much.
func TestReadWhileWriting(t *testing.T) {
	r := New(64 << 10)
	ctx, stop := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			rd, last := r.NewReader(), uint64(0)
			for ctx.Err() == nil {
				for _, rec := range rd.Read(nil) {
					if rec.Rule != fmt.Sprint("rule ", rec.Length) || len(rec.Head) != 40 {
						t.Errorf("record in halves: %+v", rec)
						return
					}
					last = max(last, rec.Seq)
				}
			}
		})
	}
	const each = 20_000
	for w := range 3 {
		writers.Go(func() {
			b, rule := data(w), fmt.Sprint("rule ", len(data(w)))
			for range each {
				put(r, Sight{Rule: rule, Point: Point(w)}, b)
			}
		})
	}
	writers.Wait()
	stop()
	readers.Wait()
	if got := r.seq.Load() + r.Lost(); got != 3*each {
		t.Errorf("%d packets kept and lost, want %d", got, 3*each)
	}
}

// TestHead: headers are kept, a payload never.
func TestHead(t *testing.T) {
	opts := make([]byte, 40)
	for i := range opts {
		opts[i] = 1
	}
	quote := func(b []byte, typ byte) []byte { // an ICMP error about b, from the other end
		return wiretest.Finish(wiretest.IP(there.Addr(), here.Addr(), 1, append([]byte{typ, 1, 0, 0, 0, 0, 0, 0}, b...)))
	}
	for _, tt := range []struct {
		name string
		b    []byte
		keep int
		rare bool
	}{
		{"tcp", data(1000), 40, false},
		{"tcp, cut off", data(0)[:30], 30, false},
		{"tcp with options", wiretest.TCP{Src: here6, Dst: far6, Flags: wiretest.ACK, Options: opts, Payload: opts}.Packet(), 100, false},
		{"syn", syn(), 40, true},
		{"fin", wiretest.TCP{Src: here, Dst: there, Flags: wiretest.FIN | wiretest.ACK}.Packet(), 40, true},
		{"udp", wiretest.UDP(here, there, make([]byte, 100)), 28, false},
		{"udp6", wiretest.UDP(here6, far6, make([]byte, 100)), 48, false},
		{"echo", wiretest.Echo(here.Addr(), there.Addr(), false, 1, 1, make([]byte, 56)), 28, false},
		{"error", quote(data(1000), 3), 20 + 8 + 20 + 8, true},
		{"error, cut off", quote(data(1000), 3)[:40], 28, true},
		{"another protocol", wiretest.Finish(wiretest.IP(here.Addr(), there.Addr(), 47, make([]byte, 100))), 20, false},
		{"nothing", nil, 0, false},
		{"no packet", []byte("hello"), 0, false},
	} {
		if keep, rare := head(tt.b); keep != tt.keep || rare != tt.rare {
			t.Errorf("%s: %d bytes, rare %v, want %d, %v", tt.name, keep, rare, tt.keep, tt.rare)
		}
	}
}

func FuzzHead(f *testing.F) {
	f.Add(data(10))
	f.Add(syn()[:20])
	f.Add(wiretest.UDP(here6, far6, make([]byte, 10)))
	f.Add(append([]byte{0x60, 0, 0, 0, 0, 8, 44, 64}, make([]byte, 60)...))
	f.Add([]byte{0x4f, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		keep, _ := head(b)
		if keep < 0 || keep > len(b) || keep > MaxHead {
			t.Fatalf("keeps %d of %d bytes", keep, len(b))
		}
		s := Sight{Head: b[:keep]}
		s.Tuple()
		var p wire.Packet
		if wire.Parse(&p, b) != wire.OK || p.Fragment || p.L4+4 > MaxHead {
			return
		}
		got, _, ok := s.Tuple()
		if !ok || got.Proto != p.Proto || got.Source != p.Src() || got.Destination != p.Dst() {
			t.Fatalf("%+v (%v) of a packet from %v to %v, protocol %d", got, ok, p.Src(), p.Dst(), p.Proto)
		}
		if (p.Proto == wire.ProtoTCP || p.Proto == wire.ProtoUDP) && (got.SourcePort != p.SrcPort || got.DestPort != p.DstPort) {
			t.Fatalf("%+v of a packet from port %d to %d", got, p.SrcPort, p.DstPort)
		}
	})
}

func BenchmarkPut(b *testing.B) {
	r := New(4 << 20)
	s := Sight{Rule: "replication", Pos: "site.hcl:31", Head: data(0), Length: 1400}
	b.ReportAllocs()
	for b.Loop() {
		r.Put(&s)
	}
}

// TestTuple: of an ICMP error the tuple of what it is about is found.
func TestTuple(t *testing.T) {
	b := wiretest.Finish(wiretest.IP(there.Addr(), here.Addr(), 1, append([]byte{3, 13, 0, 0, 0, 0, 0, 0}, syn()...)))
	s := Sight{Head: b}
	own, quoted, ok := s.Tuple()
	want := Tuple{Proto: 6, Source: here.Addr(), Destination: there.Addr(), SourcePort: here.Port(), DestPort: there.Port(), Flags: wire.SYN}
	if !ok || quoted == nil || own.ICMPType != 3 || own.ICMPCode != 13 {
		t.Fatalf("%+v, %v, %v", own, quoted, ok)
	}
	if d := cmp.Diff(want, *quoted, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if c := (&Sight{Reason: wire.Denied, Rule: "a", Pos: "b:1", Note: Own}).Comment(); !strings.HasPrefix(c, "dropped: denied, rule a (b:1), ") {
		t.Errorf("comment %q", c)
	}
}
