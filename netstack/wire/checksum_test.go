package wire

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

func TestSumAgainstOracle(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for n := range 300 {
		b := make([]byte, n)
		for i := range b {
			switch n % 3 {
			case 0:
				b[i] = 0xff // carries everywhere
			case 1:
				b[i] = byte(rng.Uint32())
			}
		}
		want := wiretest.Sum(b)
		if got := fold(sum(b, 0)); got != want {
			t.Fatalf("%d bytes: %#x, want %#x", n, got, want)
		}
		if n%2 == 0 { // a sum goes on where another ended
			cut := rng.IntN(n/2+1) * 2
			if got := fold(sum(b[cut:], sum(b[:cut], 0))); got != want {
				t.Fatalf("%d bytes in two parts: %#x, want %#x", n, got, want)
			}
		}
	}
	if got := fold(^uint64(0)); got != 0xffff {
		t.Errorf("fold of all ones is %#x", got)
	}
}

func TestTransportChecksums(t *testing.T) {
	for name, b := range map[string][]byte{
		"tcp4": tcp4(ACK, 33), "tcp6": tcp6(ACK, 34),
		"udp4": wiretest.UDP(red4, gray4, wiretest.Pattern(5)), "udp6": wiretest.UDP(red6, gray6, wiretest.Pattern(6)),
		"icmp4": wiretest.Echo(red4.Addr(), gray4.Addr(), false, 1, 1, wiretest.Pattern(7)),
		"icmp6": wiretest.Echo(red6.Addr(), gray6.Addr(), false, 1, 1, wiretest.Pattern(8)),
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(t, b)
			if !p.ChecksumOK() {
				t.Fatal("a good checksum is taken for bad")
			}
			at, _ := p.csumField()
			p.B[len(p.B)-1] ^= 0x10
			if p.ChecksumOK() {
				t.Error("damage is not seen")
			}
			p.B[len(p.B)-1] ^= 0x10
			p.B[at] ^= 1
			p.FinishChecksum()
			if !bytes.Equal(p.B, b) {
				t.Error("the oracle finished another checksum")
			}
			if p.IsPartial() {
				t.Error("a finished checksum is taken for partial")
			}
			if p.IsICMP() {
				return
			}
			o := p.SetPartial()
			if want := wiretest.Sum(wiretest.PseudoHeader(b)); binary.BigEndian.Uint16(p.B[at:]) != want {
				t.Error("the pseudo-header's sum is another")
			}
			if !p.IsPartial() || o != (Offload{NeedsCsum: true, CsumStart: uint16(p.L4), CsumOffset: uint16(at - p.L4)}) {
				t.Errorf("not partial: %+v", o)
			}
			p.FinishChecksum()
			if !bytes.Equal(p.B, b) {
				t.Error("finishing a partial checksum gave another")
			}
		})
	}
}

func TestUDPWithoutChecksum(t *testing.T) {
	b := wiretest.UDP(red4, gray4, wiretest.Pattern(5))
	b[26], b[27] = 0, 0
	if p := parse(t, b); !p.ChecksumOK() || p.IsPartial() {
		t.Error("IPv4 UDP needs no checksum (RFC 768)")
	}
	b = wiretest.UDP(red6, gray6, wiretest.Pattern(5))
	b[46], b[47] = 0, 0
	if p := parse(t, b); p.ChecksumOK() {
		t.Error("IPv6 UDP needs one (RFC 8200 section 8.1)")
	}
	// The datagram whose checksum comes out as zero says 0xffff.
	b = wiretest.UDP(red4, gray4, []byte{0, 0})
	c := binary.BigEndian.Uint16(b[26:])
	binary.BigEndian.PutUint16(b[28:], c)
	p := parse(t, b)
	p.FinishChecksum()
	if binary.BigEndian.Uint16(p.B[26:]) != 0xffff || !p.ChecksumOK() {
		t.Errorf("checksum %#x", binary.BigEndian.Uint16(p.B[26:]))
	}
}

func TestSettle(t *testing.T) {
	tcp := Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 16}
	// A VXLAN-like packet: the checksum left to do is that of the packet inside.
	inner := wiretest.UDP(red4, gray4, wiretest.Pattern(20))
	in := parse(t, bytes.Clone(inner))
	in.SetPartial()
	tunnel := wiretest.UDP(red4, gray4, in.B)
	finished := wiretest.IP(red4.Addr(), gray4.Addr(), 17, append(bytes.Clone(tunnel[20:28]), inner...))
	surplus := edit(wiretest.UDP(red4, gray4, wiretest.Pattern(12)), 24, 0, 12)
	tests := []struct {
		name string
		b    []byte
		o    Offload
		want Offload
		r    Reason
		out  []byte // nil: as it was
	}{
		{"nothing to do", tcp4(ACK, 5), Offload{CsumValid: true}, Offload{CsumValid: true}, OK, nil},
		{"its own", tcp4(ACK, 5), tcp, tcp, OK, nil},
		{"inside a tunnel", tunnel, Offload{NeedsCsum: true, CsumStart: 48, CsumOffset: 6}, Offload{}, OK, finished},
		{"a super-segment inside", tunnel, Offload{NeedsCsum: true, CsumStart: 48, CsumOffset: 6, GSOSize: 9}, Offload{}, BadTransport, nil},
		{"beyond the end", tcp4(ACK, 0), Offload{NeedsCsum: true, CsumStart: 30, CsumOffset: 9}, Offload{}, BadTransport, nil},
		{"in the tcp header", tcp4(ACK, 0), Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 12}, Offload{}, BadTransport, nil},
		{"in the ip header", tcp4(ACK, 0), Offload{NeedsCsum: true, CsumStart: 0, CsumOffset: 10}, Offload{}, BadTransport, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := parse(t, bytes.Clone(tt.b))
			o, r := p.Settle(tt.o)
			if r != tt.r || r == OK && o != tt.want {
				t.Errorf("%+v, %v", o, r)
			}
			want := tt.out
			if want == nil {
				want = tt.b
			}
			if !bytes.Equal(p.B, want) {
				t.Errorf("packet\n%x, want\n%x", p.B, want)
			}
		})
	}
	t.Run("options behind udp", func(t *testing.T) {
		p := parse(t, surplus)
		o, r := p.Settle(p.SetPartial())
		if o.NeedsCsum || r != OK || !p.ChecksumOK() {
			t.Errorf("%+v, %v", o, r)
		}
	})
}

func parse(t testing.TB, b []byte) *Packet {
	t.Helper()
	p := new(Packet)
	if r := Parse(p, bytes.Clone(b)); r != OK {
		t.Fatal(r)
	}
	return p
}

func BenchmarkChecksum(b *testing.B) {
	p := parse(b, tcp4(ACK, 1380))
	b.SetBytes(int64(len(p.B)))
	b.ReportAllocs()
	for b.Loop() {
		p.FinishChecksum()
	}
}
