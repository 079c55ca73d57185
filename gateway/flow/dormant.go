package flow

import (
	"time"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
)

// dormant is a flow of which nothing is known but its record. A standby holds its
// sibling's flows like that, in a fifth of the memory, and a flow is made of one when
// its first packet comes.
type dormant struct {
	value [recordSize]byte // of the record
	how   Coming
	told  bool // the Observer has heard of it
}

// newDormant makes one of a record's value, which has been parsed.
func newDormant(v []byte, how Coming) (d dormant) {
	copy(d.value[:], v)
	d.value[0] = recordVersion
	d.how = how
	return d
}

// has reports whether the shard has a flow, dormant or not.
func (s *shard) has(k key) bool {
	_, ok := s.dormant[k]
	return ok || s.flows[k] != nil
}

// find returns the flow of a key, activated if it was dormant, or nil.
func (t *Table) find(s *shard, k key) *flow {
	if f := s.flows[k]; f != nil {
		return f
	}
	d, ok := s.dormant[k]
	if !ok {
		return nil
	}
	f, r := t.activate(s, k, &d)
	switch {
	case r == wire.Denied && t.standby.Load():
		return nil // it is the sibling's
	case r == wire.Denied:
		return t.tombstone(s, f, unknownRule)
	}
	t.removeDormant(s, k)
	if f != nil {
		t.insert(s, f)
	}
	return f
}

// unknownRule stands for that by which a flow was opened elsewhere.
var unknownRule = &Rule{Name: "unknown"}

// activate makes a flow of a dormant one. It returns nil where the table would no
// longer take in the record, and a flow without a rule where policy denies it.
func (t *Table) activate(s *shard, k key, d *dormant) (*flow, wire.Reason) {
	f := &flow{key: k}
	if f.parse(d.value[:]) != nil {
		return nil, wire.NoFlow
	}
	_, r := t.place(f)
	if r != wire.OK && r != wire.Denied {
		return nil, r
	}
	f.last = t.dormantSince()
	f.beginAccount(d.how, f.last)
	f.account.opened = f.account.opened || d.told
	if r == wire.Denied {
		return f, r
	}
	s.note = f.appendRecord(s.note[:0]) // the Recorder has it
	return f, wire.OK
}

// tombstone makes a tombstone of a dormant flow that policy denies, which the rule
// allowed before.
func (t *Table) tombstone(s *shard, f *flow, rule *Rule) *flow {
	t.removeDormant(s, f.key)
	f.rule, f.noted.kept = rule, true // the Recorder has it
	t.insert(s, f)
	t.revoke(s, f)
	return f
}

// dormantSince is the time from which dormant flows age: that of the takeover.
func (t *Table) dormantSince() time.Duration { return time.Duration(t.since.Load()) }

// insertDormant adds a dormant flow to a shard that has no flow of its key.
func (t *Table) insertDormant(s *shard, k key, d dormant) {
	if s.dormant == nil {
		s.dormant = make(map[key]dormant)
	}
	s.dormant[k] = d
	t.count.Add(1)
	t.opener[t.dormantOpener(&k, &d)].Add(1)
}

// removeDormant removes a dormant flow, if there is one.
func (t *Table) removeDormant(s *shard, k key) {
	if d, ok := s.dormant[k]; ok {
		delete(s.dormant, k)
		t.count.Add(-1)
		t.opener[t.dormantOpener(&k, &d)].Add(-1)
	}
}

// dormantOpener is the site that opened a dormant flow.
func (t *Table) dormantOpener(k *key, d *dormant) int {
	src, _ := k.ends(d.value[1]&recOpenerB != 0)
	return t.siteOf(src.Addr())
}

// outline is what a dormant flow's time-out is seen from.
func (d *dormant) outline(k *key) *flow {
	return &flow{key: *k, replied: d.value[1]&recReplied != 0, tcp: tcptrack.At(tcptrack.Phase(d.value[2]))}
}

// forgetDormant removes a dormant flow and its record.
func (t *Table) forgetDormant(s *shard, k key) {
	t.removeDormant(s, k)
	if t.cfg.Recorder != nil {
		s.note = k.append(s.note[:0])
		t.cfg.Recorder.Delete(s.note)
	}
}
