package flow

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
)

const shards = 64

// Table holds the flows and says of each packet whether it passes. Its methods
// are safe for concurrent use.
type Table struct {
	cfg     Config
	nodes   map[netip.Addr]struct{} // cfg.Nodes
	judge   atomic.Pointer[Judge]
	start   time.Duration
	seed    maphash.Seed // of shardOf
	shard   [shards]shard
	count   atomic.Int64
	opener  []atomic.Int64 // flows by the site that opened them, unconfirmed ones aside
	foreign []foreign      // by the site that gives records
	asks    chan struct{}  // holds a token when a flow waits to be asked about
	drops   [wire.NumReasons]atomic.Uint64
	// standby says that the flows are the sibling's; see SetStandby.
	standby                  atomic.Bool
	since                    atomic.Int64 // see dormantSince
	opened, denied, restored atomic.Uint64
	relayed, revoked         atomic.Uint64
}

type shard struct {
	mu      sync.Mutex
	flows   map[key]*flow
	dormant map[key]dormant // others
	note    []byte          // scratch for records
	_       [64]byte
}

// New makes an empty table.
func New(cfg Config) *Table {
	if cfg.MaxFlows <= 0 {
		cfg.MaxFlows = DefaultMaxFlows
	}
	t := &Table{cfg: cfg, start: cfg.Now(), seed: maphash.MakeSeed(), opener: make([]atomic.Int64, len(cfg.Sites)), nodes: make(map[netip.Addr]struct{}, len(cfg.Nodes))}
	for _, a := range cfg.Nodes {
		t.nodes[a] = struct{}{}
	}
	t.foreign, t.asks = make([]foreign, len(cfg.Sites)), make(chan struct{}, 1)
	t.judge.Store(&cfg.Judge)
	t.since.Store(int64(t.start))
	for i := range t.shard {
		t.shard[i].flows = make(map[key]*flow)
	}
	return t
}

// shardOf returns the shard of a key. The hash is keyed by a seed of this process, so
// that hosts can't choose addresses and ports that all belong to one shard.
func (t *Table) shardOf(k *key) *shard {
	return &t.shard[maphash.Comparable(t.seed, *k)%shards]
}

// drop counts a dropped packet and returns its reason.
func (t *Table) drop(r wire.Reason) wire.Reason {
	t.drops[r].Add(1)
	return r
}

// siteOf returns the index of the site that owns an address, or -1.
func (t *Table) siteOf(a netip.Addr) int {
	for i := range t.cfg.Sites {
		for _, p := range t.cfg.Sites[i].Prefixes {
			if p.Contains(a) {
				return i
			}
		}
	}
	return -1
}

// pass judges a packet that is no fragment. fromHost says which side it came
// from. It returns the flow that the packet belongs to when the reason is OK, and may
// when it is not.
// The caller counts the drop.
func (t *Table) pass(now time.Duration, p *wire.Packet, fromHost bool) (*flow, wire.Reason) {
	if p.IsICMP() && !p.ForwardsICMP() {
		if _, _, r := t.ends(p.Src(), p.Dst(), fromHost); r != wire.OK {
			return nil, r
		}
		return nil, wire.ICMPType
	}
	if p.IsICMPError() {
		return t.passError(now, p, fromHost)
	}
	k, fromB := keyOf(p)
	s := t.shardOf(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := t.find(s, k)
	if f == nil {
		return t.admit(s, now, p, k, fromB, fromHost)
	}
	return t.follow(s, now, p, f, fromB, fromHost)
}

// follow judges a packet of a flow that is known.
func (t *Table) follow(s *shard, now time.Duration, p *wire.Packet, f *flow, fromB, fromHost bool) (*flow, wire.Reason) {
	if (fromB == f.localB) != fromHost {
		return nil, wire.Spoofed
	}
	if f.revoked {
		return t.refuses(s, now, p, f, fromB, fromHost)
	}
	if f.unconfirmed != nil {
		return t.followUnconfirmed(s, now, p, f, fromB, fromHost)
	}
	if p.Proto == wire.ProtoTCP && p.Flags&(wire.SYN|wire.ACK) == wire.SYN {
		switch {
		case f.tcp.Phase().Over() && !f.repeated(p, fromB):
			// The tuple is used again. The tombstone stays when it may not be.
			return t.admit(s, now, p, f.key, fromB, fromHost)
		case fromB != f.openerB && t.rule(p) == nil:
			// The end that was called dials back on the same tuple: allowed only
			// where it might open such a flow by itself.
			return nil, t.refuse(wire.Denied)
		}
	}
	opening := f.tcp.Phase() == tcptrack.SynReceived
	if r := f.packet(now, p, fromB); r != wire.OK {
		return f, r
	}
	t.note(s, f)
	t.observeTransition(f, now)
	// Payload is a reason for a relay, and so is the third packet, before any.
	if (opening || len(p.B) > p.Data) && f.wants.Load() < wantsAny && t.ready(f, now) {
		f.wants.Store(f.carriage.wish(f.rule.Mode))
	}
	return f, wire.OK
}

// mayOpen reports whether p is of a kind that opens a flow.
func mayOpen(p *wire.Packet) bool {
	switch {
	case p.Proto == wire.ProtoTCP:
		return p.Flags&(wire.SYN|wire.ACK) == wire.SYN
	case p.IsICMP():
		return p.IsEchoRequest()
	}
	return true
}

// rule asks policy about the flow that p would open.
func (t *Table) rule(p *wire.Packet) *Rule {
	port := p.DstPort
	if p.Proto != wire.ProtoTCP && p.Proto != wire.ProtoUDP {
		port = 0
	}
	return (*t.judge.Load()).Judge(p.Src(), p.Dst(), p.Proto, port)
}

func (t *Table) refuse(r wire.Reason) wire.Reason {
	t.denied.Add(1)
	return r
}

// admit makes the flow that p opens, if there may be one, in place of one that
// has ended.
func (t *Table) admit(s *shard, now time.Duration, p *wire.Packet, k key, fromB, fromHost bool) (*flow, wire.Reason) {
	src, dst := p.Src(), p.Dst()
	from, to, r := t.ends(src, dst, fromHost)
	if r != wire.OK {
		return nil, r
	}
	if !mayOpen(p) {
		if now-t.start < t.cfg.Grace {
			return nil, wire.Grace
		}
		return nil, wire.NoFlow
	}
	rule := t.rule(p)
	if rule == nil {
		return nil, t.refuse(wire.Denied)
	}
	if old := s.flows[k]; old != nil {
		t.forget(s, old)
	}
	if r := t.room(s, from); r != wire.OK {
		return nil, r
	}
	f := &flow{key: k, openerB: fromB, localB: fromB == fromHost, rule: rule, opened: now, openedW: time.Now()}
	f.site = to
	if !fromHost {
		f.site = from
	}
	if p.Proto == wire.ProtoTCP {
		f.tcp.Open(p)
		f.carriage.plain = rule.Mode != ModeRoute && !p.Signed()
	}
	f.beginAccount(CameNew, now)
	f.count(now, len(p.B), fromB)
	t.insert(s, f)
	t.opened.Add(1)
	t.note(s, f)
	t.tellOpened(f, now)
	return f, wire.OK
}

// ends finds the sites of source and destination and checks that the packet
// came in on the side of the one and leaves on that of the other.
func (t *Table) ends(src, dst netip.Addr, fromHost bool) (from, to int, r wire.Reason) {
	if !src.IsGlobalUnicast() || !dst.IsGlobalUnicast() {
		return 0, 0, wire.MartianAddress
	}
	from, to = t.siteOf(src), t.siteOf(dst)
	near, far := from, to
	if !fromHost {
		near, far = to, from
	}
	switch {
	case from < 0 || fromHost && from != t.cfg.Self || !fromHost && from == t.cfg.Self:
		return 0, 0, wire.Spoofed
	case to < 0:
		return 0, 0, wire.NoRoute
	case near != t.cfg.Self || far == t.cfg.Self:
		return 0, 0, wire.Loop
	case !t.cfg.Sites[far].Linked:
		return 0, 0, wire.NoRoute
	}
	return from, to, wire.OK
}

// room makes sure that another flow opened by a site fits, if need be by giving
// up one that has not come about or has ended.
func (t *Table) room(s *shard, from int) wire.Reason {
	limit := int64(t.cfg.MaxFlows)
	r := wire.OK
	switch {
	case t.count.Load() >= limit:
		r = wire.TableFull
	case t.opener[from].Load() >= limit*3/4:
		r = wire.SiteFull
	default:
		return wire.OK
	}
	tries := 16
	for _, f := range s.flows {
		if f.spare() && (r == wire.TableFull || t.holder(f) == &t.opener[from]) {
			t.tellEnded(f, gaveWay)
			t.forget(s, f)
			return wire.OK
		}
		if tries--; tries == 0 {
			return r
		}
	}
	for k, d := range s.dormant {
		if f := d.outline(&k); f.spare() && (r == wire.TableFull || t.dormantOpener(&k, &d) == from) {
			t.tellDormantEnded(s, k, d, gaveWay)
			t.forgetDormant(s, k)
			return wire.OK
		}
		if tries--; tries == 0 {
			return r
		}
	}
	return r
}

func (t *Table) openerSite(f *flow) int {
	if f.openerB == f.localB {
		return t.cfg.Self
	}
	return f.site
}

// holder is the counter of the site whose share of the table a flow takes.
func (t *Table) holder(f *flow) *atomic.Int64 {
	if f.unconfirmed != nil {
		return &t.foreign[f.unconfirmed.giver].flows
	}
	return &t.opener[t.openerSite(f)]
}

func (t *Table) insert(s *shard, f *flow) {
	s.flows[f.key] = f
	t.count.Add(1)
	t.holder(f).Add(1)
}

// remove takes a flow out of the table.
func (t *Table) remove(s *shard, f *flow) {
	delete(s.flows, f.key)
	f.gone = true
	if r := f.carriage.relay; r != nil {
		f.unrelay()
		r.Forget()
	}
	t.count.Add(-1)
	t.holder(f).Add(-1)
}

// forget removes a flow and its record.
func (t *Table) forget(s *shard, f *flow) {
	t.tellOver(f)
	t.tellEnded(f, silent)
	t.remove(s, f)
	t.unnote(s, f)
}

// unnote removes the flow's record, if there is one.
func (t *Table) unnote(s *shard, f *flow) {
	if f.noted.kept && t.cfg.Recorder != nil {
		s.note = f.key.append(s.note[:0])
		t.cfg.Recorder.Delete(s.note)
	}
	f.noted.kept = false
}

// note hands the flow's record on when it is new or out of date.
func (t *Table) note(s *shard, f *flow) {
	if t.cfg.Recorder == nil || !f.stale() {
		return
	}
	s.note = f.appendRecord(f.key.append(s.note[:0]))
	t.cfg.Recorder.Put(s.note[:keySize], s.note[keySize:])
}

// passError judges an ICMP error by the flow of the packet that it quotes: that
// packet must have gone the other way, from the end that the error goes to.
func (t *Table) passError(now time.Duration, p *wire.Packet, fromHost bool) (*flow, wire.Reason) {
	q, r := wire.ParseQuoted(p)
	if r != wire.OK {
		return nil, r
	}
	src, dst := p.Src(), p.Dst()
	if _, _, r := t.ends(src, dst, fromHost); r != wire.OK {
		return nil, r
	}
	k, fromB := keyOfQuoted(&q)
	s := t.shardOf(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := t.find(s, k)
	if f == nil || (fromB == f.localB) == fromHost || q.Src != dst {
		return nil, wire.Unmatched
	}
	if f.revoked {
		return nil, wire.Revoked
	}
	if f.unconfirmed != nil && !t.farMayOpen(f) {
		return nil, wire.Unconfirmed
	}
	return f, wire.OK
}

// Take puts a flow from a record into the table. The record is judged again, in
// the direction in which the flow was opened; one that policy no longer allows,
// or that concerns no link of this node, is refused with a reason. A flow that
// the table has already is left alone.
func (t *Table) Take(k, v []byte) (wire.Reason, error) {
	f, err := parseRecord(k, v)
	if err != nil {
		return 0, err
	}
	s := t.shardOf(&f.key)
	s.mu.Lock() // before it is judged; see SetJudge
	defer s.mu.Unlock()
	from, r := t.place(f)
	if r != wire.OK {
		return r, nil
	}
	if s.has(f.key) {
		return wire.OK, nil
	}
	if r := t.room(s, from); r != wire.OK {
		return r, nil
	}
	t.restored.Add(1)
	if t.standby.Load() {
		t.insertDormant(s, f.key, newDormant(v, CameRestored))
		if t.cfg.Recorder != nil {
			t.cfg.Recorder.Put(k, v)
		}
		return wire.OK, nil
	}
	f.last = t.cfg.Now()
	f.beginAccount(CameRestored, f.last)
	t.insert(s, f)
	t.note(s, f)
	return wire.OK, nil
}

// place finds the sites and the rule of a flow that comes from a record, and
// returns the site that opened it.
func (t *Table) place(f *flow) (from int, r wire.Reason) {
	src, dst := f.key.ends(f.openerB)
	from = t.siteOf(src.Addr())
	to, fromHost := t.siteOf(dst.Addr()), from == t.cfg.Self
	if _, _, r := t.ends(src.Addr(), dst.Addr(), fromHost); r != wire.OK {
		return from, r
	}
	f.localB = f.openerB == fromHost
	f.site = to
	if !fromHost {
		f.site = from
	}
	f.restored, f.began = true, t.cfg.Now()
	f.opened = f.began - max(0, time.Since(f.openedW))
	if f.rule = t.ask(f.key.proto, src, dst); f.rule == nil {
		return from, wire.Denied
	}
	return from, wire.OK
}

// Run forgets flows that have timed out, until ctx ends.
func (t *Table) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if !t.standby.Load() {
				t.sweep(t.cfg.Now())
			}
		}
	}
}

// sweep forgets what has timed out, and tells the Observer what is left to tell.
func (t *Table) sweep(now time.Duration) {
	tell := tellAtOnce
	if t.cfg.Observer == nil {
		tell = 0
	}
	for i := range t.shard {
		s := &t.shard[i]
		s.mu.Lock()
		for _, f := range s.flows {
			if t.expireForeign(s, f, now) {
				continue
			}
			if now-f.last > f.timeout() {
				t.forget(s, f)
			} else if tell > 0 && t.tellLate(f, now) {
				tell--
			}
		}
		for k, d := range s.dormant {
			if f := d.outline(&k); now-t.dormantSince() > f.timeout() {
				t.tellDormantEnded(s, k, d, silent)
				t.forgetDormant(s, k)
			} else if tell > 0 && t.tellDormant(s, k, d) {
				tell--
			}
		}
		s.mu.Unlock()
	}
}
