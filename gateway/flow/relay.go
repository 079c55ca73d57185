package flow

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/onewaylink/gw/gateway/capture"
	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
)

// Mode is how a rule wants TCP connections to be carried.
type Mode uint8

const (
	// ModeRoute is raw, always.
	ModeRoute Mode = iota
	// ModeAuto is raw while a connection is small or chatty, and relayed while it
	// moves bulk over a WAN.
	ModeAuto
	// ModeRelay is relayed from the first byte.
	ModeRelay
)

// Relay carries a connection in place of the Path: by an endpoint that stands in
// for the far end, and by a trunk. It begins with Table.Attach and ends with
// Handle.Detach. Its methods must not call the Table's, but FromHost and FromLink
// may call those of the Handle.
type Relay interface {
	// FromHost receives a segment of the near end and reports whether the caller must also forward
	// it raw. partial means that its checksum is not finished. A non-zero hold means that the Relay
	// has buffered something; the caller must call Settle within that time.
	FromHost(p *wire.Packet, partial bool) (raw bool, hold time.Duration)
	// Settle sends what FromHost has buffered.
	Settle()
	// FromLink takes notice of a segment of the far end that came raw.
	FromLink(p *wire.Packet)
	// TooBig takes notice that a router toward the near end takes packets of up to mtu
	// bytes only.
	TooBig(mtu int)
	// Forget says that the table has forgotten the connection.
	Forget()
	// Revoke says that policy no longer allows it: the Relay writes nothing any more.
	Revoke()
	// HandBack asks for an end in good order, after which the connection is raw, as
	// its rule wants it now.
	HandBack()
}

// Relayer begins to relay connections. Adopt may call Table.Attach; it must not
// block. When it does nothing, it is asked again later.
type Relayer interface {
	Adopt(near, far netip.AddrPort, site int)
}

const (
	// bulk is how much a connection has to move, without a pause of bulkPause, to be
	// worth a relay, and bulkSize the least mean size of its packets, in bytes:
	// small messages only wait for a relay. On a link that loses packets a sender
	// pauses for its retransmission timer time and again.
	bulk      = 32 << 10
	someBulk  = 16 << 10 // on a link that is known to lose packets
	bulkPause = time.Second
	bulkSize  = 700
	// askAgain is how long after a try that led to nothing the Relayer is asked
	// again; after a relay that has failed it is as long at first, and doubles.
	askAgain    = 250 * time.Millisecond
	maxAskAgain = time.Minute
	// restoredFor is how long a connection that comes from a record is raw: so long
	// it may have bytes under way that this node has not seen.
	restoredFor = time.Second
)

// carriage is how a flow is carried, and why.
type carriage struct {
	relay Relay
	h     *Handle
	// plain says that both SYNs go without what a relay can't keep up. It never
	// changes.
	plain bool
	never bool // not to be relayed again
	was   bool // has been relayed
	// what moved without a pause
	burstBytes, burstPackets uint64
	// notBefore is when a relay may be tried (again), wait how long after a failure.
	notBefore, wait time.Duration
	why             string // why it was released, or relayed
}

// moved counts a packet toward bulk.
func (c *carriage) moved(idle time.Duration, bytes int) {
	if idle > bulkPause {
		c.burstBytes, c.burstPackets = 0, 0
	}
	c.burstBytes += uint64(bytes)
	c.burstPackets++
}

func (c *carriage) isBulk(bytes uint64) bool {
	return c.burstBytes >= bytes && c.burstBytes >= bulkSize*c.burstPackets
}

// What a flow wants: a relay on a link that loses packets, on any WAN, or on any link.
const (
	wantsNothing = iota
	wantsLossy
	wantsAny
	wantsAlways // its rule says so
)

func (c *carriage) wish(m Mode) int32 {
	switch {
	case m == ModeRelay:
		return wantsAlways
	case c.isBulk(bulk):
		return wantsAny
	}
	return wantsLossy
}

// ready reports whether the flow may be relayed now, apart from what its site says.
func (t *Table) ready(f *flow, now time.Duration) bool {
	c := &f.carriage
	switch {
	case f.key.proto != wire.ProtoTCP || f.rule.Mode == ModeRoute || !c.plain || c.never || c.relay != nil || now < c.notBefore:
		return false
	case f.rule.Mode == ModeAuto && !c.isBulk(someBulk):
		return false
	case f.openerB != f.localB:
		return false // its opener's gateway decides, so that both don't ask at once
	}
	return f.relayable()
}

// relayable reports whether all is known that a relay has to know.
func (f *flow) relayable() bool {
	t := &f.tcp
	return f.unconfirmed == nil && f.carriage.plain && !f.tinyMSS() &&
		(t.Phase() == tcptrack.Established || t.Phase() == tcptrack.HalfClosed) && t.Exact() &&
		t.Complete()
}

// tinyMSS reports whether an end of the connection asks for segments that are too small for a
// relay, by its SYN or by a record of it.
func (f *flow) tinyMSS() bool {
	t := &f.tcp
	return t.Trusted() && (t.Phase() == tcptrack.Established || t.Phase() == tcptrack.HalfClosed) && min(t.MSS(0), t.MSS(1)) < wire.LeastMSS
}

// Handle is a relayed connection, as its Relay reaches it in the table.
type Handle struct {
	t *Table
	s *shard
	f *flow
}

// Why Attach refuses.
var (
	ErrNoFlow    = errors.New("no such connection")
	ErrNotNow    = errors.New("the connection is in no state to be relayed")
	ErrRuleRoute = errors.New("the rule says route")
)

// Attach puts a Relay in charge of the connection between a host of this site and
// one of another. make is given what is known of the connection, at a moment at
// which no packet passes; it must not block, nor call the table. why is what is
// told to people. said, where it isn't nil, is what the far end has said, as its
// gateway tells: that may be ahead of the packets that told so.
func (t *Table) Attach(
	near, far netip.AddrPort, why string, said *wire.Position, make func(wire.Connection, *Handle) (Relay, error),
) error {
	k, nearB := keyBetween(near, far)
	s := t.shardOf(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := t.find(s, k)
	now := t.cfg.Now()
	if f == nil || f.revoked || f.localB != nearB {
		return ErrNoFlow
	}
	if said != nil && f.end(!nearB) == 0 {
		f.tcp.ThirdACK(said)
	}
	switch {
	case f.rule.Mode == ModeRoute:
		return ErrRuleRoute
	case f.carriage.relay != nil || f.carriage.never || !f.relayable() || f.restored && now-f.began < restoredFor:
		return ErrNotNow
	}
	i := f.end(nearB)
	c := wire.Connection{
		Near: near, Far: far, NearSaid: f.tcp.Position(i), FarSaid: f.tcp.Position(1 - i),
		SACK: f.tcp.SACK(),
	}
	most := mssFor(t.cfg.MTU, k.v6)
	c.NearSaid.MSS, c.FarSaid.MSS = min(c.NearSaid.MSS, most), min(c.FarSaid.MSS, most)
	h := &Handle{t: t, s: s, f: f}
	r, err := make(c, h)
	if err != nil {
		return err
	}
	f.carriage.relay, f.carriage.h, f.carriage.why = r, h, why
	f.relay.Store(&r)
	f.carriage.was = true
	t.relayed.Add(1)
	return nil
}

// Heard takes what the far end has said, so far as a trunk has brought it.
func (h *Handle) Heard(said wire.Position) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	f := h.f
	if f.gone || f.carriage.h != h {
		return
	}
	far := 1 - f.end(f.localB)
	n := f.tcp.Learn(far, said)
	now := h.t.cfg.Now()
	f.last = now
	f.in.bytes += uint64(n)
	f.in.packets++
	h.t.note(h.s, f)
	h.t.observeTransition(f, now)
}

// Detach makes the connection raw again. clean says that nothing was wrong, never
// that it is to stay raw.
func (h *Handle) Detach(why string, clean, never bool) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	c := &h.f.carriage
	if c.h != h {
		return
	}
	h.f.unrelay()
	c.why, c.never = why, never
	c.burstBytes, c.burstPackets = 0, 0
	if clean {
		c.wait = 0
		return
	}
	c.wait = min(max(2*c.wait, askAgain), maxAskAgain)
	c.notBefore = h.t.cfg.Now() + c.wait
}

func (f *flow) unrelay() {
	f.relay.Store(nil)
	f.carriage.relay, f.carriage.h = nil, nil
}

// adopt asks the Relayer to relay a flow that is ready. Only Read calls it.
func (p *Path) adopt(f *flow, wish int32, site *SiteState) {
	relayer := p.relayer.Load()
	if relayer == nil || wish != wantsAlways && (!site.WAN || wish == wantsLossy && !site.Lossy) {
		return
	}
	f.asked(p.table)
	near, far := f.key.ends(f.localB)
	(*relayer).Adopt(near, far, f.site)
}

// asked puts off the next try.
func (f *flow) asked(t *Table) {
	s := t.shardOf(&f.key)
	s.mu.Lock()
	f.carriage.notBefore = t.cfg.Now() + askAgain
	f.wants.Store(wantsNothing)
	s.mu.Unlock()
}

// SetRelayer makes the Path ask r to relay connections; without one all are raw.
func (p *Path) SetRelayer(r Relayer) { p.relayer.Store(&r) }

// WriteHost writes a packet of a relay to the host.
func (p *Path) WriteHost(vec [][]byte, o wire.Offload) {
	p.toHost(vec, o, capture.FromRelay)
}

// SendLink sends a packet that a relay has kept to the link, as it is. It takes
// the packet over.
func (p *Path) SendLink(pkt []byte) {
	if !p.box.put(pkt) {
		p.table.drop(wire.QueueFull)
		return
	}
	p.Wake()
}

// how says how a flow is carried, and why, in words for people.
func (f *flow) how() (relayed bool, why string) {
	c := &f.carriage
	switch {
	case f.revoked:
		return false, "no rule allows it anymore"
	case c.relay != nil:
		return true, c.why
	case f.key.proto != wire.ProtoTCP:
		return false, ""
	case f.rule.Mode == ModeRoute:
		return false, "its rule says so"
	case !c.plain:
		return false, "opened with options that no relay keeps up"
	case f.tinyMSS():
		return false, fmt.Sprintf("an end's MSS is below %d bytes", wire.LeastMSS)
	case c.why != "":
		return false, c.why
	case f.rule.Mode == ModeAuto && !c.isBulk(someBulk):
		return false, "small or chatty"
	}
	return false, "the link is short and loses nothing, or the other gateway can't take part"
}

// editSYN makes a SYN or SYN-ACK fit the path, and takes out of it what no relay
// can keep up where the connection may ever be relayed. One that is signed passes
// as it is.
func (f *flow) editSYN(p *wire.Packet, mss uint16, partial bool) {
	if p.Signed() {
		return
	}
	p.ClampMSS(mss, partial)
	if f.carriage.plain {
		p.Plain(partial)
	}
}
