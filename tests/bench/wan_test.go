package bench

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// The impaired WAN, and how long a rate is measured on it.
const (
	wanDelay   = 20 * time.Millisecond // one way
	wanRate    = 300_000_000           // bits per second
	wanQueue   = wanRate / 8 * 40 / 1000
	wanSettle  = 2 * time.Second // slow start is over
	wanMeasure = 4 * time.Second
)

// longWAN is the impaired WAN with a probability of loss.
func longWAN(loss float64) lab.Impairment {
	return lab.Impairment{Delay: wanDelay, Rate: wanRate, QueueBytes: wanQueue, Loss: loss}
}

// BenchmarkWAN shows what bbr on the routes gains for hosts that run their own
// gateway: the ends of the transfer are the gateways' hosts themselves. The
// others use cubic.
func BenchmarkWAN(b *testing.B) {
	impaired := lab.Config{Impaired: true}
	onRoutes := startGW(b, "gw bbr", impaired, `congctl = "bbr"`)
	all := []*contestant{
		onRoutes,
		startPlain(b, "plain", impaired),
		startGW(b, "gw cubic", impaired, ""),
	}
	t := newTable("A host with its own gw over a WAN of 40 ms and 300 Mbit/s, Mbit/s", all)
	for _, loss := range []float64{0, 0.001, 0.01} {
		b.Run(fmt.Sprintf("loss=%g", loss), func(b *testing.B) {
			for _, c := range all {
				c.Box.SetBoth(longWAN(loss))
			}
			rate := samples{}
			each(b, all, func(ctx context.Context, c *contestant) {
				congestion := usual
				if c == onRoutes {
					congestion = "" // leave it to the route
				}
				rate.add(c, c.wanRate(ctx, b, congestion))
			})
			t.figure(b, fmt.Sprintf("loss %.1f %%", loss*100), "%.1f", rate)
		})
	}
}

// wanRate is the rate of one flow from red's gateway to gray's, once it runs.
func (c *contestant) wanRate(ctx context.Context, b *testing.B, congestion string) float64 {
	b.Helper()
	return c.rates(ctx, b, 1, lab.TransferConfig{
		From: c.Red.GW().Namespace, To: c.Gray.GW().Namespace,
		Addr: netip.AddrPortFrom(c.Gray.GW().Node4, 0), Source: c.Red.GW().Node4,
		Bytes: 1 << 40, Unhashed: true, Congestion: congestion,
	})[0]
}

// rates are those of a transfer's flows, once they run, in Mbit/s.
func (c *contestant) rates(ctx context.Context, b *testing.B, flows int, cfg lab.TransferConfig) []float64 {
	b.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg.Flows = flows
	tr, err := lab.StartTransfer(ctx, cfg)
	if err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
	time.Sleep(wanSettle)
	from, began := tr.ReceivedBy(), time.Now()
	select {
	case <-tr.Done():
		_, err := tr.Wait()
		b.Fatalf("%s: the transfer ended early: %v", c.name, err)
	case <-time.After(wanMeasure):
	}
	took := time.Since(began).Seconds()
	rates := make([]float64, flows)
	for i, now := range tr.ReceivedBy() {
		rates[i] = float64(now-from[i]) * 8 / 1e6 / took
	}
	cancel()
	_, _ = tr.Wait() // it was broken off
	return rates
}
