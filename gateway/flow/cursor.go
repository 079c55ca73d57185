package flow

import (
	"bytes"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// cursor remembers the flow of one packet for the next one, which mostly is of
// the same: comparing two headers is quicker than looking up a flow. The
// zero value remembers none.
type cursor struct {
	flow  *flow
	shard *shard
	fromB bool
	v6    bool
	addrs [32]byte // source and destination
	ports [4]byte
}

// passNext is pass for one of many packets that all come from the same side.
func (t *Table) passNext(now time.Duration, p *wire.Packet, fromHost bool, c *cursor) (*flow, wire.Reason) {
	if p.Proto != wire.ProtoTCP {
		return t.pass(now, p, fromHost)
	}
	if c.matches(p) {
		if f, r, ok := t.followNext(now, p, fromHost, c); ok {
			return f, r
		}
	}
	f, r := t.pass(now, p, fromHost)
	if r == wire.OK {
		c.remember(t, p, f)
	}
	return f, r
}

// followNext judges a packet of the remembered flow, if that is still known.
func (t *Table) followNext(now time.Duration, p *wire.Packet, fromHost bool, c *cursor) (*flow, wire.Reason, bool) {
	c.shard.mu.Lock()
	defer c.shard.mu.Unlock()
	if c.flow.gone {
		return nil, wire.OK, false
	}
	f, r := t.follow(c.shard, now, p, c.flow, c.fromB, fromHost)
	return f, r, true
}

// addresses returns source and destination as they stand in the packet.
func addresses(p *wire.Packet) []byte {
	if p.V6 {
		return p.B[8:40]
	}
	return p.B[12:20]
}

func (c *cursor) matches(p *wire.Packet) bool {
	a := addresses(p)
	return c.flow != nil && c.v6 == p.V6 && bytes.Equal(c.addrs[:len(a)], a) && c.ports == [4]byte(p.B[p.L4:])
}

func (c *cursor) remember(t *Table, p *wire.Packet, f *flow) {
	*c = cursor{flow: f, shard: t.shardOf(&f.key), v6: p.V6, ports: [4]byte(p.B[p.L4:])}
	copy(c.addrs[:], addresses(p))
	_, c.fromB = keyOf(p)
}
