package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// BenchmarkPlain is the baseline for everything that is claimed of speed: the
// kernel's TCP between the databases through two plain wireguard-go processes.
// CPU time and memory are of these two together and of the larger one.
func BenchmarkPlain(b *testing.B) {
	for _, flows := range []int{1, 8} {
		b.Run(fmt.Sprintf("flows=%d", flows), func(b *testing.B) {
			l, procs := plain(b)
			const bytes = 1 << 30
			from, to := l.Red.DB(), l.Gray.DB()
			var rates, costs []float64
			for b.Loop() {
				before := cpu(b, procs)
				res, err := RunTransfer(context.Background(), TransferConfig{
					From: from.Namespace, To: to.Namespace, Addr: netip.AddrPortFrom(to.LAN4, 0),
					Bytes: bytes / int64(flows), Flows: flows, Unhashed: true,
				})
				if err != nil {
					b.Fatal(err)
				}
				rates = append(rates, res.Mbps())
				costs = append(costs, (cpu(b, procs)-before).Seconds()/(float64(res.Received)/1e9))
			}
			b.ReportMetric(median(rates), "Mbit/s")
			b.ReportMetric(median(costs), "cpu-s/GB")
			var peak int64
			for _, p := range procs {
				u, err := p.Usage()
				if err != nil {
					b.Fatal(err)
				}
				peak = max(peak, u.PeakRSS)
			}
			b.ReportMetric(float64(peak)/(1<<20), "MiB-peak")
		})
	}
	b.Run("latency", func(b *testing.B) {
		l, _ := plain(b)
		ctx := context.Background()
		echo, err := EchoTCP(ctx, l.Gray.DB().Namespace, netip.AddrPortFrom(l.Gray.DB().LAN4, 0))
		if err != nil {
			b.Fatal(err)
		}
		defer echo.Close()
		var p50, rates []float64
		for b.Loop() {
			lat, err := PingPong(ctx, l.Red.DB().Namespace, "tcp", echo.Addr, 3000, 64)
			if err != nil {
				b.Fatal(err)
			}
			p50 = append(p50, float64(lat.P50.Microseconds()))
			rate, err := ConnectRate(ctx, l.Red.DB().Namespace, echo.Addr, 4, time.Second)
			if err != nil {
				b.Fatal(err)
			}
			rates = append(rates, rate)
		}
		b.ReportMetric(median(p50), "µs-p50")
		b.ReportMetric(median(rates), "connects/s")
	})
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func plain(b *testing.B) (*Lab, []*Proc) {
	l := Start(b, Config{})
	red, gray, err := StartPlainTunnel(context.Background(), l)
	if err != nil {
		b.Fatal(err)
	}
	return l, []*Proc{red, gray}
}

func cpu(b *testing.B, procs []*Proc) (sum time.Duration) {
	for _, p := range procs {
		u, err := p.Usage()
		if err != nil {
			b.Fatal(err)
		}
		sum += u.CPU
	}
	return sum
}
