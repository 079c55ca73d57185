package link

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/tests/await"
)

// TestRefusalIsReceived: a host refuses a handshake message, and the knocker knows of it without a
// knock. The raw sockets need root.
func TestRefusalIsReceived(t *testing.T) {
	await.NoLeaks(t)
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
		if err != nil {
			t.Fatal(err)
		}
		conf := newPair(t).red
		conf.Peers[0].Endpoint = c.LocalAddr().String()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		red := start(t, conf)
		k := &red.peers[0].knocker
		await.True(t, addr+" refuses a datagram (receiving refusals needs root)", func() bool {
			k.mu.Lock()
			defer k.mu.Unlock()
			return !k.refused.IsZero()
		})
		red.stop()
		k.mu.Lock()
		k.done, k.refused = true, time.Now()
		k.mu.Unlock()
		if !k.knock() {
			t.Errorf("%s: a refusal of just now doesn't count", addr)
		}
		k.mu.Lock()
		k.refused = time.Now().Add(-refusalCounts)
		k.mu.Unlock()
		if k.knock() {
			t.Errorf("%s: a refusal of long ago counts", addr)
		}
	}
}

// FuzzRefused: refused reads no message beyond its end, and returns a valid address of its family.
func FuzzRefused(f *testing.F) {
	for _, ends := range [][2]string{{"10.0.0.1:1000", "10.0.0.2:51820"}, {"[fd00::1]:1000", "[fd00::2]:51820"}} {
		src, dst := netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1])
		v6 := dst.Addr().Is6()
		b := append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, wire.AppendUDP(nil, src, dst, []byte("x"))...)
		if v6 {
			b[0], b[1] = 1, 4
		}
		if to, ok := refused(b, v6); !ok || to != dst {
			f.Errorf("refused %v, %v, want %v", to, ok, dst)
		}
		b[1] = 0
		if to, ok := refused(b, v6); ok {
			f.Errorf("another code refused %v", to)
		}
		b[1] = 3
		f.Add(b, v6)
	}
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		if to, ok := refused(b, v6); ok && (!to.IsValid() || to.Addr().Is6() != v6) {
			t.Errorf("refused %v, IPv6 is %v", to, v6)
		}
	})
}
