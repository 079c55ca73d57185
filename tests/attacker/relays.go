package attacker

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// relays connects to the target as a host does, over a connection that the policy allows, and has
// a victim relay it: that is how a hostile gateway gets to a relay's inner states.
type relays struct {
	a *Attacker

	mu    sync.Mutex
	conns map[uint16]*position // by the attacker's port

	streams, asked atomic.Uint64
}

// position holds the latest numbers of a connection's two ends, as they are on the wire.
type position struct {
	seq, ack, edge      uint32
	nearScale, farScale uint8
	sack                bool
}

func newRelays(a *Attacker) *relays {
	return &relays{a: a, conns: make(map[uint16]*position)}
}

// at returns the position of the connection at a port; relays.mu is held.
func (r *relays) at(port uint16) *position {
	p := r.conns[port]
	if p == nil {
		p = new(position)
		r.conns[port] = p
	}
	return p
}

// sent notes a packet of the attacker's own host.
func (r *relays) sent(b []byte) {
	var p wire.Packet
	if wire.Parse(&p, b) != wire.OK || p.Proto != wire.ProtoTCP || p.DstPort != r.a.cfg.Target.Port() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.at(p.SrcPort)
	seg := b[p.L4:]
	c.seq = binary.BigEndian.Uint32(seg[4:]) + p.SegLen()
	c.ack = binary.BigEndian.Uint32(seg[8:])
	if p.Flags&wire.SYN != 0 {
		c.nearScale, _ = p.WindowScale()
		c.sack = p.SACKPermitted()
	}
	c.edge = c.ack + uint32(binary.BigEndian.Uint16(seg[14:]))<<c.nearScale
	if p.Flags&(wire.RST) != 0 {
		delete(r.conns, p.SrcPort)
	}
}

// received notes a packet of the target's.
func (r *relays) received(p *wire.Packet) {
	if p.Proto != wire.ProtoTCP || p.SrcPort != r.a.cfg.Target.Port() || p.Flags&wire.SYN == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.at(p.DstPort)
	c.farScale, _ = p.WindowScale()
	c.sack = c.sack && p.SACKPermitted()
}

// relayEvery spaces the connections to the target.
const relayEvery = 200 * time.Millisecond

// run opens connections to the target, requests each victim to relay them, and closes them, until
// ctx ends.
func (r *relays) run(ctx context.Context) error {
	rnd := rand.New(rand.NewPCG(r.a.cfg.Seed, 1))
	t := time.NewTicker(relayEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		r.once(ctx, rnd)
	}
}

func (r *relays) once(ctx context.Context, rnd *rand.Rand) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := r.a.host.Dial(ctx, r.a.cfg.Target)
	if err != nil {
		return // the target's site is taking over, or the packet was lost in the storm
	}
	defer c.Close()
	if _, err := c.Write([]byte{0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f}); err != nil { // PostgreSQL's SSLRequest
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.ReadFull(c, make([]byte, 1)) // the target need not answer
	local := c.LocalAddr().(*net.TCPAddr).AddrPort()
	r.mu.Lock()
	pos := r.conns[local.Port()]
	if pos == nil {
		r.mu.Unlock()
		return
	}
	p := *pos
	delete(r.conns, local.Port())
	r.mu.Unlock()
	first := &wire.Frame{
		Kind: wire.FrameOpen, Seq: p.seq, Ack: p.ack, Edge: p.edge,
		Payload: opening(local, r.a.cfg.Target, p.nearScale, p.farScale, p.sack),
	}
	if rnd.IntN(4) == 0 { // about a connection of others
		others := r.a.cfg.Strangers
		first.Payload = opening(netip.AddrPortFrom(others[rnd.IntN(len(others))], uint16(rnd.Uint32())), r.a.cfg.Target, 7, 7, true)
	}
	if rnd.IntN(4) == 0 {
		first.Payload = mutate(rnd, first.Payload, func() []byte { return nil })
	}
	for _, v := range r.a.victims {
		r.asked.Add(1)
		r.a.trunks.open(ctx, rnd, v, first)
	}
}

// opening is the payload of an open frame (netstack/open.go).
func opening(near, far netip.AddrPort, nearScale, farScale uint8, sack bool) []byte {
	flags := byte(0)
	if near.Addr().Is6() {
		flags |= 1
	}
	if sack {
		flags |= 2
	}
	b := []byte{1, flags, nearScale, farScale}
	for _, a := range []netip.AddrPort{near, far} {
		var x [16]byte
		copy(x[:], a.Addr().AsSlice())
		b = binary.BigEndian.AppendUint16(append(b, x[:]...), a.Port())
	}
	return b
}
