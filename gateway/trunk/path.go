package trunk

import (
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
	pacePart     = 10
	leastPace    = time.Millisecond
	mostPace     = 4 * time.Millisecond
	leastQuantum = 2
	mostQuantum  = 128 << 10
	// burst is how much a sender may catch up that was kept waiting for a processor. It
	// does so at twice its pace.
	burst = 30 * time.Millisecond
	// turnPackets is how many packets one stream sends before it is the next one's turn.
	turnPackets = 8
	// deadAfter is how long nothing is acknowledged until all streams are given up. A
	// relayed connection is released long before.
	deadAfter = 5 * time.Second
	// firstMTU is the size of packets until it is known what the path takes.
	firstMTU = 1280
	// leastMTU and maxMTU bound what is believed: an acknowledgement has to fit, and all has
	// to fit into wireguard-go's buffers.
	leastMTU, maxMTU = 576, 1 << 15
)

// path is what connects this node and another one: streams, and the packets in
// which they are sent. Apart from its lock it does no I/O; its callers pass the time.
type path struct {
	// Set by newPath, and never changed.
	pool   *Pool
	node   netip.Addr
	parity uint32 // of the streams that this node begins
	header []byte // IP's, but for the length and the checksum

	dirty atomic.Bool  // packets have arrived since the last flush,
	batch atomic.Int64 // the first at this time; 0 is none

	mu      sync.Mutex // guards everything below, and all streams
	now     time.Duration
	mtu     int
	session session

	flight   flight
	bbr      bbr
	acks     acks
	building building
	pacing   pacing
	line     queue
	waiting  waiting

	streams map[uint32]*Conn
	latest  *Conn  // the last one of which something has arrived
	last    uint32 // the number of the last stream that this node has begun
	begun   ranges // those that the other node has begun
	guests  int    // those of them that this node has not admitted

	memory          account
	opening, ending deadlines // streams that are not admitted; that are finished or closed
	refusals        refusals
}

// session is what either node knows of the other's start.
type session struct {
	gone          bool   // nothing leads to the node any more
	local, remote uint32 // remote is 0 while none is known
	known         bool   // the other node knows this one's
	resetDue      bool   // it has sent to one that is not known here
}

// building is memory for the packet at hand and the next one.
type building struct {
	spans  [maxSpans]span
	pieces []piece
	settle settle // (*path).settled, allocated once
}

// pacing is when packets may be sent.
type pacing struct {
	credit   float64 // bytes that may be sent at once
	credited time.Duration
	used     time.Duration // when something was sent last
	probing  int           // packets that are sent whatever the bounds allow
	quantum  int           // bytes that are sent at a time
	idle     bool          // there was nothing to send at the last look,
	held     bool          // or the window was full
	wake     bool          // there is something now
	rested   bool          // it could have sent more since then
}

// queue is the streams that have something to send.
type queue struct {
	front, back *Conn
	turn        int // bytes that the first of them may send
	bulk        int // how many of them have more than a packet,
	busy        int // and had at the last look
}

// waiting is streams whose users have to be called without the lock.
type waiting struct {
	eager, fed      []*Conn // source; and memory for the next ones
	touched, called []*Conn // sink, since the last flush; and memory for those since this one
}

func newPath(p *Pool, self, node netip.Addr, now time.Duration) *path {
	w := &path{
		pool: p, node: node, mtu: firstMTU, session: session{local: rand.Uint32() | 1},
		header:  wire.AppendIP(nil, self, node, wire.ProtoTrunk, 0),
		streams: make(map[uint32]*Conn),
		flight:  flight{reorder: reorderAtFirst},
		pacing:  pacing{idle: true, used: now, credited: now},
	}
	if node.Less(self) {
		w.parity = 1
	}
	w.building.settle = w.settled
	w.memory.budget = &p.budget
	return w
}

// open begins a stream. One to a node to which no path leads any more has ended.
func (w *path) open() *Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last > math.MaxUint32-4 {
		// All numbers are used. The other node takes this for a restart.
		w.startOver()
		w.session.local, w.last = rand.Uint32()|1, 0
	}
	w.last += 2
	c := newConn(w, w.last-2+w.parity)
	if w.session.gone {
		c.fail(net.ErrClosed)
		c.forgotten = true
	} else {
		w.streams[c.id] = c
	}
	return c
}

// forget ends a stream, of which nothing is said any more.
func (w *path) forget(c *Conn) {
	if !c.forgotten {
		c.forgotten = true
		c.unlist()
		if !c.admitted {
			w.guests--
		}
		delete(w.streams, c.id)
		if w.latest == c {
			w.latest = nil
		}
	}
}

// push puts a stream among those that have something to send.
func (w *path) push(c *Conn) {
	if c.line.queued || c.forgotten || !c.hasWork() {
		w.count(c)
		return
	}
	if w.line.front != nil && c.out.wrote-c.out.sent < uint64(w.mtu) {
		// What is short does not wait for bulk.
		c.line.queued = true
		c.line.next, w.line.front = w.line.front, c
		w.line.turn = turnPackets * w.mtu
	} else {
		w.enqueue(c)
	}
	w.count(c)
	if w.pacing.idle {
		w.pacing.idle, w.pacing.wake = false, true
	}
}

// count keeps the number of streams in line that have more to send than a packet.
func (w *path) count(c *Conn) {
	bulk := c.line.queued && c.out.wrote-c.out.sent >= uint64(w.mtu)
	switch {
	case bulk == c.line.bulk:
		return
	case bulk:
		w.line.bulk++
	default:
		w.line.bulk--
	}
	c.line.bulk = bulk
}

// enqueue puts a stream behind all others that have something to send.
func (w *path) enqueue(c *Conn) {
	c.line.queued = true
	if w.line.front == nil {
		w.line.front = c
		w.line.turn = turnPackets * w.mtu
	} else {
		w.line.back.line.next = c
	}
	w.line.back = c
}

// unlock ends what somebody has done to a stream, and wakes the reader if there is
// something to send now.
func (w *path) unlock() {
	wake := w.pacing.wake
	w.pacing.wake = false
	w.mu.Unlock()
	if wake {
		w.pool.cfg.Wake()
	}
}

// shift takes the first stream off; it stays in line if it has more to send.
func (w *path) shift() {
	c := w.line.front
	w.line.front, c.line.next = c.line.next, nil
	if w.line.front == nil {
		w.line.back = nil
	}
	c.line.queued = false
	if c.hasWork() && !c.forgotten {
		w.enqueue(c)
	}
	w.count(c)
	w.line.turn = turnPackets * w.mtu
}

func (w *path) settled(p *packet, arrived bool) {
	for i := range p.chunks {
		k := &p.chunk[i]
		if k.conn != nil { // otherwise it has refused a stream
			k.conn.settle(k, arrived)
		}
		if arrived {
			*k = chunk{} // nothing keeps the stream
		}
	}
}

// giveUp ends all streams. The other node hears of it when it can be reached again.
func (w *path) giveUp(err error) {
	w.flight.abandon()
	w.bbr.restart(w.now)
	for _, c := range w.streams {
		if c.admitted {
			c.giveUp(err)
		} else {
			w.abandon(c)
		}
	}
}

// dropAll ends all streams, of which nothing is said any more, and forgets what is under way.
func (w *path) dropAll(err error) {
	for _, c := range w.streams {
		c.fail(err)
		w.forget(c)
	}
	w.flight.abandon()
}

// end ends all streams for good: no path leads to the node any more.
func (w *path) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.session.gone = true
	w.dropAll(net.ErrClosed)
	for w.line.front != nil {
		w.shift()
	}
}
