package legs

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/onewaylink/gw/netstack/legs/rule"
	"github.com/onewaylink/gw/netstack/wire"
)

// Relay is one connection as this node relays it: a leg toward the near database,
// and a trunk to the gateway of the far one. It begins and ends raw, and whatever
// is wrong ends it: the source of each byte holds it until the other database has
// acknowledged it, so nothing is lost.
//
//	near database ⇄ FromHost, fromLeg ⇄ leg ⇄ pump, receive ⇄ trunk
//
// The goroutines that move packets also move the relay's bytes: they call FromHost, pump and
// receive. The relay's own goroutine does only what must not be done with a caller's locks held.
type Relay struct {
	// Set by newRelay, and never changed.
	legs          *Stack
	id            legID
	conn          wire.Connection // as it was when the relay began
	track         Tracker
	trunk         Trunk
	toLeg, toNear wire.Template

	leg leg

	// Each runs in one goroutine at a time: see turn.
	pump    pump
	receive receive

	// held belongs to the goroutine that calls FromHost.
	held holding

	// pathMTU is the largest packet, in bytes, that the path to the near database accepts,
	// where a router on it has reported that; otherwise 0.
	pathMTU atomic.Int32
	failed  atomic.Bool // the leg has reported an error
	full    atomic.Bool // receive waits for room in the leg

	kick   chan struct{} // holds a token when attend has to look
	spaced *time.Timer   // sends the near database what waits for its time

	// out is held from the gate's decision until its segment is written: segments leave in the
	// order in which they were decided, and who ends the relay can wait for the last one. Lock
	// it before mu.
	out sync.Mutex

	mu       sync.Mutex // guards gate, check, and all groups below
	gate     rule.Gate
	check    *rule.Checker // nil where nothing is checked
	opening  opening
	near     nearState
	far      farState
	sent     sentState
	ending   ending
	handBack handBack
	health   health
}

// pump moves the near database's payload from the leg into the trunk (toTrunk).
type pump struct {
	turn
	frame wire.Frame // what it sends
}

// receive moves the far database's payload from the trunk into the leg (fromTrunk).
type receive struct {
	turn
	in incoming
}

// opening is how far a relay has begun. asks, patience and began never change.
type opening struct {
	asks     bool          // this node has asked the other gateway to take part
	patience time.Duration // how long it waits for the answer
	began    time.Duration

	begun bool    // the other gateway takes part: the gate knows the leg's numbers
	live  bool    // segments of the near database go to the leg at once
	early []early // segments that wait until then
}

// nearState is what has come from the near database. Its positions are its own sequence numbers.
type nearState struct {
	inTrunk    uint32 // the next byte that goes into the trunk
	fin        bool   // it has sent its FIN,
	finInTrunk bool   // which is in the trunk

	sack        [wire.MaxBlocks]wire.Block // its last SACK blocks
	repeated    uint32                     // the last duplicate that went to the leg alone
	hasRepeated bool
	resent      uint64 // segments that it has sent again
	gapEnd      uint32 // where the last gap in what has come ends,
	gapShows    int    // and how many segments behind it may still go raw
}

// farState is the far database's FIN, as the trunk has brought it.
type farState struct {
	fin     bool
	finAt   uint32 // its sequence number
	finSent bool   // the near database has been sent it
}

// sentState is what the other gateway has been sent about the near database.
type sentState struct {
	ack, edge uint32
	bareAt    time.Duration // when it was last sent something without payload
	pause     *time.Timer   // unpause, at its time
	paused    bool          // pause runs
}

// ending is why and when a relay has ended, and the near database's RST, which may wait.
type ending struct {
	done  chan struct{} // closed when the relay has ended; may be read without the lock
	why   *End
	at    time.Duration
	rst   []byte
	rstAt time.Duration
}

// health is what watch judges a relay by.
type health struct {
	moved       time.Duration // when a database last sent something new
	farMoved    time.Duration // when the far acknowledgement last moved, or nothing was held
	farAck      uint32        // what it was then
	fedAt       time.Duration // when the far database's payload was counted last,
	fed         uint32        // its sequence number then,
	busy        bool          // and whether much had come
	beyondSince time.Duration // since when the far acknowledgement is above what the leg has
}

// early is a segment that came while the leg was made.
type early struct {
	seq     uint32
	flags   uint8
	payload []byte
}

// maxEarly bounds how many segments, of up to 64 KB, wait for the leg to be made. The
// source of one that is dropped still has it.
const maxEarly = 64

// newRelay makes the relay of a connection, which does nothing yet.
func (l *Stack) newRelay(conn wire.Connection, track Tracker, trunk Trunk) *Relay {
	now := l.cfg.Now()
	r := &Relay{
		legs: l, id: legID{Near: conn.Near, Far: conn.Far}, conn: conn, track: track, trunk: trunk,
		toLeg: wire.NewTemplate(conn.Near, conn.Far), toNear: wire.NewTemplate(conn.Far, conn.Near),
		leg: newLeg(), gate: rule.NewGate(&conn), kick: make(chan struct{}, 1),
		opening: opening{began: now},
		near:    nearState{inTrunk: conn.NearSaid.End},
		sent:    sentState{ack: conn.NearSaid.Ack, edge: conn.NearSaid.Edge},
		ending:  ending{done: make(chan struct{})},
		health:  health{moved: now, farMoved: now, fedAt: now, farAck: conn.FarSaid.Ack},
	}
	if q := trunk.Quality(); q.RTT > 0 {
		r.gate.SetSpacing(q.RTT)
	}
	// A FIN that was said before is none of the relay's business.
	if conn.NearSaid.Fin {
		r.near.fin, r.near.finInTrunk = true, true
		r.gate.FinNear(conn.NearSaid.End - 1)
	}
	if conn.FarSaid.Fin {
		r.far.fin, r.far.finAt, r.far.finSent = true, conn.FarSaid.End-1, true
	}
	if l.cfg.Check {
		r.check = newCheck(&conn)
	}
	r.pump.do, r.receive.do = r.toTrunk, r.fromTrunk
	r.spaced, r.sent.pause = stopped(r.tellInTurn), stopped(r.unpause)
	return r
}

// stopped is a timer that calls f, and does not run yet.
func stopped(f func()) *time.Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return t
}

// notify is called by the stack, with its locks held.
func (r *Relay) notify(mask waiter.EventMask) {
	if mask&(waiter.EventHUp|waiter.EventErr) != 0 {
		r.failed.Store(true)
		r.wake() // pump finds out about it
	}
	if mask&waiter.ReadableEvents != 0 {
		r.trunk.Ready()
	}
	if mask&waiter.WritableEvents != 0 && r.full.Load() {
		r.wake()
	}
}

// wake has attend look. It may be called with any lock held.
func (r *Relay) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// turn serializes do. A caller that finds it running returns at once, and do runs once more.
type turn struct {
	do  func()
	mu  sync.Mutex
	due atomic.Bool
}

func (t *turn) take() {
	t.due.Store(true)
	for t.due.Load() && t.mu.TryLock() {
		t.due.Store(false)
		t.do()
		t.mu.Unlock()
	}
}

// finish waits until do has returned.
func (t *turn) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
}

// finish marks the relay as ended, which stops the gate, and reports whether it
// was this call that did. The relay's goroutine cleans up.
func (r *Relay) finish(e End) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ending.why != nil {
		return false
	}
	r.ending.why, r.ending.at = &e, r.legs.cfg.Now()
	r.legs.count(&e)
	close(r.ending.done)
	if !e.Clean {
		r.trunk.Close() // what is in it has its source, which sends it raw
	}
	return true
}

// release ends the relay: from now on all goes raw.
func (r *Relay) release(e End) {
	if r.finish(e) {
		r.track.Detach(e)
	}
}

// silence waits until what was being written when the relay ended has been.
func (r *Relay) silence() {
	r.out.Lock()
	defer r.out.Unlock()
}

// Forget ends the relay of a connection that the flow table has forgotten. It may
// be called with the table's locks held.
func (r *Relay) Forget() { r.finish(endForgotten) }

// Revoke ends the relay of a connection that policy no longer allows, as Forget does.
func (r *Relay) Revoke() { r.finish(endRevoked) }

// HandBack begins to end the relay in good order, since the connection's rule wants it
// raw now. It may be called with the table's locks held.
func (r *Relay) HandBack() { r.handOver(&endRoute) }

// Ended reports why the relay has ended; nil while it has not.
func (r *Relay) Ended() *End {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ending.why
}

// fromLeg takes a segment of the leg to the near database, if the gate lets it.
func (r *Relay) fromLeg(tcp header.TCP, payload int, o *outgoing) {
	flags := uint8(tcp.Flags())
	if flags&(wire.SYN|wire.ACK) == wire.SYN|wire.ACK {
		r.answered(tcp)
		return
	}
	s := wire.Segment{Seq: tcp.SequenceNumber(), Ack: tcp.AckNumber(), Window: tcp.WindowSize(), Flags: flags}
	r.out.Lock()
	defer r.out.Unlock()
	r.mu.Lock()
	if r.ending.why != nil || flags&wire.ACK == 0 || flags&wire.RST != 0 {
		r.mu.Unlock()
		return
	}
	r.heardLeg(s.Ack, s.Window)
	if !r.opening.begun || r.ending.rst != nil {
		r.mu.Unlock()
		return
	}
	ok := r.gate.Out(r.legs.cfg.Now(), &s, payload)
	bad := ok && r.breaks(&s, o.vec[1:])
	r.mu.Unlock()
	switch {
	case bad:
		r.release(endRule)
	case ok:
		r.write(&s, payload, o)
	}
}

// heardLeg takes what the leg says of its receiving side.
func (r *Relay) heardLeg(ack uint32, window uint16) {
	select {
	case <-r.leg.done:
	default:
		return // its window is not scaled yet
	}
	r.gate.LegHas(ack, window)
	select {
	case <-r.leg.opened:
	default:
		close(r.leg.opened)
	}
}

// write sends a segment to the near database. Its payload is in o.vec[1:].
func (r *Relay) write(s *wire.Segment, payload int, o *outgoing) {
	if !r.legs.cfg.Alive() {
		return
	}
	hdr := r.toNear.Put(o.hdr[:], s, payload)
	o.vec[0] = o.hdr[:hdr]
	size := int(r.conn.NearSaid.MSS) // of the payload of a packet
	if mtu := int(r.pathMTU.Load()); mtu > 0 {
		size = min(size, mtu-hdr)
	}
	if !r.legs.tap.offload {
		r.writeFlat(o, size)
		return
	}
	var p wire.Packet
	off := p.Headers(o.hdr[:hdr], payload)
	if payload > size {
		off.GSOSize, off.HdrLen = uint16(size), uint16(hdr)
	}
	r.legs.cfg.Near.WriteHost(o.vec, off)
}

// writeFlat is write where there are no offloads: in packets with at most size bytes
// of payload, with finished checksums.
func (r *Relay) writeFlat(o *outgoing, size int) {
	var p wire.Packet
	if wire.Parse(&p, slices.Concat(o.vec...)) != wire.OK {
		return
	}
	pkt := make([]byte, min(len(p.B), p.Data+size))
	var cut wire.Cutter
	cut.Reset(&p, size, false)
	for cut.Busy() {
		o.vec = append(o.vec[:0], pkt[:cut.Next(pkt)])
		r.legs.cfg.Near.WriteHost(o.vec, wire.Offload{})
	}
}

// say sends a segment without payload, made by the gate.
func (r *Relay) say(s *wire.Segment) {
	o := outgoings.Get().(*outgoing)
	o.vec = append(o.vec[:0], nil)
	r.write(s, 0, o)
	clear(o.vec)
	outgoings.Put(o)
}

// tellInTurn has Run call tell.
func (r *Relay) tellInTurn() {
	select {
	case r.legs.due <- r:
	case <-r.ending.done:
	}
}

// tell tells the near database what there is to tell, now or when it is time.
func (r *Relay) tell() {
	r.out.Lock()
	defer r.out.Unlock()
	r.mu.Lock()
	if r.ending.why != nil || !r.opening.begun || r.ending.rst != nil {
		r.mu.Unlock()
		return
	}
	now := r.legs.cfg.Now()
	wait, news := r.gate.Due(now)
	var s wire.Segment
	switch {
	case news && wait > 0:
		r.spaced.Reset(wait)
	case news:
		s = r.gate.Tell(now)
	}
	due := news && wait == 0
	bad := due && r.breaks(&s, nil)
	r.mu.Unlock()
	switch {
	case bad:
		r.release(endRule)
	case due:
		r.say(&s)
	}
}
