package wire

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

var gw4, gw6 = netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("fd77:1::1")

func TestICMPErrors(t *testing.T) {
	tests := []struct {
		name      string
		kind      ICMPKind
		about     []byte
		typ, code uint8
		info      uint32
		quoted    int
	}{
		{"v4 denied", AdminProhibited, tcp4(SYN, 0), 3, 13, 0, 40},
		{"v4 too big", PacketTooBig, wiretest.UDP(red4, gray4, wiretest.Pattern(1472)), 3, 4, 1380, 576 - 28},
		{"v4 unreachable", HostUnreachable, tcp4(ACK, 1), 3, 1, 0, 41},
		{"v6 denied", AdminProhibited, tcp6(SYN, 0), 1, 1, 0, 60},
		{"v6 too big", PacketTooBig, wiretest.UDP(red6, gray6, wiretest.Pattern(1452)), 2, 0, 1380, 1280 - 48},
		{"v6 unreachable", HostUnreachable, tcp6(ACK, 1), 1, 0, 0, 61},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := parse(t, tt.about)
			from, src, dst := gw4, red4, gray4
			if p.V6 {
				from, src, dst = gw6, red6, gray6
			}
			b := AppendICMPError([]byte("front"), tt.kind, p, from, 1380)
			if !bytes.HasPrefix(b, []byte("front")) {
				t.Fatal("what stood in front is gone")
			}
			e := parse(t, b[5:])
			if len(e.B) != len(b)-5 || wiretest.TransportSum(e.B) != 0xffff || !e.IsICMPError() || e.Answerable() {
				t.Fatalf("no good ICMP error: %+v", e)
			}
			if e.Src() != from || e.Dst() != src.Addr() || e.ICMPType != tt.typ || e.ICMPCode != tt.code || binary.BigEndian.Uint32(e.B[e.L4+4:]) != tt.info {
				t.Errorf("%+v", e)
			}
			if e.IsPacketTooBig() != (tt.kind == PacketTooBig) || e.IsPacketTooBig() && e.NextHopMTU() != 1380 {
				t.Errorf("asks for packets of %d bytes: %t", e.NextHopMTU(), e.IsPacketTooBig())
			}
			if !bytes.Equal(e.Payload(), tt.about[:tt.quoted]) {
				t.Errorf("%d bytes are quoted, want %d", len(e.Payload()), tt.quoted)
			}
			q, r := ParseQuoted(e)
			want := Quoted{Src: src.Addr(), Dst: dst.Addr(), Proto: p.Proto, SrcPort: src.Port(), DstPort: dst.Port()}
			if r != OK || q != want {
				t.Errorf("quoted %+v, %v", q, r)
			}
		})
	}
}

// No router makes a sender's packets smaller than any path has to take, nor by saying
// nothing, as those did that RFC 1191 was new to.
func TestNextHopMTU(t *testing.T) {
	for _, tt := range []struct {
		name      string
		about     []byte
		from      netip.Addr
		mtu, want int
	}{
		{"v4", tcp4(ACK, 1), gw4, 1300, 1300},
		{"v4 silent", tcp4(ACK, 1), gw4, 0, 552},
		{"v4 too small", tcp4(ACK, 1), gw4, 68, 552},
		{"v6", tcp6(ACK, 1), gw6, 1300, 1300},
		{"v6 too small", tcp6(ACK, 1), gw6, 68, 1280},
		{"v6 larger than any packet", tcp6(ACK, 1), gw6, 1 << 31, 65535},
	} {
		e := parse(t, AppendICMPError(nil, PacketTooBig, parse(t, tt.about), tt.from, tt.mtu))
		if got := e.NextHopMTU(); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestAnswerable(t *testing.T) {
	multicast := netip.MustParseAddrPort("224.0.0.5:1")
	for _, tt := range []struct {
		name string
		b    []byte
		want bool
	}{
		{"udp", wiretest.UDP(red4, gray4, nil), true},
		{"echo", wiretest.Echo(red6.Addr(), gray6.Addr(), false, 1, 1, nil), true},
		{"an error", wiretest.ICMP(red4.Addr(), gray4.Addr(), 11, 0, 0, tcp4(ACK, 0)), false},
		{"an unknown v6 error", wiretest.ICMP(red6.Addr(), gray6.Addr(), 100, 0, 0, nil), false},
		{"a fragment", edit(wiretest.UDP(red4, gray4, nil), 6, 0x20), false},
		{"to a group", wiretest.UDP(red4, multicast, nil), false},
		{"from nobody", wiretest.UDP(netip.MustParseAddrPort("0.0.0.0:68"), gray4, nil), false},
		{"from loopback", wiretest.UDP(netip.MustParseAddrPort("127.0.0.1:68"), gray4, nil), false},
	} {
		if got := parse(t, tt.b).Answerable(); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func TestParseQuoted(t *testing.T) {
	ext := func(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	ah := append([]byte{17, 4}, make([]byte, 22)...)
	udp6 := wiretest.UDP(red6, gray6, nil)[40:]
	a4, b4, a6, b6 := red4.Addr(), gray4.Addr(), red6.Addr(), gray6.Addr()
	tests := []struct {
		name string
		v6   bool
		body []byte
		want Quoted
		r    Reason
	}{
		{"nothing", false, nil, Quoted{}, Short},
		{"eight bytes of tcp", false, tcp4(ACK, 50)[:28], Quoted{Src: a4, Dst: b4, Proto: 6, SrcPort: 40000, DstPort: 5432}, OK},
		{"seven", false, tcp4(ACK, 50)[:27], Quoted{Src: a4, Dst: b4, Proto: 6}, Short},
		{"with options", false, ip4(17, []byte{148, 4, 0, 0}, wiretest.UDP(red4, gray4, nil)[20:]), Quoted{Src: a4, Dst: b4, Proto: 17, SrcPort: 40000, DstPort: 5432}, OK},
		{"header of 16 bytes", false, edit(tcp4(ACK, 0), 0, 0x44), Quoted{}, BadHeader},
		{"header over the end", false, ip4(6, make([]byte, 40), nil)[:48], Quoted{}, Short},
		{"first fragment", false, edit(tcp4(ACK, 0), 6, 0x20, 0), Quoted{Src: a4, Dst: b4, Proto: 6, SrcPort: 40000, DstPort: 5432}, OK},
		{"later fragment", false, edit(tcp4(ACK, 0), 6, 0, 1), Quoted{}, FragmentBad},
		{"of the other family", false, tcp6(ACK, 0), Quoted{}, Short},
		{"echo", false, wiretest.Echo(a4, b4, false, 7, 1, nil), Quoted{Src: a4, Dst: b4, Proto: 1, SrcPort: 7, DstPort: 7, Echo: true}, OK},
		{"echo reply", false, wiretest.Echo(a4, b4, true, 7, 1, nil), Quoted{Src: a4, Dst: b4, Proto: 1, SrcPort: 7, DstPort: 7, Echo: true, EchoReply: true}, OK},
		{"an error quoted", false, wiretest.ICMP(a4, b4, 3, 1, 7<<16, nil), Quoted{Src: a4, Dst: b4, Proto: 1}, OK},
		{"v6 tcp", true, tcp6(ACK, 0), Quoted{Src: a6, Dst: b6, Proto: 6, SrcPort: 40000, DstPort: 5432}, OK},
		{"v6 header cut", true, tcp6(ACK, 0)[:39], Quoted{}, Short},
		{"v6 extensions", true, ip6(0, ext(60), ext(44), []byte{17, 0, 0, 1, 0, 0, 0, 9}, udp6), Quoted{Src: a6, Dst: b6, Proto: 17, SrcPort: 40000, DstPort: 5432}, OK},
		{"v6 authentication", true, ip6(51, ah, udp6), Quoted{Src: a6, Dst: b6, Proto: 17, SrcPort: 40000, DstPort: 5432}, OK},
		{"v6 later fragment", true, ip6(44, []byte{17, 0, 0, 8, 0, 0, 0, 9}, udp6), Quoted{}, FragmentBad},
		{"v6 extension cut", true, ip6(60, ext(17)[:4]), Quoted{}, Short},
		{"v6 extension over the end", true, ip6(60, []byte{17, 200, 0, 0, 0, 0, 0, 0}, udp6), Quoted{}, Short},
		{"v6 echo", true, wiretest.Echo(a6, b6, false, 7, 1, nil), Quoted{Src: a6, Dst: b6, Proto: 58, SrcPort: 7, DstPort: 7, Echo: true}, OK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := wiretest.ICMP(b4, a4, 3, 1, 0, tt.body)
			if tt.v6 {
				b = wiretest.ICMP(b6, a6, 1, 0, 0, tt.body)
			}
			q, r := ParseQuoted(parse(t, b))
			if r != tt.r || r == OK && q != tt.want {
				t.Errorf("%+v, %v; want %+v, %v", q, r, tt.want, tt.r)
			}
		})
	}
}

func TestBuild(t *testing.T) {
	if got, want := AppendUDP(nil, red4, gray4, wiretest.Pattern(100)), wiretest.UDP(red4, gray4, wiretest.Pattern(100)); !bytes.Equal(got, want) {
		t.Errorf("v4\n%x, want\n%x", got, want)
	}
	if got, want := AppendUDP([]byte{1}, red6, gray6, wiretest.Pattern(33)), wiretest.UDP(red6, gray6, wiretest.Pattern(33)); !bytes.Equal(got[1:], want) {
		t.Errorf("v6\n%x, want\n%x", got[1:], want)
	}
	want := wiretest.TCP{Src: red4, Dst: gray4, Seq: 99, Flags: ACK}.Packet()
	if got := AppendTCP(nil, red4, gray4, 99, ACK); !bytes.Equal(got, want) {
		t.Errorf("tcp\n%x, want\n%x", got, want)
	}
	if got := AppendUDP(nil, red4, gray4, make([]byte, 65487)); len(got) != 65515 {
		t.Errorf("the longest is %d", len(got))
	}
}

func TestSeq(t *testing.T) {
	for _, tt := range []struct {
		a, b uint32
		less bool
	}{{1, 2, true}, {2, 1, false}, {5, 5, false}, {1<<32 - 1, 0, true}, {0, 1<<32 - 1, false}, {1 << 31, 1<<31 + 5, true}} {
		if SeqLess(tt.a, tt.b) != tt.less {
			t.Errorf("%d before %d: %t", tt.a, tt.b, !tt.less)
		}
	}
	if SeqMax(1<<32-1, 3) != 3 || SeqMax(3, 1<<32-1) != 3 {
		t.Error("the later of two")
	}
}
