package bench

import (
	"context"
	"encoding/json"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
	"golang.org/x/sys/unix"
)

const (
	idleConns = 9_000 // both ends are in this process, which may have 20,000 files
	busyConns = 250   // in each direction
	// What each of them moves, in bytes a second, and for how long: no more than two
	// processors can relay for 500.
	busyRate = 15_000
	busyFor  = 30 * time.Second

	manyPatience = 2 * time.Minute
)

// BenchmarkRelayMemory looks at what a gateway that may relay everything takes for
// connections that are idle, which have no leg, and for 500 that move something at once.
func BenchmarkRelayMemory(b *testing.B) {
	c := startMode(b, "gw relay", lab.Config{}, "relay", "")
	t := newTable("Memory of the larger gateway, everything relayed", []*contestant{c})
	ctx, cancel := context.WithTimeout(b.Context(), 2*patience)
	defer cancel()
	figure := func(name, format string, v float64) {
		s := samples{}
		s.add(c, v)
		t.figure(b, name, format, s)
	}
	time.Sleep(settle)
	idle := c.resident(b)
	figure("at first, MB", "%.1f", idle/1e6)

	echo, err := lab.EchoTCP(ctx, c.Gray.DB().Namespace, netip.AddrPortFrom(c.Gray.DB().LAN4, 0))
	if err != nil {
		b.Fatal(err)
	}
	defer echo.Close()
	// Two halves, because the first brings buffers that the second uses again.
	for _, name := range []string{"4,500 idle connections, MB", "9,000 idle connections, MB"} {
		pool, err := lab.OpenPool(ctx, c.Red.DB().Namespace, echo.Addr, idleConns/2)
		if err != nil {
			b.Fatal(err)
		}
		defer pool.Close()
		if err := pool.Check(manyPatience); err != nil {
			b.Fatal(err)
		}
		time.Sleep(calm)
		if n := c.relayed(ctx, b); n > 0 {
			b.Fatalf("%d connections are still relayed after a minute idle, want none", n)
		}
		before := idle
		idle = c.resident(b)
		figure(name, "%.1f", idle/1e6)
		figure("  bytes for each more", "%.0f", (idle-before)/(idleConns/2))
	}

	crowd, leave := context.WithCancel(ctx)
	defer leave()
	var runs []*lab.Transfer
	for _, out := range []bool{true, false} {
		cfg := c.bulk(busyConns, 1<<40, 0)
		if !out {
			cfg = c.bulk(busyConns, 0, 1<<40)
		}
		cfg.Socket = func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, busyRate)
		}
		tr, err := lab.StartTransfer(crowd, cfg)
		if err != nil {
			b.Fatal(err)
		}
		runs = append(runs, tr)
	}
	most, busy := 0, 0.0
	for range busyFor / settle {
		time.Sleep(settle)
		// How many there are is known a moment before what they use.
		if n := c.relayed(ctx, b); n >= most {
			most, busy = n, max(busy, c.resident(b))
		}
	}
	leave()
	for _, tr := range runs {
		_, _ = tr.Wait() // it was broken off
	}
	figure("500 more move 15 KB/s each; relayed at once", "%.0f", float64(most))
	figure("  MB", "%.1f", busy/1e6)
	figure("  KB for each of them", "%.0f", (busy-idle)/1e3/float64(most))
	peak := 0.0
	for _, u := range c.usage(b) {
		peak = max(peak, float64(u.PeakRSS))
	}
	figure("the most at any time, MB", "%.1f", peak/1e6)
	time.Sleep(calm)
	figure("a minute after, MB", "%.1f", c.resident(b)/1e6)
}

// resident is what the larger gateway has of the machine's memory, in bytes.
func (c *contestant) resident(b *testing.B) (most float64) {
	b.Helper()
	for _, u := range c.usage(b) {
		most = max(most, float64(u.RSS))
	}
	return most
}

// relayed is how many connections red's gateway relays.
func (c *contestant) relayed(ctx context.Context, b *testing.B) int {
	b.Helper()
	out, err := c.Red.GW().Command(ctx, c.program, "status", "--json", "--socket", filepath.Join(c.Dir, c.Red.Name, "gw.sock")).Output()
	if err != nil {
		b.Fatal(err)
	}
	var st status.Status
	if err := json.Unmarshal(out, &st); err != nil {
		b.Fatal(err)
	}
	return st.Relay.Relayed
}
