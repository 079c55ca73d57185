package bench

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// manyRecords is how many connections the pair remembers when it takes over.
const manyRecords = 100_000

// BenchmarkPairRecords measures what many connections cost a standby: memory, and
// time when it takes over.
func BenchmarkPairRecords(b *testing.B) {
	many, none := newPairing(b, "100,000", built(b), true), newPairing(b, "none", built(b), true)
	of := map[*contestant]*pairing{many.contestant: many, none.contestant: none}
	many.makeUp(b, manyRecords)
	for _, p := range of {
		p.up(b)
	}
	held := func(want int) func(status.Status) bool {
		return func(s status.Status) bool { return s.HA.Records.Held >= want && settled(s) }
	}
	for _, n := range many.nodes[1:] {
		n.wait(b, "it has all records", held(manyRecords))
	}
	all := []*contestant{many.contestant, none.contestant}
	t := newTable("A pair that remembers 100,000 connections, and one without any", all)

	b.Run("memory", func(b *testing.B) {
		time.Sleep(calm / 2)
		rss, heap := samples{}, samples{}
		each(b, all, func(_ context.Context, c *contestant) {
			_, standby := of[c].roles(b)
			m := standby.status(b).Memory
			rss.add(c, float64(m.Resident)/1e6)
			heap.add(c, float64(m.Heap)/1e6)
		})
		t.figure(b, "standby, resident MB", "%.1f", rss)
		t.figure(b, "standby, heap MB", "%.1f", heap)
		per := func(s samples) samples {
			m, _ := s.median(many.name)
			n, _ := s.median(none.name)
			return samples{many.name: {(m - n) * 1e6 / manyRecords}}
		}
		t.figure(b, "resident bytes per record", "%.0f", per(rss))
	})
	b.Run("takeover", func(b *testing.B) {
		detected, done, moved := samples{}, samples{}, samples{}
		each(b, all, func(ctx context.Context, c *contestant) {
			p := of[c]
			probe := startProbe(b, c)
			active, standby := p.roles(b)
			if err := active.proc.Kill(); err != nil {
				b.Fatal(err)
			}
			standby.wait(b, "it has taken over", func(s status.Status) bool {
				return s.HA.Role == status.RoleActive && s.HA.LastFailover.Phases.Acknowledged > 0
			})
			gap := probe.end(b)
			f := standby.status(b).HA.LastFailover.Phases
			detected.add(c, milliseconds(f.Detected.Duration()))
			done.add(c, milliseconds(f.Total.Duration()))
			moved.add(c, milliseconds(gap))
			active.up(b)
			for _, n := range p.nodes[1:] {
				n.wait(b, "the pair is complete again", func(s status.Status) bool {
					if c == many.contestant && s.HA.Records.Held < manyRecords {
						return false
					}
					return settled(s)
				})
			}
		})
		t.figure(b, "takeover: detected, ms after death", "%.0f", detected)
		t.figure(b, "  done, ms after death", "%.0f", done)
		t.figure(b, "  gap between packets, ms", "%.0f", moved)
	})
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// probe sends a small datagram each probeEvery, and listens for the echoes.
type probe struct {
	server *lab.Server
	conn   net.Conn
	echoes chan time.Time
	last   time.Time // of the latest echo that was taken in
}

const probeEvery = 2 * time.Millisecond

// startProbe returns when echoes arrive.
func startProbe(b *testing.B, c *contestant) *probe {
	b.Helper()
	to := c.Gray.DB()
	s, err := lab.EchoUDP(b.Context(), to.Namespace, netip.AddrPortFrom(to.LAN4, 0))
	if err != nil {
		b.Fatal(err)
	}
	conn, err := c.Red.DB().Dial(b.Context(), "udp", s.Addr.String())
	if err != nil {
		b.Fatal(err)
	}
	p := &probe{server: s, conn: conn, echoes: make(chan time.Time, 1<<16)}
	go func() {
		for {
			if _, err := conn.Write([]byte{0}); errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(probeEvery)
		}
	}()
	go func() {
		var buf [1]byte
		for {
			if _, err := conn.Read(buf[:]); errors.Is(err, net.ErrClosed) {
				return
			} else if err == nil { // others are ICMP errors
				p.echoes <- time.Now()
			}
		}
	}()
	b.Cleanup(p.close)
	p.last = <-p.echoes
	return p
}

func (p *probe) close() {
	p.conn.Close()
	p.server.Close()
}

// end returns the longest time without an echo, which has to be over.
func (p *probe) end(b *testing.B) (gap time.Duration) {
	b.Helper()
	defer p.close()
	asked := time.Now()
	for {
		select {
		case t := <-p.echoes:
			gap = max(gap, t.Sub(p.last))
			if p.last = t; t.After(asked) {
				return gap
			}
		case <-time.After(patience):
			b.Fatal("no packet passes the gateway")
		}
	}
}
