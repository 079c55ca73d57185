package flow

import (
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// FuzzForeign feeds records of two hostile givers, packets of both sides and what else happens to a
// small table: four bytes each. Whatever they are, no giver exceeds its quota, the counters agree
// with the flows, no packet reaches a host by an unconfirmed flow that policy would not let the far
// end open, no record leaves before its flow is confirmed, and in the end this site's host opens a
// connection to the site that gave nothing wrong.
func FuzzForeign(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x01\x00\x00\x10\x02\x00\x00\x10\x03\x00\x00\x04"))
	f.Add([]byte("\x00\x01\x02\x00\x04\x00\x00\x00\x01\x01\x02\x10\x06\x80\x00\x00\x02\x01\x02\x10"))
	f.Add([]byte("\x00\x03\x80\x00\x05\x00\x00\x00\x05\x01\x00\x00\x00\x03\x80\x00\x01\x03\x80\x10\x07\x00\x00\x00"))
	full := []byte{}
	for i := range byte(40) {
		full = append(full, 0, i, 0, 0)
	}
	f.Add(full)
	f.Fuzz(func(t *testing.T, script []byte) {
		const limit = 64
		script = script[:min(len(script), 4*200)]
		g := newGW(t, databases, linkBlue, func(c *Config) { c.MaxFlows = limit })
		g.path.SetSite(blue, SiteState{Up: true, Partial: true})
		var open [3][]asked
		for ; len(script) >= 4; script = script[4:] {
			op, which, how, flags := script[0], script[1], script[2], script[3]
			// The ends that may be meant, opened from either side, to a port that is allowed or
			// not.
			near := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 1, 10 + which%4}), 5000+uint16(which/4))
			far := at("10.77.2.10:5432")
			if how&1 != 0 {
				near, far = at("10.77.1.10:5432"), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 2, 10 + which%4}), 5000+uint16(which/4))
			}
			giver := gray
			if how&2 != 0 {
				giver = blue
				far = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 3, far.Addr().As4()[3]}), far.Port())
			}
			tcp := wiretest.TCP{Src: near, Dst: far, Seq: 1000 + uint32(how), Ack: 1000, Flags: flags & 0x17, Window: 100}
			k, _ := keyBetween(near, far)
			switch op % 8 {
			case 0:
				src, dst := near, far
				if how&1 != 0 {
					src, dst = far, near
				}
				kb, v := madeUp(src, dst)
				if how&4 != 0 {
					v[1], v[2] = flags, how>>3
				}
				if how&8 != 0 {
					giver = gray + blue - giver // of the other's connection
				}
				if r := g.table.TakeForeign(giver, kb, v); how&8 != 0 && r == GivenTaken {
					t.Fatal("a record of another site's connection is taken")
				}
			case 1:
				g.fromHost(tcp.Packet(), wire.Offload{})
				g.host.written() // the gateway's own answers, so that case 2 sees its packet only
			case 2:
				f := g.table.shardOf(&k).flows[k]
				before := f != nil && f.unconfirmed != nil && !g.table.farMayOpen(f)
				tcp.Src, tcp.Dst = far, near
				if out, r := g.fromLink(tcp.Packet()); before && (len(out) > 0 || r == wire.OK) {
					t.Fatalf("a packet from %v reaches %v by an unconfirmed flow: %v", far, near, r)
				}
			case 3:
				open[giver] = g.path.confirmFrom(giver, open[giver])
				if n := len(open[giver]); n > askWindow {
					t.Fatalf("%d questions are open", n)
				}
				g.host.written()
			case 4:
				g.now += time.Duration(which) * time.Second
				g.table.sweep(g.now)
			case 5:
				g.table.SetStandby(which&1 == 0)
			case 6:
				if which&1 == 0 {
					g.table.SetJudge(judge(databases))
				} else {
					g.table.SetJudge(judge(deny))
				}
			case 7:
				for kb := range g.table.Records("") {
					id, err := parseKey(kb)
					if err != nil {
						t.Fatal(err)
					}
					if f := g.table.shardOf(&id).flows[id]; f != nil && f.unconfirmed != nil {
						t.Fatal("the record of an unconfirmed flow leaves")
					}
				}
			}
			g.wantCounts()
			for i := range g.table.foreign {
				if n := g.table.foreign[i].flows.Load(); n > limit/giverShare {
					t.Fatalf("%d unconfirmed flows of site %d", n, i)
				}
				if n := g.table.foreign[i].queue.len(); n > limit/giverShare {
					t.Fatalf("%d flows of site %d wait", n, i)
				}
			}
		}
		g.table.SetStandby(false)
		g.table.SetJudge(judge(databases))
		g.out(nil) // what waits is gone
		syn := wiretest.TCP{Src: at("10.77.1.200:60000"), Dst: at("10.77.3.200:5432"), Flags: wire.SYN, Options: synOptions}.Packet()
		if r := g.out(syn); r != wire.OK {
			t.Fatalf("red opens to blue: %v", r)
		}
	})
}
