package flow

import (
	"bytes"
	"sync/atomic"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// What a pair asks of the data path: a standby holds the active node's flows
// and lets none of them age, passes on what the LAN sends it by mistake, and a
// node that takes over wakes the flows that wait for a timer.

// maxStray is the largest packet that is passed on to the sibling in one piece:
// with another IP and UDP header around it, it fits any link.
const maxStray = 1280 - wire.IPv6Header - wire.UDPHeader

// pairing is the part of a Path that only a pair uses.
type pairing struct {
	pass   atomic.Pointer[func([]byte)]
	strays outbox // for Read, which alone may cut up what is too large

	stale atomic.Bool // what waits for Read is of before a freeze

	paused atomic.Bool
	kick   chan struct{} // holds a token when Read is to look while it is paused
}

func (t *Table) alive() bool { return t.cfg.Alive == nil || t.cfg.Alive() }

// Discard drops what Read has put aside and not given yet: the rest of a segment
// that is being cut up, and packets that wait to be next. It is for a process that
// was frozen, and to be called before anything may leave again.
func (p *Path) Discard() {
	p.pair.stale.Store(true)
	p.Wake()
}

// forget does what Discard has asked for. Only Read may.
func (p *Path) forget() {
	p.pair.stale.Store(false)
	if p.cut.Busy() {
		p.cut = wire.Cutter{}
		p.table.drop(wire.Frozen)
	}
	for _, o := range []*outbox{&p.box, &p.pair.strays} {
		for o.next() != nil {
			p.table.drop(wire.Frozen)
		}
	}
}

// Standby reports whether the flows are the sibling's, which carries the site.
func (t *Table) Standby() bool { return t.standby.Load() }

// SetStandby says whether the flows are the sibling's. While they are, none times
// out here: their packets pass elsewhere. Every claim of this node is told, also
// one that outdoes another while it was active.
func (t *Table) SetStandby(standby bool) {
	if standby {
		t.standby.Store(true)
		t.dropForeign()
		return
	}
	// Taking over: what was silent here was not silent, and where this node was
	// active before, the windows that it saw then have moved on without it.
	now, was := t.cfg.Now(), t.standby.Load()
	t.since.Store(int64(now))
	defer t.standby.Store(false) // last: a sweep in between would forget what was silent only here
	t.each(func(f *flow) bool {
		f.last = now
		f.tcp.Unsettle()
		f.restored, f.began = true, now
		switch a := &f.account; {
		case !was || f.revoked || !a.opened && a.how == CameNew:
		case a.opened:
			f.beginAccount(CameTakenOver, now) // what it has carried since then is not known
		default:
			f.beginAccount(a.how, now)
		}
		return true
	})
}

// Replace is Take, but the record takes the place of what the table has, and the
// Recorder, which is where it comes from, does not hear of it. Policy is asked when
// the flow becomes this node's own: while the two nodes' files are being edited one
// after the other, both hold the same records.
func (t *Table) Replace(k, v []byte) (wire.Reason, error) {
	f, err := parseRecord(k, v)
	if err != nil {
		return 0, err
	}
	s := t.shardOf(&f.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	from, r := t.place(f)
	if r != wire.OK && r != wire.Denied {
		return r, nil
	}
	d := newDormant(v, CameTakenOver)
	d.told = s.dormant[f.key].told
	if old := s.flows[f.key]; old != nil {
		d.told = old.account.opened && old.unconfirmed == nil
		t.remove(s, old)
	}
	d.told = d.told && !t.standby.Load()
	t.removeDormant(s, f.key)
	if r := t.room(s, from); r != wire.OK {
		return r, nil
	}
	t.insertDormant(s, f.key, d)
	return wire.OK, nil
}

// Record appends the value of the record with key k as it is now. It reports
// false when there is no such flow, or it has no record.
func (t *Table) Record(b, k []byte) ([]byte, bool) {
	id, err := parseKey(k)
	if err != nil {
		return b, false
	}
	s := t.shardOf(&id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.dormant[id]; ok {
		return append(b, d.value[:]...), true
	}
	f := s.flows[id]
	if f == nil || !f.noted.kept {
		return b, false
	}
	noted := f.noted // the file's view stays what it is
	b = f.appendRecord(b)
	f.noted = noted
	return b, true
}

// Remove takes out the flow that a record's key names, if there is one. The
// Recorder does not hear of it.
func (t *Table) Remove(k []byte) {
	id, err := parseKey(k)
	if err != nil {
		return
	}
	s := t.shardOf(&id)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.removeDormant(s, id)
	if f := s.flows[id]; f != nil {
		t.remove(s, f)
	}
}

// Pause makes the packets of the host wait where they are, in its device, or lets
// them go on. Packets from the link are delivered meanwhile. Pause for
// milliseconds only: the device's queue is bounded.
func (p *Path) Pause(on bool) {
	p.pair.paused.Store(on)
	p.Wake()
}

// pauseLook is how often a paused Read looks, for a Wake that came just before
// the pause.
const pauseLook = time.Millisecond

// wait is what Read does while it is paused.
func (p *Path) wait() {
	t := time.NewTimer(pauseLook)
	defer t.Stop()
	select {
	case <-p.pair.kick:
	case <-t.C:
	}
}

// SetPass makes the Path hand packets from the host to pass, each at most
// 1,232 bytes with a finished checksum, and not to the link: this node is the
// standby, and a host of the LAN has not heard so yet. nil ends that.
func (p *Path) SetPass(pass func(pkt []byte)) {
	if pass == nil {
		p.pair.pass.Store(nil)
		return
	}
	p.pair.pass.Store(&pass)
}

// passOn hands a packet to pass, cut up if need be.
func passOn(pkt *wire.Packet, o wire.Offload, pass func([]byte)) wire.Reason {
	if o.NeedsCsum {
		pkt.FinishChecksum()
	}
	if len(pkt.B) <= maxStray {
		pass(pkt.B)
		return wire.OK
	}
	if pkt.Fragment || pkt.Proto != wire.ProtoTCP {
		return wire.Standby
	}
	if !o.NeedsCsum && !o.CsumValid && !pkt.ChecksumOK() {
		return wire.BadChecksum
	}
	var cut wire.Cutter
	cut.Reset(pkt, maxStray-pkt.Data, false)
	b := make([]byte, maxStray)
	for cut.Busy() {
		pass(b[:cut.Next(b)])
	}
	return wire.OK
}

// PassesOn returns OK if a standby passes a packet of its site's hosts on to its sibling, or the
// reason for which it drops the packet.
func (p *Path) PassesOn(b []byte) wire.Reason {
	var pkt wire.Packet
	if r := wire.Parse(&pkt, b); r != wire.OK {
		return r
	}
	if !pkt.Fragment && p.table.impostor(&pkt) {
		return wire.Impostor
	}
	return passOn(&pkt, wire.Offload{}, func([]byte) {})
}

// Stray takes a packet of the LAN that reached the sibling: it goes on as if it
// had come from this host. It may be called by any goroutine, and keeps nothing
// of b.
func (p *Path) Stray(b []byte) {
	if p.pair.pass.Load() != nil {
		p.table.drop(wire.Standby) // neither node takes itself for active
		return
	}
	if !p.pair.strays.put(bytes.Clone(b)) {
		p.table.drop(wire.QueueFull)
		return
	}
	p.Wake()
}
