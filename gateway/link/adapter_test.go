package link

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/onewaylink/gw/gateway/link/bind"
	"github.com/onewaylink/gw/gateway/link/linktest"
	"github.com/onewaylink/gw/netstack/wire"
)

type streams struct{ got [][]byte }

func (s *streams) Inject(pkt []byte) { s.got = append(s.got, append([]byte(nil), pkt...)) }

func testAdapter(path Path, s Streams) *adapter {
	c := Config{Path: path, TUNMTU: 1420, Self: Self{Site: "gray", Addresses: []netip.Addr{grayAddr, netip.MustParseAddr("fd77:2::1")}}}
	red := &peer{Peer: Peer{Site: "red"}}
	sibling := &peer{Peer: Peer{Site: "gray"}}
	a := newAdapter(&c, map[netip.Addr]*peer{redAddr: red, netip.MustParseAddr("fd77:1::1"): red, netip.MustParseAddr("10.77.2.2"): sibling}, bind.NewGate(1024), nil)
	a.streams = s
	return a
}

// tcp is a bare TCP segment.
func tcp(src, dst string) []byte {
	u := packet(src, dst, "123456789012") // 8 bytes of UDP header and 12 more
	var p wire.Packet
	if p.V6 = u[0]>>4 == 6; p.V6 {
		u[6] = wire.ProtoTCP
	} else {
		u[9] = wire.ProtoTCP
		u[10], u[11] = 0, 0
		u[10], u[11] = headerSum(u[:20])
	}
	l4 := u[len(u)-20:]
	clear(l4[4:])
	l4[12], l4[13] = 0x50, 0x10
	if r := wire.Parse(&p, u); r != wire.OK {
		panic(r.String())
	}
	p.FinishChecksum()
	return u
}

func headerSum(h []byte) (byte, byte) {
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(h[i])<<8 | uint32(h[i+1])
	}
	sum = sum>>16 + sum&0xffff
	sum = ^(sum>>16 + sum&0xffff)
	return byte(sum >> 8), byte(sum)
}

// withOptions puts four NOP options (RFC 791 section 3.1) into an IPv4 header.
func withOptions(b []byte) []byte {
	out := append(slices.Clone(b[:20]), 1, 1, 1, 1)
	out = append(out, b[20:]...)
	out[0] = 0x46
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	out[10], out[11] = 0, 0
	out[10], out[11] = headerSum(out[:24])
	return out
}

// withExtension puts empty destination options (RFC 8200 section 4.6) behind an IPv6 header.
func withExtension(b []byte) []byte {
	out := append(slices.Clone(b[:40]), b[6], 0, 1, 4, 0, 0, 0, 0)
	out = append(out, b[40:]...)
	out[6] = 60
	binary.BigEndian.PutUint16(out[4:], uint16(len(out)-40))
	return out
}

// The Path drops what hosts send on all ports that gateways use.
func TestReservedPorts(t *testing.T) {
	for _, port := range []uint16{wire.ControlPort, wire.HAPort, wire.StrayPort, wire.AskPort} {
		if port < wire.FirstNodePort || port > wire.LastNodePort {
			t.Errorf("port %d is not reserved", port)
		}
	}
}

func TestAdapterTakesControlPackets(t *testing.T) {
	damaged := packet("10.77.1.1:9771", "10.77.2.1:9771", "hello")
	damaged[len(damaged)-1] ^= 1
	fragment := packet("10.77.1.1:9771", "10.77.2.1:9771", "hello")
	fragment[6] = 0x20
	optioned := withOptions(packet("10.77.1.1:9771", "10.77.2.1:9771", "hello"))
	extended := withExtension(packet("[fd77:1::1]:9771", "[fd77:2::1]:9771", "hello"))
	for _, tt := range []struct {
		name string
		pkt  []byte
		want string // where it goes
	}{
		{"hello", packet("10.77.1.1:9771", "10.77.2.1:9771", "hello"), "inbox"},
		{"hello over IPv6", packet("[fd77:1::1]:9771", "[fd77:2::1]:9771", "hello"), "inbox"},
		{"stream to this node", tcp("10.77.1.1:40000", "10.77.2.1:9771"), "streams"},
		{"stream that this node opened", tcp("10.77.1.1:9771", "10.77.2.1:40000"), "streams"},
		{"stream over IPv6", tcp("[fd77:1::1]:40000", "[fd77:2::1]:9771"), "streams"},
		{"another port", packet("10.77.1.1:9771", "10.77.2.1:53", "data"), "path"},
		{"from a host", packet("10.77.1.10:9771", "10.77.2.1:9771", "data"), "path"},
		{"to a host", packet("10.77.1.1:9771", "10.77.2.10:9771", "data"), "path"},
		{"stream to a host", tcp("10.77.1.1:40000", "10.77.2.10:9771"), "path"},
		{"damaged", damaged, "nowhere"},
		{"hello from another port", packet("10.77.1.1:5555", "10.77.2.1:9771", "hello"), "path"},
		{"hello from another port over IPv6", packet("[fd77:1::1]:5555", "[fd77:2::1]:9771", "hello"), "path"},
		{"election message from another port", packet("10.77.1.1:9771", "10.77.2.1:9772", "claim"), "path"},
		{"election message", packet("10.77.1.1:9772", "10.77.2.1:9772", "claim"), "datagrams"},
		{"stray from another port", packet("10.77.2.2:9771", "10.77.2.1:9773", "packet"), "path"},
		{"stray from another site", packet("10.77.1.1:9773", "10.77.2.1:9773", "packet"), "path"},
		{"stray from the sibling", packet("10.77.2.2:9773", "10.77.2.1:9773", "packet"), "datagrams"},
		{"stream to a datagrams' port", tcp("10.77.1.1:40000", "10.77.2.1:9772"), "path"},
		{"with IP options", optioned, "path"},
		{"with an extension header", extended, "path"},
		{"a fragment", fragment, "path"},
		{"short", []byte{0x45, 0, 0}, "path"},
		{"empty", nil, "path"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path, s := linktest.NewPath(8), &streams{}
			a := testAdapter(path, s)
			grams := 0
			for _, port := range []uint16{wire.HAPort, wire.StrayPort} {
				a.datagrams[port] = func(string, uint16, []byte) { grams++ }
			}
			data := packet("10.77.1.10:1", "10.77.2.10:2", "data around it")
			bufs := [][]byte{pad(data), pad(tt.pkt), pad(data)}
			if n, err := a.Write(bufs, 16); n != 3 || err != nil {
				t.Fatal(n, err)
			}
			got := "nowhere"
			switch {
			case len(a.inbox) == 1:
				got = "inbox"
				if c := <-a.inbox; string(c.payload) != "hello" {
					t.Errorf("payload %q", c.payload)
				}
			case len(s.got) == 1 && bytes.Equal(s.got[0], tt.pkt):
				got = "streams"
			case grams == 1:
				got = "datagrams"
			case len(path.Out) == 3:
				got = "path"
			}
			if got != tt.want {
				t.Errorf("went %s, want %s", got, tt.want)
			}
			if n := len(path.Out); n < 2 {
				t.Errorf("%d packets reached the path", n)
			}
		})
	}
}

func pad(pkt []byte) []byte { return append(make([]byte, 16), pkt...) }

func TestAdapterQueueIsBounded(t *testing.T) {
	a := testAdapter(linktest.NewPath(1), nil)
	for range queueLen + 10 {
		a.send([]byte("packet"))
	}
	if n := a.drops.queueFull.Load(); n != 10 {
		t.Errorf("%d dropped, want 10", n)
	}
	bufs, sizes := make([][]byte, tunBatch), make([]int, tunBatch)
	for i := range bufs {
		bufs[i] = make([]byte, 100)
	}
	// One at a time, though there is room for more: see Read.
	if n, err := a.Read(bufs, sizes, 16); n != 1 || err != nil || string(bufs[0][16:16+sizes[0]]) != "packet" {
		t.Errorf("%d %v %q", n, err, bufs[0][16:16+sizes[0]])
	}
	hello := pad(packet("10.77.1.1:9771", "10.77.2.1:9771", "hello"))
	for range inboxLen + 5 {
		if _, err := a.Write([][]byte{hello}, 16); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.drops.inboxFull.Load(); n != 5 {
		t.Errorf("%d hellos dropped, want 5", n)
	}
}

// null is a Path that moves nothing.
type null struct{ n int }

func (p null) Read(bufs [][]byte, sizes []int, offset int) (int, error) { return p.n, nil }
func (p null) Write(bufs [][]byte, offset int) (int, error)             { return len(bufs), nil }
func (p null) Wake()                                                    {}

func BenchmarkAdapter(b *testing.B) {
	a := testAdapter(null{tunBatch}, nil)
	bufs, sizes := make([][]byte, tunBatch), make([]int, tunBatch)
	pkt := pad(packet("10.77.1.1:5432", "10.77.2.1:40000", string(make([]byte, 1300))))
	for i := range bufs {
		bufs[i] = pkt
	}
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.Write(bufs, 16); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.Read(bufs, sizes, 16); err != nil {
				b.Fatal(err)
			}
			a.outbound.Leave(tunBatch)
		}
	})
}
