package bench

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/tests/lab"
)

// What the replication of short connections is measured by.
const (
	shortConns = 2000
	shortPause = time.Second / 300
	idleTime   = 3 * time.Second // to know what the sibling's tunnel carries anyway
	setups     = 300             // in each round
)

// BenchmarkPair measures what a second gateway at red's side costs.
func BenchmarkPair(b *testing.B) {
	pair, single := newPairing(b, "pair", built(b), true), newPairing(b, "single", built(b), false)
	all := []*contestant{pair.contestant, single.contestant}
	for _, p := range []*pairing{pair, single} {
		p.up(b)
		p.warm(b)
	}
	t := newTable("A pair of gateways at red's side, and a single one", all)
	for _, flows := range []int{1, 8} {
		b.Run(fmt.Sprintf("bulk/flows=%d", flows), func(b *testing.B) {
			rate, cost, records := samples{}, samples{}, samples{}
			measure := func(ctx context.Context, c *contestant) {
				before, used, began := pair.replicated(b), c.cpu(b), time.Now()
				res, err := lab.RunTransfer(ctx, c.bulk(flows, bulkBytes, 0))
				if err != nil {
					b.Fatalf("%s: %v", c.name, err)
				}
				rate.add(c, res.Mbps())
				cost.add(c, (c.cpu(b)-used).Seconds()/(float64(res.Received)/1e9))
				if c == pair.contestant {
					sent := float64(pair.replicated(b)-before) - digests(time.Since(began))
					records.add(c, sent/(float64(res.Received)/1e9))
				}
			}
			each(b, all, measure)
			each(b, all, measure) // a difference of two in a hundred takes more rounds
			name := "1 flow"
			if flows > 1 {
				name = fmt.Sprintf("%d flows", flows)
			}
			t.figure(b, name+", Mbit/s", "%.0f", rate)
			t.figure(b, name+", CPU s/GB of all gateways", "%.2f", cost)
			t.figure(b, name+", bytes of records per GB", "%.0f", records)
		})
	}
	b.Run("connect", func(b *testing.B) {
		p50 := samples{}
		echo := map[*contestant]netip.AddrPort{}
		for _, c := range all {
			echo[c] = c.echo(b)
		}
		each(b, all, func(ctx context.Context, c *contestant) {
			l, err := lab.ConnectTimes(ctx, c.Red.DB().Namespace, echo[c], setups, 0)
			if err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			p50.add(c, float64(l.P50.Microseconds()))
		})
		t.figure(b, "connect and a byte back, p50 in us", "%.0f", p50)
	})
	b.Run("records", func(b *testing.B) {
		to := pair.echo(b)
		perConn := samples{}
		idle := pair.idle(b)
		before, began := pair.tunnelled(b), time.Now()
		if _, err := lab.ConnectTimes(b.Context(), pair.Red.DB().Namespace, to, shortConns, shortPause); err != nil {
			b.Fatal(err)
		}
		time.Sleep(idleTime / 10) // the last batch and its acknowledgement
		perConn.add(pair.contestant, (float64(pair.tunnelled(b)-before)-idle*time.Since(began).Seconds())/shortConns)
		t.figure(b, "tunnel bytes per short connection", "%.0f", perConn)
	})
}

// echo starts an echo server at gray's database.
func (c *contestant) echo(b *testing.B) netip.AddrPort {
	b.Helper()
	to := c.Gray.DB()
	s, err := lab.EchoTCP(b.Context(), to.Namespace, netip.AddrPortFrom(to.LAN4, 0))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s.Addr
}

// replicated is what both nodes of the pair have sent each other about records so
// far, in bytes.
func (p *pairing) replicated(b *testing.B) (sum uint64) {
	b.Helper()
	for _, n := range p.nodes[1:] {
		sum += n.status(b).HA.Records.SentBytes
	}
	return sum
}

// digests is about what a pair sends about records that do not change: a
// digest a second, and its acknowledgement.
func digests(d time.Duration) float64 {
	const digest, ack = 25 + 8 + 9, 25 + 8 + 1
	return d.Seconds() * (digest + ack)
}

// tunnelled is what the sibling's tunnel has carried so far, both ways, in bytes
// of WireGuard's messages.
func (p *pairing) tunnelled(b *testing.B) uint64 {
	b.Helper()
	for _, l := range p.nodes[1].status(b).Links {
		if l.Peer == p.nodes[2].name {
			return l.TxBytes + l.RxBytes
		}
	}
	b.Fatal("red-1 shows no link to its sibling")
	return 0
}

// idle is what the sibling's tunnel carries a second when no connection changes:
// heartbeats, hellos and digests.
func (p *pairing) idle(b *testing.B) float64 {
	b.Helper()
	before, began := p.tunnelled(b), time.Now()
	time.Sleep(idleTime)
	return float64(p.tunnelled(b)-before) / time.Since(began).Seconds()
}
