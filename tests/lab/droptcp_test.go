package lab

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"
)

func TestDropTCP(t *testing.T) {
	l := Start(t, Config{})
	ctx := ctxFor(t)
	red, gray := l.Red.GW(), l.Gray.GW()
	for _, addr := range []netip.Addr{gray.WAN4, gray.WAN6} {
		echo, err := EchoTCP(ctx, gray.Namespace, netip.AddrPortFrom(addr, 0))
		if err != nil {
			t.Fatal(err)
		}
		defer echo.Close()
		c, err := red.Dial(ctx, "tcp", echo.Addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		asked := 0
		// answered reports whether all requests have been answered in time.
		answered := func(patience time.Duration) bool {
			t.Helper()
			asked++
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			n, err := io.ReadFull(c, make([]byte, asked))
			asked -= n
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			return err == nil
		}
		for _, c := range []struct {
			name   string
			way    Way
			flags  uint8
			passes bool
		}{
			{"in", In, 0, false}, {"out", Out, 0, false}, {"both", InAndOut, 0, false},
			{"pushed", In, ACK | PSH, false}, {"others only", In, SYN, true},
		} {
			d, err := gray.DropTCP(c.way, echo.Addr.Port(), c.flags)
			if err != nil {
				t.Fatal(err)
			}
			patience := 10 * time.Second
			if !c.passes {
				patience = 50 * time.Millisecond
			}
			if got := answered(patience); got != c.passes {
				t.Errorf("%s, %s: passed is %t, want %t", addr, c.name, got, c.passes)
			}
			n, err := d.Count()
			if err != nil || (n == 0) != c.passes {
				t.Errorf("%s, %s: dropped %d, %v", addr, c.name, n, err)
			}
			if err := d.Lift(); err != nil {
				t.Fatal(err)
			}
			if !answered(10 * time.Second) {
				t.Errorf("%s, %s: nothing passes after Stop", addr, c.name)
			}
		}
	}
}
