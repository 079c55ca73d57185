package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/onewaylink/gw/tests/lab"
)

// fewRounds are enough for rates that differ by factors.
const fewRounds = 3

// BenchmarkRelayWAN shows what the relay gains over a WAN that is long and loses,
// for databases whose kernels run cubic, beside what else they could have.
func BenchmarkRelayWAN(b *testing.B) {
	impaired := lab.Config{Impaired: true}
	bbr := startPlain(b, "bbr hosts", impaired)
	all := []*contestant{
		startMode(b, "gw auto", impaired, "auto", ""),
		startPlain(b, "plain", impaired),
		startGW(b, "gw route", impaired, ""),
		bbr,
	}
	if program, ok := sshd(); ok {
		all = append(all, startSSH(b, "ssh -R", impaired, program))
	}
	for _, c := range all {
		for _, h := range []*lab.Host{c.Red.DB(), c.Gray.DB()} {
			congestion := usual
			if c == bbr {
				congestion = "bbr"
			}
			if err := h.SetCongestion(congestion); err != nil {
				b.Fatal(err)
			}
		}
	}
	t := newTable("Databases over a WAN of 40 ms and 300 Mbit/s, Mbit/s", all)
	wan := func(loss float64) {
		for _, c := range all {
			c.Box.SetBoth(longWAN(loss))
		}
	}
	for _, loss := range []float64{0, 0.001, 0.01} {
		b.Run(fmt.Sprintf("loss=%g", loss), func(b *testing.B) {
			wan(loss)
			rate := samples{}
			eachOf(b, all, fewRounds, func(ctx context.Context, c *contestant) {
				rate.add(c, c.rates(ctx, b, 1, c.toRed())[0])
			})
			t.figure(b, fmt.Sprintf("loss %.1f %%", loss*100), "%.1f", rate)
		})
	}
	b.Run("flows=8", func(b *testing.B) {
		wan(0.001)
		sum, unfair := samples{}, samples{}
		eachOf(b, all, fewRounds, func(ctx context.Context, c *contestant) {
			r := c.rates(ctx, b, 8, c.toRed())
			total := 0.0
			for _, v := range r {
				total += v
			}
			sum.add(c, total)
			unfair.add(c, slices.Max(r)/slices.Min(r))
		})
		t.figure(b, "8 flows, loss 0.1 %", "%.1f", sum)
		t.figure(b, "  fastest / slowest", "%.1f", unfair)
	})
	b.Run("beside", func(b *testing.B) {
		wan(0)
		rate := samples{}
		eachOf(b, all, fewRounds, func(ctx context.Context, c *contestant) {
			stop := c.stand(ctx, b)
			defer stop()
			rate.add(c, c.rates(ctx, b, 1, c.toRed())[0])
		})
		t.figure(b, "1 flow, beside 8 unread", "%.1f", rate)
	})
}

// toRed is bulk without end from gray's database to red's, which gray dials.
func (c *contestant) toRed() lab.TransferConfig {
	from, to := c.Gray.DB(), c.Red.DB()
	cfg := lab.TransferConfig{
		From: from.Namespace, To: to.Namespace, Addr: netip.AddrPortFrom(to.LAN4, 0), Bytes: 1 << 40, Unhashed: true,
	}
	if c.via.IsValid() {
		cfg.Addr, cfg.Via = netip.AddrPortFrom(to.LAN4, c.via.Port()), c.via
	}
	return cfg
}

// stand opens eight connections from gray to red and sends on them; the
// server reads nothing.
func (c *contestant) stand(ctx context.Context, b *testing.B) (stop func()) {
	b.Helper()
	cfg := c.toRed()
	if cfg.Via.IsValid() {
		next := cfg.Via.Port() + 1
		cfg.Addr, cfg.Via = netip.AddrPortFrom(cfg.Addr.Addr(), next), netip.AddrPortFrom(cfg.Via.Addr(), next)
	}
	done := make(chan struct{})
	s, err := lab.ServeTCP(ctx, cfg.To, cfg.Addr, func(*net.TCPConn) { <-done })
	if err != nil {
		b.Fatal(err)
	}
	to := s.Addr
	if cfg.Via.IsValid() {
		to = cfg.Via
	}
	var conns []net.Conn
	for range 8 {
		conn, err := cfg.From.Dial(ctx, "tcp", to.String())
		if err != nil {
			b.Fatal(err)
		}
		conns = append(conns, conn)
		go func() { _, _ = io.Copy(conn, zeros{}) }() // until it is closed
	}
	return func() {
		for _, conn := range conns {
			conn.Close()
		}
		close(done)
		s.Close()
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// BenchmarkRelayBulk moves bulk over a clean wire, relayed and raw.
func BenchmarkRelayBulk(b *testing.B) {
	all := []*contestant{
		startMode(b, "gw relay", lab.Config{}, "relay", ""), startGW(b, "gw route", lab.Config{}, ""), startPlain(b, "plain", lab.Config{}),
	}
	for _, c := range all {
		c.warm(b)
	}
	bulk(b, newTable("Relayed TCP between the databases, and raw; CPU of both gateways together", all), all, bulkBytes)
}

// BenchmarkRelayCleanWAN does so over a WAN that loses nothing, whose rate is less
// than what the machines can do.
func BenchmarkRelayCleanWAN(b *testing.B) {
	impaired := lab.Config{Impaired: true}
	all := []*contestant{startMode(b, "gw relay", impaired, "relay", ""), startGW(b, "gw route", impaired, "")}
	for _, c := range all {
		c.setWAN(b, longWAN(0))
	}
	bulk(b, newTable("The same over a clean WAN of 40 ms and 300 Mbit/s", all), all, bulkBytes/4)
}

// BenchmarkRelaySmall measures what small messages and short connections lose by
// being relayed, and that auto leaves them alone.
func BenchmarkRelaySmall(b *testing.B) { relaySmall(b, "", lab.Impairment{}, manyTrips) }

// BenchmarkRelaySmallWAN does so over a clean WAN.
func BenchmarkRelaySmallWAN(b *testing.B) {
	relaySmall(b, " over a clean WAN", longWAN(0), fewTrips)
}

func relaySmall(b *testing.B, where string, wan lab.Impairment, trips int) {
	cfg := lab.Config{Impaired: wan != lab.Impairment{}}
	relay, route := startMode(b, "gw relay", cfg, "relay", ""), startGW(b, "gw route", cfg, "")
	auto := startMode(b, "gw auto", cfg, "auto", "")
	all := []*contestant{relay, route, auto}
	for _, c := range all {
		c.warm(b)
		if cfg.Impaired {
			c.Box.SetBoth(wan)
		}
	}
	small(b, all, trips,
		newTable("Small messages"+where+", relayed and raw", []*contestant{relay, route}),
		newTable("Small messages"+where+", left to auto and raw", []*contestant{auto, route}))
}

// BenchmarkRelayCheck measures what it costs to check the rule.
func BenchmarkRelayCheck(b *testing.B) {
	all := []*contestant{startChecked(b, "check", lab.Config{}), startMode(b, "none", lab.Config{}, "relay", "")}
	for _, c := range all {
		c.warm(b)
	}
	bulk(b, newTable("Relayed TCP with the rule checked, and not", all), all, bulkBytes)
}

// BenchmarkRelayCheckWAN does so over a clean WAN, which is what relays are for.
func BenchmarkRelayCheckWAN(b *testing.B) {
	impaired := lab.Config{Impaired: true}
	all := []*contestant{startChecked(b, "check", impaired), startMode(b, "none", impaired, "relay", "")}
	for _, c := range all {
		c.setWAN(b, longWAN(0))
	}
	bulk(b, newTable("The same over a clean WAN of 40 ms and 300 Mbit/s", all), all, bulkBytes/4)
}
