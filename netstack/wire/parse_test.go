package wire

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

var (
	red4, gray4 = netip.MustParseAddrPort("10.77.1.10:40000"), netip.MustParseAddrPort("10.77.2.10:5432")
	red6, gray6 = netip.MustParseAddrPort("[fd77:1::a]:40000"), netip.MustParseAddrPort("[fd77:2::a]:5432")
)

func tcp4(flags uint8, n int) []byte {
	return wiretest.TCP{Src: red4, Dst: gray4, Seq: 1000, Ack: 2000, Flags: flags, Window: 501, ID: 77, Payload: wiretest.Pattern(n)}.Packet()
}

func tcp6(flags uint8, n int) []byte {
	return wiretest.TCP{Src: red6, Dst: gray6, Seq: 1000, Ack: 2000, Flags: flags, Window: 501, Payload: wiretest.Pattern(n)}.Packet()
}

// edit returns a copy of b with the given bytes put at an offset, and its IPv4
// header checksum mended.
func edit(b []byte, at int, with ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], with)
	return wiretest.FinishHeader(b)
}

// ip4 returns an IPv4 packet whose header has options.
func ip4(proto byte, opts, body []byte) []byte {
	b := wiretest.IP(red4.Addr(), gray4.Addr(), proto, append(bytes.Clone(opts), body...))
	b[0] = 0x45 + byte(len(opts)/4)
	return wiretest.FinishHeader(b)
}

func ip6(proto byte, parts ...[]byte) []byte {
	return wiretest.IP(red6.Addr(), gray6.Addr(), proto, bytes.Join(parts, nil))
}

func TestParse(t *testing.T) {
	udp := wiretest.UDP(red4, gray4, wiretest.Pattern(10))
	udpBody6 := wiretest.UDP(red6, gray6, wiretest.Pattern(10))[40:]
	tcpBody6 := tcp6(ACK, 10)[40:]
	opts := func(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	routing := func(next, kind, left byte) []byte { return []byte{next, 0, kind, left, 0, 0, 0, 0} }
	frag := func(next byte, field uint16) []byte {
		return []byte{next, 0, byte(field >> 8), byte(field), 0, 0, 0, 9}
	}
	ah := func(next byte) []byte { return append([]byte{next, 4}, make([]byte, 22)...) } // 24 bytes
	chain := func(n int) (h [][]byte) {
		for i := range n {
			next := byte(60)
			if i == n-1 {
				next = 17
			}
			h = append(h, opts(next))
		}
		return append(h, udpBody6)
	}
	tests := []struct {
		name string
		b    []byte
		want Reason
	}{
		{"empty", nil, Short},
		{"version 0", make([]byte, 60), BadVersion},
		{"version 5", []byte{0x50, 0, 0}, BadVersion},
		{"v4 tcp", tcp4(ACK, 10), OK},
		{"v4 udp", udp, OK},
		{"v4 padding behind", append(bytes.Clone(udp), 0, 0, 0), OK},
		{"v4 cut in the header", udp[:19], Short},
		{"v4 cut in the payload", udp[:len(udp)-1], Short},
		{"v4 header of 16 bytes", edit(udp, 0, 0x44), BadHeader},
		{"v4 header longer than the packet", ip4(17, nil, nil)[:20], Short},
		{"v4 total below the header", edit(udp, 2, 0, 19), BadHeader},
		{"v4 header checksum", func() []byte { b := bytes.Clone(udp); b[10] ^= 1; return b }(), BadChecksum},
		{"v4 ttl changed, checksum not", func() []byte { b := bytes.Clone(udp); b[8]--; return b }(), BadChecksum},
		{"v4 loose source route", ip4(17, []byte{131, 3, 4, 0}, udp[20:]), SourceRoute},
		{"v4 strict source route behind nop", ip4(17, []byte{1, 137, 3, 4}, udp[20:]), SourceRoute},
		{"v4 source route behind end of list", ip4(17, []byte{0, 137, 3, 4}, udp[20:]), OK},
		{"v4 router alert", ip4(17, []byte{148, 4, 0, 0}, udp[20:]), OK},
		{"v4 option of length 1", ip4(17, []byte{148, 1, 0, 0}, udp[20:]), BadHeader},
		{"v4 option without length", ip4(17, []byte{1, 1, 1, 148}, udp[20:]), BadHeader},
		{"v4 option too long", ip4(17, []byte{148, 5, 0, 0}, udp[20:]), BadHeader},
		{"v4 no transport at all", ip4(6, nil, nil), Short},
		{"v4 icmp", wiretest.Echo(red4.Addr(), gray4.Addr(), false, 1, 1, nil), OK},
		{"v4 icmp of 7 bytes", ip4(1, nil, make([]byte, 7)), Short},
		{"v4 icmpv6", ip4(58, nil, make([]byte, 8)), BadTransport},
		{"v4 gre", ip4(47, nil, make([]byte, 4)), OK},
		{"v4 fragment", edit(udp, 6, 0x20, 0), OK},
		{"v4 fragment of rubbish", edit(ip4(6, nil, make([]byte, 8)), 6, 0, 1), OK},

		{"tcp header cut", ip4(6, nil, tcp4(ACK, 0)[20:39]), Short},
		{"tcp offset 4", edit(tcp4(ACK, 10), 32, 0x40), BadTransport},
		{"tcp offset behind the end", edit(tcp4(ACK, 0), 32, 0x60), Short},
		{"tcp options to the end", edit(tcp4(ACK, 4), 32, 0x60), OK},
		{"tcp null", tcp4(0, 0), BadFlags},
		{"tcp xmas", tcp4(FIN|PSH|URG, 0), BadFlags},
		{"tcp fin without ack", tcp4(FIN, 0), BadFlags},
		{"tcp syn fin", tcp4(SYN|FIN, 0), BadFlags},
		{"tcp syn rst", tcp4(SYN|RST, 0), BadFlags},
		{"tcp fin rst ack", tcp4(FIN|RST|ACK, 0), BadFlags},
		{"tcp syn", tcp4(SYN, 0), OK},
		{"tcp syn with ece and cwr", tcp4(SYN|ECE|CWR, 0), OK},
		{"tcp syn ack psh", tcp4(SYN|ACK|PSH, 3), OK},
		{"tcp rst", tcp4(RST, 0), OK},
		{"tcp rst ack", tcp4(RST|ACK, 0), OK},
		{"tcp fin ack psh urg", tcp4(FIN|ACK|PSH|URG, 3), OK},

		{"udp cut", ip4(17, nil, make([]byte, 7)), Short},
		{"udp length 7", edit(udp, 24, 0, 7), BadTransport},
		{"udp length 0", edit(udp, 24, 0, 0), BadTransport},
		{"udp longer than the packet", edit(udp, 24, 0, 19), BadTransport},
		{"udp with options behind", edit(udp, 24, 0, 12), OK},

		{"v6 tcp", tcp6(ACK, 10), OK},
		{"v6 cut in the header", tcp6(ACK, 0)[:39], Short},
		{"v6 cut in the payload", tcp6(ACK, 10)[:69], Short},
		{"v6 icmp", wiretest.Echo(red6.Addr(), gray6.Addr(), true, 1, 1, nil), OK},
		{"v6 icmpv4", ip6(1, make([]byte, 8)), BadTransport},
		{"v6 no next header", ip6(59), OK},
		{"v6 hop by hop", ip6(0, opts(17), udpBody6), OK},
		{"v6 hop by hop behind another", ip6(60, opts(0), opts(17), udpBody6), BadExtension},
		{"v6 two hop by hop", ip6(0, opts(0), opts(17), udpBody6), BadExtension},
		{"v6 extension cut", ip6(60, opts(17)[:7]), Short},
		{"v6 extension longer than the packet", ip6(60, []byte{17, 9, 1, 4, 0, 0, 0, 0}, udpBody6), Short},
		{"v6 routing used up", ip6(43, routing(17, 0, 0), udpBody6), OK},
		{"v6 routing header 0", ip6(43, routing(17, 0, 1), udpBody6), SourceRoute},
		{"v6 segment routing", ip6(43, routing(17, 4, 1), udpBody6), SourceRoute},
		{"v6 authentication header", ip6(51, ah(6), tcpBody6), OK},
		{"v6 seven extensions", ip6(60, chain(7)...), OK},
		{"v6 eight extensions", ip6(60, chain(8)...), BadExtension},
		{"v6 first fragment", ip6(44, frag(17, 1), udpBody6), OK},
		{"v6 fragment header cut", ip6(44, frag(17, 1)[:7]), Short},
		{"v6 atomic fragment", ip6(44, frag(17, 0), udpBody6), OK},
		{"v6 atomic fragment with reserved bits", ip6(44, frag(17, 6), udpBody6), OK},
		{"v6 atomic fragment, transport cut", ip6(44, frag(6, 0), udpBody6[:8]), Short},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Packet
			if got := Parse(&p, tt.b); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestParseFindsFields(t *testing.T) {
	long := wiretest.TCP{Src: red6, Dst: gray6, Seq: 1 << 31, Ack: 7, Flags: ACK | FIN, Window: 9,
		Options: []byte{1, 1, 1, 0}, Payload: wiretest.Pattern(5)}.Packet()
	tests := []struct {
		name string
		b    []byte
		want Packet
	}{
		{"tcp", tcp4(SYN, 3), Packet{Proto: ProtoTCP, DF: true, L4: 20, Data: 40, SrcPort: 40000, DstPort: 5432,
			Seq: 1000, Ack: 2000, Window: 501, Flags: SYN}},
		{"v6 tcp with options", long, Packet{V6: true, Proto: ProtoTCP, DF: true, L4: 40, Data: 64, SrcPort: 40000, DstPort: 5432,
			Seq: 1 << 31, Ack: 7, Window: 9, Flags: ACK | FIN}},
		{"udp", edit(wiretest.UDP(red4, gray4, nil), 6, 0), Packet{Proto: ProtoUDP, L4: 20, Data: 28, SrcPort: 40000, DstPort: 5432}},
		{"echo", wiretest.Echo(red4.Addr(), gray4.Addr(), false, 99, 1, nil), Packet{Proto: ProtoICMP, DF: true, L4: 20, Data: 28,
			SrcPort: 99, DstPort: 99, ICMPType: 8}},
		{"v6 echo reply", wiretest.Echo(red6.Addr(), gray6.Addr(), true, 99, 1, nil), Packet{V6: true, Proto: ProtoICMPv6, DF: true, L4: 40, Data: 48,
			SrcPort: 99, DstPort: 99, ICMPType: 129}},
		{"fragment", edit(tcp4(ACK, 4), 6, 0x20, 0), Packet{Proto: ProtoTCP, Fragment: true, L4: 20}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p Packet
			if r := Parse(&p, append(bytes.Clone(tt.b), 1, 2, 3)); r != OK {
				t.Fatal(r)
			}
			if !bytes.Equal(p.B, tt.b) || cap(p.B) != len(p.B) {
				t.Error("B is not the packet without what stands behind it")
			}
			src, dst := red4.Addr(), gray4.Addr()
			if p.V6 {
				src, dst = red6.Addr(), gray6.Addr()
			}
			if p.Src() != src || p.Dst() != dst {
				t.Errorf("from %v to %v", p.Src(), p.Dst())
			}
			p.B = nil
			if !packetsEqual(p, tt.want) {
				t.Errorf("%+v\nwant %+v", p, tt.want)
			}
		})
	}
}

func packetsEqual(a, b Packet) bool {
	a.B, b.B = nil, nil
	return a.V6 == b.V6 && a.Proto == b.Proto && a.Fragment == b.Fragment && a.DF == b.DF && a.L4 == b.L4 && a.Data == b.Data &&
		a.SrcPort == b.SrcPort && a.DstPort == b.DstPort && a.Seq == b.Seq && a.Ack == b.Ack && a.Window == b.Window &&
		a.Flags == b.Flags && a.ICMPType == b.ICMPType && a.ICMPCode == b.ICMPCode
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]Reason{}
	for r := range NumReasons {
		if name := r.String(); name == "" || name == "unknown" {
			t.Errorf("reason %d has no name", r)
		} else if other, ok := seen[name]; ok {
			t.Errorf("%d and %d are both %q", r, other, name)
		} else {
			seen[name] = r
		}
	}
	if NumReasons.String() != "unknown" {
		t.Error("a reason that is none has a name")
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range [][]byte{
		tcp4(SYN, 0), tcp4(ACK|PSH, 100), tcp6(ACK, 33), wiretest.UDP(red6, gray6, wiretest.Pattern(9)),
		wiretest.Echo(red4.Addr(), gray4.Addr(), false, 1, 2, wiretest.Pattern(5)),
		ip4(6, []byte{1, 1, 148, 4, 0, 0, 0, 0}, tcp4(SYN, 4)[20:]),
		ip6(0, []byte{44, 0, 1, 4, 0, 0, 0, 0}, []byte{6, 0, 0, 0, 0, 0, 0, 9}, tcp6(ACK, 1)[40:]),
		ip6(51, append([]byte{17, 4}, make([]byte, 22)...), wiretest.UDP(red6, gray6, nil)[40:]),
		wiretest.ICMP(gray4.Addr(), red4.Addr(), 3, 4, 1400, tcp4(ACK, 20)),
		wiretest.ICMP(gray6.Addr(), red6.Addr(), 2, 0, 1280, tcp6(ACK, 20)),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Packet
		if r := Parse(&p, b); r != OK {
			return
		}
		if len(p.B) > len(b) || p.L4 > len(p.B) || !p.Fragment && p.Data > len(p.B) || !p.Fragment && p.Data < p.L4 {
			t.Fatalf("offsets out of bounds: %+v", p)
		}
		if p.Fragment != IsFragment(p.B) && !bytes.Contains(p.B[:min(len(p.B), p.L4)], []byte{44}) {
			t.Fatal("Parse and IsFragment differ")
		}
		if p.Fragment {
			return
		}
		p.Answerable()
		if p.IsICMPError() {
			ParseQuoted(&p)
		}
		if r := Parse(&p, p.B); r != OK {
			t.Fatalf("cut to its length it is %v", r)
		}
		p.IsPartial()
		if p.Proto == ProtoTCP {
			p.WindowScale()
			ok := p.ChecksumOK()
			p.ClampMSS(536, false)
			if p.ChecksumOK() != ok {
				t.Fatal("clamping changed whether the checksum holds")
			}
		}
		p.FinishChecksum()
		if !p.ChecksumOK() {
			t.Fatal("a finished checksum does not hold")
		}
		if p.Proto == ProtoTCP || p.Proto == ProtoUDP {
			o := p.SetPartial()
			if !p.IsPartial() || p.Partial() != o {
				t.Fatal("a partial checksum is not seen")
			}
			before := bytes.Clone(p.B)
			if o, r := p.Settle(o); r != OK || o.NeedsCsum && !bytes.Equal(p.B, before) {
				t.Fatal("a checksum of its own was not left alone")
			}
		}
		if got := binary.BigEndian.Uint16(p.B[2:]); !p.V6 && int(got) != len(p.B) {
			t.Fatal("length changed")
		}
	})
}
