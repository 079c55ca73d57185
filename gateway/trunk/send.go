package trunk

import (
	"encoding/binary"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// pull writes packets into bufs, each from offset on, as many as may be sent now. It
// returns how many, and when to call it again; 0 means when something happens.
func (w *path) pull(now time.Duration, bufs [][]byte, sizes []int, offset int) (n int, next time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now, w.pacing.idle, w.pacing.wake = now, false, false // what is queued from now on is seen here
	w.feed()
	if w.session.resetDue && n < len(bufs) {
		putHead(w.body(bufs[n][offset:]), &head{kind: kindReset, long: true, from: w.session.local})
		sizes[n] = w.seal(bufs[n][offset:], longSize)
		w.session.resetDue = false
		n++
	}
	if at := w.acks.due(w.flight.rtt); at > 0 && at <= now && n < len(bufs) {
		sizes[n] = w.ack(now, bufs[n][offset:])
		n++
	}
	if w.flight.inside > 0 && now-w.flight.progress > deadAfter {
		w.giveUp(errUnheard) // also if something was sent just now
	} else if at := w.flight.due(ackDelay); at > 0 && at <= now {
		w.flight.probe(now, w.building.settle)
		w.pacing.probing = 2
	}
	expiry := w.expire(now)
	m, again := w.send(now, bufs[n:], sizes[n:], offset)
	n += m
	if m > 0 && n < len(bufs) && w.acks.rides(now, w.flight.rtt) {
		sizes[n] = w.ack(now, bufs[n][offset:])
		n++
	}
	return n, earliest(earliest(again, expiry), earliest(w.acks.due(w.flight.rtt), w.flight.due(ackDelay)))
}

// ack writes an acknowledgement into b, and returns its size.
func (w *path) ack(now time.Duration, b []byte) int {
	body := w.body(b)[:w.mtu-len(w.header)]
	at := w.head(body, kindAck)
	at += putAck(body[at:], now-w.acks.newest, w.acks.got)
	w.acks.told()
	return w.seal(b, at)
}

// earliest is the earlier of two times, of which 0 is never.
func earliest(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// send writes packets with what streams have to say.
func (w *path) send(now time.Duration, bufs [][]byte, sizes []int, offset int) (n int, next time.Duration) {
	if w.line.front != nil && w.flight.inside == 0 && now-w.pacing.used > forgetAfter {
		w.bbr.restart(now)
	}
	rate := w.bbr.pace()
	every := min(max(w.bbr.least/pacePart, leastPace), mostPace)
	quantum := min(max(rate*every.Seconds(), float64(leastQuantum*w.mtu)), mostQuantum)
	w.pacing.quantum = int(quantum)
	window := w.bbr.window(w.pacing.quantum)
	most := max(2*quantum, rate*burst.Seconds())
	if w.pacing.rested {
		most = 2 * quantum
	}
	w.pacing.credit = min(w.pacing.credit+rate*(now-w.pacing.credited).Seconds(), most)
	w.pacing.credited = now
	ready := w.pacing.credit >= quantum
	left := int(2 * quantum)
	w.line.busy = w.line.bulk
	w.pacing.held, w.pacing.rested = false, false
	for n < len(bufs) && (w.line.front != nil || w.refusals.n > 0 || w.feed()) {
		if w.pacing.probing == 0 {
			if !w.flight.hasRoom(window) {
				w.pacing.held, w.pacing.rested = true, true
				return n, 0
			}
			if !ready || w.pacing.credit <= 0 {
				return n, now + time.Duration((quantum-w.pacing.credit)/rate*float64(time.Second)) + 1
			}
			if left <= 0 {
				// It makes up for what it was late, but not all at once.
				return n, now + time.Duration(quantum/rate*float64(time.Second)) + 1
			}
		}
		size := w.build(now, bufs[n][offset:])
		if size == 0 {
			continue // none of them had anything to say after all
		}
		w.pacing.probing = max(0, w.pacing.probing-1)
		sizes[n] = size
		w.pacing.credit -= float64(size)
		left -= size
		w.pacing.used = now
		n++
	}
	if w.line.front != nil || w.refusals.n > 0 || len(w.waiting.eager) > 0 {
		return n, now // bufs are full
	}
	w.pacing.probing = 0
	w.pacing.idle, w.pacing.rested = true, true
	if w.flight.hasRoom(window) {
		w.flight.limit()
	}
	return n, 0
}

// build writes one packet with the next bytes to send, and returns its size; 0 if it is
// nothing.
func (w *path) build(now time.Duration, b []byte) int {
	body := w.body(b)[:w.mtu-len(w.header)]
	start := w.head(body, kindData) // the count follows
	at := start + numSize
	p := w.flight.slot()
	n := 0
	for n < maxChunks && w.refusals.n > 0 && len(body)-at > chunkSize {
		p.chunk[n] = chunk{flags: flagReset}
		putPiece(body[at:], &piece{stream: w.refusals.pop(), flags: flagReset})
		at += chunkSize
		n++
	}
	for n < maxChunks && w.line.front != nil && len(body)-at > chunkSize {
		c := w.line.front
		s, flags, ok := c.fill(min(len(body)-at-chunkSize, maxChunk))
		if !ok || c.forgotten {
			w.shift()
			continue
		}
		p.chunk[n] = chunk{c, s, flags}
		n++
		out := piece{stream: c.id, flags: flags, offset: uint32(s.from), data: body[at+chunkSize : at+chunkSize+int(s.len())]}
		putPiece(body[at:], &out)
		c.out.buffer.get(s.from, out.data)
		at += chunkSize + len(out.data)
		w.count(c)
		if w.line.turn -= len(out.data); w.line.turn <= 0 || !c.hasWork() {
			w.shift()
		}
	}
	if n == 0 {
		return 0
	}
	body[0] |= byte(n) << countShift
	binary.BigEndian.PutUint32(body[start:], uint32(w.flight.next))
	size := w.seal(b, at)
	w.flight.add(now, n, size)
	return size
}

// head writes the head of a packet, and returns its size.
func (w *path) head(b []byte, kind uint8) int {
	h := head{kind: kind, long: !w.session.known, from: w.session.local, to: w.session.remote}
	putHead(b, &h)
	return h.size()
}

// body is where in a packet its payload begins.
func (w *path) body(b []byte) []byte { return b[len(w.header):] }

// seal completes the header of a packet with size bytes of payload, and returns its size.
func (w *path) seal(b []byte, size int) int {
	wire.SetLength(b[:copy(b, w.header)], size)
	return len(w.header) + size
}
