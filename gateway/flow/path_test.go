package flow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

func parsed(tb testing.TB, b []byte) *wire.Packet {
	tb.Helper()
	var p wire.Packet
	if r := wire.Parse(&p, b); r != wire.OK {
		tb.Fatalf("%v: %x", r, b[:min(len(b), 60)])
	}
	return &p
}

// wantICMP checks that b is an ICMP error of the kind, about the packet.
func (g *gw) wantICMP(b []byte, typ, code uint8, info uint32, about []byte) {
	g.Helper()
	p := parsed(g, b)
	if !p.IsICMPError() || p.ICMPType != typ || p.ICMPCode != code || binary.BigEndian.Uint32(p.B[p.L4+4:]) != info || !p.ChecksumOK() {
		g.Fatalf("ICMP %d/%d, want %d/%d", p.ICMPType, p.ICMPCode, typ, code)
	}
	q := parsed(g, about)
	if p.Dst() != q.Src() {
		g.Errorf("goes to %v, want %v", p.Dst(), q.Src())
	}
	if got, r := wire.ParseQuoted(p); r != wire.OK || got.Src != q.Src() || got.Dst != q.Dst() || got.SrcPort != q.SrcPort {
		g.Errorf("quotes %+v, %v", got, r)
	}
}

func TestPolicyBothWays(t *testing.T) {
	a4, b4, a6, b6 := redDB, grayDB, redDB6, grayDB6
	for _, tt := range []struct {
		name      string
		out, back func(src, dst netip.AddrPort) []byte
	}{
		{"tcp", func(s, d netip.AddrPort) []byte { return newTalk(s, d).call(syn) },
			func(s, d netip.AddrPort) []byte { return newTalk(d, s).raw(false, syn|ack, 5, 1001, 0) }},
		{"udp", func(s, d netip.AddrPort) []byte { return wiretest.UDP(s, d, []byte("ask")) },
			func(s, d netip.AddrPort) []byte { return wiretest.UDP(s, d, []byte("tell")) }},
		{"echo", func(s, d netip.AddrPort) []byte { return wiretest.Echo(s.Addr(), d.Addr(), false, 7, 1, nil) },
			func(s, d netip.AddrPort) []byte { return wiretest.Echo(s.Addr(), d.Addr(), true, 7, 1, nil) }},
		{"sctp", func(s, d netip.AddrPort) []byte { return wiretest.IP(s.Addr(), d.Addr(), 132, make([]byte, 20)) },
			func(s, d netip.AddrPort) []byte { return wiretest.IP(s.Addr(), d.Addr(), 132, make([]byte, 20)) }},
	} {
		for _, pair := range [][2]netip.AddrPort{{a4, b4}, {a6, b6}} {
			red, gray := pair[0], pair[1]
			t.Run(tt.name+" "+red.String(), func(t *testing.T) {
				g := newGW(t, callsGray)
				asked := tt.out(red, gray)
				got, r := g.fromHost(asked, wire.Offload{})
				if r != wire.OK || len(got) != 1 || tt.name != "tcp" && !bytes.Equal(got[0], asked) {
					t.Fatalf("allowed and dropped: %v", r)
				}
				answer := tt.back(gray, red)
				written, r := g.fromLink(answer)
				if r != wire.OK || len(written) != 1 {
					t.Fatalf("the answer was dropped: %v", r)
				}
				if c := g.conn(); !c.Local || c.Site != "gray" || c.PacketsOut != 1 || c.PacketsIn != 1 ||
					c.BytesOut != uint64(len(asked)) || c.BytesIn != uint64(len(answer)) || c.Source.Addr() != red.Addr() || c.Rule != *someRule {
					t.Errorf("%+v", c)
				}

				g = newGW(t, callsGray) // the same from the other side is denied
				called := tt.out(gray, red)
				written, r = g.fromLink(called)
				if r != wire.Denied || len(written) != 0 {
					t.Fatalf("denied and passed: %v, %d packets", r, len(written))
				}
				told := g.readAll()
				if len(told) != 1 {
					t.Fatalf("%d packets of the gateway's own", len(told))
				}
				if red.Addr().Is4() {
					g.wantICMP(told[0], 3, 13, 0, called)
				} else {
					g.wantICMP(told[0], 1, 1, 0, called)
				}
				if st := g.table.Stats(); st.Denied != 1 || st.Opened != 0 {
					t.Errorf("%+v", st)
				}

				g = newGW(t, deny) // and what this side may not is refused here
				if got, r := g.fromHost(asked, wire.Offload{}); r != wire.Denied || len(got) != 0 {
					t.Fatalf("denied and passed: %v", r)
				}
				if w := g.host.written(); len(w) != 1 {
					t.Errorf("%d answers", len(w))
				}
			})
		}
	}
}

func TestNoAnswerWithoutQuestion(t *testing.T) {
	g := newGW(t, allow)
	c := newTalk(grayDB, redDB)
	for name, b := range map[string][]byte{
		"ack":        c.raw(true, ack, 1, 2, 0),
		"syn-ack":    c.raw(true, syn|ack, 1, 2, 0),
		"rst":        c.raw(true, rst, 1, 0, 0),
		"fin":        c.raw(true, fin|ack, 1, 2, 5),
		"echo reply": wiretest.Echo(grayDB.Addr(), redDB.Addr(), true, 1, 1, nil),
	} {
		g.want(name, g.in(b), wire.NoFlow)
	}
	young := newGW(t, allow, func(c *Config) { c.Grace = time.Minute })
	young.want("a young gateway", young.in(c.raw(true, ack, 1, 2, 0)), wire.Grace)
	young.now += time.Minute
	young.want("no longer young", young.in(c.raw(true, ack, 1, 2, 0)), wire.NoFlow)
	if n := len(g.readAll()) + len(young.readAll()); n != 0 {
		t.Errorf("%d answers to packets that must be dropped silently", n)
	}
}

func TestAddresses(t *testing.T) {
	udp := func(src, dst string) []byte { return wiretest.UDP(at(src), at(dst), nil) }
	g := newGW(t, allow)
	for _, tt := range []struct {
		name    string
		b       []byte
		out, in wire.Reason
	}{
		{"red to gray", udp("10.77.1.10:1", "10.77.2.10:1"), wire.OK, wire.Spoofed},
		{"gray to red", udp("10.77.2.10:2", "10.77.1.10:2"), wire.Spoofed, wire.OK},
		{"red to red", udp("10.77.1.10:3", "10.77.1.11:3"), wire.Loop, wire.Spoofed},
		{"gray to gray", udp("10.77.2.10:3", "10.77.2.11:3"), wire.Spoofed, wire.Loop},
		{"from nowhere", udp("10.9.9.9:1", "10.77.2.10:1"), wire.Spoofed, wire.Spoofed},
		{"red to nowhere", udp("10.77.1.10:1", "8.8.8.8:1"), wire.NoRoute, wire.Spoofed},
		{"gray to nowhere", udp("10.77.2.10:1", "8.8.8.8:1"), wire.Spoofed, wire.NoRoute},
		{"red to a site without a link", udp("10.77.1.10:1", "10.77.3.10:1"), wire.NoRoute, wire.Spoofed},
		{"from a site without a link", udp("10.77.3.10:1", "10.77.1.10:1"), wire.Spoofed, wire.NoRoute},
		{"multicast", udp("10.77.1.10:1", "224.0.0.1:1"), wire.MartianAddress, wire.MartianAddress},
		{"broadcast", udp("10.77.1.10:1", "255.255.255.255:1"), wire.MartianAddress, wire.MartianAddress},
		{"loopback", udp("127.0.0.1:1", "10.77.2.10:1"), wire.MartianAddress, wire.MartianAddress},
		{"v6 link-local", udp("[fe80::1]:1", "[fd77:2::a]:1"), wire.MartianAddress, wire.MartianAddress},
		{"v6 unspecified", udp("[::]:1", "[fd77:2::a]:1"), wire.MartianAddress, wire.MartianAddress},
		{"v6 red to gray", udp("[fd77:1::a]:1", "[fd77:2::a]:1"), wire.OK, wire.Spoofed},
	} {
		g.want(tt.name+" out", g.out(tt.b), tt.out)
		g.want(tt.name+" in", g.in(tt.b), tt.in)
	}
}

func TestICMPErrorsAreMatched(t *testing.T) {
	g, c := newGW(t, callsGray), newTalk(redDB, grayDB)
	g.open(c)
	router := ip("10.77.2.1")
	about := c.call(ack, 1, 2, 3)
	g.want("data", g.out(about), wire.OK)
	other := newTalk(at("10.77.1.10:40001"), grayDB)
	from := func(src, dst netip.Addr, quoted []byte) []byte { return wiretest.ICMP(src, dst, 3, 4, 1400, quoted) }
	for _, tt := range []struct {
		name string
		b    []byte
		want wire.Reason
	}{
		{"about what was sent", from(router, redDB.Addr(), about), wire.OK},
		{"eight bytes quoted", from(router, redDB.Addr(), about[:28]), wire.OK},
		{"about another connection", from(router, redDB.Addr(), other.call(syn)), wire.Unmatched},
		{"about what went the other way", from(router, redDB.Addr(), c.answer(ack)), wire.Unmatched},
		{"to somebody else", from(router, ip("10.77.1.99"), about), wire.Unmatched},
		{"quotes nothing", from(router, redDB.Addr(), nil), wire.Short},
		{"from nowhere", from(ip("9.9.9.9"), redDB.Addr(), about), wire.Spoofed},
	} {
		g.want(tt.name, g.in(tt.b), tt.want)
	}
	g.want("about what came in", g.out(from(ip("10.77.1.1"), grayDB.Addr(), c.answer(ack))), wire.OK)
	g.want("about what went out, outward", g.out(from(ip("10.77.1.1"), grayDB.Addr(), about)), wire.Unmatched)

	// Who is pinged may not ping back under the cover of the same identifier.
	ping := wiretest.Echo(redDB.Addr(), grayDB.Addr(), false, 7, 1, nil)
	g.want("ping", g.out(ping), wire.OK)
	g.want("reply", g.in(wiretest.Echo(grayDB.Addr(), redDB.Addr(), true, 7, 1, nil)), wire.OK)
	g.want("ping back", g.in(wiretest.Echo(grayDB.Addr(), redDB.Addr(), false, 7, 1, nil)), wire.Denied)
	g.want("reply to no ping", g.out(wiretest.Echo(redDB.Addr(), grayDB.Addr(), true, 7, 1, nil)), wire.NoFlow)
	g.want("about the ping", g.in(from(router, redDB.Addr(), ping)), wire.OK)
	g.want("about a reply that never was", g.in(from(router, redDB.Addr(), wiretest.Echo(redDB.Addr(), grayDB.Addr(), true, 7, 1, nil))), wire.Unmatched)
}

// TestICMPTypes: of all ICMP types, the errors that senders need pass where they quote a
// packet of a flow, an echo opens a flow, and no other type crosses, in either direction,
// with or without a quoted packet.
func TestICMPTypes(t *testing.T) {
	for _, tt := range []struct {
		src, dst netip.AddrPort
		errors   []byte // types
		echo     byte
		reply    byte
	}{
		{redDB, grayDB, []byte{3, 11, 12}, 8, 0},
		{redDB6, grayDB6, []byte{1, 2, 3, 4}, 128, 129},
	} {
		g, c := newGW(t, allow), newTalk(tt.src, tt.dst)
		g.open(c)
		sent, came := c.call(ack, 1), c.answer(ack)
		g.want("data", g.out(sent), wire.OK)
		for typ := range 256 {
			typ := byte(typ)
			quoting, bare := wire.ICMPType, wire.ICMPType
			switch {
			case slices.Contains(tt.errors, typ):
				quoting, bare = wire.OK, wire.Short
			case typ == tt.echo:
				quoting, bare = wire.OK, wire.OK
			case typ == tt.reply:
				quoting, bare = wire.NoFlow, wire.NoFlow
			}
			// Each message has an identifier of its own, so that an echo opens a flow and a
			// reply belongs to none.
			in := func(body []byte) []byte {
				return wiretest.ICMP(tt.dst.Addr(), tt.src.Addr(), typ, 0, uint32(typ)<<16, body)
			}
			out := func(body []byte) []byte {
				return wiretest.ICMP(tt.src.Addr(), tt.dst.Addr(), typ, 0, (256+uint32(typ))<<16, body)
			}
			name := fmt.Sprintf("IPv6 %v, type %d", tt.src.Addr().Is6(), typ)
			g.want(name+" in, quoting", g.in(in(sent)), quoting)
			g.want(name+" in, bare", g.in(in(nil)), bare)
			g.want(name+" out, quoting", g.out(out(came)), quoting)
			g.want(name+" out, bare", g.out(out(nil)), bare)
		}
	}
}

func TestLinkStates(t *testing.T) {
	g := newGW(t, allow)
	b := wiretest.UDP(redDB, grayDB, nil)
	g.path.SetSite(gray, SiteState{})
	g.want("down", g.out(b), wire.LinkDown)
	g.path.SetSite(gray, SiteState{Up: true, Refused: true})
	g.want("refused", g.out(b), wire.LinkRefused)
	g.want("refused inward", g.in(wiretest.UDP(grayDB, redDB, nil)), wire.LinkRefused)
	g.path.SetSite(gray, SiteState{Up: true})
	g.want("up", g.out(b), wire.OK)
	if w := g.host.written(); len(w) != 0 {
		t.Error("the gateway is not silent")
	}
}

func TestTooBig(t *testing.T) {
	big := func(src, dst netip.AddrPort) []byte { return wiretest.UDP(src, dst, make([]byte, 1400)) } // 1,428 or 1,448 bytes
	t.Run("udp with df", func(t *testing.T) {
		g := newGW(t, allow)
		b := big(redDB, grayDB)
		out, r := g.fromHost(b, wire.Offload{})
		if r != wire.TooBig || len(out) != 0 {
			t.Fatalf("%v, %d packets", r, len(out))
		}
		g.wantICMP(g.host.written()[0].b, 3, 4, 1420, b)
	})
	t.Run("the path is what counts", func(t *testing.T) {
		g := newGW(t, allow)
		g.path.SetSite(gray, SiteState{Up: true, MTU: 1300})
		b := wiretest.UDP(redDB6, grayDB6, make([]byte, 1300))
		if _, r := g.fromHost(b, wire.Offload{}); r != wire.TooBig {
			t.Fatal(r)
		}
		g.wantICMP(g.host.written()[0].b, 2, 0, 1300, b)
		g.want("fits", g.out(wiretest.UDP(redDB6, grayDB6, make([]byte, 1252))), wire.OK)
	})
	t.Run("udp without df", func(t *testing.T) {
		g := newGW(t, allow)
		b := big(redDB, grayDB)
		b[6] = 0
		p := parsed(t, wiretest.FinishHeader(b))
		want := bytes.Clone(b)
		out, r := g.fromHost(b, p.SetPartial()) // the checksum is finished before it is cut up
		if r != wire.OK || len(out) != 2 {
			t.Fatalf("%v, %d packets", r, len(out))
		}
		if got := reassemble(t, out); !bytes.Equal(got, want) {
			t.Error("the fragments make another packet")
		}
	})
	t.Run("tcp", func(t *testing.T) {
		g, c := newGW(t, allow), newTalk(redDB, grayDB)
		g.open(c)
		b := c.call(ack|psh, make([]byte, 1460)...)
		out, r := g.fromHost(b, wire.Offload{})
		if r != wire.OK || len(out) != 2 || len(out[0]) != 1420 || len(out[1]) != 1500-1420+40 {
			t.Fatalf("%v, %d packets", r, len(out))
		}
		g.wantICMP(g.host.written()[0].b, 3, 4, 1420, b)
		b[50] ^= 1 // what is cut gets new checksums: they must not hide damage
		if _, r := g.fromHost(b, wire.Offload{}); r != wire.BadChecksum {
			t.Errorf("damaged: %v", r)
		}
	})
	t.Run("a super-segment for a narrower path", func(t *testing.T) {
		g, c := newGW(t, allow), newTalk(redDB, grayDB)
		g.open(c)
		b, o := super(c, 5*1368)
		out, r := g.fromHost(b, o)
		if r != wire.OK || len(out) != 5 || len(g.host.written()) != 0 {
			t.Fatalf("%v, %d packets", r, len(out))
		}
		g.path.SetSite(gray, SiteState{Up: true, MTU: 1400})
		out, r = g.fromHost(b, o)
		if r != wire.OK || len(out) != 6 || len(out[0]) != 1400 {
			t.Fatalf("%v, %d packets", r, len(out))
		}
		g.wantICMP(g.host.written()[0].b, 3, 4, 1400, b)
	})
	t.Run("no room for any payload", func(t *testing.T) {
		g, c := newGW(t, allow), newTalk(redDB, grayDB)
		g.open(c)
		g.path.SetSite(gray, SiteState{Up: true, MTU: 40})
		g.want("data", g.out(c.call(ack, 1)), wire.TooBig)
	})
}

func reassemble(t *testing.T, frags [][]byte) []byte {
	t.Helper()
	ra := wire.NewReassembler(wire.ReassemblerConfig{})
	for i, f := range frags {
		whole, r := ra.Add(0, f)
		if i == len(frags)-1 && r == wire.FragWhole {
			return whole.Packet
		}
		if r != wire.FragHeld {
			t.Fatalf("fragment %d: %v", i, r)
		}
	}
	t.Fatal("not whole")
	return nil
}

func TestFragments(t *testing.T) {
	cut := func(b []byte, mtu int) (out [][]byte) {
		if b[0]>>4 == 4 {
			b[6] = 0
			wiretest.FinishHeader(b)
		}
		if err := wire.Fragment(b, mtu, 99, func(f []byte) { out = append(out, bytes.Clone(f)) }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	payload := make([]byte, 5000)
	for i := range payload {
		payload[i] = byte(i)
	}
	for _, ends := range [][2]netip.AddrPort{{redDB, grayDB}, {redDB6, grayDB6}} {
		t.Run(ends[0].String(), func(t *testing.T) {
			whole := wiretest.UDP(ends[0], ends[1], payload)
			frags := cut(whole, 1300)
			g := newGW(t, callsGray)
			var out [][]byte
			for i, f := range frags {
				got, r := g.fromHost(f, wire.Offload{})
				if r != wire.OK || i < len(frags)-1 && len(got) != 0 {
					t.Fatalf("fragment %d: %v, %d packets", i, r, len(got))
				}
				out = append(out, got...)
			}
			if len(out) != len(frags) || !bytes.Equal(reassemble(t, out), whole) {
				t.Fatalf("%d fragments came out", len(out))
			}
			for _, f := range out {
				if len(f) > 1300 {
					t.Error("a fragment grew")
				}
			}
			back := wiretest.UDP(ends[1], ends[0], payload)
			written, r := g.fromLink(cut(back, 1400)...)
			var in [][]byte
			for _, w := range written {
				if w.o != (wire.Offload{}) {
					t.Error("a fragment with something left to do")
				}
				in = append(in, w.b)
			}
			if r != wire.OK || !bytes.Equal(reassemble(t, in), back) {
				t.Fatalf("inward: %v", r)
			}

			g = newGW(t, deny)
			var last wire.Reason
			for _, f := range cut(wiretest.UDP(ends[0], ends[1], payload), 1300) {
				_, last = g.fromHost(f, wire.Offload{})
			}
			if w := g.host.written(); last != wire.Denied || len(w) != 1 {
				t.Errorf("denied: %v, %d answers", last, len(w))
			}
			g = newGW(t, allow)
			g.path.SetSite(gray, SiteState{Up: true, MTU: 1290})
			out = nil
			for _, f := range frags {
				got, _ := g.fromHost(f, wire.Offload{})
				out = append(out, got...)
			}
			if !bytes.Equal(reassemble(t, out), whole) {
				t.Error("a narrower path")
			}
			if told := len(g.host.written()); told != 0 && ends[0].Addr().Is4() || told != 1 && ends[0].Addr().Is6() {
				t.Errorf("told %d times", told)
			}
		})
	}
	t.Run("bad", func(t *testing.T) {
		g := newGW(t, allow)
		frags := cut(wiretest.UDP(redDB, grayDB, payload), 1300)
		spoofed := cut(wiretest.UDP(at("10.77.2.9:1"), grayDB, payload), 1300)
		g.want("spoofed", g.out(spoofed[0]), wire.Spoofed)
		g.want("spoofed inward", g.in(frags[0]), wire.Spoofed)
		g.want("tiny", g.out(cut(newTalk(redDB, grayDB).call(syn, make([]byte, 100)...), 28)[0]), wire.FragmentBad)
		g.want("first", g.out(frags[0]), wire.OK)
		over := bytes.Clone(frags[1])
		binary.BigEndian.PutUint16(over[6:], binary.BigEndian.Uint16(over[6:])-1)
		g.want("overlapping", g.out(wiretest.FinishHeader(over)), wire.FragmentBad)
		g.want("the rest of a spoilt one", g.out(frags[1]), wire.FragmentBad)
		ah := wiretest.IP(redDB6.Addr(), grayDB6.Addr(), 51, append(append([]byte{44, 4}, make([]byte, 22)...), 17, 0, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8))
		g.want("behind an authentication header", g.out(ah), wire.BadExtension)
		if c := len(g.book.records); c != 0 {
			t.Error("a flow was made")
		}
	})
	t.Run("more than the buffers hold", func(t *testing.T) {
		g := newGW(t, allow)
		frags := cut(wiretest.UDP(redDB, grayDB, payload), 1300)
		for _, f := range frags {
			g.host.send(f, wire.Offload{})
		}
		g.host.setClosed(true)
		var out [][]byte
		buf, sizes := make([]byte, 2000), []int{0}
		for {
			n, err := g.path.Read([][]byte{buf}, sizes, 0)
			if errors.Is(err, os.ErrClosed) {
				break
			}
			if n != 1 || err != nil {
				t.Fatal(n, err)
			}
			out = append(out, bytes.Clone(buf[:sizes[0]]))
		}
		if len(out) != len(frags) {
			t.Errorf("%d fragments, want %d", len(out), len(frags))
		}
	})
}

func TestClampsMSS(t *testing.T) {
	for _, tt := range []struct {
		src, dst netip.AddrPort
		path     int
		want     uint16
	}{{redDB, grayDB, 0, 1380}, {redDB, grayDB, 1400, 1360}, {redDB6, grayDB6, 1300, 1240}} {
		g, c := newGW(t, allow), newTalk(tt.src, tt.dst)
		g.path.SetSite(gray, SiteState{Up: true, MTU: tt.path})
		mss := func(b []byte) uint16 {
			p := parsed(t, b)
			if !p.ChecksumOK() {
				t.Error("the checksum does not hold")
			}
			return binary.BigEndian.Uint16(p.B[p.L4+22:])
		}
		out, _ := g.fromHost(c.call(syn), wire.Offload{})
		in, _ := g.fromLink(c.answer(syn | ack))
		if a, b := mss(out[0]), mss(in[0].b); a != tt.want || b != tt.want {
			t.Errorf("MSS %d and %d, want %d", a, b, tt.want)
		}
	}
}

func TestChecksumsAcrossTheLink(t *testing.T) {
	partialOf := func(b []byte) []byte { p := parsed(t, bytes.Clone(b)); p.SetPartial(); return p.B }
	for _, far := range []bool{false, true} {
		g, c := newGW(t, allow), newTalk(redDB, grayDB)
		g.open(c)
		g.path.SetSite(gray, SiteState{Up: true, Partial: far})
		tcp, udp := c.call(ack, 1, 2, 3), wiretest.UDP(redDB, grayDB, []byte("abc"))
		for _, b := range [][]byte{tcp, udp} {
			want, left := b, parsed(t, bytes.Clone(b)).SetPartial()
			if far {
				want = partialOf(b)
			}
			if out, r := g.fromHost(partialOf(b), left); r != wire.OK || !bytes.Equal(out[0], want) {
				t.Errorf("far gateway finishes: %t: %v\n%x, want\n%x", far, r, out, want)
			}
			if out, r := g.fromHost(b, wire.Offload{}); r != wire.OK || !bytes.Equal(out[0], b) {
				t.Errorf("a finished checksum was changed: %v", r)
			}
		}
	}
	for _, offload := range []bool{false, true} {
		g, c := newGW(t, allow), newTalk(redDB, grayDB)
		g.host.CanOffload = offload
		g.open(c)
		g.out(wiretest.UDP(redDB, grayDB, nil))
		for _, b := range [][]byte{c.answer(ack, 1, 2, 3), wiretest.UDP(grayDB, redDB, []byte("abc"))} {
			w, r := g.fromLink(partialOf(b))
			if r != wire.OK || len(w) != 1 {
				t.Fatalf("%v, %d packets", r, len(w))
			}
			if !offload && (w[0].o != wire.Offload{} || !bytes.Equal(w[0].b, b)) {
				t.Errorf("not finished for a device that can't: %+v", w[0])
			}
			if offload && (w[0].o != parsed(t, w[0].b).Partial() || !bytes.Equal(w[0].b, partialOf(b))) {
				t.Errorf("not left to a device that can: %+v", w[0])
			}
		}
	}
}

func TestJoinsABatch(t *testing.T) {
	g := newGW(t, allow)
	talks := make([]*talk, 12)
	for i := range talks {
		talks[i] = newTalk(netip.AddrPortFrom(redDB.Addr(), uint16(1000+i)), grayDB)
		g.open(talks[i])
	}
	g.out(wiretest.UDP(redDB, grayDB, nil))
	for _, offload := range []bool{true, false} {
		g.host.CanOffload = offload
		for _, flows := range []int{1, 3, 12} { // as many as can be joined side by side, and more
			var batch [][]byte
			want := map[uint16][]byte{}
			for round := range 10 {
				for i := range flows {
					c := talks[i]
					payload := bytes.Repeat([]byte{byte(round*16 + i)}, 100)
					if round == 9 {
						payload = payload[:33]
					}
					batch = append(batch, c.answer(ack, payload...))
					want[c.src.Port()] = append(want[c.src.Port()], payload...)
				}
			}
			batch = append(batch, wiretest.UDP(grayDB, redDB, []byte("between")))
			written, r := g.fromLink(batch...)
			if r != wire.OK {
				t.Fatal(r)
			}
			got := map[uint16][]byte{}
			tcp := 0
			for _, w := range written {
				p := parsed(t, w.b)
				if p.Proto == wire.ProtoUDP {
					continue
				}
				tcp++
				if w.o.NeedsCsum {
					if !p.IsPartial() {
						t.Fatal("a checksum that is not as the device expects it")
					}
				} else if !p.ChecksumOK() {
					t.Fatal("a checksum does not hold")
				}
				got[p.DstPort] = append(got[p.DstPort], p.Payload()...)
			}
			for port, b := range want {
				if !bytes.Equal(got[port], b) {
					t.Fatalf("offload %t, %d flows: the bytes of port %d are others", offload, flows, port)
				}
			}
			switch {
			case offload && flows <= maxRuns && tcp != flows:
				t.Errorf("%d flows came in %d packets", flows, tcp)
			case !offload && tcp != 10*flows:
				t.Errorf("%d packets, want %d", tcp, 10*flows)
			}
		}
	}
}

func TestHostRefusesAPacket(t *testing.T) {
	g := newGW(t, allow)
	g.out(wiretest.UDP(redDB, grayDB, nil))
	g.host.Fail = errors.New("no buffer space")
	g.want("udp", g.in(wiretest.UDP(grayDB, redDB, nil)), wire.HostWrite)
	g.host.Fail = nil
	g.want("later", g.in(wiretest.UDP(grayDB, redDB, nil)), wire.OK)
}

func TestWakesTheReader(t *testing.T) {
	g := newGW(t, allow)
	buf, sizes := [][]byte{make([]byte, 2000)}, []int{0}
	g.path.Wake() // before the Read
	if n, err := g.path.Read(buf, sizes, 0); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	done := make(chan int, 1)
	go func() {
		n, _ := g.path.Read(buf, sizes, 0)
		done <- n
	}()
	g.path.Wake()
	if n := <-done; n != 0 {
		t.Errorf("%d packets", n)
	}
	g.host.send(wiretest.UDP(redDB, grayDB, nil), wire.Offload{})
	if n, err := g.path.Read(buf, sizes, 0); n != 1 || err != nil {
		t.Errorf("after it: %d, %v", n, err)
	}
}

// A reader that is woken over and over still reads what the host has, and takes no
// Wake for a failure.
func TestWokenReaderReads(t *testing.T) {
	g := newGW(t, allow)
	bufs, sizes := make([][]byte, 128), make([]int, 128)
	for i := range bufs {
		bufs[i] = make([]byte, 2048)
	}
	g.host.send(wiretest.UDP(redDB, grayDB, nil), wire.Offload{})
	g.path.Wake()
	if n, err := g.path.Read(bufs, sizes, 0); n != 1 || err != nil {
		t.Fatalf("%d packets, of one that waits: %v", n, err)
	}
	// Another one comes just when the first has been taken notice of.
	g.host.Rearmed = func() {
		g.host.Rearmed = nil
		g.path.Wake()
	}
	g.host.send(wiretest.UDP(redDB, grayDB, nil), wire.Offload{})
	g.path.Wake()
	for i, want := range []int{0, 1} {
		if n, err := g.path.Read(bufs, sizes, 0); n != want || err != nil {
			t.Errorf("call %d: %d packets, want %d: %v", i, n, want, err)
		}
	}
}

func TestVoiceIsLimited(t *testing.T) {
	g := newGW(t, deny)
	n := 0
	for i := range 3 * voiceBurst {
		g.out(wiretest.UDP(netip.AddrPortFrom(redDB.Addr(), uint16(1+i)), grayDB, nil))
		n += len(g.host.written())
	}
	if n < voiceBurst || n > 2*voiceBurst {
		t.Errorf("%d answers to a scan of %d", n, 3*voiceBurst)
	}
	// Path MTU discovery has a budget of its own.
	g.table.judge.Store(judgePtr(allow))
	g.out(wiretest.UDP(redDB, grayDB, make([]byte, 1400)))
	if w := g.host.written(); len(w) != 1 {
		t.Error("a scan silences path MTU discovery")
	}
}

func judgePtr(j judge) *Judge { x := Judge(j); return &x }

// Small packets that wait together go through the tunnel together.
func TestReadGathers(t *testing.T) {
	g := newGW(t, allow)
	talk := newTalk(redDB, grayDB)
	g.open(talk)
	for range gather + 2 {
		g.host.send(talk.call(wire.ACK, 1), wire.Offload{})
	}
	bufs, sizes := make([][]byte, 128), make([]int, 128)
	for i := range bufs {
		bufs[i] = make([]byte, 2048)
	}
	for _, want := range []int{gather, 2} {
		if n, err := g.path.Read(bufs, sizes, 16); n != want || err != nil {
			t.Fatalf("read %d packets, want %d: %v", n, want, err)
		}
	}
	for range 5 {
		g.host.send(talk.call(wire.ACK, 1), wire.Offload{})
	}
	few := bufs[:3]
	for _, want := range []int{3, 2} {
		if n, err := g.path.Read(few, sizes, 16); n != want || err != nil {
			t.Fatalf("read %d packets into 3 buffers, want %d: %v", n, want, err)
		}
	}
}

func TestKnownFlowsAllocateNothing(t *testing.T) {
	g, c := newGW(t, allow), newTalk(redDB, grayDB)
	g.open(c)
	r := &replay{}
	p := NewPath(g.table, r)
	p.SetSite(gray, SiteState{Up: true})
	r.packet, r.o = super(c, 10*1368)
	bufs, sizes := make([][]byte, 16), make([]int, 16)
	for i := range bufs {
		bufs[i] = make([]byte, 2000)
	}
	if n := testing.AllocsPerRun(100, func() {
		if n, err := p.Read(bufs, sizes, 16); n != 10 || err != nil {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("a read allocates %v times", n)
	}
	batch := [][]byte{append(make([]byte, 16), c.answer(ack, make([]byte, 100)...)...)}
	if n := testing.AllocsPerRun(100, func() { p.Write(batch, 16) }); n != 0 {
		t.Errorf("a write allocates %v times", n)
	}
}
