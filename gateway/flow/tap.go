package flow

import (
	"net/netip"
	"time"

	"github.com/onewaylink/gw/gateway/capture"
	"github.com/onewaylink/gw/netstack/wire"
)

// A tap sees what the Path moves. Without one all of this costs the Path a look at a
// pointer for each packet.

// SetTap has what the Path sees kept in a Ring; nil ends that.
func (p *Path) SetTap(r *capture.Ring) { p.tap.Store(r) }

// view is what is remembered of a packet while it is being judged: its headers, which
// may be edited meanwhile, and the flow that it was found to belong to.
type view struct {
	at     int64
	n      int // of head
	length int
	flow   *flow
	// name and pos are those of the flow's rule, once named says so.
	named     bool
	name, pos string
	head      [capture.MaxHead]byte
}

// open begins with a packet that has just come.
func (v *view) open(at int64, b []byte) {
	v.at, v.length = at, len(b)
	v.is(nil)
	v.n = copy(v.head[:], b)
}

// is says which flow the packet was found to belong to; nil is none.
func (v *view) is(f *flow) { v.flow, v.named = f, false }

// judged tells the tap what became of the packet.
func (p *Path) judged(tap *capture.Ring, v *view, at capture.Point, r wire.Reason, note capture.Note) {
	s := capture.Sight{Point: at, Reason: r, Note: note, At: v.at, Length: v.length, Head: v.head[:v.n]}
	s.Rule, s.Pos = v.rule(p.table)
	tap.Put(&s)
}

// rule names the rule of the packet's flow.
func (v *view) rule(t *Table) (name, pos string) {
	if !v.named {
		v.name, v.pos = t.ruleOf(v.flow)
		v.named = true
	}
	return v.name, v.pos
}

// ruleOf names the rule of a flow; nothing for none.
func (t *Table) ruleOf(f *flow) (name, pos string) {
	if f == nil {
		return "", ""
	}
	s := t.shardOf(&f.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.rule == nil {
		return "", ""
	}
	return f.rule.Name, f.rule.Pos
}

// ruleOfPacket names the rule of the connection that a TCP packet, of which the headers are
// at hand, belongs to.
func (t *Table) ruleOfPacket(s *capture.Sight) (name, pos string) {
	tuple, _, ok := s.Tuple()
	if !ok || tuple.Proto != wire.ProtoTCP {
		return "", ""
	}
	k, _ := keyBetween(netip.AddrPortFrom(tuple.Source, tuple.SourcePort), netip.AddrPortFrom(tuple.Destination, tuple.DestPort))
	sh := t.shardOf(&k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if f := sh.flows[k]; f != nil && f.rule != nil {
		return f.rule.Name, f.rule.Pos
	}
	return "", ""
}

// sent tells the tap what Read gives to the link: what the packet that was judged last
// has become, or what is noted.
func (p *Path) sent(tap *capture.Ring, at int64, bufs [][]byte, sizes []int, offset int, note capture.Note) {
	s := capture.Sight{Point: capture.ToLink, Note: note, At: at}
	if note == capture.Plain {
		s.Rule, s.Pos = p.view.rule(p.table)
	}
	for i, b := range bufs {
		s.Head = b[offset : offset+sizes[i]]
		s.Length = len(s.Head)
		if note == capture.Own {
			s.Rule, s.Pos = p.table.ruleOfPacket(&s) // of the RST that a relay has kept, for one
		}
		tap.Put(&s)
	}
}

// outNote explains a packet of the host of which nothing went to the link.
func (p *Path) outNote(n int, r wire.Reason) capture.Note {
	switch {
	case n > 0 || r != wire.OK:
		return capture.Plain
	case p.view.flow != nil:
		return capture.Taken
	case p.pair.pass.Load() != nil:
		return capture.PassedOn
	}
	return capture.Waits
}

// inNote explains a packet of the link that belongs to no flow yet.
func (v *view) inNote(r wire.Reason) capture.Note {
	if r == wire.OK && v.flow == nil {
		return capture.Waits
	}
	return capture.Plain
}

// wrote tells the tap what the host was written of a batch from the link.
func (p *Path) wrote(j *joiner, vec [][]byte, f *flow, r wire.Reason) {
	if j.tap == nil || len(vec) == 0 {
		return
	}
	s := capture.Sight{Point: capture.ToHost, Reason: r, At: j.view.at, Length: size(vec), Head: vec[0]}
	if f == j.view.flow {
		s.Rule, s.Pos = j.view.rule(p.table)
	} else {
		s.Rule, s.Pos = p.table.ruleOf(f)
	}
	j.tap.Put(&s)
}

func size(vec [][]byte) (n int) {
	for _, b := range vec {
		n += len(b)
	}
	return n
}

// toHost writes a packet to the host without judging it, and counts a failed write.
// What a relay writes is its connection's, and shows that one's rule.
func (p *Path) toHost(vec [][]byte, o wire.Offload, note capture.Note) {
	r := wire.OK
	if err := p.host.Write(vec, o); err != nil {
		r = p.table.drop(wire.HostWrite)
	}
	if tap := p.tap.Load(); tap != nil && len(vec) > 0 {
		s := capture.Sight{Point: capture.ToHost, Reason: r, Note: note, At: time.Now().UnixNano(), Length: size(vec), Head: vec[0]}
		s.Rule, s.Pos = p.table.ruleOfPacket(&s)
		tap.Put(&s)
	}
}

// take moves packets that wait for the link into bufs.
func (p *Path) take(bufs [][]byte, sizes []int, offset int) int {
	n := p.box.take(bufs, sizes, offset)
	if tap := p.tap.Load(); tap != nil && n > 0 {
		p.sent(tap, time.Now().UnixNano(), bufs[:n], sizes, offset, capture.Own)
	}
	return n
}
