package lab

import (
	"net/netip"
	"testing"
	"time"
)

func TestPeers(t *testing.T) {
	l := Start(t, Config{})
	ctx := ctxFor(t)
	a, b := l.Red.GW(), l.Gray.GW()
	echo, err := EchoTCP(ctx, b.Namespace, netip.AddrPortFrom(b.WAN4, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	udp, err := EchoUDP(ctx, b.Namespace, netip.AddrPortFrom(b.WAN6, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()

	for network, addr := range map[string]netip.AddrPort{"tcp": echo.Addr, "udp": udp.Addr} {
		lat, err := PingPong(ctx, a.Namespace, network, addr, 200, 64)
		if err != nil || lat.Count != 200 || lat.P50 <= 0 || lat.P50 > lat.P99 || lat.P99 > lat.Max {
			t.Errorf("%s: %+v, %v", network, lat, err)
		}
	}
	rate, err := ConnectRate(ctx, a.Namespace, echo.Addr, 2, 100*time.Millisecond)
	if err != nil || rate <= 0 {
		t.Errorf("connect rate %.0f, %v", rate, err)
	}
	pool, err := OpenPool(ctx, a.Namespace, echo.Addr, 100)
	if err != nil {
		t.Fatal(err)
	}
	if err := pool.Check(5 * time.Second); err != nil {
		t.Error(err)
	}
	if err := HalfClose(ctx, a.Namespace, b.Namespace, netip.AddrPortFrom(b.WAN4, 0), 1<<20); err != nil {
		t.Error(err)
	}
	if err := echo.Close(); err != nil {
		t.Error(err)
	}
	if err := pool.Check(5 * time.Second); err == nil {
		t.Error("the server is gone, but its idle connections pass the check")
	}
	if err := pool.Close(); err != nil {
		t.Error(err)
	}
}
