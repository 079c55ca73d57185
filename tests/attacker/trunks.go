package attacker

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/onewaylink/gw/gateway/trunk"
	"github.com/onewaylink/gw/netstack/wire"
)

// trunks are the attacker's streams to its victims. They follow the protocol, so that the
// mutated copies of their packets, which the storm sends, belong to living sessions.
type trunks struct {
	a    *Attacker
	pool *trunk.Pool
	wake chan struct{}
}

func newTrunks(a *Attacker) *trunks {
	t := &trunks{a: a, wake: make(chan struct{}, 1)}
	var peers []netip.Addr
	for _, v := range a.victims {
		peers = append(peers, v.addr)
	}
	t.pool = trunk.New(trunk.Config{Self: a.self, Peers: peers, Wake: t.ready, Accept: t.accept})
	t.pool.SetPeers(peers)
	for _, p := range peers {
		t.pool.SetWay(p, innerMTU, time.Millisecond)
	}
	return t
}

func (t *trunks) ready() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *trunks) deliver(v *victim, payload []byte) {
	t.pool.Deliver(v.addr, payload)
	t.pool.Flush()
}

// accept reads what a victim sends and never answers, so the victim's streams stay half open.
func (t *trunks) accept(c *trunk.Conn) {
	defer c.Close()
	for {
		var f wire.Frame
		if c.Receive(&f) != nil {
			return
		}
	}
}

// run sends the streams' packets until ctx ends.
func (t *trunks) run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- t.pool.Run(ctx) }()
	const batch = 32
	bufs, sizes := make([][]byte, batch), make([]int, batch)
	for i := range bufs {
		bufs[i] = make([]byte, 2048)
	}
	for {
		n := t.pool.Pull(bufs, sizes, 0)
		for i := range n {
			b := append([]byte(nil), bufs[i][:sizes[i]]...)
			var p wire.Packet
			if wire.Parse(&p, b) == wire.OK {
				t.a.corpus.add(protoTrunk, p.B[p.L4:])
			}
			t.a.send(protoTrunk, b)
		}
		if n > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return <-done
		case <-t.wake:
		}
	}
}

// open begins a stream to a victim and sends frames on it: first, then some that follow it in
// sequence or not.
func (t *trunks) open(ctx context.Context, r *rand.Rand, v *victim, first *wire.Frame) {
	c := t.pool.Take(v.addr)
	if c == nil {
		return
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, c.Close)
	defer stop()
	if c.Send(first) != nil {
		return
	}
	f := wire.Frame{Kind: wire.FrameData, Seq: first.Seq, Ack: first.Ack, Edge: first.Edge}
	for range 20 {
		f.Payload = make([]byte, r.IntN(1<<10))
		switch r.IntN(8) {
		case 0:
			f.Seq += uint32(r.IntN(1 << 16))
		case 1:
			f.Ack, f.Edge = r.Uint32(), r.Uint32()
		case 2:
			f.Ack += uint32(r.IntN(1 << 12))
		case 3:
			f.Fin = true
		case 4:
			f.Kind = wire.FrameKind(1 + r.IntN(5))
		case 5:
			f.Payload = make([]byte, r.IntN(wire.MaxFramePayload))
		}
		if c.Send(&f) != nil {
			return
		}
		f.Seq += uint32(len(f.Payload))
	}
}
