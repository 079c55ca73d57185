package flow

import (
	"bytes"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// TestDormant: a record of the sibling is a flow in every respect, before its
// first packet and after it.
func TestDormant(t *testing.T) {
	active := newGW(t, allow)
	talk := newTalk(redDB, grayDB)
	active.handshake(talk)
	var k, v []byte
	for key, value := range active.table.Records("") {
		k, v = bytes.Clone(key), bytes.Clone(value)
	}
	packet := func(g *gw) { g.want("data", g.out(talk.call(wiretest.ACK, 'x')), wire.OK) }
	for _, tt := range []struct {
		name  string
		do    func(g *gw)
		flows int // afterwards
		book  int // records that the Recorder was told of, and not to delete
	}{
		{"as it came", func(*gw) {}, 1, 0},
		{"a packet", packet, 1, 0},
		{"replaced after a packet", func(g *gw) { packet(g); g.replace(k, v) }, 1, 0},
		{"taken, which changes nothing", func(g *gw) { g.table.Take(k, v) }, 1, 0},
		{"removed", func(g *gw) { g.table.Remove(k) }, 0, 0},
		{"removed after a packet", func(g *gw) { packet(g); g.table.Remove(k) }, 0, 0},
		{"removed and offered by another site", func(g *gw) { g.table.Remove(k); g.table.TakeForeign(gray, k, v) }, 0, 0},
		{"takeover", func(g *gw) { g.table.SetStandby(false); g.now += time.Hour; g.table.sweep(g.now); packet(g) }, 1, 0},
		{"takeover and a long silence", func(g *gw) {
			g.table.SetStandby(false)
			g.now += 2 * tcptrack.Established.Timeout()
			g.table.sweep(g.now)
		}, 0, 0},
		{"taken from the file before", func(g *gw) {
			g.table.Remove(k)
			g.table.Take(k, v)
			g.table.each(func(*flow) bool { t.Error("it is not dormant"); return true })
		}, 1, 1},
		{"the tuple opened again", func(g *gw) { g.out(newTalk(redDB, grayDB).call(wiretest.SYN)) }, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGW(t, allow)
			g.table.SetStandby(true)
			g.replace(k, v)
			tt.do(g)
			st, conns, recs := g.table.Stats(), 0, 0
			for c := range g.table.Conns() {
				conns++
				if c.Source != redDB || !c.Local || c.Site != "gray" || c.Rule != *someRule || c.Age < 0 || c.Idle < 0 {
					t.Errorf("%+v", c)
				}
			}
			for range g.table.Records("gray") {
				recs++
			}
			for range g.table.Records("blue") {
				t.Error("a record of a site that it doesn't concern")
			}
			if count := int(g.table.count.Load()); st.TCP != tt.flows || st.Records != tt.flows || conns != tt.flows || recs != tt.flows || count != tt.flows {
				t.Errorf("%+v, %d connections, %d records, %d counted, want %d", st, conns, recs, count, tt.flows)
			}
			if n := int(g.table.opener[red].Load()); n != tt.flows {
				t.Errorf("red has %d", n)
			}
			if len(g.book.records) != tt.book {
				t.Errorf("the recorder was told %d", len(g.book.records))
			}
		})
	}
}

func (g *gw) replace(k, v []byte) {
	g.Helper()
	if r, err := g.table.Replace(k, v); r != wire.OK || err != nil {
		g.Fatal(r, err)
	}
}

// TestDormantMakeRoom: where a site has its share of the table, which is one here,
// a dormant flow that has ended gives way.
func TestDormantMakeRoom(t *testing.T) {
	for _, ended := range []bool{true, false} {
		g := newGW(t, allow, func(c *Config) { c.MaxFlows = 2 })
		active := newGW(t, allow)
		talk := newTalk(redDB, grayDB)
		active.handshake(talk)
		if ended {
			active.out(talk.call(wiretest.RST | wiretest.ACK))
		}
		for k, v := range active.table.Records("") {
			g.replace(k, v)
		}
		other := g.sameShard(redDB, grayDB)
		want := wire.SiteFull
		if ended {
			want = wire.OK
		}
		g.want("another", g.out(newTalk(other, grayDB).call(wiretest.SYN)), want)
		if n := g.table.Stats().TCP; n != 1 {
			t.Errorf("%d flows, want 1", n)
		}
	}
}
