package e2e

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"

	"github.com/onewaylink/gw/tests/lab"
)

// TestCarriesBothWays: TCP on connections opened from either side, and nothing
// from gray through the firewall.
func TestCarriesBothWays(t *testing.T) {
	n := start(t, setup{})
	for _, w := range n.ways() {
		t.Run("bulk "+w.name, func(t *testing.T) { carriesBulk(t, w, 20<<20) })
		t.Run("half-close "+w.name, func(t *testing.T) {
			if err := lab.HalfClose(t.Context(), w.from.Namespace, w.to.Namespace, netip.AddrPortFrom(w.addr, 5433), 4<<20); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("many at once", func(t *testing.T) { carriesMany(t, n) })
	t.Run("mss", func(t *testing.T) { clampsMSS(t, n) })
	n.noneThrough(t)
}

// noneThrough fails the test if gray has tried to dial through the firewall.
func (n *network) noneThrough(t *testing.T) {
	t.Helper()
	refused, err := n.Refused()
	if err != nil {
		t.Fatal(err)
	}
	if refused != 0 {
		t.Errorf("gray tried %d times to dial through the firewall", refused)
	}
}

// carriesBulk moves bytes in both directions at once, compares hashes and looks
// at whom the called side saw.
func carriesBulk(t *testing.T, w way, bytes int64) {
	t.Helper()
	res, err := lab.RunTransfer(t.Context(), lab.TransferConfig{
		From: w.from.Namespace, To: w.to.Namespace, Addr: netip.AddrPortFrom(w.addr, 5432),
		Bytes: bytes, Back: bytes,
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := w.source(); res.Source != want {
		t.Errorf("the called side saw %v, want the caller's own %v", res.Source, want)
	}
	t.Logf("%.0f Mbit/s", res.Mbps())
}

// carriesMany runs connections in all directions and families side by side.
func carriesMany(t *testing.T, n *network) {
	red, gray := startWatch(t, n.Red.DB()), startWatch(t, n.Gray.DB())
	var wg sync.WaitGroup
	for i, w := range n.ways() {
		wg.Go(func() {
			_, err := lab.RunTransfer(t.Context(), lab.TransferConfig{
				From: w.from.Namespace, To: w.to.Namespace, Addr: netip.AddrPortFrom(w.addr, uint16(6000+i)),
				Bytes: 128 << 10, Back: 128 << 10, Flows: 50,
			})
			if err != nil {
				t.Errorf("%s: %v", w.name, err)
			}
		})
	}
	wg.Wait()
	red.noResets(t)
	gray.noResets(t)
}

// clampsMSS: no segment is announced that the link would have to refuse, though
// the databases' own interfaces take larger ones (RFC 6691).
func clampsMSS(t *testing.T, n *network) {
	for _, w := range n.ways() {
		most := 1420 - 20 - 20
		if w.addr.Is6() {
			most = 1420 - 40 - 20
		}
		var mu sync.Mutex
		seen := map[string]int{}
		each := func(side string) func(lab.Packet) {
			return func(p lab.Packet) {
				if s, ok := lab.DecodeTCP(p); ok && !p.Outgoing && s.Flags&lab.SYN != 0 {
					mu.Lock()
					defer mu.Unlock()
					seen[side] = mssOf(s)
				}
			}
		}
		called, err := w.to.Capture("lan0", lab.CaptureConfig{Each: each("called")})
		if err != nil {
			t.Fatal(err)
		}
		caller, err := w.from.Capture("lan0", lab.CaptureConfig{Each: each("caller")})
		if err != nil {
			t.Fatal(err)
		}
		echo, err := lab.EchoTCP(t.Context(), w.to.Namespace, netip.AddrPortFrom(w.addr, 0))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lab.PingPong(t.Context(), w.from.Namespace, "tcp", echo.Addr, 1, 1); err != nil {
			t.Error(err)
		}
		for _, c := range []interface{ Stop() error }{called, caller} {
			if err := c.Stop(); err != nil {
				t.Error(err)
			}
		}
		if err := echo.Close(); err != nil {
			t.Error(err)
		}
		for _, side := range []string{"called", "caller"} {
			if got := seen[side]; got == 0 || got > most {
				t.Errorf("%s: the %s side received an MSS of %d, want 1 to %d", w.name, side, got, most)
			}
		}
	}
}

// mssOf finds the maximum segment size option (RFC 9293 section 3.2); 0 is none.
func mssOf(s lab.Segment) int {
	for o := s.Options; len(o) >= 2; {
		switch {
		case o[0] == 0:
			return 0
		case o[0] == 1:
			o = o[1:]
			continue
		case o[0] == 2 && len(o) >= 4:
			return int(binary.BigEndian.Uint16(o[2:]))
		case o[1] < 2 || int(o[1]) > len(o):
			return 0
		}
		o = o[o[1]:]
	}
	return 0
}
