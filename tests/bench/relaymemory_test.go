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
)

const (
	idleConns    = 9_000 // both ends are in this process, which may have 20,000 files
	busyConns    = 250   // in each direction
	manyPatience = 2 * time.Minute
)

// BenchmarkRelayMemory looks at what a gateway that may relay everything takes for
// connections that are idle, which have no leg, and for 500 that move bulk at once.
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
	at := c.resident(b)
	figure("at first, MB", "%.1f", at/1e6)

	echo, err := lab.EchoTCP(ctx, c.Gray.DB().Namespace, netip.AddrPortFrom(c.Gray.DB().LAN4, 0))
	if err != nil {
		b.Fatal(err)
	}
	defer echo.Close()
	pool, err := lab.OpenPool(ctx, c.Red.DB().Namespace, echo.Addr, idleConns)
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	if err := pool.Check(manyPatience); err != nil {
		b.Fatal(err)
	}
	time.Sleep(calm)
	if n := c.relayed(ctx, b); n > 0 {
		b.Fatalf("%d connections that have been idle for a minute are still relayed", n)
	}
	idle := c.resident(b)
	figure("9,000 idle connections, MB", "%.1f", idle/1e6)
	figure("  bytes for each", "%.0f", (idle-at)/idleConns)

	var runs []*lab.Transfer
	for _, out := range []bool{true, false} {
		cfg := c.bulk(busyConns, 4<<30, 0)
		if !out {
			cfg = c.bulk(busyConns, 0, 4<<30)
		}
		tr, err := lab.StartTransfer(ctx, cfg)
		if err != nil {
			b.Fatal(err)
		}
		runs = append(runs, tr)
	}
	if err := lab.Until(ctx, "500 relayed connections", func() (bool, error) {
		return c.relayed(ctx, b) >= 2*busyConns, nil
	}); err != nil {
		b.Fatal(err)
	}
	busy := c.resident(b)
	figure("500 of them moving bulk, MB", "%.1f", busy/1e6)
	figure("  KB for each", "%.0f", (busy-idle)/1e3/(2*busyConns))
	for _, tr := range runs {
		if _, err := tr.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	most := 0.0
	for _, u := range c.usage(b) {
		most = max(most, float64(u.PeakRSS))
	}
	figure("the most at any time, MB", "%.1f", most/1e6)
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
