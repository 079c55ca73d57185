package attacker

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/ask"
	"github.com/onewaylink/gw/gateway/quota"
	"github.com/onewaylink/gw/gateway/records"
	"github.com/onewaylink/gw/netstack/wire"
)

const (
	// idleStreams is how many connections to a victim the attacker keeps open and silent.
	idleStreams = 100
	// forged is how many records it sends to a victim that fetches some.
	forged = 50_000
)

// flood opens streams to a victim's control ports until ctx ends: with valid requests, with broken
// requests, and idle ones that stay open.
func (a *Attacker) flood(ctx context.Context, v *victim, seed uint64) error {
	r := rand.New(rand.NewPCG(a.cfg.Seed, 2+seed))
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		c := a.dial(ctx, r, v)
		if c == nil {
			continue
		}
		a.relays.streams.Add(1)
		switch r.IntN(5) {
		case 0:
			if idle = append(idle, c); len(idle) > idleStreams {
				idle[0].Close()
				idle = idle[1:]
			}
			continue
		case 1:
			within, cancel := context.WithTimeout(ctx, time.Second)
			_, _ = records.Fetch(within, c, a.cfg.Site.SelfSite().Name, records.Limits{}, func(k, v []byte) {})
			cancel()
			continue
		case 2:
			within, cancel := context.WithTimeout(ctx, time.Second)
			_, _ = ask.Ask(within, c, []string{"trace", "explain", "x"}[r.IntN(3)], mutate(r, []byte(`{"packet":"`), func() []byte { return nil }))
			cancel()
			continue
		case 3:
			_, _ = c.Write(mutate(r, append([]byte("gwrf\x00\x01\x05"), a.cfg.Site.SelfSite().Name...), func() []byte { return nil }))
		case 4:
			_, _ = c.Write(mutate(r, []byte("gwqu\x00\x01\x05\x00\x04\x00\x00trace"), func() []byte { return nil }))
		}
		c.Close()
	}
}

// dial connects to one of a victim's control ports; nil if it does not answer soon.
func (a *Attacker) dial(ctx context.Context, r *rand.Rand, v *victim) net.Conn {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	port := []uint16{wire.ControlPort, wire.AskPort}[r.IntN(2)]
	c, err := a.node.Dial(ctx, netip.AddrPortFrom(v.addr, port))
	if err != nil {
		return nil
	}
	_ = c.SetDeadline(time.Now().Add(time.Second))
	return c
}

// serveRecords sends forged records of connections to victims that fetch some, until ctx ends.
func (a *Attacker) serveRecords(ctx context.Context) error {
	l, err := a.node.Listen(wire.ControlPort)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(a.cfg.Seed, 99))
	s := &records.Server{
		Site: func(netip.Addr) (string, bool) { return "victim", true },
		Records: func(string) records.Snapshot {
			return func(yield func(k, v []byte) bool) {
				for i := range forged {
					k, v := a.record(r, i)
					if !yield(k, v) {
						return
					}
				}
			}
		},
		Quota:  quota.New(quota.Config{AtOnce: 16, Burst: 1 << 20, Every: time.Millisecond}),
		Logger: hclog.NewNullLogger(),
	}
	if err := s.Run(ctx, l); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// record forges the record of an established connection between the target and anyone
// (gateway/flow/record.go); every tenth is mutated.
func (a *Attacker) record(r *rand.Rand, i int) (key, value []byte) {
	far, near := a.anyone(r), a.cfg.Target
	if far.Is4() != near.Addr().Is4() {
		far = a.cfg.Host
	}
	lo, hi := near, netip.AddrPortFrom(far, uint16(1024+i))
	if hi.Addr().Less(lo.Addr()) {
		lo, hi = hi, lo
	}
	v6 := byte(0)
	if far.Is6() {
		v6 = 1
	}
	for _, e := range []netip.AddrPort{lo, hi} {
		var x [16]byte
		copy(x[:], e.Addr().AsSlice())
		key = append(key, x[:]...)
	}
	key = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(key, lo.Port()), hi.Port())
	key = append(key, 6, v6)
	value = []byte{2, byte(r.Uint32()) & 0x7f, byte(1 + r.IntN(4))}
	value = binary.BigEndian.AppendUint64(value, uint64(time.Now().UnixMilli()))
	for range 2 {
		value = binary.BigEndian.AppendUint32(append(value, byte(r.IntN(15))), r.Uint32())
	}
	value = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(value, 1460), uint16(r.Uint32()))
	if r.IntN(10) == 0 {
		value = mutate(r, value, func() []byte { return nil })
	}
	return key, value
}
