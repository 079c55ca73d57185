package e2e

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// TestRelayFuzz: databases that send nonsense. Whatever they send, a gateway only
// repeats it, keeps running, and carries what is sensible.
func TestRelayFuzz(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string) { relayFuzz(t, mode, 10*time.Second) })
}

// relayFuzz has both databases send changed copies of their own segments while
// connections open, move bytes and end.
func relayFuzz(t *testing.T, mode string, d time.Duration) {
	rough := farWAN
	rough.Loss, rough.Duplicate, rough.Reorder, rough.ReorderBy = 0.002, 0.002, 0.002, 2*farDelay
	n := startRelay(t, mode, rough)
	n.scenario(t, "nonsense", anyReset, func(t *testing.T) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		end := time.Now().Add(d)
		var wg sync.WaitGroup
		for i, h := range []*lab.Host{n.Red.DB(), n.Gray.DB()} {
			wg.Go(func() { babble(t, h, rand.New(rand.NewPCG(seed, uint64(i))), end) })
		}
		for i, w := range n.ways() {
			wg.Go(func() { restless(t, w, rand.New(rand.NewPCG(seed, uint64(10+i))), end) })
		}
		wg.Wait()
	})
	for _, nd := range []*node{n.red, n.gray} {
		nd.waitState(status.LinkUp)
		t.Logf("%s: drops %v", nd.name, nd.allDrops(t))
	}
	for _, w := range n.twoWays() {
		n.scenario(t, "sense, "+w.name, noReset, func(t *testing.T) { n.finish(t, n.transfer(t, w, 4*some)) })
	}
}

// babble captures what a host sends, and sends changed copies of it.
func babble(t *testing.T, h *lab.Host, rnd *rand.Rand, end time.Time) {
	samples := make(chan []byte, 64)
	c, err := h.Capture("lan0", lab.CaptureConfig{SnapLen: 1500, Each: func(p lab.Packet) {
		if s, ok := lab.DecodeTCP(p); !ok || !p.Outgoing || p.Len > 1500 || s.Flags&lab.SYN != 0 {
			return
		}
		select {
		case samples <- bytes.Clone(p.Data):
		default: // enough for now
		}
	}})
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Stop()
	sent := 0
	for time.Now().Before(end) {
		select {
		case b := <-samples:
			s, _ := lab.DecodeTCP(lab.Packet{Data: b})
			for range rnd.IntN(4) {
				if err := h.SendIP(lab.TCPPacket(nonsense(s, rnd))); err != nil {
					t.Error(err)
					return
				}
				sent++
			}
		case <-time.After(time.Until(end)):
		}
	}
	t.Logf("%s sent nonsense %d times", h.Name(), sent)
}

// nonsense changes a segment. Bytes stay what they were: new ones would not be
// nonsense, but another stream. A SYN would be another connection.
func nonsense(s lab.Segment, rnd *rand.Rand) (lab.Segment, []byte) {
	near := func() uint32 {
		span := int64(1) << (4 + rnd.IntN(20))
		return uint32(rnd.Int64N(2*span) - span)
	}
	payload := s.Payload[:rnd.IntN(len(s.Payload)+1)]
	if rnd.IntN(3) == 0 {
		payload = nil
		s.Seq += near()
	}
	if rnd.IntN(3) == 0 {
		s.Ack += near()
	}
	if rnd.IntN(4) == 0 {
		s.Window = uint16(rnd.Uint32())
	}
	if rnd.IntN(8) == 0 {
		s.Flags = uint8(rnd.Uint32()) &^ lab.SYN
	}
	switch rnd.IntN(6) {
	case 0:
		s.Options = nil
	case 1:
		// Its SACK blocks. A timestamp that jumps would end the connection soon.
		s.Options = bytes.Clone(s.Options)
		for v := option(s, 5); len(v) >= 4; v = v[4:] {
			if rnd.IntN(2) == 0 {
				binary.BigEndian.PutUint32(v, binary.BigEndian.Uint32(v)+near())
			}
		}
	}
	return s, payload
}

// restless opens one connection after the other and does something with each.
// That it fails is no wonder.
func restless(t *testing.T, w way, rnd *rand.Rand, end time.Time) {
	const patience = 3 * time.Second
	count := 0
	for ; time.Now().Before(end); count++ {
		size, kind := int64(rnd.IntN(some)), rnd.IntN(4)
		s, err := lab.ServeTCP(t.Context(), w.to.Namespace, netip.AddrPortFrom(w.addr, 0), func(c *net.TCPConn) {
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = compare(c, stream(1), size)
			_ = send(c, stream(2), size)
		})
		if err != nil {
			t.Error(err)
			return
		}
		if c, err := w.from.Dial(t.Context(), "tcp", s.Addr.String()); err == nil {
			_ = c.SetDeadline(time.Now().Add(patience))
			_ = send(c, stream(1), size)
			if kind == 0 {
				_ = sendReset(c.(*net.TCPConn))
			} else {
				_, _ = compare(c, stream(2), size)
			}
			c.Close()
		}
		s.Close()
	}
	t.Logf("%s: %d connections", w.name, count)
}
