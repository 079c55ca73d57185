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
// Whoever brings something moves it on: those that move packets call FromHost, pump and
// receive. The relay's own goroutine only does what may not be done where it is heard of.
type Relay struct {
	legs   *Stack
	id     legID
	conn   wire.Connection // as it was when the relay began
	track  Tracker
	trunk  Trunk
	asks   bool          // this node has asked the other to take part
	patent time.Duration // how long it waits for the answer
	began  time.Duration

	toLeg, toNear wire.Template
	leg           leg

	// pathMTU is the largest packet, in bytes, that the path to the near database takes,
	// where a router on it has said so; otherwise 0.
	pathMTU atomic.Int32

	kick   chan struct{} // holds a token when attend is to look
	done   chan struct{} // closed when the relay has ended
	spaced *time.Timer   // tells the near database what waits
	pause  *time.Timer   // unpause, at its time
	failed atomic.Bool   // the leg has told of an error
	full   atomic.Bool   // receive waits for room in the leg

	pump, receive turn       // toTrunk, fromTrunk
	frame         wire.Frame // pump's: what it sends
	in            incoming   // receive's

	// out is held from the gate's decision until its segment is written: what is told
	// goes out in the order in which it was decided, and who has ended the relay can
	// wait for the last. It comes before mu.
	out sync.Mutex

	held holding

	mu    sync.Mutex
	end   *End // why it has ended,
	endAt time.Duration
	gate  rule.Gate
	check *rule.Checker // nil where nothing is checked
	begun bool          // the gate knows the leg's numbers
	live  bool          // what comes from the near database goes to the leg at once
	early []early

	read     uint32 // the next byte of the near database that goes into the trunk
	fin      bool   // the near database has said FIN,
	finGone  bool   // and it is in the trunk
	farFin   bool   // the far database has said FIN,
	farFinAt uint32 // which has this number,
	finTold  bool   // and the near one has been told

	back handBack // how far the relay has handed back

	rst   []byte // the near database's RST, which waits
	rstAt time.Duration

	sack    [wire.MaxBlocks]wire.Block // the near database's last SACK blocks
	again   uint32                     // the last duplicate that went to the leg alone
	hasSeen bool
	resent  uint64 // segments that the near database has sent again
	gap     uint32 // where the last gap in what has come from it ends,
	shows   int    // and how many segments behind it may still go raw

	saidAck, saidEdge uint32        // what the other gateway has been told
	alone             time.Duration // when it was told something without payload last
	paused            bool          // pause runs

	// For the watch.
	moved    time.Duration // when a database last said something new
	farMoved time.Duration // when the far acknowledgement last moved, or nothing was held
	farSeen  uint32
	fedAt    time.Duration // when it was looked at last how much the far database says,
	fedSeen  uint32        // how much that was,
	busy     bool          // and whether it was much
	beyond   time.Duration // since when the far acknowledgement is above what the leg has
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
		leg: newLeg(), gate: rule.NewGate(&conn),
		kick: make(chan struct{}, 1), done: make(chan struct{}),
		began: now, moved: now, farMoved: now, fedAt: now, farSeen: conn.FarSaid.Ack,
		read: conn.NearSaid.End, saidAck: conn.NearSaid.Ack, saidEdge: conn.NearSaid.Edge,
	}
	if q := trunk.Quality(); q.RTT > 0 {
		r.gate.SetSpacing(q.RTT)
	}
	// A FIN that was said before is none of the relay's business.
	if conn.NearSaid.Fin {
		r.fin, r.finGone = true, true
		r.gate.FinNear(conn.NearSaid.End - 1)
	}
	if conn.FarSaid.Fin {
		r.farFin, r.farFinAt, r.finTold = true, conn.FarSaid.End-1, true
	}
	if l.cfg.Check {
		r.check = newCheck(&conn)
	}
	r.pump.do, r.receive.do = r.toTrunk, r.fromTrunk
	r.spaced, r.pause = stopped(r.tellInTurn), stopped(r.unpause)
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

// turn has something done by one goroutine at a time. Who comes meanwhile does not wait: it
// is done once more.
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

// finish waits until nobody is at it.
func (t *turn) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
}

// finish marks the relay as ended, which stops the gate, and reports whether it
// was this call that did. The relay's goroutine cleans up.
func (r *Relay) finish(e End) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end != nil {
		return false
	}
	r.end, r.endAt = &e, r.legs.cfg.Now()
	r.legs.count(&e)
	close(r.done)
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
	return r.end
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
	if r.end != nil || flags&wire.ACK == 0 || flags&wire.RST != 0 {
		r.mu.Unlock()
		return
	}
	r.heardLeg(s.Ack, s.Window)
	if !r.begun || r.rst != nil {
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
	case <-r.done:
	}
}

// tell tells the near database what there is to tell, now or when it is time.
func (r *Relay) tell() {
	r.out.Lock()
	defer r.out.Unlock()
	r.mu.Lock()
	if r.end != nil || !r.begun || r.rst != nil {
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
