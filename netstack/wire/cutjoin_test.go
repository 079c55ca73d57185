package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

var timestamps = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}

func cutAll(p *Packet, size int, partial bool) (out [][]byte) {
	var c Cutter
	c.Reset(p, size, partial)
	for c.Busy() {
		b := make([]byte, p.Data+size)
		out = append(out, b[:c.Next(b)])
	}
	return out
}

func TestCutThenJoinGivesTheSameBytes(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, opts := range [][]byte{nil, timestamps} {
			for _, tt := range []struct {
				n, size int
				flags   uint8
			}{
				{1, 1000, ACK}, {1000, 1000, ACK | PSH}, {1001, 1000, ACK}, {2000, 1000, ACK | PSH},
				{65535 - 40 - 32, 1368, ACK | PSH}, {64000, 1001, ACK | FIN}, {3001, 3, ACK | FIN | PSH}, {5000, 1000, ACK | ECE | CWR},
			} {
				for _, partial := range []bool{false, true} {
					t.Run(fmt.Sprintf("v6=%t/options=%d/%d by %d/partial=%t", v6, len(opts), tt.n, tt.size, partial), func(t *testing.T) {
						s := wiretest.TCP{Src: red4, Dst: gray4, Seq: 1<<32 - 5000, Ack: 9, Flags: tt.flags, Window: 77, ID: 65534,
							Options: opts, Payload: wiretest.Pattern(tt.n)}
						if v6 {
							s.Src, s.Dst = red6, gray6
						}
						cutJoin(t, s, tt.size, partial)
					})
				}
			}
		}
	}
}

func cutJoin(t *testing.T, s wiretest.TCP, size int, partial bool) {
	whole := s.Packet()
	p := parse(t, whole)
	segs := cutAll(p, size, partial)
	if want := (len(s.Payload) + size - 1) / size; len(segs) != want {
		t.Fatalf("%d segments, want %d", len(segs), want)
	}
	var payload []byte
	for i, b := range segs {
		seg := parse(t, b)
		first, last := i == 0, i == len(segs)-1
		want := s.Flags
		if !first {
			want &^= CWR
		}
		if !last {
			want &^= FIN | PSH
		}
		if seg.Flags != want || seg.Seq != s.Seq+uint32(i*size) || seg.Ack != s.Ack || seg.Window != s.Window {
			t.Fatalf("segment %d: %+v", i, seg)
		}
		if !seg.V6 && binary.BigEndian.Uint16(b[4:]) != s.ID+uint16(i) {
			t.Fatalf("segment %d has identification %d", i, binary.BigEndian.Uint16(b[4:]))
		}
		if partial && !seg.IsPartial() || !partial && wiretest.TransportSum(b) != 0xffff {
			t.Fatalf("checksum of segment %d", i)
		}
		if !last && len(seg.Payload()) != size {
			t.Fatalf("segment %d has %d bytes", i, len(seg.Payload()))
		}
		payload = append(payload, seg.Payload()...)
	}
	if !bytes.Equal(payload, s.Payload) {
		t.Fatal("the payload is another")
	}
	if s.Flags&^(ACK|PSH) != 0 {
		return // not joined
	}
	// Joined again it is the packet that was cut, as far as one run reaches.
	var j Joined
	j.Start(parse(t, segs[0]), partial)
	n := 1
	for n < len(segs) && j.Add(parse(t, segs[n]), partial) {
		n++
	}
	if n != min(len(segs), maxJoin) || j.Len() != n {
		t.Fatalf("joined %d of %d", n, len(segs))
	}
	vec, o := j.Finish()
	if n != len(segs) {
		return
	}
	got := slices.Concat(vec...)
	if n == 1 {
		if !bytes.Equal(got, segs[0]) || o != (Offload{}) && !partial || partial && o != p.Partial() {
			t.Fatalf("a single segment was changed: %+v", o)
		}
		return
	}
	if want := (Offload{GSOSize: uint16(size), HdrLen: uint16(p.Data), NeedsCsum: true, CsumStart: uint16(p.L4), CsumOffset: 16}); o != want {
		t.Errorf("offload %+v, want %+v", o, want)
	}
	q := parse(t, got)
	if !q.IsPartial() {
		t.Error("the checksum is not that of the pseudo-header")
	}
	q.FinishChecksum()
	if !bytes.Equal(q.B, whole) {
		t.Error("cut and joined, it is another packet")
	}
}

func TestCutFastOpen(t *testing.T) {
	p := parse(t, wiretest.TCP{Src: red4, Dst: gray4, Seq: 100, Flags: SYN, Payload: wiretest.Pattern(25)}.Packet())
	var got []string
	for _, b := range cutAll(p, 10, false) {
		s := parse(t, b)
		got = append(got, fmt.Sprintf("%d+%d syn=%t", s.Seq, len(s.Payload()), s.Flags&SYN != 0))
	}
	if want := []string{"100+10 syn=true"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestJoinRefuses(t *testing.T) {
	base := wiretest.TCP{Src: red4, Dst: gray4, Seq: 1000, Ack: 5, Flags: ACK, Window: 9, Options: timestamps, Payload: wiretest.Pattern(100)}
	next := base
	next.Seq += 100
	change := func(f func(*wiretest.TCP)) []byte { s := next; f(&s); return s.Packet() }
	raw := func(at int, with ...byte) []byte { return wiretest.Finish(edit(next.Packet(), at, with...)) }
	tests := []struct {
		name          string
		first, second []byte
		want          bool
	}{
		{"the next one", base.Packet(), next.Packet(), true},
		{"a shorter one", base.Packet(), change(func(s *wiretest.TCP) { s.Payload = wiretest.Pattern(99) }), true},
		{"with psh", base.Packet(), change(func(s *wiretest.TCP) { s.Flags |= PSH }), true},
		{"a longer one", base.Packet(), change(func(s *wiretest.TCP) { s.Payload = wiretest.Pattern(101) }), false},
		{"a gap", base.Packet(), change(func(s *wiretest.TCP) { s.Seq++ }), false},
		{"the same again", base.Packet(), base.Packet(), false},
		{"no payload", base.Packet(), change(func(s *wiretest.TCP) { s.Payload = nil }), false},
		{"fin", base.Packet(), change(func(s *wiretest.TCP) { s.Flags |= FIN }), false},
		{"urg", base.Packet(), change(func(s *wiretest.TCP) { s.Flags |= URG }), false},
		{"ece", base.Packet(), change(func(s *wiretest.TCP) { s.Flags |= ECE }), false},
		{"another ack", base.Packet(), change(func(s *wiretest.TCP) { s.Ack++ }), false},
		{"another window", base.Packet(), change(func(s *wiretest.TCP) { s.Window++ }), false},
		{"another timestamp", base.Packet(), raw(47, 9), false},
		{"fewer options", base.Packet(), change(func(s *wiretest.TCP) { s.Options = nil }), false},
		{"another port", base.Packet(), raw(21, 9), false},
		{"another address", base.Packet(), raw(15, 9), false},
		{"another ttl", base.Packet(), raw(8, 63), false},
		{"another traffic class", base.Packet(), raw(1, 2), false},
		{"may be fragmented", base.Packet(), raw(6, 0), false},
		{"a reserved bit", base.Packet(), raw(32, 0x81), false},
		{"after psh", func() []byte { s := base; s.Flags |= PSH; return s.Packet() }(), next.Packet(), false},
		{"damaged", base.Packet(), func() []byte { b := next.Packet(); b[70] ^= 1; return b }(), false},
		{"after a damaged one", func() []byte { b := base.Packet(); b[70] ^= 1; return b }(), next.Packet(), false},
		{"the other family", base.Packet(), func() []byte { s := next; s.Src, s.Dst = red6, gray6; return s.Packet() }(), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var j Joined
			j.Start(parse(t, tt.first), false)
			if got := j.Add(parse(t, tt.second), false); got != tt.want {
				t.Errorf("joined %t", got)
			}
			vec, o := j.Finish()
			if !tt.want && (!bytes.Equal(slices.Concat(vec...), tt.first) || o != Offload{}) {
				t.Error("what stays alone was changed")
			}
		})
	}
	t.Run("over 64 KB", func(t *testing.T) {
		var j Joined
		s := base
		s.Payload = wiretest.Pattern(30000)
		for i := range 3 {
			p := parse(t, s.Packet())
			switch {
			case i == 0:
				j.Start(p, false)
			case j.Add(p, false) != (i < 2):
				t.Errorf("segment %d", i)
			}
			s.Seq += 30000
		}
	})
	t.Run("release", func(t *testing.T) {
		var j Joined
		j.Start(parse(t, base.Packet()), false)
		j.Add(parse(t, next.Packet()), false)
		j.Release()
		for _, v := range j.vec {
			if v != nil {
				t.Error("a packet is held")
			}
		}
		if j.Add(parse(t, next.Packet()), false) {
			t.Error("joined to nothing")
		}
	})
}

// A size that no segment can have gives no segments: the loop over them ends.
func TestCutToNothing(t *testing.T) {
	p := parse(t, tcp4(ACK, 1000))
	for _, size := range []int{0, -1, -1 << 40} {
		var c Cutter
		if c.Reset(p, size, false); c.Busy() {
			t.Errorf("size %d: there is a segment", size)
		}
	}
}
