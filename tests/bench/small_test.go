package bench

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// BenchmarkSmall measures what is not bulk: round trips, short connections, and
// a database that answers small questions. The clients and PostgreSQL run on the
// same processors as the gateways.
func BenchmarkSmall(b *testing.B) {
	all := trio(b)
	small(b, all, manyTrips, newTable("Small messages; clients and PostgreSQL share the processors", all))
}

// manyTrips and fewTrips are how many round trips are measured where they are short,
// and where each takes 40 ms.
const manyTrips, fewTrips = 3000, 75

// small measures once and adds the figures to each of the tables.
func small(b *testing.B, all []*contestant, trips int, tables ...*table) {
	figure := func(b *testing.B, name, format string, s samples) {
		b.Helper()
		for _, t := range tables {
			t.figure(b, name, format, s)
		}
	}
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()

	b.Run("echo", func(b *testing.B) {
		echo := map[*contestant]netip.AddrPort{}
		for _, c := range all {
			to := c.Gray.DB()
			s, err := lab.EchoTCP(ctx, to.Namespace, netip.AddrPortFrom(to.LAN4, 0))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			echo[c] = s.Addr
		}
		p50, connects := samples{}, samples{}
		each(b, all, func(ctx context.Context, c *contestant) {
			l, err := lab.PingPong(ctx, c.Red.DB().Namespace, "tcp", echo[c], trips, 64)
			if err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			p50.add(c, float64(l.P50.Microseconds()))
		})
		each(b, all, func(ctx context.Context, c *contestant) {
			rate, err := lab.ConnectRate(ctx, c.Red.DB().Namespace, echo[c], 4, time.Second)
			if err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			connects.add(c, rate)
		})
		figure(b, "ping-pong of 64 bytes, p50 in us", "%.0f", p50)
		figure(b, "connects/s, 4 threads", "%.0f", connects)
	})

	b.Run("pgbench", func(b *testing.B) {
		for _, c := range all {
			host := c.Gray.DB().Namespace
			pg, err := lab.StartPostgres(ctx, c.Lab, host, lab.PostgresConfig{})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := lab.Pgbench(ctx, host, pg.LocalDSN("postgres"), "-i", "-s", "10", "-q"); err != nil {
				b.Fatal(err)
			}
		}
		tps := samples{}
		each(b, all, func(ctx context.Context, c *contestant) {
			dsn := lab.DSN(c.Gray.DB().LAN4, "postgres")
			r, err := lab.Pgbench(ctx, c.Red.DB().Namespace, dsn, "-S", "-n", "-c", "8", "-j", "2", "-T", "3")
			if err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			tps.add(c, r.TPS)
		})
		figure(b, "pgbench -S, 8 clients, tps", "%.0f", tps)
	})
}
