package bench

import (
	"context"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// The moments at which memory is looked at.
const (
	settle = 3 * time.Second  // from the start to "idle"
	calm   = 60 * time.Second // from the end of the bulk to "a minute later"
)

// BenchmarkMemory looks at the resident memory of the larger of the two
// gateways, before, during and after bulk that saturates both directions.
func BenchmarkMemory(b *testing.B) {
	all := []*contestant{startGW(b, "gw", lab.Config{}, ""), startPlain(b, "plain", lab.Config{})}
	t := newTable("Resident memory of the larger gateway, MB", all)
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()

	look := func(name string, of func(lab.Usage) int64) {
		s := samples{}
		for _, c := range all {
			var most int64
			for _, u := range c.usage(b) {
				most = max(most, of(u))
			}
			s.add(c, float64(most)/1e6)
		}
		t.figure(b, name, "%.1f", s)
	}
	rss := func(u lab.Usage) int64 { return u.RSS }
	time.Sleep(settle)
	look("idle", rss)
	for _, c := range all {
		for _, flows := range []int{1, 8, 64} {
			if _, err := lab.RunTransfer(ctx, c.bulk(flows, bulkBytes, bulkBytes)); err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
		}
	}
	look("peak during bulk", func(u lab.Usage) int64 { return u.PeakRSS })
	look("right after bulk", rss)
	time.Sleep(calm)
	look("a minute after bulk", rss)
}
