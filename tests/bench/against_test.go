//go:build against

package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// manyRounds are enough to see a distribution, not only its middle.
const manyRounds = 20

// longPatience bounds one comparison of manyRounds.
const longPatience = 20 * time.Minute

// baselineProgram returns the gw that GW_BASELINE names: the build to compare with.
func baselineProgram(b *testing.B) string {
	b.Helper()
	program := os.Getenv("GW_BASELINE")
	if program == "" {
		b.Fatal("GW_BASELINE names no program: run make bench-against OLD=/path/to/an/older/gw")
	}
	return program
}

// rivals starts one contestant with the gw of this tree and one with the baseline.
func rivals(b *testing.B, cfg lab.Config, mode string) []*contestant {
	b.Helper()
	local := fmt.Sprintf(localBlock, "", "")
	now := startWith(b, "new", built(b), cfg, mode, local)
	old := startWith(b, "old", baselineProgram(b), cfg, mode, local)
	return []*contestant{now, old}
}

// compare measures both contestants in manyRounds, in an order that changes.
func compare(b *testing.B, all []*contestant, measure func(ctx context.Context, c *contestant)) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), longPatience)
	defer cancel()
	for round := range manyRounds {
		for i := range all {
			measure(ctx, all[(i+round)%len(all)])
		}
	}
}

// spread returns the 10th, 50th and 90th percentile of what was measured.
func (s samples) spread(name string) (p10, p50, p90 float64) {
	v := slices.Sorted(slices.Values(s[name]))
	at := func(q int) float64 { return v[(len(v)-1)*q/100] }
	return at(10), at(50), at(90)
}

// against adds a line: p10, p50 and p90 of the new and the old build, and the ratio of
// the medians.
func (t *table) against(b *testing.B, name, format string, s samples) {
	b.Helper()
	cells := func(who string) string {
		p10, p50, p90 := s.spread(who)
		return fmt.Sprintf(strings.ReplaceAll("%9F%9F%9F", "F", format), p10, p50, p90)
	}
	_, now, _ := s.spread("new")
	_, old, _ := s.spread("old")
	t.lines = append(t.lines, fmt.Sprintf("  %-*s%s  |%s%7.2f", nameWidth-2, name, cells("new"), cells("old"), now/old))
	b.ReportMetric(now/old, unit(name)+"-ratio")
}

// newAgainstTable heads the columns that against fills.
func newAgainstTable(title string) *table {
	return newTable(title+": p10, p50, p90 of this build | of the baseline, ratio of medians", nil)
}

// BenchmarkAgainst compares this build with an older one, interleaved: bulk, small
// messages, a WAN that loses, and a pair.
func BenchmarkAgainst(b *testing.B) {
	for _, mode := range []string{"route", "relay"} {
		b.Run("bulk/"+mode, func(b *testing.B) { againstBulk(b, mode) })
	}
	b.Run("small", againstSmall)
	b.Run("wan", againstWAN)
	b.Run("pair", againstPair)
}

func againstBulk(b *testing.B, mode string) {
	all := rivals(b, lab.Config{}, mode)
	for _, c := range all {
		c.warm(b)
	}
	t := newAgainstTable("Bulk, mode " + mode)
	for _, flows := range []int{1, 8} {
		for _, out := range []bool{true, false} {
			rate, cost := samples{}, samples{}
			compare(b, all, func(ctx context.Context, c *contestant) {
				cfg := c.bulk(flows, 0, bulkBytes/2)
				if out {
					cfg = c.bulk(flows, bulkBytes/2, 0)
				}
				before := c.cpu(b)
				res, err := lab.RunTransfer(ctx, cfg)
				if err != nil {
					b.Fatalf("%s: %v", c.name, err)
				}
				rate.add(c, res.Mbps())
				cost.add(c, (c.cpu(b)-before).Seconds()/(float64(res.Received)/1e9))
			})
			where := "gray to red"
			if out {
				where = "red to gray"
			}
			t.against(b, fmt.Sprintf("%d x %s, Mbit/s", flows, where), ".0f", rate)
			t.against(b, fmt.Sprintf("%d x %s, CPU s/GB", flows, where), ".2f", cost)
		}
	}
}

func againstSmall(b *testing.B) {
	all := rivals(b, lab.Config{}, "route")
	echo := map[*contestant]netip.AddrPort{}
	for _, c := range all {
		c.warm(b)
		echo[c] = c.echo(b)
	}
	t := newAgainstTable("Small messages")
	p50, connects := samples{}, samples{}
	compare(b, all, func(ctx context.Context, c *contestant) {
		l, err := lab.PingPong(ctx, c.Red.DB().Namespace, "tcp", echo[c], manyTrips, 64)
		if err != nil {
			b.Fatalf("%s: %v", c.name, err)
		}
		p50.add(c, float64(l.P50.Microseconds()))
	})
	t.against(b, "ping-pong of 64 bytes, us", ".0f", p50)
	compare(b, all, func(ctx context.Context, c *contestant) {
		rate, err := lab.ConnectRate(ctx, c.Red.DB().Namespace, echo[c], 4, time.Second)
		if err != nil {
			b.Fatalf("%s: %v", c.name, err)
		}
		connects.add(c, rate)
	})
	t.against(b, "connects/s, 4 threads", ".0f", connects)
}

func againstWAN(b *testing.B) {
	all := rivals(b, lab.Config{Impaired: true}, "auto")
	for _, c := range all {
		for _, h := range []*lab.Host{c.Red.DB(), c.Gray.DB()} {
			if err := h.SetCongestion(usual); err != nil {
				b.Fatal(err)
			}
		}
	}
	t := newAgainstTable("Mode auto over 40 ms and 300 Mbit/s, Mbit/s")
	for _, loss := range []float64{0, 0.001, 0.01} {
		for _, c := range all {
			c.Box.SetBoth(longWAN(loss))
		}
		rate := samples{}
		compare(b, all, func(ctx context.Context, c *contestant) {
			rate.add(c, c.rates(ctx, b, 1, c.toRed())[0])
		})
		t.against(b, fmt.Sprintf("loss %.1f %%", loss*100), ".1f", rate)
	}
}

func againstPair(b *testing.B) {
	now, old := newPairing(b, "new", built(b), true), newPairing(b, "old", baselineProgram(b), true)
	all := []*contestant{now.contestant, old.contestant}
	echo := map[*contestant]netip.AddrPort{}
	for _, p := range []*pairing{now, old} {
		p.up(b)
		p.warm(b)
		echo[p.contestant] = p.echo(b)
	}
	t := newAgainstTable("A pair at red's side")
	rate, p50 := samples{}, samples{}
	compare(b, all, func(ctx context.Context, c *contestant) {
		res, err := lab.RunTransfer(ctx, c.bulk(1, bulkBytes/2, 0))
		if err != nil {
			b.Fatalf("%s: %v", c.name, err)
		}
		rate.add(c, res.Mbps())
	})
	t.against(b, "1 flow, Mbit/s", ".0f", rate)
	compare(b, all, func(ctx context.Context, c *contestant) {
		l, err := lab.ConnectTimes(ctx, c.Red.DB().Namespace, echo[c], setups, 0)
		if err != nil {
			b.Fatalf("%s: %v", c.name, err)
		}
		p50.add(c, float64(l.P50.Microseconds()))
	})
	t.against(b, "connect and a byte back, us", ".0f", p50)
}
