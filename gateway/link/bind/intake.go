package bind

import (
	"encoding/binary"
	"sync"
	"time"
)

const (
	// stampSize is the size in bytes of a stamp, which stands at the very end of a receive
	// buffer. No datagram is long enough to reach it: wireguard-go's buffers have 65,535
	// bytes, and the UDP payload of the longest datagram has 65,527.
	stampSize = 8
	// laneBits is how many bits of a stamp are the lane; the others are the position.
	laneBits = 16

	// intakeAge is how long a datagram counts as inside at least, unless it is known to
	// have left. It is longer than the pipeline stands still on a busy machine, where a
	// goroutine waits for others that run for 10 ms each.
	intakeAge = 16 * time.Millisecond
	// forgedAge takes its place in a lane where most datagrams are not delivered.
	forgedAge = 2 * time.Millisecond
	// silentAges is after how many periods of intakeAge without a delivery, but with
	// datagrams that were written off, a lane is taken for one of forged datagrams.
	silentAges = 3
	// forgedLeast is how many more datagrams than those delivered must have been dropped
	// in between for that. An honest peer's keepalives are not delivered either.
	forgedLeast = 8
)

// An Intake bounds the datagrams inside wireguard-go on their way in, whose queues and pools
// have no bound. It counts those with a session index of this node, before wireguard-go has
// authenticated them. Anyone who sees the tunnel can forge such datagrams. wireguard-go drops
// them without a trace, so the Intake needs to learn when they have left:
//
//   - wireguard-go keeps the order of what one socket receives for one peer (a lane) up to
//     the call of tun.Device.Write. A datagram that is delivered there proves that all before
//     it in its lane have left. The receiver stamps each buffer with lane and position.
//   - Behind the last one that is delivered, nothing can be known. Such datagrams count for
//     16 to 32 ms.
//   - In a lane where most datagrams turn out to be forged they count for 2 to 4 ms. That
//     admits 32,000 of them a second without a wait, and a wait is 2 ms long.
//
// All methods may be called concurrently, and none allocates. A nil *Intake counts nothing.
type Intake struct {
	limit int
	start time.Time

	turn  chan struct{} // holds the token of the one receiver that waits
	wake  chan struct{} // holds a token when there is room again
	timer *time.Timer   // owned by the holder of turn

	closed    chan struct{}
	closeOnce sync.Once

	mu          sync.Mutex // the fields below
	lanes       []lane
	inside      int  // of all lanes
	waiting     bool // a receiver waits for room
	waits       uint64
	undelivered uint64
}

// lane counts the datagrams for one peer that one socket has received. Positions begin at 1.
type lane struct {
	entered uint64 // position of the last datagram that entered
	left    uint64 // of the last one that is known to have left, or has been written off
	// The present period began at since; old is the position that had entered then.
	since  time.Duration
	old    uint64
	silent int  // periods in a row in which datagrams were written off and none delivered
	forged bool // most datagrams are dropped by wireguard-go
}

func newIntake(limit int) *Intake {
	return &Intake{
		limit: limit, start: time.Now(),
		turn: make(chan struct{}, 1), wake: make(chan struct{}, 1), closed: make(chan struct{}),
	}
}

// open makes the lanes, before the first datagram enters. After it was open before, what entered
// then counts no longer.
func (in *Intake) open(lanes int) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.lanes = make([]lane, lanes)
	in.inside = 0
}

// enter counts the datagrams of a batch in. It blocks while limit datagrams or more are
// inside; see Intake for how long that can be.
func (in *Intake) enter(b *batch) {
	if in == nil || len(b.lanes) == 0 {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	now := time.Since(in.start)
	for _, i := range b.lanes {
		in.expire(&in.lanes[i], now)
	}
	if in.inside >= in.limit {
		in.wait()
	}
	for _, i := range b.lanes {
		l := &in.lanes[i]
		in.inside += int(b.last[i] - l.entered)
		l.entered, b.entered[i] = b.last[i], b.last[i]
	}
	b.lanes = b.lanes[:0]
}

// Leave counts out the packets that wireguard-go delivers to tun.Device.Write, and all that
// it has dropped before them. bufs are the argument of Write.
func (in *Intake) Leave(bufs [][]byte) {
	if in == nil || len(bufs) == 0 {
		return
	}
	i, position := readStamp(bufs[len(bufs)-1])
	in.mu.Lock()
	defer in.mu.Unlock()
	if i < 0 || i >= len(in.lanes) {
		return
	}
	l := &in.lanes[i]
	l.silent = 0
	if position <= l.left || position > l.entered {
		// It has been written off: the pipeline is slow, and what counts for a short time
		// only may still be inside.
		l.forged = false
		return
	}
	gone := int(position - l.left)
	dropped := max(0, gone-len(bufs))
	l.forged = dropped >= len(bufs)+forgedLeast
	l.left, l.old = position, max(l.old, position)
	in.undelivered += uint64(dropped)
	in.inside -= gone
	if in.waiting && in.inside < in.limit {
		in.signal()
	}
}

// expire writes off what has been inside a lane for longer than it counts, if the present
// period is over. in.mu is held.
func (in *Intake) expire(l *lane, now time.Duration) {
	age := l.age()
	passed := now - l.since
	if passed < age {
		return
	}
	if passed >= 2*age {
		l.old = l.entered // nothing has entered since the period was over
	}
	if l.old > l.left {
		in.inside -= int(l.old - l.left)
		in.undelivered += l.old - l.left
		l.left = l.old
		if l.silent++; l.silent >= silentAges {
			l.forged = true
		}
	}
	l.since, l.old = now, l.entered
}

func (l *lane) age() time.Duration {
	if l.forged {
		return forgedAge
	}
	return intakeAge
}

// sweep writes off in all lanes, and returns when the next period is over. in.mu is held.
func (in *Intake) sweep(now time.Duration) (next time.Duration) {
	next = intakeAge
	for i := range in.lanes {
		l := &in.lanes[i]
		if l.left == l.entered {
			continue
		}
		in.expire(l, now)
		next = min(next, max(0, l.since+l.age()-now))
	}
	return next
}

// wait returns when there is room, or the Intake is closed. One receiver waits at a time,
// the others queue for turn. in.mu is held, but not while waiting.
func (in *Intake) wait() {
	in.mu.Unlock()
	select {
	case <-in.closed:
		in.mu.Lock()
		return
	case in.turn <- struct{}{}:
	}
	defer func() { <-in.turn }()
	in.mu.Lock()
	first := true
	for {
		next := in.sweep(time.Since(in.start))
		if in.inside < in.limit {
			break
		}
		if first {
			in.waits++
			first = false
		}
		in.waiting = true
		in.mu.Unlock()
		if in.timer == nil {
			in.timer = time.NewTimer(next)
		} else {
			in.timer.Reset(next)
		}
		done := false
		select {
		case <-in.closed:
			done = true
		case <-in.wake:
		case <-in.timer.C:
		}
		in.mu.Lock()
		if done {
			break
		}
	}
	in.waiting = false
	if in.timer != nil {
		in.timer.Stop()
	}
}

func (in *Intake) signal() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// Close opens the Intake for good: no receiver waits any more.
func (in *Intake) Close() {
	if in != nil {
		in.closeOnce.Do(func() { close(in.closed) })
	}
}

// Inside returns how many datagrams count as inside at this moment.
func (in *Intake) Inside() int {
	if in == nil {
		return 0
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.sweep(time.Since(in.start))
	return in.inside
}

// Waits returns how often a receiver had to wait for room.
func (in *Intake) Waits() uint64 {
	if in == nil {
		return 0
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.waits
}

// Undelivered returns how many datagrams with a session index of this node wireguard-go has
// dropped, keepalives included: forged ones, replayed ones, and packets with a source that
// is not the peer's. Those that it held for longer than intakeAge may be among them.
func (in *Intake) Undelivered() uint64 {
	if in == nil {
		return 0
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.undelivered
}

// batch numbers the datagrams of one receiver, which it hands to wireguard-go in batches.
// Not safe for concurrent use.
type batch struct {
	lanes   []int    // with datagrams that have not entered yet
	last    []uint64 // by lane: the last position given
	entered []uint64 // by lane: the last one that has entered
}

func newBatch(lanes int) batch {
	return batch{lanes: make([]int, 0, lanes), last: make([]uint64, lanes), entered: make([]uint64, lanes)}
}

// add gives the datagram of size bytes at the start of buf the next position in a lane; with
// a lane below 0 it has none.
func (b *batch) add(buf []byte, size, lane int) {
	if len(buf)-size < stampSize || lane >= len(b.last) {
		return // too small for a stamp, as wireguard-go's buffers never are
	}
	if lane < 0 {
		binary.LittleEndian.PutUint64(buf[len(buf)-stampSize:], 0)
		return
	}
	if b.last[lane] == b.entered[lane] {
		b.lanes = append(b.lanes, lane)
	}
	b.last[lane]++
	binary.LittleEndian.PutUint64(buf[len(buf)-stampSize:], b.last[lane]<<laneBits|uint64(lane+1))
}

// readStamp returns the lane and the position of a packet that tun.Device.Write is given,
// which is the beginning of a receive buffer; a lane below 0 if it has none.
func readStamp(packet []byte) (lane int, position uint64) {
	b := packet[:cap(packet)]
	if len(b) < stampSize {
		return -1, 0
	}
	s := binary.LittleEndian.Uint64(b[len(b)-stampSize:])
	return int(s&(1<<laneBits-1)) - 1, s >> laneBits
}
