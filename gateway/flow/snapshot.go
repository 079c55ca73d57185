package flow

import (
	"iter"
	"net/netip"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// Conn is a snapshot of one flow. Source is the end that opened it.
type Conn struct {
	Proto               uint8
	Source, Destination netip.AddrPort
	// Local says that the flow was opened from this node's side.
	Local bool
	// Site is the name of the other site.
	Site  string
	State string
	Rule  Rule
	// Over says that it has ended, and is remembered only for what comes late.
	Over bool
	// Revoked says that policy no longer allows it, and that its packets are refused.
	Revoked bool
	// Unconfirmed says that only another site's record tells of it.
	Unconfirmed bool
	// Relayed says that it is carried by a relay, and Why explains that, or why not.
	Relayed bool
	Why     string
	// WasRelayed says that a relay has carried it at some time.
	WasRelayed bool
	// Out is what left this site, In what came into it; bytes of whole IP packets.
	PacketsOut, BytesOut, PacketsIn, BytesIn uint64
	Age, Idle                                time.Duration
	// Opened is when it was opened, wherever that was seen.
	Opened time.Time

	key  key
	kept bool
}

// AppendRecordKey appends the key of the flow's record; false for a flow without.
func (c *Conn) AppendRecordKey(b []byte) ([]byte, bool) {
	if !c.kept {
		return b, false
	}
	return c.key.append(b), true
}

// Conns gives all flows, each as it was at one moment. It holds the lock of a
// part of the table between two of them: the consumer must not block.
func (t *Table) Conns() iter.Seq[Conn] {
	return func(yield func(Conn) bool) {
		now := t.cfg.Now()
		conn := func(f *flow) bool { return yield(t.conn(f, now)) }
		t.eachOf(conn, func(s *shard, k key, d dormant) bool {
			f, r := t.activate(s, k, &d)
			return r != wire.OK || conn(f)
		})
	}
}

// conn is the snapshot of a flow.
func (t *Table) conn(f *flow, now time.Duration) Conn {
	src, dst := f.key.ends(f.openerB)
	relayed, why := f.how()
	return Conn{
		Relayed: relayed, Why: why, WasRelayed: f.carriage.was, Revoked: f.revoked, Over: f.over(), Unconfirmed: f.unconfirmed != nil,
		Proto: f.key.proto, Source: src, Destination: dst,
		Local: f.openerB == f.localB, Site: t.cfg.Sites[f.site].Name,
		State: f.state(), Rule: *f.rule,
		PacketsOut: f.out.packets, BytesOut: f.out.bytes,
		PacketsIn: f.in.packets, BytesIn: f.in.bytes,
		Age: now - f.opened, Idle: now - f.last, Opened: f.openedW,
		key: f.key, kept: f.noted.kept,
	}
}

// each calls fn for every flow that isn't dormant, with the lock of its shard
// held, until it returns false.
func (t *Table) each(fn func(*flow) bool) {
	t.eachOf(fn, func(*shard, key, dormant) bool { return true })
}

// eachOf is each, and calls asleep for the flows that are dormant. Those of a
// shard are all seen at one moment, so that none is missed that is being activated.
func (t *Table) eachOf(fn func(*flow) bool, asleep func(s *shard, k key, d dormant) bool) {
	for i := range t.shard {
		if !t.shard[i].each(fn, asleep) {
			return
		}
	}
}

func (s *shard) each(fn func(*flow) bool, asleep func(s *shard, k key, d dormant) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.flows {
		if !fn(f) {
			return false
		}
	}
	for k, d := range s.dormant {
		if !asleep(s, k, d) {
			return false
		}
	}
	return true
}

// Records gives the record of every flow between this site and the named one,
// or of all flows when site is empty. The slices are valid until the next.
func (t *Table) Records(site string) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		var b []byte
		t.eachOf(func(f *flow) bool {
			if !f.noted.kept || site != "" && t.cfg.Sites[f.site].Name != site {
				return true
			}
			noted := f.noted // the file's view stays what it is
			b = f.appendRecord(f.key.append(b[:0]))
			f.noted = noted
			return yield(b[:keySize], b[keySize:])
		}, func(_ *shard, k key, d dormant) bool {
			if site != "" && !t.between(k, site) {
				return true
			}
			b = append(k.append(b[:0]), d.value[:]...)
			return yield(b[:keySize], b[keySize:])
		})
	}
}

// Fragments counts what both reassemblers hold and have done.
func (p *Path) Fragments() wire.ReassemblerStats {
	p.fragMu.Lock()
	defer p.fragMu.Unlock()
	out, in := p.fragOut.Stats(), p.fragIn.Stats()
	return wire.ReassemblerStats{
		Datagrams: out.Datagrams + in.Datagrams, Bytes: out.Bytes + in.Bytes, Whole: out.Whole + in.Whole,
		Expired: out.Expired + in.Expired, Evicted: out.Evicted + in.Evicted,
	}
}

// between reports whether an end of a flow is at the named site.
func (t *Table) between(k key, site string) bool {
	a, b := k.ends(false)
	i, j := t.siteOf(a.Addr()), t.siteOf(b.Addr())
	return i >= 0 && t.cfg.Sites[i].Name == site || j >= 0 && t.cfg.Sites[j].Name == site
}

// Stats counts what the table holds and has done since the start.
type Stats struct {
	TCP, UDP, ICMP, Other    int
	Records, Limit           int
	Opened, Denied, Restored uint64
	// Relayed is how often a connection has begun to be relayed.
	Relayed uint64
	// Revoked is how many flows were ended since policy no longer allowed them.
	Revoked uint64
	// Foreign is what the linked sites have given in records.
	Foreign []ForeignStats
	// Drops are dropped packets by reason.
	Drops [wire.NumReasons]uint64
}

// Stats returns a snapshot.
func (t *Table) Stats() Stats {
	st := Stats{
		Limit:   t.cfg.MaxFlows,
		Relayed: t.relayed.Load(), Revoked: t.revoked.Load(),
		Opened: t.opened.Load(), Denied: t.denied.Load(), Restored: t.restored.Load(),
	}
	st.Foreign = t.foreignStats()
	for r := range st.Drops {
		st.Drops[r] = t.drops[r].Load()
	}
	t.eachOf(func(f *flow) bool {
		switch f.key.proto {
		case wire.ProtoTCP:
			st.TCP++
		case wire.ProtoUDP:
			st.UDP++
		case wire.ProtoICMP, wire.ProtoICMPv6:
			st.ICMP++
		default:
			st.Other++
		}
		if f.noted.kept {
			st.Records++
		}
		return true
	}, func(_ *shard, k key, _ dormant) bool {
		if k.proto == wire.ProtoTCP {
			st.TCP++
		} else {
			st.UDP++
		}
		st.Records++
		return true
	})
	return st
}
