package netstack

import (
	"errors"
	"io"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/onewaylink/gw/netstack/wire"
)

const (
	// pumpBytes is how much of the near database's payload goes into one frame.
	pumpBytes = 64 << 10
	// leastAckEvery is how often progress is told at most that comes without payload.
	leastAckEvery = time.Millisecond
	// patience is the least that an answer from the other gateway is waited for.
	patience = 200 * time.Millisecond
)

// Offer begins to relay a connection and asks the other gateway, at the far end of
// the trunk, to take part; rtt is the round trip to it. What the near database says
// from now on has to be given to the Relay, in the order in which it comes. Where
// there is an error nothing has begun, and the trunk is still the caller's.
func (l *Legs) Offer(conn wire.Connection, track Tracker, trunk Trunk, rtt time.Duration) (*Relay, error) {
	r := l.newRelay(conn, track, trunk)
	r.asks, r.patent = true, max(patience, 3*rtt)
	return r, l.start(r, func() error {
		return r.trunk.Send(&wire.Frame{
			Kind: wire.FrameOpen, Seq: conn.NearSaid.End, Ack: conn.NearSaid.Ack, Edge: conn.NearSaid.Edge,
			Payload: appendOpening(nil, &conn),
		})
	})
}

// Accept takes part in relaying a connection that the other gateway has opened by
// the frame open, the first of the trunk. It is as Offer otherwise.
func (l *Legs) Accept(conn wire.Connection, track Tracker, trunk Trunk, open *wire.Frame, o *Opening) (*Relay, error) {
	if why := o.fits(&conn); why != "" {
		return nil, errors.New(why)
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

// Refuse answers an open frame by no, says why, and ends the trunk.
func Refuse(t Trunk, why string) {
	_ = t.Send(&wire.Frame{Kind: wire.FrameRefuse, Payload: []byte(why)}) // it fails where it need not be said any more
	t.Finish()
}

// start makes the leg in a task of its own, which then moves what comes from the
// near database into the trunk.
func (l *Legs) start(r *Relay, hello func() error) error {
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
			if !r.asks {
				r.catchUp()
			}
			l.wg.Go(r.receive)
			r.pump()
		}
		r.close()
	})
}

// close gives back what an ended relay has. The trunk ends first: the other gateway
// releases the connection by that.
func (r *Relay) close() {
	r.spaced.Stop()
	r.silence()
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
	r.begun, r.fedSeen = true, mark
	r.mu.Unlock()
}

// goLive gives the leg what has come while it was made, in order, and from then on
// FromHost does.
func (r *Relay) goLive() {
	for {
		r.mu.Lock()
		list := r.early
		r.early = nil
		if len(list) == 0 {
			r.live = true
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

// pump moves what the leg has received into the trunk, and tells the other gateway
// what the near database says, until the relay ends.
func (r *Relay) pump() {
	pause := time.NewTimer(time.Hour)
	defer pause.Stop()
	var alone time.Duration // when a frame without payload was sent last
	var f wire.Frame        // one for all, since Send makes it escape
	for {
		select {
		case <-r.done:
			return
		case <-r.kick:
		case <-pause.C:
		}
		for r.Ended() == nil {
			n, err := r.readLeg()
			if err != nil {
				r.release(*err)
				return
			}
			now := r.legs.cfg.Now()
			var news bool
			if f, news = r.next(n); !news {
				if f, news = r.lastFrame(); !news {
					break
				}
			}
			if n == 0 && !f.Fin && f.Kind == wire.FrameData {
				if wait := alone + r.ackEvery() - now; wait > 0 {
					pause.Reset(wait)
					break
				}
				alone = now
			}
			r.said(&f, n)
			if r.send(&f, n) != nil {
				r.release(endTrunk)
				return
			}
		}
		if e, ok := r.isBack(); ok {
			r.release(e)
		}
	}
}

// ackEvery is how often progress is told that comes without payload: no oftener than the
// other gateway passes it on.
func (r *Relay) ackEvery() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(leastAckEvery, r.gate.Spacing())
}

// readLeg writes what the leg has received into the trunk, as the payload of a frame that
// send completes. It returns how much that is; 0 is none, and then there is no frame.
func (r *Relay) readLeg() (int, *End) {
	there, failed := r.leg.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	if failed != nil {
		return 0, &endLeg
	}
	if there == 0 {
		n, failed := r.leg.ep.Read(noRoom{}, tcpip.ReadOptions{})
		return n.Count, readEnd(failed)
	}
	if r.trunk.Begin(min(there, pumpBytes)) != nil {
		return 0, &endTrunk
	}
	n, failed := r.leg.ep.Read(r.trunk, tcpip.ReadOptions{})
	end := readEnd(failed)
	if end == nil && n.Count > 0 && r.pastFin() {
		end = &endPastFin
	}
	if end != nil || n.Count == 0 {
		_ = r.trunk.Commit(nil) // whether it has ended is the next frame's to find out
	}
	return n.Count, end
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

// next is the next frame for the other gateway, with n bytes of payload, and whether there
// is anything new in it.
func (r *Relay) next(n int) (wire.Frame, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := wire.Frame{
		Kind: wire.FrameData, Seq: r.read, Ack: r.gate.NearAck(), Edge: r.gate.NearEdge(),
		Fin: r.fin && !r.finGone && r.read+uint32(n) == r.gate.FinAt(),
	}
	return f, n > 0 || f.Fin || f.Ack != r.saidAck || f.Edge != r.saidEdge
}

// send sends a frame whose payload readLeg has written, if there is any.
func (r *Relay) send(f *wire.Frame, n int) error {
	if n > 0 {
		return r.trunk.Commit(f)
	}
	return r.trunk.Send(f)
}

// pastFin reports whether the near database has no more to say: its FIN is in the
// trunk, and the far gateway tells it behind all that has come by the trunk.
func (r *Relay) pastFin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.finGone
}

// said notes what a frame with n bytes of payload tells.
func (r *Relay) said(f *wire.Frame, n int) {
	r.mu.Lock()
	r.read += uint32(n)
	r.saidAck, r.saidEdge = f.Ack, f.Edge
	r.finGone = r.finGone || f.Fin
	r.mu.Unlock()
}

// receive takes what comes by the trunk until it or the relay ends.
func (r *Relay) receive() {
	answered := !r.asks
	var f wire.Frame
	for {
		if err := r.trunk.Receive(&f); err != nil {
			r.release(r.trunkEnd())
			return
		}
		switch {
		case f.Kind == wire.FrameRefuse:
			r.release(endRefused.because(string(f.Payload)))
			return
		case f.Kind == wire.FrameClose && answered:
			if !r.data(&f) {
				return
			}
			r.otherCut(&f)
		case f.Kind == wire.FrameAccept && !answered:
			answered = true
			r.begin(f.Seq)
			r.heard(&f, 0)
			r.catchUp()
			r.tell()
		case f.Kind == wire.FrameData && answered:
			if !r.data(&f) {
				return
			}
		default:
			r.release(endNonsense)
			return
		}
	}
}

// trunkEnd is why the relay ends when the trunk has ended.
func (r *Relay) trunkEnd() End {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.back.far:
		return *r.back.why
	case r.over():
		return endOver
	}
	return endTrunk
}

// catchUp tells the leg of the window that the near database has opened meanwhile:
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

// data handles a frame of the connection, and reports whether the relay goes on.
func (r *Relay) data(f *wire.Frame) bool {
	size := f.Size()
	r.mu.Lock()
	inSequence, past := f.Seq == r.gate.Fed(), r.farFin && (f.Fin || size > 0)
	r.mu.Unlock()
	switch {
	case !inSequence:
		r.release(endSequence)
		return false
	case past:
		r.release(endPastFin)
		return false
	}
	if due := r.heard(f, size); due {
		r.sendReset()
		return false
	}
	if !r.feed(f) {
		return false
	}
	r.tell()
	if f.Fin {
		r.mu.Lock()
		r.farFin, r.farFinAt = true, r.gate.Fed()
		now := r.finDue()
		r.mu.Unlock()
		if now {
			r.sayFin()
		}
	}
	return true
}

// heard takes the progress that a frame with so many bytes of payload tells of, before
// these. It reports whether the RST that waits is due.
func (r *Relay) heard(f *wire.Frame, payload int) (resetDue bool) {
	now := r.legs.cfg.Now()
	r.mu.Lock()
	if r.gate.HeardFar(f.Ack, f.Edge) || payload > 0 {
		r.moved = now
	}
	r.gate.Feed(payload)
	end := r.gate.Fed()
	if r.check != nil {
		r.checkHears(f)
	}
	due := r.resetDue()
	back := r.back.why != nil
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

// feed gives the payload of a frame to the leg, and waits for room. It uses up the payload.
func (r *Relay) feed(f *wire.Frame) bool {
	for f.Size() > 0 {
		_, err := r.leg.ep.Write(payloader{f}, tcpip.WriteOptions{})
		switch err.(type) {
		case nil:
			continue
		case *tcpip.ErrWouldBlock:
		default:
			r.release(endLeg)
			return false
		}
		select {
		case <-r.writable:
		case <-r.done:
			return false
		}
	}
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
