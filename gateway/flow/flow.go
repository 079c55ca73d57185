package flow

import (
	"sync/atomic"
	"time"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
)

// flow is one 5-tuple. Its key, site, and localB never change; everything else
// belongs to the lock of its shard.
type flow struct {
	key key
	// site is the index of the other site.
	site int
	// localB says that the end b is the one on this node's side.
	localB bool
	// openerB says that the end b opened the flow.
	openerB bool
	rule    *Rule
	gone    bool // the table has forgotten it
	// revoked says that policy no longer allows it: it is a tombstone.
	revoked bool
	// unconfirmed says that only another site's record tells of it; nil for all others.
	unconfirmed *unconfirmed
	account     account // what the Observer has heard of it
	tcp         tcptrack.Tracker
	// carriage is how the flow is carried. relay is the Relay as the Path sees it, which may read
	// it a moment later; wants asks for an attempt to relay.
	carriage carriage
	relay    atomic.Pointer[Relay]
	wants    atomic.Int32
	// restored says that it comes from a record, began when that was.
	restored bool
	began    time.Duration
	// replied says that the end that was called has answered.
	replied bool
	opened  time.Duration
	openedW time.Time // the same on the wall clock, for the record
	last    time.Duration
	// out is what the local end sent, in what it received.
	out, in tally
	// noted is what the record says, to tell when it is out of date.
	noted struct {
		kept  bool
		phase tcptrack.Phase
		end   [2]uint32
	}
}

// tally counts packets and the bytes of the whole IP packets.
type tally struct{ packets, bytes uint64 }

// timeout is how long the flow may be silent before it is forgotten.
func (f *flow) timeout() time.Duration {
	if f.revoked {
		return timeoutRevoked
	}
	switch f.key.proto {
	case wire.ProtoTCP:
		return f.tcp.Phase().Timeout()
	case wire.ProtoUDP:
		if f.replied {
			return timeoutUDPReply
		}
		return timeoutUDP
	case wire.ProtoICMP, wire.ProtoICMPv6:
		return timeoutICMP
	}
	return timeoutOther
}

// spare reports whether the flow may be given up for a new one when the table
// is full: one that has not come about, has ended, was revoked, or is unconfirmed.
func (f *flow) spare() bool {
	if f.revoked || f.unconfirmed != nil {
		return true
	}
	if f.key.proto == wire.ProtoTCP {
		return f.tcp.Phase() == tcptrack.SynSent || f.tcp.Phase().Over()
	}
	return !f.replied
}

// over reports whether it is a connection that has ended.
func (f *flow) over() bool { return f.key.proto == wire.ProtoTCP && f.tcp.Phase().Over() }

// state is the word for people.
func (f *flow) state() string {
	if f.revoked {
		return "revoked"
	}
	if f.unconfirmed != nil {
		return "unconfirmed"
	}
	if f.key.proto == wire.ProtoTCP {
		return f.tcp.Phase().String()
	}
	if f.replied {
		return "replied"
	}
	return "opened"
}

// repeated reports whether p, a SYN, is the one that opened this connection: an
// old copy of it doesn't open another.
func (f *flow) repeated(p *wire.Packet, fromB bool) bool { return f.tcp.Repeated(f.end(fromB), p) }

// end is the tracker's number for the end that a packet comes from.
func (f *flow) end(fromB bool) int {
	if fromB == f.openerB {
		return 0
	}
	return 1
}

// packet takes a packet of the flow into account; fromB tells its direction.
func (f *flow) packet(now time.Duration, p *wire.Packet, fromB bool) wire.Reason {
	if f.key.proto == wire.ProtoTCP {
		if r := f.tcp.Packet(f.end(fromB), p); r != wire.OK {
			return r
		}
	}
	if fromB != f.openerB {
		f.replied = true
	}
	f.count(now, len(p.B), fromB)
	return wire.OK
}

func (f *flow) count(now time.Duration, bytes int, fromB bool) {
	f.carriage.moved(now-f.last, bytes)
	f.last = now
	t := &f.in
	if fromB == f.localB {
		t = &f.out
	}
	t.packets++
	t.bytes += uint64(bytes)
}

// stale reports whether the flow's record has to be written (again).
func (f *flow) stale() bool {
	if f.revoked {
		return false
	}
	switch f.key.proto {
	case wire.ProtoTCP:
		if !f.noted.kept || f.noted.phase != f.tcp.Lasting() {
			return true
		}
		return f.tcp.End(0)-f.noted.end[0] > recordBytes || f.tcp.End(1)-f.noted.end[1] > recordBytes
	case wire.ProtoUDP:
		return f.replied && !f.noted.kept
	}
	return false // an echo is asked again
}
