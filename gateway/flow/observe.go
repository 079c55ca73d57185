package flow

import (
	"time"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
)

// Observer receives one event when a flow opens and one when it ends, on the node that carries it.
// An end always follows its opening. The data path calls the methods with a lock held: they must
// not block, nor call the Table.
type Observer interface {
	// Opened reports a flow, and how this node came to carry it.
	Opened(c Conn, how Coming)
	// Ended reports the end of a flow, with the reason in words. Age, bytes and packets count from
	// Opened.
	Ended(c Conn, reason string)
}

// Coming is how a flow came to be one that this node carries.
type Coming uint8

// How this node comes to carry a flow.
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

// account is what was reported to the Observer about a flow.
type account struct {
	opened, ended bool
	how           Coming
	// since is when this node began to carry the flow; earlier traffic does not count. until is
	// when a revoked flow's last packet passed.
	since, until        time.Duration
	beforeOut, beforeIn tally
}

// beginAccount begins the account of the flow; a flow that has ended already has nothing to report.
func (f *flow) beginAccount(how Coming, at time.Duration) {
	over := f.over()
	f.account = account{opened: over, ended: over, how: how, since: at, beforeOut: f.out, beforeIn: f.in}
}

// tellAtOnce bounds the flows that a reload or a sweep reports, with at most two lines each, to
// what an Observer's queue may hold. The others, after a takeover or a reload that ends thousands,
// wait for the next sweep.
const tellAtOnce = 1024

// tellOpened reports the opening of a flow, once. A standby carries none.
func (t *Table) tellOpened(f *flow, now time.Duration) {
	if t.cfg.Observer != nil && !f.account.opened && !t.standby.Load() {
		f.account.opened = true
		t.cfg.Observer.Opened(t.conn(f, now), f.account.how)
	}
}

// tellEnded reports the end of a flow, once, though its tombstone stays for a while.
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

// tellOver reports a connection that has been closed.
func (t *Table) tellOver(f *flow) {
	switch f.tcp.Phase() {
	case tcptrack.TimeWait:
		t.tellEnded(f, "closed")
	case tcptrack.Reset:
		t.tellEnded(f, "reset")
	}
}

// tellLate reports to the Observer what a reload or a record has left unreported of a flow. It
// returns whether there was anything.
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

// tellDormant reports a dormant flow, once, before its first packet arrives. It returns whether it
// had to look.
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

// tellDormantEnded reports the end of a dormant flow whose opening was reported.
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
