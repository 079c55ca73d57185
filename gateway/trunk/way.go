package trunk

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

const (
	// pacePart is the part of a round trip whose packets are sent at once, between leastPace
	// and mostPace: a timer for each packet would cost more than the packet. It is
	// leastQuantum packets and mostQuantum bytes.
	pacePart     = 20
	leastPace    = time.Millisecond
	mostPace     = 2 * time.Millisecond
	leastQuantum = 2
	mostQuantum  = 64 << 10
	// burst is how much a sender may catch up that was kept waiting for a processor. It
	// does so at twice its pace.
	burst = 30 * time.Millisecond
	// turnPackets is how many packets one stream sends before it is the next one's turn.
	turnPackets = 8
	// deadAfter is how long nothing is acknowledged until all streams are given up. A
	// relayed connection is released long before.
	deadAfter = 5 * time.Second
	// firstMTU is the size of packets until it is known what the way takes.
	firstMTU = 1280
	// leastMTU and maxMTU bound what is believed: an acknowledgement has to fit, and all has
	// to fit into wireguard-go's buffers.
	leastMTU, maxMTU = 576, 1 << 15
)

// way is what there is between this node and another one: streams, and the packets in
// which they go. Apart from its lock it does no I/O, and is told the time.
type way struct {
	pool   *Pool
	node   netip.Addr
	parity uint32 // of the streams that this node begins
	header []byte // IP's, but for the length and the checksum

	dirty atomic.Bool  // packets have come since the last flush,
	batch atomic.Int64 // the first at this time; 0 is none

	mu            sync.Mutex
	gone          bool
	local, remote uint32 // sessions; remote is 0 while none is known
	known         bool   // the other node knows this one's
	resetDue      bool   // it spoke to one that is not known here
	mtu           int

	flight flight
	bbr    bbr
	acks   acks
	spans  [maxSpans]span
	settle settle // (*way).settled, once for all
	now    time.Duration

	credit   float64 // bytes that may be sent at once
	credited time.Duration
	used     time.Duration // when something was sent last
	probing  int           // packets that are sent whatever the bounds say
	quantum  int           // bytes that are sent at a time
	idle     bool          // there was nothing to send when it was looked last,
	held     bool          // or the window was full
	wake     bool          // there is something now
	rested   bool          // it could have sent more since then

	streams map[uint32]*Conn
	last    uint32 // the number of the last stream that this node has begun
	begun   ranges // those that the other node has begun

	front, back *Conn // have something to send
	turn        int   // bytes that the first of them may send
	busy        int   // how many there were when it was looked last

	touched []*Conn // since the last flush
}

func newWay(p *Pool, self, node netip.Addr, now time.Duration) *way {
	w := &way{
		pool: p, node: node, local: rand.Uint32() | 1, mtu: firstMTU, idle: true,
		header:  wire.AppendIP(nil, self, node, wire.ProtoTrunk, 0),
		streams: make(map[uint32]*Conn),
		flight:  flight{reorder: reorderAtFirst},
		used:    now, credited: now,
	}
	if node.Less(self) {
		w.parity = 1
	}
	w.settle = w.settled
	return w
}

// open begins a stream. One to a node to which no way leads any more has ended.
func (w *way) open() *Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last > math.MaxUint32-4 {
		// All numbers are used. The other node sees that this one begins anew.
		w.startOver()
		w.local, w.last = rand.Uint32()|1, 0
	}
	w.last += 2
	c := newConn(w, w.last-2+w.parity)
	if w.gone {
		c.fail(net.ErrClosed)
		c.forgotten = true
	} else {
		w.streams[c.id] = c
	}
	return c
}

// forget ends a stream, of which nothing is said any more.
func (w *way) forget(c *Conn) {
	if !c.forgotten {
		c.forgotten = true
		delete(w.streams, c.id)
	}
}

// push puts a stream among those that have something to send.
func (w *way) push(c *Conn) {
	if c.queued || c.forgotten || !c.hasWork() {
		return
	}
	c.queued = true
	switch {
	case w.front == nil:
		w.front, w.back = c, c
		w.turn = turnPackets * w.mtu
	case c.wrote-c.sent < uint64(w.mtu):
		// What is short does not wait for bulk.
		c.next, w.front = w.front, c
		w.turn = turnPackets * w.mtu
	default:
		w.back.next, w.back = c, c
	}
	if w.idle {
		w.idle, w.wake = false, true
	}
}

// unlock ends what somebody has done to a stream, and wakes the reader if there is
// something to send now.
func (w *way) unlock() {
	wake := w.wake
	w.wake = false
	w.mu.Unlock()
	if wake {
		w.pool.cfg.Wake()
	}
}

// shift takes the first stream off; it stays in line if it has more to send.
func (w *way) shift() {
	c := w.front
	w.front, c.next = c.next, nil
	if w.front == nil {
		w.back = nil
	}
	c.queued = false
	if c.hasWork() && !c.forgotten {
		c.queued = true
		if w.front == nil {
			w.front = c
		} else {
			w.back.next = c
		}
		w.back = c
	}
	w.turn = turnPackets * w.mtu
}

func (w *way) settled(p *packet, arrived bool) {
	for i := range p.chunks {
		k := &p.chunk[i]
		k.conn.settle(k, arrived)
		if arrived {
			*k = chunk{} // nothing keeps the stream
		}
	}
}

// pull writes packets into bufs, each from offset on, as many as are to be sent now. It
// returns how many, and when it is to be called again; 0 is when something happens.
func (w *way) pull(now time.Duration, bufs [][]byte, sizes []int, offset int) (n int, next time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now, w.wake = now, false
	if w.resetDue && n < len(bufs) {
		putHead(w.body(bufs[n][offset:]), &head{kind: kindReset, long: true, from: w.local})
		sizes[n] = w.seal(bufs[n][offset:], longSize)
		w.resetDue = false
		n++
	}
	if at := w.acks.due(w.flight.rtt); at > 0 && at <= now && n < len(bufs) {
		sizes[n] = w.ack(now, bufs[n][offset:])
		n++
	}
	if w.flight.inside > 0 && now-w.flight.progress > deadAfter {
		w.giveUp(errUnheard) // also if something was sent just now
	} else if at := w.flight.due(ackDelay); at > 0 && at <= now {
		w.flight.probe(now, w.settle)
		w.probing = 2
	}
	m, again := w.send(now, bufs[n:], sizes[n:], offset)
	n += m
	if m > 0 && n < len(bufs) && w.acks.rides(now, w.flight.rtt) {
		sizes[n] = w.ack(now, bufs[n][offset:])
		n++
	}
	return n, earliest(again, earliest(w.acks.due(w.flight.rtt), w.flight.due(ackDelay)))
}

// ack writes an acknowledgement into b, and returns its size.
func (w *way) ack(now time.Duration, b []byte) int {
	body := w.body(b)[:w.mtu-len(w.header)]
	at := w.head(body, kindAck, 0)
	at += putAck(body[at:], now-w.acks.newest, w.acks.got)
	w.acks.told()
	return w.seal(b, at)
}

// head writes the head of a packet, and returns its size.
func (w *way) head(b []byte, kind uint8, count int) int {
	h := head{kind: kind, count: count, long: !w.known, from: w.local, to: w.remote}
	putHead(b, &h)
	return h.size()
}

// earliest is the earlier of two times, of which 0 is never.
func earliest(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// send writes packets with what streams have to say.
func (w *way) send(now time.Duration, bufs [][]byte, sizes []int, offset int) (n int, next time.Duration) {
	if w.front != nil && w.flight.inside == 0 && now-w.used > forgetAfter {
		w.bbr.restart(now)
	}
	rate := w.bbr.pace()
	every := min(max(w.bbr.least/pacePart, leastPace), mostPace)
	quantum := min(max(rate*every.Seconds(), float64(leastQuantum*w.mtu)), mostQuantum)
	w.quantum = int(quantum)
	window := w.bbr.window(w.quantum)
	most := max(2*quantum, rate*burst.Seconds())
	if w.rested {
		most = 2 * quantum
	}
	w.credit = min(w.credit+rate*(now-w.credited).Seconds(), most)
	w.credited = now
	ready := w.credit >= quantum
	left := int(2 * quantum)
	w.busy = w.waiting()
	w.held, w.rested = false, false
	for w.front != nil && n < len(bufs) {
		if w.probing == 0 {
			if w.flight.inside >= window {
				w.held, w.rested = true, true
				return n, 0
			}
			if !ready || w.credit <= 0 {
				return n, now + time.Duration((quantum-w.credit)/rate*float64(time.Second)) + 1
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
		w.probing = max(0, w.probing-1)
		sizes[n] = size
		w.credit -= float64(size)
		left -= size
		w.used = now
		n++
	}
	if w.front != nil {
		return n, now // bufs are full
	}
	w.probing = 0
	w.idle, w.rested = true, true
	if w.flight.inside < window {
		w.flight.limit()
	}
	return n, 0
}

// waiting counts the streams that have more to send than a packet.
func (w *way) waiting() (n int) {
	for c := w.front; c != nil; c = c.next {
		if c.wrote-c.sent >= uint64(w.mtu) {
			n++
		}
	}
	return n
}

// build writes one packet with what is to be sent next, and returns its size; 0 if it is
// nothing.
func (w *way) build(now time.Duration, b []byte) int {
	body := w.body(b)[:w.mtu-len(w.header)]
	start := w.head(body, kindData, 0) // the count follows
	at := start + numSize
	p := w.flight.slot()
	n := 0
	for n < maxChunks && w.front != nil && len(body)-at > chunkSize {
		c := w.front
		s, flags, ok := c.fill(min(len(body)-at-chunkSize, maxChunk))
		if !ok || c.forgotten {
			w.shift()
			continue
		}
		p.chunk[n] = chunk{c, s, flags}
		n++
		out := piece{stream: c.id, flags: flags, offset: uint32(s.from), data: body[at+chunkSize : at+chunkSize+int(s.len())]}
		putPiece(body[at:], &out)
		c.out.get(s.from, out.data)
		at += chunkSize + len(out.data)
		if w.turn -= len(out.data); w.turn <= 0 || !c.hasWork() {
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

// body is where in a packet its payload begins.
func (w *way) body(b []byte) []byte { return b[len(w.header):] }

// seal completes the header of a packet with size bytes of payload, and returns its size.
func (w *way) seal(b []byte, size int) int {
	wire.SetLength(b[:copy(b, w.header)], size)
	return len(w.header) + size
}

// came is the time at which the first packet of this batch has come: for the others it
// does as well.
func (w *way) came() time.Duration {
	now := time.Duration(w.batch.Load())
	if now == 0 {
		now = w.pool.now()
		w.batch.Store(int64(now))
	}
	return now
}

// deliver takes the payload of a packet from the other node.
func (w *way) deliver(now time.Duration, b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return nil
	}
	w.now = now
	w.dirty.Store(true)
	h, rest, err := parseHead(b)
	if err != nil || !w.admit(&h) {
		return err
	}
	switch h.kind {
	case kindReset:
		return nil // admit has seen to it
	case kindAck:
		return w.takeAck(now, rest)
	case kindData:
		return w.takeData(now, rest, h.count, len(b))
	}
	return errPacket
}

// admit reports whether a packet belongs to the sessions of both nodes. When the other
// node has begun anew, it knows nothing of what there was.
func (w *way) admit(h *head) bool {
	ours := w.remote != 0 && h.tag == tagOf(w.local, w.remote)
	if h.long {
		ours = h.to == 0 || h.to == w.local
	}
	if !ours {
		w.resetDue = w.resetDue || h.kind != kindReset
		return false
	}
	if h.long && h.from != w.remote {
		if w.remote != 0 {
			w.startOver()
		}
		w.remote = h.from
	}
	w.known = h.kind != kindReset && (w.known || !h.long || h.to != 0)
	return true
}

// startOver forgets all that was said with a session of the other node that is no more.
func (w *way) startOver() {
	for _, c := range w.streams {
		c.fail(errAnew)
		w.forget(c)
	}
	w.flight.abandon()
	w.bbr.restart(w.now)
	w.acks, w.begun, w.known = acks{}, nil, false
	w.pool.restarted.Add(1)
}

// giveUp ends all streams. The other node hears of it when it can be reached again.
func (w *way) giveUp(err error) {
	w.flight.abandon()
	w.bbr.restart(w.now)
	for _, c := range w.streams {
		c.fail(err)
		c.closed, c.resetDue = true, true
		w.push(c)
	}
}

func (w *way) takeAck(now time.Duration, b []byte) error {
	waited, spans, err := parseAck(b, w.spans[:0])
	if err != nil {
		return err
	}
	if len(spans) > 0 {
		// A node that has begun anew knows of the low bits of numbers only.
		shift := expand(uint32(spans[0].to), w.flight.next) - spans[0].to
		for i := range spans {
			spans[i] = span{spans[i].from + shift, spans[i].to + shift}
		}
	}
	held := w.held
	n := w.flight.ack(now, waited, spans, w.settle)
	w.bbr.ack(now, n, w.flight.delivered, w.flight.inside, held)
	return nil
}

// takeData takes what follows the head of a packet of so many bytes with count chunks.
func (w *way) takeData(now time.Duration, rest []byte, count, size int) error {
	if len(rest) < numSize {
		return errPacket
	}
	number := expand(binary.BigEndian.Uint32(rest), w.acks.next())
	if !w.acks.see(now, number, size) {
		return nil
	}
	rest = rest[numSize:]
	for range count {
		var p piece
		var err error
		if p, rest, err = parsePiece(rest); err != nil {
			return err
		}
		if c := w.stream(&p); c != nil {
			w.takePiece(c, &p)
		}
	}
	return nil
}

// stream finds the stream of a chunk, or begins it. It returns nil for one that has ended.
func (w *way) stream(p *piece) *Conn {
	if c := w.streams[p.stream]; c != nil {
		return c
	}
	id := span{uint64(p.stream), uint64(p.stream) + 2} // numbers of one node touch
	if p.flags&(flagOpen|flagReset) == 0 || p.stream&1 == w.parity || w.begun.has(id) {
		return nil
	}
	w.begun.add(id)
	if len(w.begun) > maxStreams {
		w.begun.add(span{w.begun[0].from, w.begun[1].to}) // what is between was never used
	}
	if p.flags&flagReset != 0 {
		return nil // what began it comes too late
	}
	c := newConn(w, p.stream)
	c.known, c.asking = true, true
	w.streams[p.stream] = c
	if len(w.streams) > maxStreams {
		c.fail(errTooMany)
		c.closed, c.resetDue, c.asking = true, true, false
		w.push(c)
		w.pool.refused.Add(1)
	}
	return c
}

func (w *way) takePiece(c *Conn, p *piece) {
	news := false
	switch {
	case p.flags&flagReset != 0:
		c.fail(errReset)
		w.forget(c)
		news = true
	case p.flags&flagWindow != 0:
		if limit := expand(p.offset, c.limit); limit > c.limit {
			c.limit = limit
			w.push(c)
		}
	default:
		news = c.deliver(p)
	}
	if news && !c.touched {
		c.touched = true
		w.touched = append(w.touched, c)
	}
}

// flush ends a batch of packets that have come: whoever receives is told. It returns the
// streams that the other node has begun, and whether there is something to send now, and
// otherwise when; 0 is never.
func (w *way) flush(now time.Duration) (begun []*Conn, wake bool, at time.Duration) {
	if !w.dirty.Swap(false) {
		return nil, false, 0
	}
	w.batch.Store(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, c := range w.touched {
		w.touched[i] = nil
		c.touched = false
		if c.asking {
			c.asking = false
			begun = append(begun, c)
		}
		signal(c.data)
	}
	w.touched = w.touched[:0]
	at = w.acks.due(w.flight.rtt)
	wake = w.wake || w.resetDue || at > 0 && at <= now || w.held && w.flight.inside < w.bbr.window(w.quantum)
	w.wake = false
	return begun, wake, at
}

// end ends all streams for good: no way leads to the node any more.
func (w *way) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = true
	for _, c := range w.streams {
		c.fail(net.ErrClosed)
		w.forget(c)
	}
	w.flight.abandon()
	w.front, w.back = nil, nil
}
