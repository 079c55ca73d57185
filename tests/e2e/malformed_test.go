package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// TestMalformedPackets: a peer with a valid key sends what no host sends. Each is
// dropped for a reason that is counted, none reaches the LAN, and what is good
// passes as before.
func TestMalformedPackets(t *testing.T) {
	t.Parallel() // it waits most of the time
	n := newNetwork(t, setup{})
	peer := n.startBadPeer(t, func([]byte) {})
	n.red.up()
	n.red.waitState(status.LinkSilent)
	red, gray := n.Red.DB(), n.Gray.DB()
	reaches := func(what string) {
		t.Helper()
		for _, w := range []way{{to: red, from: gray, addr: red.LAN4}, {to: red, from: gray, addr: red.LAN6}} {
			c, err := w.to.ListenPacket(t.Context(), "udp", netip.AddrPortFrom(w.addr, 5432).String())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			err = lab.Until(ctx, "a good packet "+what, func() (bool, error) {
				// In a flood one may be lost on its way.
				peer.Send(udp(netip.AddrPortFrom(w.source(), 4000), netip.AddrPortFrom(w.addr, 5432), what))
				if err := c.SetReadDeadline(time.Now().Add(lostAfter)); err != nil {
					return false, err
				}
				buf := make([]byte, 100)
				got, _, err := c.ReadFrom(buf)
				return err == nil && string(buf[:got]) == what, nil
			})
			cancel()
			if err != nil {
				t.Error(err)
			}
			c.Close()
		}
	}
	reaches("before")

	from4, to4 := netip.AddrPortFrom(gray.LAN4, 4000), netip.AddrPortFrom(red.LAN4, 5433)
	from6, to6 := netip.AddrPortFrom(gray.LAN6, 4000), netip.AddrPortFrom(red.LAN6, 5433)
	syn4, syn6 := tcp(from4, to4, lab.SYN), tcp(from6, to6, lab.SYN)
	udp4, udp6 := udp(from4, to4, "bad"), udp(from6, to6, "bad")
	ping4 := finish4(append(bytes.Clone(udp4[:20]), 8, 0, 0xf7, 0xff, 0, 0, 0, 0)) // an echo request
	ping4[9] = 1
	binary.BigEndian.PutUint16(ping4[2:], uint16(len(ping4)))
	edit := func(b []byte, change func([]byte)) []byte {
		b = bytes.Clone(b)
		change(b)
		return finish4(b)
	}
	outside := netip.MustParseAddr("192.0.2.9")
	grayGW := n.Gray.GW()
	control4, control6 := netip.AddrPortFrom(n.Red.GW().Node4, 9771), netip.AddrPortFrom(n.Red.GW().Node6, 9771)

	heard := incoming(t, red)
	for _, c := range []struct {
		name, reason string
		packet       []byte
	}{
		{"header length below 20", "bad-header", edit(udp4, func(b []byte) { b[0] = 0x44 })},
		{"header checksum", "bad-checksum", func() []byte { b := bytes.Clone(udp4); b[10] ^= 1; return b }()},
		{"TCP offset below 20", "bad-transport", edit(syn4, func(b []byte) { b[32] = 0x10 })},
		{"TCP offset beyond the end", "short", edit(syn4, func(b []byte) { b[32] = 0xf0 })},
		{"TCP header cut off, IPv6", "short", func() []byte {
			b := bytes.Clone(syn6[:50])
			binary.BigEndian.PutUint16(b[4:], 10)
			return b
		}()},
		{"SYN with FIN", "bad-flags", tcp(from4, to4, lab.SYN|lab.FIN)},
		{"no flags, IPv6", "bad-flags", tcp(from6, to6, 0)},
		{"UDP length beyond the end", "bad-transport", edit(udp4, func(b []byte) { b[25] = 200 })},
		{"UDP length below 8, IPv6", "bad-transport", edit(udp6, func(b []byte) { b[45] = 3 })},
		{"source route", "source-route", withOption4(udp4, 131, 7, 4, 192, 0, 2, 1, 0)},
		{"option without end", "bad-header", withOption4(udp4, 7, 60, 4, 0)},
		{"ICMPv6 in IPv4", "bad-transport", edit(ping4, func(b []byte) { b[9] = 58 })},
		{"routing header that goes on", "source-route", withExtension(udp6, 43, []byte{17, 2, 0, 1, 0, 0, 0, 0}, make([]byte, 16))},
		{"hop-by-hop not first", "bad-extension", withExtension(udp6, 60, []byte{0, 0, 1, 4, 0, 0, 0, 0}, []byte{17, 0, 1, 4, 0, 0, 0, 0})},
		{"extension beyond the end", "short", withExtension(udp6, 60, []byte{17, 255, 1, 4, 0, 0, 0, 0})},
		{"twenty extensions", "bad-extension", withExtension(udp6, 60, extensions(20)...)},
		{"fragment with a cut header", "fragment-bad", fragment4(syn4[:28], 0, true)},
		{"fragment beyond 64 KB", "fragment-bad", fragment4(append(bytes.Clone(udp4[:20]), make([]byte, 64)...), 65528, false)},
		{"fragment not of 8", "fragment-bad", fragment4(append(bytes.Clone(udp4[:20]), make([]byte, 65)...), 0, true)},
		{"land", "loop", tcp(from4, from4, lab.SYN)},
		{"land, IPv6", "loop", tcp(from6, from6, lab.SYN)},
		{"to a multicast group", "martian-address", udp(from4, netip.MustParseAddrPort("224.0.0.1:5432"), "bad")},
		{"to an outside address", "no-route", udp(from4, netip.AddrPortFrom(outside, 53), "bad")},
		{"a hello from another port", "impostor", udp(netip.AddrPortFrom(grayGW.Node4, 5555), control4, "hello")},
		{"a hello with an IP option", "impostor", withOption4(udp(netip.AddrPortFrom(grayGW.Node4, 9771), control4, "hello"), 1, 1, 1, 1)},
		{"a hello with an extension header", "impostor", withExtension(udp(netip.AddrPortFrom(grayGW.Node6, 9771), control6, "hello"), 60, []byte{17, 0, 1, 4, 0, 0, 0, 0})},
		{"a stray of another site", "impostor", udp(netip.AddrPortFrom(grayGW.Node4, 9773), netip.AddrPortFrom(control4.Addr(), 9773), "packet")},
		{"ICMP error about nothing", "unmatched-icmp", quoting(3, ping4, udp(to4, from4, "never sent"))},
		{"ICMP redirect about nothing", "icmp-type", quoting(5, ping4, udp(to4, from4, "never sent"))},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := n.red.drops(c.reason)
			for range 3 {
				peer.Send(bytes.Clone(c.packet))
			}
			n.red.waitDrops(before+3, c.reason)
		})
	}
	// These WireGuard itself drops: a source that is not the peer's, and lengths
	// that lie. Only that they don't arrive can be seen.
	for _, b := range [][]byte{
		tcp(netip.AddrPortFrom(red.LAN4, 4000), to4, lab.SYN), tcp(to4, to4, lab.SYN),
		udp(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 4000), to4, "bad"),
		udp(netip.AddrPortFrom(outside, 4000), to4, "bad"),
		edit(udp4, func(b []byte) { b[2] = 0xff }), edit(udp4, func(b []byte) { b[2], b[3] = 0, 3 }),
		edit(udp6, func(b []byte) { b[4] = 0xff }),
	} {
		peer.Send(b)
	}
	if got := heard(); got != 0 {
		t.Errorf("%d packets reached the database, want none", got)
	}
	reaches("between")

	// What a generator makes of good packets.
	rnd := rand.New(rand.NewPCG(1, 2))
	seeds := [][]byte{syn4, syn6, udp4, udp6, ping4, fragment4(udp4, 0, true), withExtension(udp6, 60, extensions(3)...)}
	for range 30000 {
		b := bytes.Clone(seeds[rnd.IntN(len(seeds))])
		for range 1 + rnd.IntN(4) {
			b[rnd.IntN(len(b))] = byte(rnd.Uint32())
		}
		if rnd.IntN(4) > 0 && len(b) >= 20 {
			finish4(b)
		}
		peer.Send(b)
	}
	reaches("after")
	u, err := n.red.proc.Usage()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("resident %d MB, at most %d", u.RSS>>20, u.PeakRSS>>20)
	if u.PeakRSS > 128<<20 {
		t.Errorf("%d MB of memory, want under 128", u.PeakRSS>>20)
	}
}

// withOption4 puts an option behind an IPv4 header, padded to four bytes.
func withOption4(b []byte, option ...byte) []byte {
	for len(option)%4 != 0 {
		option = append(option, 0)
	}
	out := append(append(bytes.Clone(b[:20]), option...), b[20:]...)
	out[0] = 0x40 | byte(5+len(option)/4)
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	return finish4(out)
}

// withExtension puts extension headers behind an IPv6 header; first is the kind
// of the first of them.
func withExtension(b []byte, first byte, headers ...[]byte) []byte {
	out := bytes.Clone(b[:40])
	out[6] = first
	for _, h := range headers {
		out = append(out, h...)
	}
	out = append(out, b[40:]...)
	binary.BigEndian.PutUint16(out[4:], uint16(len(out)-40))
	return out
}

// extensions are n headers with empty destination options, before UDP.
func extensions(n int) (out [][]byte) {
	for range n - 1 {
		out = append(out, []byte{60, 0, 1, 4, 0, 0, 0, 0})
	}
	return append(out, []byte{17, 0, 1, 4, 0, 0, 0, 0})
}

// fragment4 makes an IPv4 packet a fragment at an offset in bytes.
func fragment4(b []byte, offset int, more bool) []byte {
	out := bytes.Clone(b)
	flags := uint16(offset / 8)
	if more {
		flags |= 0x2000
	}
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	binary.BigEndian.PutUint16(out[4:], uint16(rand.Uint32()))
	binary.BigEndian.PutUint16(out[6:], flags)
	return finish4(out)
}

// quoting makes an ICMP error of a ping's headers: of the given type, with code 3, about b.
func quoting(typ byte, ping, b []byte) []byte {
	out := append(bytes.Clone(ping[:28]), b...)
	out[20], out[21] = typ, 3
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	return finish4(out)
}
