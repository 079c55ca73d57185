package flow

import (
	"sync/atomic"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// After a restart without its own records, a gateway asks the other sites' gateways which
// connections exist. That answer is a claim of another site, and a hostile gateway may make it up.
// So a flow from such a record is unconfirmed at first:
//
//   - It concerns only the giver's site and this one, it is TCP, and policy allows it.
//   - It counts to the giver, not to the site that the record names as the opener.
//   - It has no record of its own: neither the file nor the sibling gets it.
//   - A packet of the far end passes only where policy lets that end open a connection to the local
//     end: all that the other site could reach without the record.
//   - It times out after unconfirmedFor.
//
// The local end confirms it: any packet of that end that fits, other than a RST or a SYN, shows
// that the connection exists there, and from then on the flow is like all others. A RST shows that
// it does not exist and removes the flow. The gateway does not wait for the local end to speak by
// itself; see Path.ConfirmFlows.

const (
	// unconfirmedFor is how long the local end has to confirm a flow.
	unconfirmedFor = time.Minute
	// Shares of the table: the most that one giver's unconfirmed flows may take, the most that
	// those of all givers may, and how full the table may be when another one comes.
	giverShare, giversShare, fullShare = 4, 2, 4
)

// unconfirmed is what the table knows of a flow that its local end has not confirmed.
type unconfirmed struct {
	giver int // index of the site that gave the record
	// queued says that the flow waits to be asked about; tries is how often it was.
	queued bool
	tries  int
	// stamps is the timestamps option of the far end's latest packet, where stamped says so.
	stamps  [12]byte
	stamped bool
	asked   uint32 // the latest question's acknowledgement number, if tries is not 0
}

// Given is what became of a record that another site gave.
type Given uint8

// The results of TakeForeign. Their names are part of the metrics.
const (
	GivenTaken     Given = iota // the flow is in the table, unconfirmed
	GivenKnown                  // the table has the flow already, which stays as it is
	GivenOtherSite              // the flow is not between the giver's site and this one
	GivenDenied                 // policy does not allow it
	GivenNotTCP                 // nothing could confirm it
	GivenQuota                  // the giver's share of the table is used up
	GivenMalformed              // it is no record
	GivenStandby                // this node is the standby, which asks when it takes over
	NumGiven
)

// String returns the name that counters use.
func (g Given) String() string {
	return [...]string{"taken", "known", "other-site", "denied", "not-tcp", "quota", "malformed", "standby"}[g]
}

// ForeignStats counts the records that one site has given, and what became of their flows.
type ForeignStats struct {
	Site  string
	Given [NumGiven]uint64
	// Unconfirmed is the number of flows that wait for their local end now.
	Unconfirmed int
	// Confirmed flows have been; Refuted ones were reset by the local end; Expired ones got no
	// answer.
	Confirmed, Refuted, Expired uint64
}

// foreign holds the counters of one giver, and its flows that wait to be asked about.
type foreign struct {
	flows                       atomic.Int64 // unconfirmed
	given                       [NumGiven]atomic.Uint64
	confirmed, refuted, expired atomic.Uint64
	queue                       askQueue
}

// TakeForeign offers the table a record that the gateway of another site has given. The table keeps
// the flow, unconfirmed, where the record is a TCP connection between that site and this one that
// policy allows and the giver's share is not used up.
func (t *Table) TakeForeign(giver int, k, v []byte) Given {
	g := t.takeForeign(giver, k, v)
	t.foreign[giver].given[g].Add(1)
	return g
}

func (t *Table) takeForeign(giver int, kb, v []byte) Given {
	f, err := parseRecord(kb, v)
	switch {
	case err != nil:
		return GivenMalformed
	case f.key.proto != wire.ProtoTCP:
		return GivenNotTCP
	}
	s := t.shardOf(&f.key)
	s.mu.Lock() // before it is judged; see SetJudge
	defer s.mu.Unlock()
	_, r := t.place(f)
	switch {
	case r != wire.OK && r != wire.Denied, f.site != giver:
		return GivenOtherSite
	case r == wire.Denied:
		return GivenDenied
	case t.standby.Load():
		return GivenStandby
	case s.has(f.key):
		return GivenKnown
	case !t.roomForeign(giver):
		return GivenQuota
	}
	f.last = t.cfg.Now()
	f.unconfirmed = &unconfirmed{giver: giver}
	// The Observer receives nothing of it until it is confirmed.
	f.account = account{opened: true, ended: true, how: CameFetched}
	t.insert(s, f)
	t.enqueue(f)
	return GivenTaken
}

// roomForeign reports whether another unconfirmed flow of a giver fits. It never displaces a flow.
func (t *Table) roomForeign(giver int) bool {
	limit, all := int64(t.cfg.MaxFlows), int64(0)
	for i := range t.foreign {
		all += t.foreign[i].flows.Load()
	}
	return t.foreign[giver].flows.Load() < limit/giverShare && all < limit/giversShare &&
		t.count.Load() < limit-limit/fullShare
}

// followUnconfirmed judges a packet of an unconfirmed flow.
func (t *Table) followUnconfirmed(s *shard, now time.Duration, p *wire.Packet, f *flow, fromB, fromHost bool) (*flow, wire.Reason) {
	if p.Flags&(wire.SYN|wire.ACK) == wire.SYN {
		return t.admit(s, now, p, f.key, fromB, fromHost) // as if there were no record
	}
	reachable := t.farMayOpen(f)
	answer := fromHost && f.unconfirmed.answers(p)
	switch {
	case answer && reachable:
		// The end does not know the connection, or is still opening it. What the far end sends next
		// reaches it, and gets an answer that means something to the far end.
		f.unconfirmed.tries = askTries
		return nil, wire.Unconfirmed
	case !fromHost && !reachable:
		f.unconfirmed.stamps, f.unconfirmed.stamped = p.TimestampOption()
		t.enqueue(f)
		return nil, wire.Unconfirmed
	case !answer: // whose number no window holds
		if r := f.packet(now, p, fromB); r != wire.OK || !fromHost {
			return f, r
		}
	}
	if p.Flags&wire.RST == 0 {
		t.confirm(s, f, now)
		return f, wire.OK
	}
	t.foreign[f.unconfirmed.giver].refuted.Add(1)
	t.forget(s, f)
	if !reachable {
		return nil, wire.Unconfirmed // it would tell the other site that the host lives
	}
	return f, wire.OK
}

// answers reports whether p is the RST of an end without the connection to the latest question
// about it: such a RST has the question's acknowledgement number (RFC 9293 section 3.10.7.1).
func (u *unconfirmed) answers(p *wire.Packet) bool {
	return u.tries > 0 && p.Flags&wire.RST != 0 && p.Seq == u.asked
}

// farMayOpen reports whether policy lets the far end of a flow open a connection to the local end.
func (t *Table) farMayOpen(f *flow) bool {
	local, far := f.key.ends(f.localB)
	return t.ask(f.key.proto, far, local) != nil
}

// confirm makes a flow one that the table vouches for: its local end has spoken.
func (t *Table) confirm(s *shard, f *flow, now time.Duration) {
	giver := f.unconfirmed.giver
	t.holder(f).Add(-1)
	f.unconfirmed = nil
	t.holder(f).Add(1)
	t.foreign[giver].confirmed.Add(1)
	t.restored.Add(1)
	over := f.over()
	f.account = account{opened: over, ended: over, how: CameFetched, since: f.began}
	t.note(s, f)
	t.tellOpened(f, now)
}

// expireForeign forgets an unconfirmed flow whose time is over, and reports whether f is one that
// is unconfirmed at all.
func (t *Table) expireForeign(s *shard, f *flow, now time.Duration) bool {
	if f.unconfirmed == nil {
		return false
	}
	if now-f.began > unconfirmedFor {
		t.foreign[f.unconfirmed.giver].expired.Add(1)
		t.forget(s, f)
	} else if f.unconfirmed.tries == 0 {
		t.enqueue(f)
	}
	return true
}

// dropForeign forgets all unconfirmed flows: a standby has none, and asks when it takes over.
func (t *Table) dropForeign() {
	t.each(func(f *flow) bool {
		if f.unconfirmed != nil {
			t.forget(t.shardOf(&f.key), f)
		}
		return true
	})
	for i := range t.foreign {
		t.foreign[i].queue.clear()
	}
}

// foreignStats returns a snapshot of what the other sites have given.
func (t *Table) foreignStats() (out []ForeignStats) {
	for i := range t.foreign {
		if i == t.cfg.Self || !t.cfg.Sites[i].Linked {
			continue
		}
		g := &t.foreign[i]
		st := ForeignStats{
			Site: t.cfg.Sites[i].Name, Unconfirmed: int(g.flows.Load()),
			Confirmed: g.confirmed.Load(), Refuted: g.refuted.Load(), Expired: g.expired.Load(),
		}
		for r := range st.Given {
			st.Given[r] = g.given[r].Load()
		}
		out = append(out, st)
	}
	return out
}
