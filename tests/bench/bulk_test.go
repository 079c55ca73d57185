package bench

import (
	"context"
	"fmt"
	"testing"

	"github.com/onewaylink/gw/tests/lab"
)

// bulkBytes is what each measurement moves: some seconds.
const bulkBytes = 512 << 20

// BenchmarkBulk moves bulk between the databases: the kernel's TCP, packet by
// packet through both gateways.
func BenchmarkBulk(b *testing.B) {
	all := trio(b)
	bulk(b, newTable("Raw TCP between the databases; CPU of both gateways together", all), all, bulkBytes)
}

// bulk is one and eight flows, each way, of so many bytes in all.
func bulk(b *testing.B, t *table, all []*contestant, bytes int64) {
	for _, flows := range []int{1, 8} {
		for _, way := range []string{"red to gray", "gray to red"} {
			b.Run(fmt.Sprintf("flows=%d/%s", flows, unit(way)), func(b *testing.B) {
				rate, cost := samples{}, samples{}
				each(b, all, func(ctx context.Context, c *contestant) {
					cfg := c.bulk(flows, bytes, 0)
					if way == "gray to red" {
						cfg = c.bulk(flows, 0, bytes)
					}
					before := c.cpu(b)
					res, err := lab.RunTransfer(ctx, cfg)
					if err != nil {
						b.Fatalf("%s: %v", c.name, err)
					}
					rate.add(c, res.Mbps())
					if c.gateways != nil {
						cost.add(c, (c.cpu(b)-before).Seconds()/(float64(res.Received)/1e9))
					}
				})
				plural := "flow"
				if flows > 1 {
					plural = "flows"
				}
				t.head(fmt.Sprintf("%d %s, %s", flows, plural, way))
				t.figure(b, "Mbit/s", "%.0f", rate)
				t.figure(b, "CPU s/GB", "%.2f", cost)
			})
		}
	}
}
