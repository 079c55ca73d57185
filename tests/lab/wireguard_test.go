package lab

import (
	"net/netip"
	"testing"
)

func TestPlainTunnel(t *testing.T) {
	l := Start(t, Config{})
	ctx := ctxFor(t)
	red, gray, err := StartPlainTunnel(ctx, l)
	if err != nil {
		t.Fatal(err)
	}
	a, b := l.Red.DB(), l.Gray.DB()
	for _, tt := range []struct {
		name     string
		from, to *Host
		addr     netip.Addr
		source   netip.Addr
	}{
		{"red to gray", a, b, b.LAN4, a.LAN4},
		{"gray to red, IPv6", b, a, a.LAN6, b.LAN6},
	} {
		tr, err := StartTransfer(ctx, TransferConfig{
			From: tt.from.Namespace, To: tt.to.Namespace, Addr: netip.AddrPortFrom(tt.addr, 5432),
			Bytes: 8 << 20, Back: 4 << 20, Flows: 2,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Reached(1 << 20); err != nil {
			t.Error(err)
		}
		res, err := tr.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if res.Received != 24<<20 || res.Source != tt.source {
			t.Errorf("%s: received %d bytes from %s, want %d from %s", tt.name, res.Received, res.Source, 24<<20, tt.source)
		}
		t.Logf("%s: %.0f Mbit/s", tt.name, res.Mbps())
	}
	if n, err := l.Refused(); err != nil || n != 0 {
		t.Errorf("the firewall refused %d, %v, want none: red dials", n, err)
	}
	for _, p := range []*Proc{gray, red} {
		if err := p.Term(ctx); err != nil {
			t.Error(err)
		}
	}
}
