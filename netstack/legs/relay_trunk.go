package legs

// Inward: from the trunk to the near database. Frames outward begin in relay_near.go.
//
//  1. wireguard-go's goroutine of a peer delivers a batch: trunk.Pool.Deliver for each packet,
//     then Flush, which calls the sink of each relay with something to receive: receive.take.
//     No lock is held. take runs fromTrunk in one goroutine at a time.
//  2. fromTrunk receives a frame (Trunk.TryReceive). data judges it and heard notes the far
//     database's progress, both with mu held; Tracker.Heard tells the flow table, under its
//     shard's lock, without mu.
//  3. feed writes the payload to the leg as far as there is room. If there is none, notify
//     wakes the relay's own goroutine (attend) when there is.
//  4. gVisor sends: tap.WritePackets, fromLeg. It locks out, then mu: the gate decides what the
//     segment may say, the checker judges it, and mu is unlocked before Near.WriteHost.
//  5. tell sends what gVisor has no segment for, now or at its time (out, then mu).

import (
	"errors"
	"fmt"
	"io"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/onewaylink/gw/netstack/wire"
)

const (
	// pumpBytes is how much of the near database's payload goes into one frame.
	pumpBytes = 64 << 10
	// leastAckEvery is how often progress is told at most that comes without payload.
	// latePart is by how much later, in fifths, that is if nothing else happens.
	leastAckEvery = time.Millisecond
	latePart      = 7
	// patience is the least that an answer from the other gateway is waited for.
	patience = 200 * time.Millisecond
)

// Offer begins to relay a connection and asks the other gateway, at the far end of
// the trunk, to take part; rtt is the round trip to it. What the near database says
// from now on has to be given to the Relay, in the order in which it comes. Where
// there is an error nothing has begun, and the trunk is still the caller's.
func (l *Stack) Offer(conn wire.Connection, track Tracker, trunk Trunk, rtt time.Duration) (*Relay, error) {
	if tinyMSS(&conn) {
		return nil, errTinyMSS
	}
	r := l.newRelay(conn, track, trunk)
	r.opening.asks, r.opening.patience = true, max(patience, 3*rtt)
	return r, l.start(r, func() error {
		return r.trunk.Send(&wire.Frame{
			Kind: wire.FrameOpen, Seq: conn.NearSaid.End, Ack: conn.NearSaid.Ack, Edge: conn.NearSaid.Edge,
			Payload: appendOpening(nil, &conn),
		})
	})
}

// Accept takes part in relaying a connection that the other gateway has opened by
// the frame open, the first of the trunk. It is as Offer otherwise.
func (l *Stack) Accept(conn wire.Connection, track Tracker, trunk Trunk, open *wire.Frame, o *Opening) (*Relay, error) {
	if why := o.fits(&conn); why != "" {
		return nil, errors.New(why)
	}
	if tinyMSS(&conn) {
		return nil, errTinyMSS
	}
	r := l.newRelay(conn, track, trunk)
	mark := open.Seq
	r.gate.HeardFar(open.Ack, open.Edge)
	if r.check != nil {
		r.check.HeardFar(open.Ack, open.Edge)
	}
	return r, l.start(r, func() error {
		r.begin(mark)
		return r.trunk.Send(&wire.Frame{
			Kind: wire.FrameAccept, Seq: conn.NearSaid.End, Ack: conn.NearSaid.Ack, Edge: conn.NearSaid.Edge,
		})
	})
}

// errTinyMSS is why a connection that would have to be cut into very small segments is not
// relayed.
var errTinyMSS = fmt.Errorf("an end's MSS is below %d bytes", wire.LeastMSS)

// tinyMSS reports whether an end of a connection takes only segments that are too small.
func tinyMSS(c *wire.Connection) bool { return min(c.NearSaid.MSS, c.FarSaid.MSS) < wire.LeastMSS }

// Refuse answers an open frame by no, says why, and ends the trunk.
func Refuse(t Trunk, why string) {
	_ = t.Send(&wire.Frame{Kind: wire.FrameRefuse, Payload: []byte(why)}) // it fails where it need not be said any more
	t.Finish()
}

// start makes the leg in a task of its own, which then attends to the relay until the
// relay ends.
func (l *Stack) start(r *Relay, hello func() error) error {
	return l.enter(r, func() {
		defer l.leave(r)
		err := r.make()
		if err == nil {
			err = hello()
		}
		if err != nil {
			r.release(endLeg.because(err.Error()))
		} else {
			r.goLive()
			if !r.opening.asks {
				r.catchUp()
			}
			r.trunk.Serve(r.pump.take, r.receive.take, r.wake)
			r.attend()
		}
		r.close()
	})
}

// attend looks whenever something may be new that was told with locks held, and once at the
// beginning.
func (r *Relay) attend() {
	for {
		r.receive.take()
		r.pump.take()
		select {
		case <-r.ending.done:
			return
		case <-r.kick:
		}
	}
}

// close gives back what an ended relay has. The trunk ends first: the other gateway
// releases the connection by that.
func (r *Relay) close() {
	r.spaced.Stop()
	r.sent.pause.Stop()
	r.silence()
	r.pump.finish()
	r.receive.finish()
	r.trunk.Finish()
	r.destroy()
}

// begin tells the gate from which number on the far database's bytes are the leg's.
func (r *Relay) begin(mark uint32) {
	r.mu.Lock()
	r.gate.Begin(mark, r.leg.iss)
	if r.check != nil {
		r.check.Begin(mark)
	}
	r.opening.begun, r.health.fed = true, mark
	r.mu.Unlock()
}

// goLive gives the leg what has come while it was made, in order, and from then on
// FromHost does.
func (r *Relay) goLive() {
	for {
		r.mu.Lock()
		list := r.opening.early
		r.opening.early = nil
		if len(list) == 0 {
			r.opening.live = true
			r.mu.Unlock()
			return
		}
		ack, window := r.leg.iss+1, r.nearWindow()
		r.mu.Unlock()
		for _, e := range list {
			r.inject(&wire.Segment{Seq: e.seq, Ack: ack, Window: window, Flags: e.flags & (wire.ACK | wire.PSH)}, e.payload)
		}
	}
}

// toTrunk moves what the leg has received into the trunk, as far as there is room, and tells
// the other gateway what the near database says. It is pump's.
func (r *Relay) toTrunk() {
	for r.Ended() == nil {
		there, end := r.readable()
		if end != nil {
			r.release(*end)
			return
		}
		if there == 0 && !r.hasNews() {
			break
		}
		room, err := r.trunk.Begin(min(there, pumpBytes))
		switch {
		case err != nil:
			r.release(endTrunk)
			return
		case !room:
			return // it is asked again when there is
		}
		n := 0
		if there > 0 {
			n, end = r.readLeg()
		}
		if end != nil {
			_ = r.trunk.Commit(nil) // whether it has ended does not matter any more
			r.release(*end)
			return
		}
		if r.nextFrame(n); r.trunk.Commit(&r.pump.frame) != nil {
			r.release(endTrunk)
			return
		}
	}
	if e, ok := r.isBack(); ok {
		r.release(e)
	}
}

// readable is how much the leg has received that was not read yet.
func (r *Relay) readable() (int, *End) {
	there, failed := r.leg.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	switch {
	case failed != nil:
		return 0, &endLeg
	case there == 0 && r.failed.Load():
		_, failed := r.leg.ep.Read(noRoom{}, tcpip.ReadOptions{})
		return 0, readEnd(failed)
	}
	return there, nil
}

// readLeg writes what the leg has received into the frame that was begun, and returns how
// much that is.
func (r *Relay) readLeg() (int, *End) {
	n, failed := r.leg.ep.Read(r.trunk, tcpip.ReadOptions{})
	if end := readEnd(failed); end != nil {
		return 0, end
	}
	if n.Count > 0 && r.pastFin() {
		return 0, &endPastFin
	}
	return n.Count, nil
}

// readEnd is what an error of reading the leg means for the relay; nil is nothing.
func readEnd(err tcpip.Error) *End {
	switch err.(type) {
	case nil, *tcpip.ErrWouldBlock, *tcpip.ErrBadBuffer: // the last is that there was no room
		return nil
	}
	return &endLeg
}

// noRoom takes nothing: who reads into it only learns of errors.
type noRoom struct{}

func (noRoom) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// hasNews reports whether there is something to tell the other gateway now that needs no
// payload.
func (r *Relay) hasNews() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.finNext(0):
		return true
	case r.gate.NearAck() != r.sent.ack || r.gate.NearEdge() != r.sent.edge:
		return !r.putOff(r.legs.cfg.Now())
	}
	return r.cutDue()
}

// finNext reports whether the near database's FIN follows the next n bytes of it.
func (r *Relay) finNext(n int) bool {
	return r.near.fin && !r.near.finInTrunk && r.near.inTrunk+uint32(n) == r.gate.FinAt()
}

// putOff reports whether progress without payload is told later: it is told about as often
// as the other gateway passes it on. Pump looks then if the near database says something,
// and otherwise some time after it, since to be woken costs more than to tell; the trunk's
// own acknowledgement, which waits as long, goes along.
func (r *Relay) putOff(now time.Duration) bool {
	every := max(leastAckEvery, r.gate.Spacing())
	since := now - r.sent.bareAt
	if since >= every {
		return false
	}
	if !r.sent.paused {
		r.sent.paused = true
		r.sent.pause.Reset(every*latePart/5 - since)
	}
	return true
}

// unpause ends the pause.
func (r *Relay) unpause() {
	r.mu.Lock()
	r.sent.paused = false
	r.mu.Unlock()
	r.trunk.Ready()
}

// nextFrame makes the next frame for the other gateway, with n bytes of payload, and notes
// what it tells.
func (r *Relay) nextFrame(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := &r.pump.frame
	*f = wire.Frame{Kind: wire.FrameData, Seq: r.near.inTrunk, Ack: r.gate.NearAck(), Edge: r.gate.NearEdge(), Fin: r.finNext(n)}
	switch {
	case n > 0 || f.Fin:
	case f.Ack == r.sent.ack && f.Edge == r.sent.edge && r.cutDue():
		f.Kind, r.handBack.said = wire.FrameClose, true
	default:
		r.sent.bareAt = r.legs.cfg.Now()
	}
	if r.sent.paused {
		r.sent.paused = !r.sent.pause.Stop()
	}
	r.near.inTrunk += uint32(n)
	r.sent.ack, r.sent.edge = f.Ack, f.Edge
	r.near.finInTrunk = r.near.finInTrunk || f.Fin
}

// pastFin reports whether the near database has no more to say: its FIN is in the
// trunk, and the far gateway tells it behind all that has come by the trunk.
func (r *Relay) pastFin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.near.finInTrunk
}

// fromTrunk takes what has come by the trunk, as far as the leg has room. It is receive's.
func (r *Relay) fromTrunk() {
	in := &r.receive.in
	for r.Ended() == nil {
		if !in.begun {
			ok, err := r.trunk.TryReceive(&in.frame)
			if err != nil {
				r.release(r.trunkEnd())
			}
			if err != nil || !ok {
				return
			}
			r.take(&in.frame)
		}
		if !in.begun {
			continue
		}
		if !r.feed(&in.frame) {
			r.tell()
			return
		}
		in.begun = false
		r.taken(&in.frame)
	}
}

// incoming is the frame that is being taken. It is fromTrunk's.
type incoming struct {
	frame wire.Frame
	begun bool // the leg has not got all of its payload yet
}

// take takes what a frame says, before its payload.
func (r *Relay) take(f *wire.Frame) {
	r.mu.Lock()
	begun := r.opening.begun // the other gateway takes part
	r.mu.Unlock()
	switch {
	case f.Kind == wire.FrameRefuse:
		r.release(endRefused.because(printable(f.Payload)))
	case f.Kind == wire.FrameAccept && !begun:
		r.begin(f.Seq)
		r.heard(&wire.Frame{Ack: f.Ack, Edge: f.Edge}) // it brings neither bytes nor a FIN
		r.catchUp()
		r.tell()
	case (f.Kind == wire.FrameData || f.Kind == wire.FrameClose) && begun:
		r.data(f)
	default:
		r.release(endNonsense)
	}
}

// taken ends a frame whose payload the leg has.
func (r *Relay) taken(f *wire.Frame) {
	r.tell()
	if f.Fin {
		r.mu.Lock()
		r.far.fin, r.far.finAt = true, r.gate.Fed()
		now := r.finDue()
		r.mu.Unlock()
		if now {
			r.sayFin()
		}
	}
	if f.Kind == wire.FrameClose {
		r.otherCut()
	}
}

// trunkEnd is why the relay ends when the trunk has ended.
func (r *Relay) trunkEnd() End {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.handBack.far:
		return *r.handBack.why
	case r.over():
		return endOver
	}
	return endTrunk
}

// catchUp shows the leg the window that the near database has opened since:
// it was made before the numbers of the far database's bytes were known, and what
// came until then it has not seen.
func (r *Relay) catchUp() {
	r.mu.Lock()
	ack, edge := r.gate.NearAck(), r.gate.NearEdge()
	s := wire.Segment{Seq: r.gate.NearEnd(), Ack: ack, Flags: wire.ACK}
	s.Window = wire.WindowField(ack, edge, r.conn.NearSaid.Scale)
	r.gate.In(&s, nil)
	r.mu.Unlock()
	r.inject(&s, nil)
}

// data is take for a frame of the connection, the only one with bytes for the leg.
func (r *Relay) data(f *wire.Frame) {
	r.mu.Lock()
	inSequence, past := f.Seq == r.gate.Fed(), r.far.fin && (f.Fin || f.Size() > 0)
	// The far database sends no more than the near one's window takes, apart from the byte of
	// a window probe (RFC 9293 section 3.8.6.1). The leg would keep what is beyond.
	fits := !wire.SeqLess(r.gate.NearEdge()+1, f.Seq+uint32(f.Size()))
	r.mu.Unlock()
	switch {
	case !inSequence:
		r.release(endSequence)
		return
	case past:
		r.release(endPastFin)
		return
	case !fits:
		r.release(endWindow)
		return
	}
	if due := r.heard(f); due {
		r.sendReset()
		return
	}
	r.receive.in.begun = true
}

// heard takes the progress that a frame tells of, before its payload. It reports whether
// the RST that waits is due.
func (r *Relay) heard(f *wire.Frame) (resetDue bool) {
	payload, now := f.Size(), r.legs.cfg.Now()
	r.mu.Lock()
	if r.gate.HeardFar(f.Ack, f.Edge) || payload > 0 {
		r.health.moved = now
	}
	r.gate.Feed(payload)
	end := r.gate.Fed()
	if r.check != nil {
		r.checkHears(f)
	}
	due := r.resetDue()
	back := r.handBack.why != nil
	r.mu.Unlock()
	if back {
		r.wake()
	}
	if f.Fin {
		end++
	}
	r.track.Heard(wire.Position{End: end, Fin: f.Fin, Ack: f.Ack, Edge: f.Edge})
	return due
}

// feed gives the payload of a frame to the leg, and uses it up. It reports false if the leg
// has no room for more, which it tells when it has, or the relay has ended.
func (r *Relay) feed(f *wire.Frame) bool {
	for f.Size() > 0 {
		_, err := r.leg.ep.Write(payloader{f}, tcpip.WriteOptions{})
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			if r.full.Swap(true) {
				return false
			}
			// It may have told of room before it was known that somebody waits.
		default:
			r.release(endLeg)
			return false
		}
	}
	r.full.Store(false)
	return true
}

// payloader is the payload of a frame, which a leg takes from where it lies. It takes no
// more than it has room for, and then all that it has taken.
type payloader struct{ f *wire.Frame }

var _ tcpip.Payloader = payloader{}

func (p payloader) Len() int { return p.f.Size() }

func (p payloader) Read(b []byte) (n int, err error) {
	for {
		if len(p.f.Payload) == 0 {
			if len(p.f.Further) == 0 {
				break
			}
			p.f.Payload, p.f.Further = p.f.Further[0], p.f.Further[1:]
		}
		m := copy(b[n:], p.f.Payload)
		p.f.Payload = p.f.Payload[m:]
		if n += m; n == len(b) {
			return n, nil
		}
	}
	if n == 0 {
		return 0, io.EOF // also for an empty b: netstack asks so whether there is more
	}
	return n, nil
}
