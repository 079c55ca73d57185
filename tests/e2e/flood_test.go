package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/attacker"
	"github.com/onewaylink/gw/tests/lab"
)

// TestFlood: a peer with a valid key opens more flows than the table holds. The
// table and the memory stay bounded, and what this side opens works all the while.
func TestFlood(t *testing.T) {
	n := newNetwork(t, setup{})
	red, gray := n.Red.DB(), n.Gray.DB()
	const port = 7777
	var peer *attacker.Tunnel
	answers := make(chan []byte, 16)
	peer = n.startBadPeer(t, func(b []byte) {
		if b[0] == 0x45 && b[9] == 17 && binary.BigEndian.Uint16(b[22:]) == port {
			select {
			case answers <- bytes.Clone(b):
			default:
			}
		}
	})
	n.red.up()
	n.red.waitState(status.LinkSilent)

	c, err := red.Dial(t.Context(), "udp", netip.AddrPortFrom(gray.LAN4, port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Something opened by this side is answered, in competition with the flood.
	works := func(when string) {
		t.Helper()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err := lab.Until(ctx, "an answer "+when, func() (bool, error) {
			if _, err := c.Write([]byte(when)); err != nil {
				return false, err
			}
			select {
			case b := <-answers:
				at := netip.AddrPortFrom(red.LAN4, binary.BigEndian.Uint16(b[20:]))
				peer.Send(udp(netip.AddrPortFrom(gray.LAN4, port), at, when))
			case <-time.After(lostAfter):
				return false, nil
			}
			if err := c.SetReadDeadline(time.Now().Add(lostAfter)); err != nil {
				return false, err
			}
			buf := make([]byte, 100)
			got, err := c.Read(buf)
			return err == nil && string(buf[:got]) == when, nil
		})
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s: answered after %v", when, time.Since(began).Round(time.Millisecond))
	}
	works("before")

	const flows = 240000
	sent := 0
	for sent < flows {
		for range flows / 3 {
			sent++
			src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 2, byte(20 + sent%200)}), uint16(1024+sent/200%60000))
			dst := netip.AddrPortFrom(red.LAN4, uint16(1024+sent%50000))
			if sent%2 == 0 {
				peer.Send(tcp(src, dst, lab.SYN))
			} else {
				peer.Send(udp(src, dst, "flood"))
			}
		}
		works("amid the flood")
		s, err := n.red.status()
		if err != nil {
			t.Fatal(err)
		}
		if most := s.Flows.Limit*3/4 + 100; s.Flows.Total() > most {
			t.Errorf("%d flows in the table, and one site may fill %d", s.Flows.Total(), most)
		}
		t.Logf("after %d: %d flows in the table, %d opened, %d site-full, %d table-full", sent,
			s.Flows.Total(), s.Flows.Opened, n.red.drops("site-full"), n.red.drops("table-full"))
	}
	u, err := n.red.proc.Usage()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("resident %d MB, at most %d", u.RSS>>20, u.PeakRSS>>20)
	if u.PeakRSS > 192<<20 {
		t.Errorf("%d MB of memory, want under 192", u.PeakRSS>>20)
	}
}
