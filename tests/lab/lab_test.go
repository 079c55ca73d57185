package lab

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func ctxFor(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestFirewall dials across the underlay both ways, in both families.
func TestFirewall(t *testing.T) {
	for _, impaired := range []bool{false, true} {
		l := Start(t, Config{Impaired: impaired})
		ctx := ctxFor(t)
		red, gray := l.Red.GW(), l.Gray.GW()
		for _, tt := range []struct {
			name     string
			from, to *Namespace
			addr     netip.Addr
			opens    bool
		}{
			{"red to gray", red.Namespace, gray.Namespace, gray.WAN4, true},
			{"red to gray, IPv6", red.Namespace, gray.Namespace, gray.WAN6, true},
			{"gray to red", gray.Namespace, red.Namespace, red.WAN4, false},
			{"gray to red, IPv6", gray.Namespace, red.Namespace, red.WAN6, false},
		} {
			before, err := l.Refused()
			if err != nil {
				t.Fatal(err)
			}
			if !tt.opens {
				// The dial itself would wait for its SYN to be answered.
				d, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
				_, err := tt.from.Dial(d, "tcp", netip.AddrPortFrom(tt.addr, 9).String())
				cancel()
				if !isTimeout(err) {
					t.Errorf("%s: dial: %v, want a timeout", tt.name, err)
				}
			} else if _, err := RunTransfer(ctx, TransferConfig{
				From: tt.from, To: tt.to, Addr: netip.AddrPortFrom(tt.addr, 0), Bytes: 1 << 20, Back: 1 << 20, Flows: 2,
			}); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			if !tt.opens {
				before++
				// The box may still have the SYN.
				if err := Until(ctx, "the firewall's counter", func() (bool, error) {
					n, err := l.Refused()
					return n >= before, err
				}); err != nil {
					t.Errorf("%s: %v", tt.name, err)
				}
			} else if after, err := l.Refused(); err != nil || after != before {
				t.Errorf("%s, impaired=%t: the firewall's counter went from %d to %d, %v", tt.name, impaired, before, after, err)
			}
		}
		if n, err := l.Opened(); err != nil || n == 0 {
			t.Errorf("opened: %d, %v, want the connections of red", n, err)
		}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout() || errors.Is(err, unix.ETIMEDOUT)
}

func TestSourceNAT(t *testing.T) {
	l := Start(t, Config{SourceNAT: true})
	for _, tt := range []struct{ to, want netip.Addr }{
		{l.Gray.GW().WAN4, netip.MustParseAddr("203.0.113.1")},
		{l.Gray.GW().WAN6, netip.MustParseAddr("2001:db8:2::1")},
	} {
		res, err := RunTransfer(ctxFor(t), TransferConfig{
			From: l.Red.GW().Namespace, To: l.Gray.GW().Namespace, Addr: netip.AddrPortFrom(tt.to, 0), Bytes: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		if res.Source != tt.want {
			t.Errorf("the source seen is %s, want the router's %s", res.Source, tt.want)
		}
	}
}

// TestPairs has several hosts on each LAN and in the WAN.
func TestPairs(t *testing.T) {
	two := SiteConfig{Gateways: 2, Databases: 2, FloatingRouter: true}
	l := Start(t, Config{Red: two, Gray: two})
	ctx := ctxFor(t)
	for _, r := range l.Red.Gateways {
		for _, g := range l.Gray.Gateways {
			if _, err := RunTransfer(ctx, TransferConfig{From: r.Namespace, To: g.Namespace, Addr: netip.AddrPortFrom(g.WAN4, 0), Bytes: 1}); err != nil {
				t.Error(err)
			}
		}
	}
	for _, db := range l.Red.Databases {
		for _, gw := range l.Red.Gateways {
			if _, err := RunTransfer(ctx, TransferConfig{From: db.Namespace, To: gw.Namespace, Addr: netip.AddrPortFrom(gw.LAN6, 0), Bytes: 1}); err != nil {
				t.Error(err)
			}
		}
	}
}
