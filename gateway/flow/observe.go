package flow

import "time"

// Observer is told of flows that open and end, the gateways' own excepted: once each, on the
// node that sees it happen. Calls come from the data path with a lock held: they must not block,
// nor call the Table.
type Observer interface {
	Opened(Conn)
	// Ended says why in words.
	Ended(c Conn, reason string)
}

// tellOpened tells of a flow that has just been admitted.
func (t *Table) tellOpened(f *flow, now time.Duration) {
	if t.cfg.Observer != nil && !f.own() {
		t.cfg.Observer.Opened(t.conn(f, now))
	}
}

// tellEnded tells of a flow that has ended, once, though its tombstone stays for a while.
func (t *Table) tellEnded(f *flow, reason string) {
	if t.cfg.Observer != nil && !f.ended && !f.own() {
		f.ended = true
		t.cfg.Observer.Ended(t.conn(f, f.last), reason)
	}
}

// tellOver tells of a connection that this packet has closed.
func (t *Table) tellOver(f *flow) {
	switch f.tcp.phase {
	case phaseTomb:
		t.tellEnded(f, "closed")
	case phaseReset:
		t.tellEnded(f, "reset")
	}
}
