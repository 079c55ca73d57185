package flow

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// nodes are the own addresses of the gateways of red and gray, by whether they are IPv6.
var nodes = map[bool][2]netip.Addr{
	false: {ip("10.77.1.1"), ip("10.77.2.1")},
	true:  {ip("fd77:1::1"), ip("fd77:2::1")},
}

func withNodes(c *Config) {
	c.Nodes = []netip.Addr{nodes[false][red], nodes[false][gray], nodes[true][red], nodes[true][gray]}
}

// trunkPacket is what only package trunk makes.
func trunkPacket(src, dst netip.Addr) []byte {
	return append(wire.AppendIP(nil, src, dst, wire.ProtoTrunk, 12), make([]byte, 12)...)
}

// withOptions puts four NOP options (RFC 791 section 3.1) into an IPv4 header, and empty
// destination options (RFC 8200 section 4.6) behind an IPv6 header.
func withOptions(b []byte) []byte {
	if b[0]>>4 == 6 {
		out := append(bytes.Clone(b[:40]), b[6], 0, 1, 4, 0, 0, 0, 0)
		out = append(out, b[40:]...)
		out[6] = 60
		binary.BigEndian.PutUint16(out[4:], uint16(len(out)-40))
		return out
	}
	out := append(bytes.Clone(b[:20]), 1, 1, 1, 1)
	out = append(out, b[20:]...)
	out[0] = 0x46
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	return wiretest.FinishHeader(out)
}

// asFragment gives an IPv6 packet a fragment header although it is whole (RFC 6946).
func asFragment(b []byte) []byte {
	out := append(bytes.Clone(b[:40]), b[6], 0, 0, 0, 0, 0, 0, 7)
	out = append(out, b[40:]...)
	out[6] = 44
	binary.BigEndian.PutUint16(out[4:], uint16(len(out)-40))
	return out
}

// Whatever policy allows, no host puts a packet on the gateways' ports or protocol between their
// own addresses: neither from this site into the link, nor from the link to this host.
func TestImpostor(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		here, there := nodes[v6][red], nodes[v6][gray]
		hostHere, hostThere := redDB.Addr(), grayDB.Addr()
		if v6 {
			hostHere, hostThere = redDB6.Addr(), grayDB6.Addr()
		}
		type sample struct {
			name string
			b    func(src, dst netip.Addr) []byte
			want wire.Reason // between two nodes
		}
		udp := func(from, to uint16, n int) func(src, dst netip.Addr) []byte {
			return func(src, dst netip.Addr) []byte {
				return wiretest.UDP(netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to), make([]byte, n))
			}
		}
		tcp := func(from, to uint16) func(src, dst netip.Addr) []byte {
			return func(src, dst netip.Addr) []byte {
				return wiretest.TCP{Src: netip.AddrPortFrom(src, from), Dst: netip.AddrPortFrom(dst, to), Flags: wiretest.SYN}.Packet()
			}
		}
		edit := func(with func([]byte) []byte, b func(src, dst netip.Addr) []byte) func(src, dst netip.Addr) []byte {
			return func(src, dst netip.Addr) []byte { return with(b(src, dst)) }
		}
		samples := []sample{
			{"trunk", trunkPacket, wire.Impostor},
			{"trunk with options", edit(withOptions, trunkPacket), wire.Impostor},
			{"a ping", func(src, dst netip.Addr) []byte { return wire.AppendEcho(nil, src, dst, 1, 1, 8) }, wire.OK},
			{"the port below", udp(9770, 9770, 4), wire.OK},
			{"the port above", udp(9776, 9776, 4), wire.OK},
			{"ssh", tcp(40000, 22), wire.OK},
		}
		for port := uint16(9771); port <= 9775; port++ {
			samples = append(samples,
				sample{fmt.Sprintf("udp %d", port), udp(port, port, 4), wire.Impostor},
				sample{fmt.Sprintf("udp to %d", port), udp(5555, port, 4), wire.Impostor},
				sample{fmt.Sprintf("udp from %d", port), udp(port, 5555, 4), wire.Impostor},
				sample{fmt.Sprintf("tcp to %d", port), tcp(40000, port), wire.Impostor},
				sample{fmt.Sprintf("tcp from %d", port), tcp(port, 40000), wire.Impostor},
				sample{fmt.Sprintf("udp %d with options", port), edit(withOptions, udp(port, port, 4)), wire.Impostor},
			)
		}
		if v6 {
			samples = append(samples, sample{"a fragment that is whole", edit(asFragment, udp(9771, 9771, 4)), wire.Impostor})
		}
		for _, s := range samples {
			t.Run(fmt.Sprintf("%s/v6=%v", s.name, v6), func(t *testing.T) {
				hosts := s.want
				if hosts == wire.Impostor {
					hosts = wire.OK // where an end is a host, policy decides
				}
				g := newGW(t, allow, withNodes)
				g.want("from the host", g.out(s.b(here, there)), s.want)
				for c := range g.table.Conns() {
					if s.want == wire.Impostor {
						t.Errorf("a flow of an impostor: %+v", c)
					}
				}
				g.want("from the link", newGW(t, allow, withNodes).in(s.b(there, here)), s.want)
				g.want("of the other node, from the host", g.out(s.b(there, here)), orElse(s.want, wire.Spoofed))
				g.want("from a host to a node", g.out(s.b(hostHere, there)), hosts)
				g.want("from a host to a node, from the link", g.in(s.b(hostThere, here)), hosts)
			})
		}
	}
}

// orElse is an impostor's reason, or the one for which other packets are dropped.
func orElse(want, other wire.Reason) wire.Reason {
	if want == wire.Impostor {
		return want
	}
	return other
}

// What is sent in fragments is judged as a whole.
func TestImpostorInFragments(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, proto := range []string{"udp", "trunk"} {
			datagram := func(src, dst netip.Addr) (pieces [][]byte) {
				whole := wiretest.UDP(netip.AddrPortFrom(src, 9771), netip.AddrPortFrom(dst, 9771), make([]byte, 2000))
				if proto == "trunk" {
					whole = append(wire.AppendIP(nil, src, dst, wire.ProtoTrunk, 2000), make([]byte, 2000)...)
				}
				if !v6 {
					whole[6] &^= 0x40 // DF
					wiretest.FinishHeader(whole)
				}
				if err := wire.Fragment(whole, 1280, 7, func(b []byte) { pieces = append(pieces, bytes.Clone(b)) }); err != nil {
					t.Fatal(err)
				}
				return pieces
			}
			here, there := nodes[v6][red], nodes[v6][gray]
			g := newGW(t, allow, withNodes)
			before := g.table.Stats().Drops[wire.Impostor]
			for _, b := range datagram(here, there) {
				if out, _ := g.fromHost(b, wire.Offload{}); len(out) > 0 {
					t.Errorf("%s, v6 %v: %d packets went to the link", proto, v6, len(out))
				}
			}
			for _, b := range datagram(there, here) {
				if out, _ := g.fromLink(b); len(out) > 0 {
					t.Errorf("%s, v6 %v: %d packets went to the host", proto, v6, len(out))
				}
			}
			if n := g.table.Stats().Drops[wire.Impostor] - before; n != 2 {
				t.Errorf("%s, v6 %v: %d datagrams dropped as impostors, want 2", proto, v6, n)
			}
		}
	}
}

// A host reaches the active node by way of the standby as well.
func TestImpostorThroughTheStandby(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		here, there := nodes[v6][red], nodes[v6][gray]
		b := wiretest.UDP(netip.AddrPortFrom(here, 5555), netip.AddrPortFrom(there, wire.FirstNodePort), []byte("hello"))
		standby := newGW(t, allow, withNodes)
		passed := 0
		standby.path.SetPass(func([]byte) { passed++ })
		standby.want("at the standby", standby.out(b), wire.Impostor)
		if r := standby.path.PassesOn(bytes.Clone(b)); r != wire.Impostor || passed > 0 {
			t.Errorf("a trace says %v; passed on %d times", r, passed)
		}
		active := newGW(t, allow, withNodes)
		before := active.table.Stats().Drops
		active.path.Stray(b)
		if out := active.readAll(); len(out) > 0 {
			t.Errorf("a stray went to the link")
		}
		active.want("as a stray", active.dropped(before), wire.Impostor)
	}
}

// An ICMP error about the gateways' own packets quotes no flow of the table.
func TestImpostorInAnICMPError(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		here, there := nodes[v6][red], nodes[v6][gray]
		quoted := wiretest.UDP(netip.AddrPortFrom(there, 9771), netip.AddrPortFrom(here, 9771), []byte("hello"))
		g := newGW(t, allow, withNodes)
		kind := [2]byte{3, 3} // port unreachable
		if v6 {
			kind = [2]byte{1, 4}
		}
		g.want("from the host", g.out(wiretest.ICMP(here, there, kind[0], kind[1], 0, quoted)), wire.Unmatched)
	}
}

// A trace of such a packet names the reason.
func TestProbeImpostor(t *testing.T) {
	g := newGW(t, allow, withNodes)
	b := wiretest.UDP(netip.AddrPortFrom(nodes[false][red], 5555), netip.AddrPortFrom(nodes[false][gray], 9771), nil)
	for _, fromHost := range []bool{true, false} {
		if !fromHost {
			b = wiretest.UDP(netip.AddrPortFrom(nodes[false][gray], 5555), netip.AddrPortFrom(nodes[false][red], 9771), nil)
		}
		if out, err := g.path.Probe([][]byte{b}, fromHost); err != nil || out.Reason != wire.Impostor {
			t.Errorf("from host %v: %v, %v", fromHost, out.Reason, err)
		}
	}
}
