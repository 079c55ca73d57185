package flow

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/onewaylink/gw/gateway/denials"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// TestDenials: each packet that tries what its sender must not do is in the ledger, with the site
// that it came from; what is lost, late or damaged is not.
func TestDenials(t *testing.T) {
	scan := func(flags uint8, src, dst netip.AddrPort) []byte {
		return wiretest.TCP{Src: src, Dst: dst, Seq: 1, Ack: 1, Flags: flags, Window: 1000}.Packet()
	}
	fromGray, toRed := at("10.77.2.9:40000"), at("10.77.1.10:22")
	outside := at("198.51.100.7:40000")
	sourceRoute := wiretest.Finish(append([]byte{0x46, 0, 0, 44, 0, 0, 0, 0, 64, wire.ProtoTCP, 0, 0, 10, 77, 2, 9, 10, 77, 1, 10, 131, 3, 4, 0},
		make([]byte, 20)...))
	for _, c := range []struct {
		name     string
		fromHost bool
		packet   []byte
		dropped  wire.Reason
		site     int // of the attempt; none where there is none
		port     uint16
	}{
		{"a SYN that no rule allows", false, scan(wiretest.SYN, fromGray, toRed), wire.Denied, gray, 22},
		{"the same in IPv6", false, scan(wiretest.SYN, at("[fd77:2::9]:40000"), at("[fd77:1::a]:22")), wire.Denied, gray, 22},
		{"UDP that no rule allows", false, wiretest.UDP(fromGray, at("10.77.1.10:53"), nil), wire.Denied, gray, 53},
		{"an echo that no rule allows", false, wiretest.Echo(fromGray.Addr(), toRed.Addr(), false, 7, 1, nil), wire.Denied, gray, 0},
		{"a host's SYN that no rule allows", true, scan(wiretest.SYN, redDB, at("10.77.2.10:22")), wire.Denied, red, 22},
		{"a scan with ACK", false, scan(wiretest.ACK, fromGray, toRed), wire.NoFlow, gray, 22},
		{"a scan with FIN and ACK", false, scan(wiretest.FIN|wiretest.ACK, fromGray, toRed), wire.NoFlow, gray, 22},
		{"a scan without flags", false, scan(0, fromGray, toRed), wire.BadFlags, gray, 22},
		{"a source route", false, sourceRoute, wire.SourceRoute, gray, 0},
		{"transit to a third site", false, scan(wiretest.SYN, fromGray, at("10.77.3.10:22")), wire.Loop, gray, 22},
		{"an address of no site", false, scan(wiretest.SYN, fromGray, outside), wire.NoRoute, gray, 40000},
		{"the gateway's loopback", false, scan(wiretest.SYN, fromGray, at("127.0.0.1:22")), wire.MartianAddress, gray, 22},
		{"this site's address on the link", false, scan(wiretest.SYN, redDB, toRed), wire.Spoofed, none, 22},
		{"a host with another site's address", true, scan(wiretest.SYN, fromGray, at("10.77.2.10:22")), wire.Spoofed, red, 22},

		{"a late ACK of what policy allows", false, scan(wiretest.ACK, fromGray, at("10.77.1.10:5432")), wire.NoFlow, nothing, 0},
		{"its other direction", false, scan(wiretest.ACK, at("10.77.2.10:5432"), redDB), wire.NoFlow, nothing, 0},
		{"a host's late ACK", true, scan(wiretest.ACK, redDB, at("10.77.2.10:22")), wire.NoFlow, nothing, 0},
		{"a host's multicast", true, wiretest.UDP(redDB, at("224.0.0.251:5353"), nil), wire.MartianAddress, nothing, 0},
		{"a packet cut short", false, scan(wiretest.SYN, fromGray, toRed)[:30], wire.Short, nothing, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			ledger := denials.New(len(sites))
			g := newGW(t, policy(ModeRoute, 5432), func(c *Config) { c.Denials = ledger })
			send := g.in
			if c.fromHost {
				send = g.out
			}
			if r := send(c.packet); r != c.dropped {
				t.Fatalf("dropped for %v, want %v", r, c.dropped)
			}
			var got []attempt
			for _, r := range ledger.Due(g.now, false) {
				a := attempt{Site: r.Site, Reason: r.Reason, Packets: r.Packets}
				if len(r.Ports) > 0 {
					a.Port = r.Ports[0]
				}
				got = append(got, a)
			}
			var want []attempt
			if c.site != nothing {
				want = []attempt{{c.site, c.dropped.String(), c.port, 1}}
			}
			if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// none is the site of an attempt with an address of no site; nothing is no attempt.
const none, nothing = -1, -2

type attempt struct {
	Site    int
	Reason  string
	Port    uint16
	Packets uint64
}

// TestDenialsOfRevoked: packets of a flow whose rule is gone are attempts, and a probe is none.
func TestDenialsOfRevoked(t *testing.T) {
	ledger := denials.New(len(sites))
	g := newGW(t, policy(ModeRoute, 5432), func(c *Config) { c.Denials = ledger })
	talk := newTalk(redDB, grayDB)
	g.open(talk)
	g.table.SetJudge(judge(deny))
	if _, err := g.path.Probe([][]byte{talk.call(wiretest.ACK, 'x')}, true); err != nil {
		t.Fatal(err)
	}
	if got := ledger.Due(g.now, false); len(got) > 0 {
		t.Errorf("of the probe: %+v", got)
	}
	g.want("a packet", g.out(talk.call(wiretest.ACK, 'x')), wire.Revoked)
	if got := ledger.Due(g.now, false); len(got) != 1 || got[0].Reason != "revoked" || got[0].Destination != grayDB.Addr() {
		t.Errorf("of the packet: %+v", got)
	}
}

// BenchmarkDenied is a flood of SYNs from the link that policy denies, each to another address and
// port.
func BenchmarkDenied(b *testing.B) {
	for _, v := range []struct {
		name   string
		ledger *denials.Ledger
	}{{"uncounted", nil}, {"ledger", denials.New(len(sites))}} {
		b.Run(v.name, func(b *testing.B) {
			g := newGW(b, deny, func(c *Config) { c.Denials = v.ledger })
			start := time.Now()
			g.table.cfg.Now = func() time.Duration { return time.Since(start) }
			p := NewPath(g.table, &replay{})
			const batch = 128
			var bufs [][]byte
			for i := range batch {
				s := wiretest.TCP{Src: at("10.77.2.9:40000"), Dst: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 1, byte(i)}), uint16(i+1)),
					Seq: 1, Flags: wiretest.SYN, Window: 1000}
				bufs = append(bufs, append(make([]byte, 16), s.Packet()...))
			}
			b.ReportAllocs()
			for b.Loop() {
				if n, err := p.Write(bufs, 16); err != nil || n != batch {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(batch*b.N), "ns/packet")
		})
	}
}
