package flow

import (
	"time"

	"github.com/onewaylink/gw/gateway/capture"
	"github.com/onewaylink/gw/netstack/wire"
)

// maxRuns is how many flows may be joined side by side in one batch. A batch
// mixes few: it is what the link received at once.
const maxRuns = 8

// joiner gathers the segments of a batch into super-segments, flow by flow.
// Packets of one flow leave in the order in which they came.
type joiner struct {
	run  [maxRuns]wire.Joined
	flow [maxRuns]*flow
	n    int
	turn int           // whose run makes room for that of another flow
	last cursor        // the flow of the packet before
	tap  *capture.Ring // nil without one
	view view          // of the packet that is being judged
	one  [1][]byte     // what a single packet is written from, so that it need not be allocated
	// relayed is the packet that a Relay looks at.
	relayed wire.Packet
}

// Write takes packets from the link to the host, as wireguard's tun.Device does.
// What can't be delivered is dropped and counted; an error is never returned,
// since no packet is worth the tunnel.
func (p *Path) Write(bufs [][]byte, offset int) (int, error) {
	p.watch.writing.Add(1)
	defer p.watch.wrote()
	if !p.table.alive() {
		for range bufs {
			p.table.drop(wire.Frozen)
		}
		return len(bufs), nil
	}
	j := p.joins.Get().(*joiner)
	now := p.table.cfg.Now()
	var at int64
	if j.tap = p.tap.Load(); j.tap != nil {
		at = time.Now().UnixNano()
	}
	for _, b := range bufs {
		if j.tap != nil {
			j.view.open(at, b[offset:])
		}
		r := p.inbound(j, now, b[offset:])
		if r != wire.OK {
			p.table.drop(r)
		}
		if j.tap != nil {
			p.judged(j.tap, &j.view, capture.FromLink, r, j.view.inNote(r))
		}
	}
	for i := range j.n {
		p.flush(j, i)
	}
	j.n, j.one[0], j.relayed.B = 0, nil, nil
	j.tap, j.view.flow = nil, nil
	p.joins.Put(j)
	return len(bufs), nil
}

func (p *Path) inbound(j *joiner, now time.Duration, b []byte) wire.Reason {
	var pkt wire.Packet
	if r := wire.Parse(&pkt, b); r != wire.OK {
		return p.refused(now, r, &pkt, false)
	}
	var whole wire.Reassembled
	if pkt.Fragment {
		var r wire.Reason
		if whole, r = p.reassemble(p.fragIn, now, &pkt, false); r != wire.OK || whole.Packet == nil {
			return p.refused(now, r, &pkt, false)
		}
		if r := wire.Parse(&pkt, whole.Packet); r != wire.OK {
			return p.refused(now, r, &pkt, false)
		}
	}
	if p.table.impostor(&pkt) {
		return p.refused(now, wire.Impostor, &pkt, false)
	}
	f, r := p.table.passNext(now, &pkt, false, &j.last)
	j.view.is(f)
	if r != wire.OK {
		if r.Prohibited() {
			p.tellLink(wire.AdminProhibited, &pkt, 0)
		}
		return p.refused(now, r, &pkt, false)
	}
	site := p.sites[f.site].Load()
	if site.Refused {
		return wire.LinkRefused
	}
	if whole.Packet != nil {
		return p.deliverFragments(j, &pkt, whole)
	}
	partial := pkt.IsPartial()
	if pkt.Flags&wire.SYN != 0 {
		mtu := p.table.cfg.MTU
		if site.MTU > 0 {
			mtu = min(mtu, site.MTU)
		}
		f.editSYN(&pkt, mssFor(mtu, pkt.V6), partial)
	}
	if r := f.relay.Load(); r != nil {
		j.relayed = pkt // the Relay makes what it is given escape
		(*r).FromLink(&j.relayed)
	}
	return p.deliver(j, f, &pkt, partial)
}

// deliver joins the packet to a run of its flow, or writes it.
func (p *Path) deliver(j *joiner, f *flow, pkt *wire.Packet, partial bool) wire.Reason {
	if !p.host.Offload() {
		if partial {
			pkt.FinishChecksum()
		}
		return p.write(j, pkt.B, wire.Offload{})
	}
	if pkt.Proto != wire.ProtoTCP {
		var o wire.Offload
		if partial {
			// It can't be refused: partial has found the field that this is about.
			o, _ = pkt.Settle(pkt.Partial())
		}
		return p.write(j, pkt.B, o)
	}
	for i := range j.n {
		if j.flow[i] != f {
			continue
		}
		if !j.run[i].Add(pkt, partial) {
			p.flush(j, i)
			j.flow[i] = f
			j.run[i].Start(pkt, partial)
		}
		return wire.OK
	}
	i := j.n
	if i < maxRuns {
		j.n++
	} else {
		i = j.turn % maxRuns
		j.turn = i + 1
		p.flush(j, i)
	}
	j.flow[i] = f
	j.run[i].Start(pkt, partial)
	return wire.OK
}

// flush writes the run i and lets go of it.
func (p *Path) flush(j *joiner, i int) {
	run := &j.run[i]
	vec, o := run.Finish()
	r := wire.OK
	if !p.table.alive() { // it was frozen with the batch half written
		r = wire.Frozen
	} else if err := p.host.Write(vec, o); err != nil {
		r = wire.HostWrite
	}
	if r != wire.OK {
		for range run.Len() {
			p.table.drop(r)
		}
	}
	p.wrote(j, vec, j.flow[i], r)
	run.Release()
	j.flow[i] = nil
}

func (p *Path) write(j *joiner, b []byte, o wire.Offload) wire.Reason {
	if !p.table.alive() {
		return wire.Frozen
	}
	j.one[0] = b
	r := wire.OK
	if err := p.host.Write(j.one[:], o); err != nil {
		r = wire.HostWrite
	}
	p.wrote(j, j.one[:], j.view.flow, r)
	return r
}

// deliverFragments writes a reassembled datagram in pieces no larger than those
// in which it came, since no router behind this host may fragment an IPv6 packet.
func (p *Path) deliverFragments(j *joiner, pkt *wire.Packet, whole wire.Reassembled) wire.Reason {
	r := wire.OK
	err := wire.Fragment(pkt.B, whole.MaxFragment, whole.ID, func(piece []byte) {
		if wr := p.write(j, piece, wire.Offload{}); wr != wire.OK {
			r = wr
		}
	})
	if err != nil {
		return wire.TooBig
	}
	return r
}
