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
	// Out is what left this site, In what came into it; bytes of whole IP packets.
	PacketsOut, BytesOut, PacketsIn, BytesIn uint64
	Age, Idle                                time.Duration
}

// Conns gives all flows, each as it was at one moment. It holds the lock of a
// part of the table between two of them: the consumer must not block.
func (t *Table) Conns() iter.Seq[Conn] {
	return func(yield func(Conn) bool) {
		now := t.cfg.Now()
		t.each(func(f *flow) bool {
			src, dst := f.key.ends(f.openerB)
			return yield(Conn{
				Proto: f.key.proto, Source: src, Destination: dst,
				Local: f.openerB == f.localB, Site: t.cfg.Sites[f.site].Name,
				State: f.state(), Rule: *f.rule,
				PacketsOut: f.out.packets, BytesOut: f.out.bytes,
				PacketsIn: f.in.packets, BytesIn: f.in.bytes,
				Age: now - f.opened, Idle: now - f.last,
			})
		})
	}
}

// each calls fn for every flow, with the lock of its shard held.
func (t *Table) each(fn func(*flow) bool) {
	for i := range t.shard {
		s := &t.shard[i]
		s.mu.Lock()
		for _, f := range s.flows {
			if !fn(f) {
				s.mu.Unlock()
				return
			}
		}
		s.mu.Unlock()
	}
}

// Records gives the record of every flow between this site and the named one,
// or of all flows when site is empty. The slices are valid until the next.
func (t *Table) Records(site string) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		var b []byte
		t.each(func(f *flow) bool {
			if !f.noted.kept || site != "" && t.cfg.Sites[f.site].Name != site {
				return true
			}
			noted := f.noted // the file's view stays what it is
			b = f.appendRecord(f.key.append(b[:0]))
			f.noted = noted
			return yield(b[:keySize], b[keySize:])
		})
	}
}

// Stats counts what the table holds and has done since the start.
type Stats struct {
	TCP, UDP, ICMP, Other    int
	Records, Limit           int
	Opened, Denied, Restored uint64
	// Drops are dropped packets by reason.
	Drops [wire.NumReasons]uint64
}

// Stats returns a snapshot.
func (t *Table) Stats() Stats {
	st := Stats{
		Limit:  t.cfg.MaxFlows,
		Opened: t.opened.Load(), Denied: t.denied.Load(), Restored: t.restored.Load(),
	}
	for r := range st.Drops {
		st.Drops[r] = t.drops[r].Load()
	}
	t.each(func(f *flow) bool {
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
	})
	return st
}
