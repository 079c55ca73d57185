package flow

import (
	"time"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
)

// Observer is told of flows that open and end: once each, on the node that carries them. Who hears
// of an end has heard of the opening. Calls come from the data path with a lock held: they must
// not block, nor call the Table.
type Observer interface {
	// Opened says how the flow came to this node.
	Opened(c Conn, how Coming)
	// Ended says why in words. Age, bytes and packets are those since Opened.
	Ended(c Conn, reason string)
}

// Coming is how a flow came to be one that this node carries.
type Coming uint8

// The ways in which flows come.
const (
	CameNew       Coming = iota // its first packet was seen
	CameRestored                // from the record in this node's file
	CameFetched                 // from the record of another site's gateway, confirmed by the local end
	CameTakenOver               // from the sibling
	CameResumed                 // it had ended here: a rule that was revoked is back, or its RST was not believed
)

// String is a word for people.
func (c Coming) String() string {
	return [...]string{"opened", "restored", "fetched", "taken over", "resumed"}[c]
}

// Why flows end without a close of their own.
const (
	silent  = "silent for too long"
	gaveWay = "gave way to others, the table being full"
	revoked = "its rule was revoked"
)

// account is what the Observer has heard of a flow.
type account struct {
	opened, ended bool
	how           Coming
	// since is when the flow came; what it had carried before does not count. until is when a
	// revoked flow's last packet passed.
	since, until        time.Duration
	beforeOut, beforeIn tally
}

// beginAccount begins the account of the flow; a flow that has ended already has nothing to report.
func (f *flow) beginAccount(how Coming, at time.Duration) {
	over := f.over()
	f.account = account{opened: over, ended: over, how: how, since: at, beforeOut: f.out, beforeIn: f.in}
}

// tellAtOnce is of how many flows a reload or a sweep tells, in two lines each at most: no more
// than an Observer's queue may hold. The others, after a takeover or where a reload has ended
// thousands, wait for the next sweep.
const tellAtOnce = 1024

// tellOpened tells of a flow that has come, once. A standby carries none.
func (t *Table) tellOpened(f *flow, now time.Duration) {
	if t.cfg.Observer != nil && !f.account.opened && !t.standby.Load() {
		f.account.opened = true
		t.cfg.Observer.Opened(t.conn(f, now), f.account.how)
	}
}

// tellEnded tells of a flow that has ended, once, though its tombstone stays for a while.
func (t *Table) tellEnded(f *flow, reason string) {
	if t.cfg.Observer == nil || f.account.ended || t.standby.Load() {
		return
	}
	at := f.last
	if f.revoked {
		at, reason = f.account.until, revoked
	}
	t.tellOpened(f, at)
	a := &f.account
	a.ended = true
	c := t.conn(f, at)
	c.Age = max(0, at-a.since)
	c.BytesOut, c.PacketsOut = c.BytesOut-a.beforeOut.bytes, c.PacketsOut-a.beforeOut.packets
	c.BytesIn, c.PacketsIn = c.BytesIn-a.beforeIn.bytes, c.PacketsIn-a.beforeIn.packets
	t.cfg.Observer.Ended(c, reason)
}

// tellOver tells of a connection that has been closed.
func (t *Table) tellOver(f *flow) {
	switch f.tcp.Phase() {
	case tcptrack.TimeWait:
		t.tellEnded(f, "closed")
	case tcptrack.Reset:
		t.tellEnded(f, "reset")
	}
}

// tellLate tells what a reload or a record has left untold of a flow, and reports whether there was
// anything.
func (t *Table) tellLate(f *flow, now time.Duration) bool {
	switch a := &f.account; {
	case f.revoked && !a.ended:
		t.tellEnded(f, revoked)
	case !a.opened:
		t.tellOpened(f, now)
	default:
		return false
	}
	return true
}

// observeTransition reports a connection that has just closed, or that resumes after its end.
func (t *Table) observeTransition(f *flow, now time.Duration) {
	switch over := f.tcp.Phase().Over(); {
	case over == f.account.ended:
	case over:
		t.tellOver(f)
	default:
		f.beginAccount(CameResumed, now)
		t.tellOpened(f, now)
	}
}

// tellDormant tells of a dormant flow, once, though its first packet may be far. It reports whether
// it had to look.
func (t *Table) tellDormant(s *shard, k key, d dormant) bool {
	if d.told || d.outline(&k).over() {
		return false
	}
	if f, r := t.activate(s, k, &d); r == wire.OK {
		t.tellOpened(f, t.cfg.Now())
		d.told = f.account.opened
		s.dormant[k] = d
	}
	return true
}

// tellDormantEnded tells of the end of a dormant flow whose opening was told.
func (t *Table) tellDormantEnded(s *shard, k key, d dormant, reason string) {
	if !d.told {
		return
	}
	if f, _ := t.activate(s, k, &d); f != nil {
		if f.rule == nil {
			f.rule = unknownRule
		}
		t.tellEnded(f, reason)
	}
}
