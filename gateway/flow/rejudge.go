package flow

import (
	"net/netip"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// A running gateway's policy may change. Flows that exist are judged again then: one
// that is allowed still, by whichever rule, goes on and does not notice. One that no
// rule allows any more is revoked. The table keeps it as a tombstone, so that its
// packets are refused as what policy denies, and not dropped like a stranger's; and
// so that it goes on if the rule comes back, while its ends still try.

// Rejudged counts what became of the flows when the policy changed.
type Rejudged struct {
	// Kept flows are allowed still; Moved are those of them that another rule allows
	// now.
	Kept, Moved int
	// Revoked flows were ended: no rule allows them any more. Resumed ones had been
	// ended like that before, and are allowed again.
	Revoked, Resumed int
}

// few reports whether the Observer can be told of all that at once.
func (r *Rejudged) few() bool { return r.Revoked+r.Resumed <= tellAtOnce }

// rejudgeAtOnce is how many flows are judged under one lock of their part of the
// table, for whose packets wait meanwhile.
const rejudgeAtOnce = 32

// SetJudge has j judge all flows from now on, those that exist too. Its rules take the
// place of those that flows were opened by. A standby ends none: they are its sibling's,
// and are judged when they become its own. Calls must not overlap.
func (t *Table) SetJudge(j Judge) (out Rejudged) {
	before := *t.judge.Swap(&j)
	// Whatever gets into the table from here on was judged by j, since that is done
	// with the lock held that protects what is taken down here.
	for i := range t.shard {
		s := &t.shard[i]
		flows, asleep := s.list()
		for len(flows) > 0 {
			n := min(len(flows), rejudgeAtOnce)
			s.mu.Lock()
			for _, f := range flows[:n] {
				if !f.gone {
					t.rejudge(s, f, &out)
				}
			}
			s.mu.Unlock()
			flows = flows[n:]
		}
		for len(asleep) > 0 {
			n := min(len(asleep), rejudgeAtOnce)
			s.mu.Lock()
			for _, k := range asleep[:n] {
				t.rejudgeDormant(s, k, before, &out)
			}
			s.mu.Unlock()
			asleep = asleep[n:]
		}
	}
	return out
}

// list gives the flows of the shard, and the keys of the dormant ones.
func (s *shard) list() (flows []*flow, asleep []key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	flows, asleep = make([]*flow, 0, len(s.flows)), make([]key, 0, len(s.dormant))
	for _, f := range s.flows {
		flows = append(flows, f)
	}
	for k := range s.dormant {
		asleep = append(asleep, k)
	}
	return flows, asleep
}

// rejudge judges a flow again.
func (t *Table) rejudge(s *shard, f *flow, out *Rejudged) {
	src, dst := f.key.ends(f.openerB)
	rule := t.ask(f.key.proto, src, dst)
	switch {
	case rule == nil && t.standby.Load():
		t.sleep(s, f)
		return
	case rule == nil && f.unconfirmed != nil:
		t.forget(s, f)
		return
	case rule == nil && !f.revoked && !f.over():
		out.Revoked++
		t.revoke(s, f)
		if out.few() {
			t.tellEnded(f, revoked)
		}
		return
	case rule == nil: // it is a tombstone already
		return
	case f.revoked:
		out.Resumed++
		t.tellEnded(f, revoked)
		f.revoked, f.last, f.rule = false, t.cfg.Now(), rule
		f.beginAccount(CameResumed, f.last)
		t.note(s, f)
		if out.few() {
			t.tellOpened(f, f.last)
		}
	case f.over() || f.unconfirmed != nil: // no end has confirmed that it has it; a plan doesn't count it either
	default:
		out.Kept++
		if rule.Name != f.rule.Name {
			out.Moved++
		}
	}
	f.rule = rule
	if r := f.carriage.relay; r != nil && rule.Mode == ModeRoute {
		r.HandBack()
	}
}

// rejudgeDormant does that for one of which there is only the record.
func (t *Table) rejudgeDormant(s *shard, k key, before Judge, out *Rejudged) {
	d, ok := s.dormant[k]
	if !ok || t.standby.Load() {
		return
	}
	f, r := t.activate(s, k, &d)
	if f == nil {
		return // nor would it be when its first packet comes
	}
	src, dst := k.ends(f.openerB)
	old := ask(before, k.proto, src, dst)
	switch {
	case r == wire.Denied && (old == nil || f.over()):
		return // as before, or soon forgotten
	case r == wire.Denied:
		out.Revoked++
		t.tombstone(s, f, old)
		if out.few() {
			t.tellEnded(f, revoked)
		}
	case f.over(): // its ends have closed it, and no plan counts it
	default:
		out.Kept++
		if old == nil || f.rule.Name != old.Name {
			out.Moved++
		}
	}
}

// revoke ends a flow that no rule allows any more. It stays as a tombstone.
func (t *Table) revoke(s *shard, f *flow) {
	f.account.until = f.last
	f.revoked, f.last = true, t.cfg.Now()
	f.wants.Store(wantsNothing)
	if r := f.carriage.relay; r != nil {
		f.unrelay()
		r.Revoke()
	}
	t.revoked.Add(1)
	t.unnote(s, f)
}

// sleep makes a flow dormant, or forgets it where it has no record.
func (t *Table) sleep(s *shard, f *flow) {
	kept := f.noted.kept
	if kept {
		s.note = f.appendRecord(s.note[:0])
	}
	t.remove(s, f)
	if kept {
		t.insertDormant(s, f.key, newDormant(s.note, CameTakenOver))
	}
}

// refuses judges a packet of a revoked flow: one that may open a flow does so where
// it is allowed, and all others are refused.
func (t *Table) refuses(s *shard, now time.Duration, p *wire.Packet, f *flow, fromB, fromHost bool) (*flow, wire.Reason) {
	if mayOpen(p) {
		return t.admit(s, now, p, f.key, fromB, fromHost)
	}
	f.last = now
	return nil, wire.Revoked
}

// ask asks the present policy about a flow.
func (t *Table) ask(proto uint8, src, dst netip.AddrPort) *Rule {
	return ask(*t.judge.Load(), proto, src, dst)
}

func ask(j Judge, proto uint8, src, dst netip.AddrPort) *Rule {
	port := dst.Port()
	if proto != wire.ProtoTCP && proto != wire.ProtoUDP {
		port = 0
	}
	return j.Judge(src.Addr(), dst.Addr(), proto, port)
}

// Allows says whether the table would let src open a flow to dst: by which rule, or
// why not. It changes nothing.
func (t *Table) Allows(proto uint8, src, dst netip.AddrPort) (*Rule, wire.Reason) {
	fromHost := t.siteOf(src.Addr()) == t.cfg.Self
	if _, _, r := t.ends(src.Addr(), dst.Addr(), fromHost); r != wire.OK {
		return nil, r
	}
	rule := t.ask(proto, src, dst)
	if rule == nil {
		return nil, wire.Denied
	}
	return rule, wire.OK
}
