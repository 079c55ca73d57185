package wire

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// made are the segments that a template has to make as the oracle does.
var made = []wiretest.TCP{
	{Seq: 1, Ack: 2, Flags: ACK, Window: 3},
	{Seq: 1<<32 - 1, Ack: 1 << 31, Flags: ACK | PSH, Window: 65535, Payload: wiretest.Pattern(1)},
	{Seq: 99, Ack: 7, Flags: FIN | ACK, Options: []byte{1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2}},
	{Seq: 5, Ack: 6, Flags: ACK, Window: 9, Options: bytes.Repeat([]byte{1}, 40), Payload: wiretest.Pattern(1441)},
	{Seq: 5, Ack: 6, Flags: ACK, Window: 9, Payload: wiretest.Pattern(65000)},
}

func TestTemplate(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, s := range made {
			s.Src, s.Dst = red4, gray4
			if v6 {
				s.Src, s.Dst = red6, gray6
			}
			want := s.Packet()
			tmpl := NewTemplate(s.Src, s.Dst)
			b := bytes.Repeat([]byte{0xee}, MaxTCPHeaders+1) // what was there before does not matter
			seg := Segment{Seq: s.Seq, Ack: s.Ack, Window: s.Window, Flags: s.Flags, Options: s.Options}
			n := tmpl.Put(b, &seg, len(s.Payload))
			if b[len(b)-1] != 0xee {
				t.Error("wrote beyond the headers")
			}
			p := parse(t, append(b[:n:n], s.Payload...))
			p.FinishChecksum()
			if !p.ChecksumOK() || !bytes.Equal(p.B, want) {
				t.Errorf("headers\n%x, want\n%x", p.B[:n], want[:n])
			}
		}
	}
}

// TestHeaders: a device that does what it is told to finishes the checksum, with the
// payload elsewhere.
func TestHeaders(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, s := range made {
			s.Src, s.Dst = red4, gray4
			if v6 {
				s.Src, s.Dst = red6, gray6
			}
			want := s.Packet()
			tmpl := NewTemplate(s.Src, s.Dst)
			var b [MaxTCPHeaders]byte
			n := tmpl.Put(b[:], &Segment{Seq: s.Seq, Ack: s.Ack, Window: s.Window, Flags: s.Flags, Options: s.Options}, len(s.Payload))
			var p Packet
			o := p.Headers(b[:n], len(s.Payload))
			if !o.NeedsCsum || int(o.CsumStart) != p.L4 || o.CsumOffset != 16 {
				t.Fatalf("%+v", o)
			}
			got := append(b[:n:n], s.Payload...)
			if whole := parse(t, bytes.Clone(got)); !whole.IsPartial() {
				t.Error("the checksum is not that of the pseudo-header")
			}
			binary.BigEndian.PutUint16(got[o.CsumStart+o.CsumOffset:], ^wiretest.Sum(got[o.CsumStart:]))
			if !bytes.Equal(got, want) {
				t.Errorf("packet\n%x, want\n%x", got[:n], want[:n])
			}
			if p.V6 != v6 || p.Proto != ProtoTCP || p.Data != n {
				t.Errorf("%+v", p)
			}
		}
	}
}

// Making a segment's headers allocates nothing.
func TestTemplateAllocates(t *testing.T) {
	tmpl := NewTemplate(red6, gray6)
	b := make([]byte, MaxTCPHeaders)
	if n := testing.AllocsPerRun(100, func() {
		var p Packet
		s := Segment{Seq: 1, Flags: ACK}
		p.Headers(b[:tmpl.Put(b, &s, 1000)], 1000)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
