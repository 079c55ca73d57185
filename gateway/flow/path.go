package flow

// Raw forwarding, and what it shares with relays.
//
// Outward, from the host to the link. wireguard-go's reader goroutine calls Read through
// link's adapter; nothing else reads the device. No lock is held unless stated.
//
//  1. Read returns first what it has at hand: the rest of a segment that is being cut, packets
//     of the gateway's own (outbox), strays of the sibling.
//  2. Read settles what relays hold (held.go), then waits in the device for a packet. Wake and
//     the deadline of what relays hold end the wait (alarm.go).
//  3. carry judges one packet (outbound), counts the drop, and shows both to the tap.
//     a. wire.Parse, Packet.Settle: headers and checksums.
//     b. A standby passes the packet to its sibling (pair.go).
//     c. Fragments are reassembled first (fragMu).
//     d. Table.passNext finds or opens the flow and tracks its TCP state, with the lock of the
//        flow's shard held. Table.note passes a changed record to the Recorder under that lock.
//     e. The state of the site decides: LinkRefused, LinkDown, MTU.
//     f. A relayed flow's Relay takes the segment (FromHost; see legs/relay_near.go). adopt
//        offers a flow that has become bulk to the Relayer.
//     g. cutUp cuts a super-segment straight into wireguard-go's buffers; other packets are
//        copied there.
//  4. Read gathers up to `gather` small packets that wait anyway, and returns.
//
// Inward, from the link to the host. wireguard-go's decryption goroutine of a peer calls Write
// with a batch, several peers at once; see inbound.go.
//
//  1. inbound judges each packet: wire.Parse, fragments, impostors, Table.passNext (lock of the
//     shard), the site's state.
//  2. A relayed flow's Relay sees the segment (FromLink), which is forwarded as it is.
//  3. deliver joins segments of one flow to a super-segment in the batch's joiner.
//  4. flush writes each run to the device. The device serializes writers.

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onewaylink/gw/gateway/capture"
	"github.com/onewaylink/gw/netstack/wire"
)

// SiteState is what the link knows of the path to a site.
type SiteState struct {
	// Up says that there is, or was lately, a session to carry packets with.
	Up bool
	// Refused says that nothing may be carried until the configurations agree.
	Refused bool
	// MTU is the largest inner packet that the path carries, in bytes; 0 means that
	// nothing is known, and the TUN's counts.
	MTU int
	// Partial says that the far gateway finishes checksums.
	Partial bool
	// WAN says that bulk is worth a relay: the path is long or loses packets.
	WAN bool
	// Lossy says that it loses packets: a connection is better relayed before it
	// has lost any, since its sender is slow for long after that.
	Lossy bool
}

// Path moves packets between the host's device and the link, as the Table says.
type Path struct {
	table *Table
	host  Host
	voice *voice
	sites []atomic.Pointer[SiteState]
	box   outbox

	wakes, retells *pacer // of wake.go and retell.go

	// Only Read touches these.
	buf  [65536]byte
	cut  wire.Cutter
	last cursor // the flow of the packet before
	view view   // of the packet that is being judged
	// relayed is the packet that a Relay looks at.
	relayed wire.Packet
	held    held

	alarm alarm // ends a Read that waits

	joins   sync.Pool // *joiner
	relayer atomic.Pointer[Relayer]
	tap     atomic.Pointer[capture.Ring]
	pair    pairing
	watch   watchdog

	fragMu  sync.Mutex
	fragOut *wire.Reassembler // of fragments from the host
	fragIn  *wire.Reassembler // of fragments from the link
}

// NewPath joins a table and a device. Each site is down until SetSite.
func NewPath(t *Table, host Host) *Path {
	frags := wire.ReassemblerConfig{MaxBytes: t.cfg.MaxFragmentBytes, MaxSourceBytes: t.cfg.MaxFragmentBytes / 4}
	p := &Path{
		table: t, host: host, alarm: alarm{host: host}, voice: newVoice(t.cfg.Voice), wakes: newPacer(), retells: newPacer(),
		sites:   make([]atomic.Pointer[SiteState], len(t.cfg.Sites)),
		fragOut: wire.NewReassembler(frags),
		fragIn:  wire.NewReassembler(frags),
	}
	for i := range p.sites {
		p.sites[i].Store(&SiteState{})
	}
	p.pair.kick = make(chan struct{}, 1)
	p.joins.New = func() any { return new(joiner) }
	return p
}

// SetSite tells what has become of the way to the site with index i.
func (p *Path) SetSite(i int, s SiteState) { p.sites[i].Store(&s) }

// Wake ends a Read that waits, or the next one: it returns with the packets that there are, maybe
// none. Any goroutine may call it.
func (p *Path) Wake() {
	p.alarm.wake()
	select {
	case p.pair.kick <- struct{}{}:
	default:
	}
}

// Read returns packets for the link, as wireguard's tun.Device does: up to len(bufs), each from
// offset on. It returns none after Wake, if there is nothing to send. One goroutine calls it.
func (p *Path) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	for {
		if n, done := p.atHand(bufs, sizes, offset); done {
			return n, nil
		}
		if err := p.settle(); err != nil {
			return 0, err
		}
		n, o, err := p.host.Read(p.buf[:])
		p.watch.reads.Add(1)
		woken := errors.Is(err, os.ErrDeadlineExceeded)
		if woken {
			// Rearm before looking: a Wake in between is not lost.
			if err := p.alarm.rearm(); err != nil {
				return 0, err
			}
			if n := p.take(bufs, sizes, offset); n > 0 {
				return n, nil
			}
			n, o, err = p.host.TryRead(p.buf[:])
			if n == 0 && (err == nil || errors.Is(err, os.ErrDeadlineExceeded)) {
				return 0, nil // by another Wake, the next call returns at once
			}
		}
		if err != nil {
			return 0, err
		}
		if out := p.carryRow(n, o, bufs, sizes, offset); out > 0 || woken {
			return out, nil
		}
	}
}

// atHand returns what needs no packet of the device: the rest of a segment, packets of the
// gateway's own, strays. done is false if Read has to wait for the device.
func (p *Path) atHand(bufs [][]byte, sizes []int, offset int) (n int, done bool) {
	for {
		if p.pair.stale.Load() {
			p.forget()
		}
		if p.cut.Busy() {
			n := p.drain(bufs, sizes, offset)
			if tap := p.tap.Load(); tap != nil {
				p.sent(tap, time.Now().UnixNano(), bufs[:n], sizes, offset, capture.Plain)
			}
			return n, true
		}
		if n := p.take(bufs, sizes, offset); n > 0 {
			return n, true
		}
		b := p.pair.strays.next()
		if b == nil {
			break
		}
		if n := p.carry(b, wire.Offload{}, bufs, sizes, offset); n > 0 {
			return n, true
		}
	}
	if p.pair.paused.Load() {
		p.wait()
		return p.take(bufs, sizes, offset), true
	}
	return 0, false
}

// carryRow carries the packet in p.buf, and small ones behind it that the device has already.
func (p *Path) carryRow(n int, o wire.Offload, bufs [][]byte, sizes []int, offset int) (out int) {
	for {
		if !p.table.alive() {
			p.table.drop(wire.Frozen)
			return out
		}
		out += p.carry(p.buf[:n], o, bufs[out:], sizes[out:], offset)
		if out == 0 || out >= gather || out >= len(bufs) || p.cut.Busy() {
			return out
		}
		var err error
		if n, o, err = p.host.TryRead(p.buf[:]); n == 0 || err != nil {
			return out // an error occurs again at the next read
		}
		p.watch.reads.Add(1)
	}
}

// gather is how many packets end a row. Small ones that wait anyway go through the
// tunnel together, which costs less for each; bulk comes in segments of 64 KB that
// are enough by themselves. What is left of the 128 buffers takes
// the fragments of the longest datagram at the smallest MTU, 576.
const gather = 8

// carry is outbound, and counts the drop.
func (p *Path) carry(b []byte, o wire.Offload, bufs [][]byte, sizes []int, offset int) int {
	tap := p.tap.Load()
	if tap != nil {
		p.view.open(time.Now().UnixNano(), b)
	}
	n, r := p.outbound(b, o, bufs, sizes, offset)
	if r != wire.OK {
		p.table.drop(r)
	}
	if tap != nil {
		p.judged(tap, &p.view, capture.FromHost, r, p.outNote(n, r))
		if n > 0 {
			p.sent(tap, p.view.at, bufs[:n], sizes, offset, capture.Plain)
		}
	}
	return n
}

// drain cuts segments into bufs until these or the super-segment are used up.
func (p *Path) drain(bufs [][]byte, sizes []int, offset int) int {
	n := 0
	for n < len(bufs) && p.cut.Busy() {
		sizes[n] = p.cut.Next(bufs[n][offset:])
		n++
	}
	return n
}

// outbound judges one packet from the host and puts what becomes of it into
// bufs. It returns how many packets that makes.
func (p *Path) outbound(b []byte, o wire.Offload, bufs [][]byte, sizes []int, offset int) (int, wire.Reason) {
	var pkt wire.Packet
	if r := wire.Parse(&pkt, b); r != wire.OK {
		return 0, p.refused(p.table.cfg.Now(), r, &pkt, true)
	}
	o, r := pkt.Settle(o)
	if r != wire.OK {
		return 0, r
	}
	if !pkt.Fragment && p.table.impostor(&pkt) {
		return 0, p.refused(p.table.cfg.Now(), wire.Impostor, &pkt, true)
	}
	if pass := p.pair.pass.Load(); pass != nil {
		return 0, passOn(&pkt, o, *pass)
	}
	now := p.table.cfg.Now()
	var whole wire.Reassembled
	if pkt.Fragment {
		if whole, r = p.reassemble(p.fragOut, now, &pkt, true); r != wire.OK || whole.Packet == nil {
			return 0, p.refused(now, r, &pkt, true)
		}
		if r := wire.Parse(&pkt, whole.Packet); r != wire.OK {
			return 0, p.refused(now, r, &pkt, true)
		}
		if p.table.impostor(&pkt) {
			return 0, p.refused(now, wire.Impostor, &pkt, true)
		}
	}
	f, r := p.table.passNext(now, &pkt, true, &p.last)
	p.view.is(f)
	if r != wire.OK {
		if r.Prohibited() {
			p.tellHost(wire.AdminProhibited, &pkt, 0)
		}
		return 0, p.refused(now, r, &pkt, true)
	}
	site := p.sites[f.site].Load()
	switch {
	case site.Refused:
		return 0, wire.LinkRefused
	case !site.Up:
		return 0, wire.LinkDown
	}
	mtu := p.table.cfg.MTU
	if site.MTU > 0 {
		mtu = min(mtu, site.MTU)
	}
	if pkt.IsPacketTooBig() {
		if r := f.relay.Load(); r != nil {
			(*r).TooBig(pkt.NextHopMTU())
		}
	}
	if pkt.Proto == wire.ProtoTCP {
		if pkt.Flags&wire.SYN != 0 {
			f.editSYN(&pkt, mssFor(mtu, pkt.V6), o.NeedsCsum)
		}
		if r := f.relay.Load(); r != nil {
			p.relayed = pkt // the Relay makes what it is given escape
			raw, hold := (*r).FromHost(&p.relayed, o.NeedsCsum)
			if hold > 0 {
				p.held.add(now, *r, hold)
			}
			if !raw {
				return 0, wire.OK
			}
		} else if w := f.wants.Load(); w != wantsNothing {
			p.adopt(f, w, site)
		}
	}
	switch {
	case whole.Packet != nil:
		return p.refragment(&pkt, whole, mtu, bufs, sizes, offset), wire.OK
	case pkt.Proto == wire.ProtoTCP && (o.GSOSize > 0 || len(pkt.B) > mtu):
		return p.cutUp(&pkt, o, mtu, site.Partial, bufs, sizes, offset)
	case len(pkt.B) > mtu:
		return p.tooBig(&pkt, o, mtu, bufs, sizes, offset)
	}
	if o.NeedsCsum {
		if site.Partial {
			pkt.SetPartial()
		} else {
			pkt.FinishChecksum()
		}
	}
	sizes[0] = copy(bufs[0][offset:], pkt.B)
	return 1, wire.OK
}

// mssFor is the largest TCP payload that fits an inner packet of mtu bytes
// without options (RFC 6691).
func mssFor(mtu int, v6 bool) uint16 {
	header := wire.IPv4Header
	if v6 {
		header = wire.IPv6Header
	}
	return uint16(max(mtu-header-wire.TCPHeader, 1))
}

// cutUp begins to cut a TCP segment that is too large for the path, or a
// super-segment. A sender that counts on more than the path takes is told so;
// its bytes are forwarded in smaller pieces.
func (p *Path) cutUp(pkt *wire.Packet, o wire.Offload, mtu int, partial bool, bufs [][]byte, sizes []int, offset int) (int, wire.Reason) {
	size := mtu - pkt.Data
	if g := int(o.GSOSize); g > 0 && g <= size {
		size = g
	} else if pkt.DF {
		p.tellHost(wire.PacketTooBig, pkt, mtu)
	}
	if size <= 0 {
		return 0, wire.TooBig
	}
	// The pieces get checksums of their own, which would hide that the whole
	// was damaged on its way here.
	if !o.NeedsCsum && !o.CsumValid && !pkt.ChecksumOK() {
		return 0, wire.BadChecksum
	}
	p.cut.Reset(pkt, size, partial)
	return p.drain(bufs, sizes, offset), wire.OK
}

// tooBig handles a packet other than TCP that does not fit: cut into fragments
// where the sender allows that, otherwise answered.
func (p *Path) tooBig(pkt *wire.Packet, o wire.Offload, mtu int, bufs [][]byte, sizes []int, offset int) (int, wire.Reason) {
	if pkt.DF {
		p.tellHost(wire.PacketTooBig, pkt, mtu)
		return 0, wire.TooBig
	}
	if o.NeedsCsum {
		pkt.FinishChecksum() // no device finishes a checksum over fragments
	}
	return p.fragment(pkt.B, mtu, 0, bufs, sizes, offset), wire.OK
}

// refragment cuts a reassembled datagram up again, into pieces no larger than
// those in which it came: its sender found these to fit. Where they no longer do,
// they are cut smaller, and an IPv6 sender, which cuts up by itself, is told.
func (p *Path) refragment(pkt *wire.Packet, whole wire.Reassembled, mtu int, bufs [][]byte, sizes []int, offset int) int {
	if pkt.V6 && whole.MaxFragment > mtu {
		p.tellHost(wire.PacketTooBig, pkt, mtu)
	}
	return p.fragment(pkt.B, min(mtu, whole.MaxFragment), whole.ID, bufs, sizes, offset)
}

// fragment puts the fragments of b into bufs. What these have no room for waits
// in the outbox for the next Read.
func (p *Path) fragment(b []byte, mtu int, id uint32, bufs [][]byte, sizes []int, offset int) int {
	n := 0
	err := wire.Fragment(b, mtu, id, func(piece []byte) {
		switch {
		case n < len(bufs):
			sizes[n] = copy(bufs[n][offset:], piece)
			n++
		case !p.box.put(bytes.Clone(piece)):
			p.table.drop(wire.QueueFull)
		}
	})
	if err != nil {
		p.table.drop(wire.TooBig)
		return 0
	}
	return n
}

// reassemble gives the datagram that a fragment completes. Its Packet is nil,
// with OK, while others are missing. A fragment with addresses that can't be is
// dropped before it takes up space or spoils somebody else's datagram.
func (p *Path) reassemble(ra *wire.Reassembler, now time.Duration, pkt *wire.Packet, fromHost bool) (wire.Reassembled, wire.Reason) {
	if _, _, r := p.table.ends(pkt.Src(), pkt.Dst(), fromHost); r != wire.OK {
		return wire.Reassembled{}, r
	}
	p.fragMu.Lock()
	defer p.fragMu.Unlock()
	whole, r := ra.Add(now, pkt.B)
	switch {
	case r == wire.FragTooMany || r == wire.FragNoSpace:
		return wire.Reassembled{}, wire.FragmentLimit
	case r.Refused():
		return wire.Reassembled{}, wire.FragmentBad
	case r == wire.FragNone:
		return wire.Reassembled{}, wire.BadExtension // its fragment header stands where none may
	}
	return whole, wire.OK
}

// tellHost answers a packet that came from the host.
func (p *Path) tellHost(kind wire.ICMPKind, pkt *wire.Packet, mtu int) {
	if b := p.voice.about(kind, pkt, mtu); b != nil {
		p.toHost([][]byte{b}, wire.Offload{}, capture.Own)
	}
}

// tellLink answers a packet that came from the link.
func (p *Path) tellLink(kind wire.ICMPKind, pkt *wire.Packet, mtu int) {
	if b := p.voice.about(kind, pkt, mtu); b != nil {
		if !p.box.put(b) {
			p.table.drop(wire.QueueFull)
			return
		}
		p.Wake()
	}
}
