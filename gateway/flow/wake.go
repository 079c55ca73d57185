package flow

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/onewaylink/gw/gateway/capture"
	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
)

// After an outage a sender waits for its retransmission timer, which has doubled
// each time that it fired in vain: after 30 s it may sleep for as long again. An
// ICMP host-unreachable that quotes the oldest segment in flight takes back one
// doubling (RFC 6069 section 4), and when the time is up by that, the segment is
// sent at once. A host that implements none of it ignores the message.
//
// The first rounds come quickly, one for each time that the timer may have
// doubled; the later ones are for a segment that was lost nevertheless, because
// the other side's gateway was not ready.
var wakeAfter = [16]time.Duration{
	0, 10 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond,
	10 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	200 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond, 200 * time.Millisecond,
}

// Wakes are paced: a peer that makes its link return again and again, or a host that opens
// many connections, can't have more of them sent. A burst wakes 125 connections in all
// rounds at once. For 3,000 connections, a round takes 1.5 s at most.
const (
	recallsPerSecond = 2000
	recallBurst      = 2000
)

// pacer spaces packets of one kind that the gateway sends of its own accord after an
// outage. Safe for concurrent use.
type pacer struct {
	limit      *rate.Limiter
	sent, left atomic.Uint64 // packets sent, and not sent since their time was over
}

func newPacer() *pacer { return &pacer{limit: rate.NewLimiter(recallsPerSecond, recallBurst)} }

// wait returns nil when a packet may be sent, and an error when ctx ends first.
func (p *pacer) wait(ctx context.Context) error { return p.limit.Wait(ctx) }

// Recalls counts what the gateway has sent after outages so that connections resume soon,
// and what it left out since a later outage or the end came first.
type Recalls struct {
	// Wakes are ICMP errors to senders of this site; Retold are acknowledgements repeated
	// to the other site.
	Wakes, WakesLeft, Retold, RetoldLeft uint64
}

// Recalls returns a snapshot.
func (p *Path) Recalls() Recalls {
	return Recalls{
		Wakes: p.wakes.sent.Load(), WakesLeft: p.wakes.left.Load(),
		Retold: p.retells.sent.Load(), RetoldLeft: p.retells.left.Load(),
	}
}

// sleeper is a connection with bytes in flight from the local end.
type sleeper struct {
	key key
	una uint32
}

// WakeFlows wakes the senders of this site whose bytes toward the site with index i are in
// flight, no faster than recallsPerSecond. It returns when all have moved, or can't be moved
// so, or ctx ends; and how many there were.
func (p *Path) WakeFlows(ctx context.Context, i int) int {
	list := p.table.sleepers(i)
	total := len(list)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for _, pause := range wakeAfter {
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			p.wakes.left.Add(uint64(len(list)))
			return total
		case <-timer.C:
		}
		awake := list[:0]
		for at, s := range list {
			if _, _, asleep := p.table.asleep(s); !asleep {
				continue
			}
			if p.wakes.wait(ctx) != nil {
				p.wakes.left.Add(uint64(len(list) - at))
				return total
			}
			if src, dst, asleep := p.table.asleep(s); asleep { // it may have moved meanwhile
				awake = append(awake, s)
				p.wakes.sent.Add(1)
				p.tellAsleep(src, dst, s.una)
			}
		}
		if list = awake; len(list) == 0 {
			return total
		}
	}
	return total
}

// sleepers lists the connections that may wait for a timer.
func (t *Table) sleepers(site int) (list []sleeper) {
	t.each(func(f *flow) bool {
		if f.site == site {
			if una, ok := f.inFlight(); ok {
				list = append(list, sleeper{f.key, una})
			}
		}
		return true
	})
	return list
}

// inFlight returns the oldest sequence number that the local end has sent and
// the other has not acknowledged, as far as both have been heard.
func (f *flow) inFlight() (una uint32, ok bool) {
	t := &f.tcp
	if f.revoked || f.unconfirmed != nil || f.key.proto != wire.ProtoTCP || t.Phase() < tcptrack.Established || t.Phase().Over() {
		return 0, false
	}
	una, ok = t.ACK(f.end(!f.localB))
	return una, ok && wire.SeqLess(una, t.End(f.end(f.localB)))
}

// asleep reports whether nothing has been acknowledged since s was listed, and
// the ends of the connection, the local one first.
func (t *Table) asleep(s sleeper) (src, dst netip.AddrPort, asleep bool) {
	sh := t.shardOf(&s.key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	f := sh.flows[s.key]
	if f == nil {
		return src, dst, false
	}
	una, ok := f.inFlight()
	src, dst = s.key.ends(f.localB)
	return src, dst, ok && una == s.una
}

// tellAsleep sends the ICMP error about the segment at seq.
func (p *Path) tellAsleep(src, dst netip.AddrPort, seq uint32) {
	b := wire.AppendTCP(nil, src, dst, seq, wire.ACK)
	var pkt wire.Packet
	if wire.Parse(&pkt, b) != wire.OK {
		return
	}
	from := p.voice.address(&pkt)
	p.toHost([][]byte{wire.AppendICMPError(nil, wire.HostUnreachable, &pkt, from, 0)}, wire.Offload{}, capture.Own)
}
