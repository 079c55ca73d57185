package flow

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// withMSS is a SYN or SYN-ACK of the talk with another MSS, and a checksum that fits.
func withMSS(t *testing.T, pkt []byte, mss uint16) []byte {
	t.Helper()
	var p wire.Packet
	if r := wire.Parse(&p, pkt); r != wire.OK {
		t.Fatal(r)
	}
	at := p.L4 + wire.TCPHeader + 2 // behind kind and length of the first option
	binary.BigEndian.PutUint16(pkt[at:], mss)
	p.SetPartial()
	p.FinishChecksum()
	return pkt
}

// A connection whose MSS is below the floor, at either end, is carried packet by packet, and
// people are told why. So is one that is known from a record.
func TestTinyMSSStaysRaw(t *testing.T) {
	for _, c := range []struct {
		call, answer uint16
		relayed      bool
	}{
		{0, 1460, false}, {1460, 0, false}, {1, 1, false}, {48, 1460, false}, {1460, wire.LeastMSS - 1, false},
		{wire.LeastMSS, wire.LeastMSS, true}, {536, 1460, true},
	} {
		g := newGW(t, policy(ModeRelay, 5432))
		k := newTalk(redDB, grayDB)
		g.want("syn", g.out(withMSS(t, k.call(wiretest.SYN), c.call)), wire.OK)
		g.want("syn-ack", g.in(withMSS(t, k.answer(wiretest.SYN|wiretest.ACK), c.answer)), wire.OK)
		g.want("ack", g.out(k.call(wiretest.ACK)), wire.OK)
		attach := func(g *gw, when string) {
			t.Helper()
			err := g.table.Attach(redDB, grayDB, "", nil, func(wire.Connection, *Handle) (Relay, error) { return &carried{}, nil })
			if (err == nil) != c.relayed || err != nil && !errors.Is(err, ErrNotNow) {
				t.Errorf("MSS %d and %d, %s: %v", c.call, c.answer, when, err)
			}
			conns := slices.Collect(g.table.Conns())
			if len(conns) != 1 || conns[0].Relayed != c.relayed || strings.Contains(conns[0].Why, "MSS") == c.relayed {
				t.Errorf("MSS %d and %d, %s: people see %+v", c.call, c.answer, when, conns)
			}
		}
		attach(g, "opened here")
		// Another gateway carries it on from its record.
		n := newGW(t, policy(ModeRelay, 5432))
		for key, v := range g.book.records {
			if r, err := n.table.Take([]byte(key), v); r != wire.OK || err != nil {
				t.Fatal(r, err)
			}
		}
		n.now += 2 * restoredFor
		for range 2 {
			n.want("data", n.out(k.call(wiretest.ACK|wiretest.PSH, 'x')), wire.OK)
			n.want("answer", n.in(k.answer(wiretest.ACK|wiretest.PSH, 'y')), wire.OK)
			n.now += time.Second
		}
		attach(n, "from a record")
	}
}
