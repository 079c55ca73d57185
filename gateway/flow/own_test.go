package flow

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

var (
	redNode  = netip.AddrPortFrom(redGW, 40000)
	grayNode = at("10.77.2.1:9774")
)

// own allows what goes to grayNode as the gateways' own, and nothing else.
func own(_, dst netip.Addr, _ uint8, port uint16) *Rule {
	if netip.AddrPortFrom(dst, port) == grayNode {
		return &Rule{Name: "own", Own: true}
	}
	return nil
}

// TestOwn: a flow of the gateways' own passes and is tracked, but nobody is told
// of it.
func TestOwn(t *testing.T) {
	g := newGW(t, own)
	talk := newTalk(redNode, grayNode)
	g.handshake(talk)
	g.want("data", g.out(talk.call(wiretest.ACK|wiretest.PSH, 'x')), wire.OK)
	g.want("out of the window", g.out(wiretest.TCP{Src: redNode, Dst: grayNode, Seq: talk.a + 1<<30, Ack: talk.b, Flags: wiretest.ACK, Window: 1}.Packet()), wire.OutWindow)
	g.want("somebody's", g.out(newTalk(redDB, grayDB).call(wiretest.SYN)), wire.Denied)

	for c := range g.table.Conns() {
		t.Errorf("shown: %+v", c)
	}
	for k := range g.table.Records("") {
		t.Errorf("a record: %x", k)
	}
	if g.book.puts != 0 {
		t.Error("the recorder heard of it")
	}
	if st := g.table.Stats(); st.TCP != 0 || st.Records != 0 || st.Opened != 0 {
		t.Errorf("counted: %+v", st)
	}
	if s := g.table.sleepers(gray); len(s) != 0 {
		t.Errorf("to be woken: %+v", s)
	}

	g.now += timeoutOwn
	g.table.sweep(g.now)
	g.want("data before the time-out", g.out(talk.call(wiretest.ACK|wiretest.PSH, 'y')), wire.OK)
	g.now += timeoutOwn + 1
	g.table.sweep(g.now)
	g.want("data after it", g.out(talk.call(wiretest.ACK|wiretest.PSH, 'z')), wire.NoFlow)
}

// TestOwnRecord: a record of such a flow can't be true.
func TestOwnRecord(t *testing.T) {
	other := newGW(t, allow)
	other.handshake(newTalk(redNode, grayNode))
	for k, v := range other.table.Records("") {
		k, v := bytes.Clone(k), bytes.Clone(v)
		g := newGW(t, own)
		for name, take := range map[string]func(k, v []byte) (wire.Reason, error){
			"file": g.table.Take, "other site": g.table.TakeForeign, "sibling": g.table.Replace,
		} {
			if r, err := take(k, v); r != wire.NoFlow || err != nil {
				t.Errorf("%s: %v, %v", name, r, err)
			}
		}
	}
}
