package trunk

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// A simNet is two paths that lead to each other, over a line in each direction, in a time of
// its own.
type simNet struct {
	t    *testing.T
	now  time.Duration
	rand *rand.Rand
	ends [2]*simEnd
}

// simLine is what a direction of the network is like.
type simLine struct {
	delay time.Duration
	rate  float64 // bytes per second
	queue int     // bytes that wait for the line at most
	loss  float64
	late  float64 // the part of the packets that come up to a round trip late
	down  bool
}

type simEnd struct {
	net   *simNet
	path  *path
	line  simLine
	free  time.Duration // when the line has sent all that waits
	fly   []simPacket   // in the order in which they arrive
	next  time.Duration // when the path asked to be pulled
	wakes bool
	// stalled keeps it from sending.
	stalled bool
	lost    int
	sent    int
	begun   []*Conn
	bufs    [][]byte // lent to pull
	sizes   []int
}

type simPacket struct {
	at time.Duration
	b  []byte
}

var simNodes = [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}

const simStep = 200 * time.Microsecond

func newSim(t *testing.T, line simLine) *simNet {
	s := &simNet{t: t, now: time.Second, rand: rand.New(rand.NewPCG(1, 2))}
	for i := range s.ends {
		e := &simEnd{net: s, line: line}
		p := New(Config{Self: simNodes[i], Wake: func() { e.wakes = true }})
		e.path = newPath(p, simNodes[i], simNodes[1-i], s.now)
		e.path.mtu = 1420
		s.ends[i] = e
	}
	return s
}

// both changes both lines.
func (s *simNet) both(f func(*simLine)) {
	for _, e := range s.ends {
		f(&e.line)
	}
}

// step lets time go on.
func (s *simNet) step() {
	s.now += simStep
	for i, e := range s.ends {
		s.deliver(e, s.ends[1-i])
	}
	for _, e := range s.ends {
		if !e.stalled && (e.wakes || e.next > 0 && e.next <= s.now) {
			e.pull()
		}
	}
}

func (s *simNet) deliver(from, to *simEnd) {
	n := 0
	for n < len(from.fly) && from.fly[n].at <= s.now {
		if err := to.path.deliver(s.now, from.fly[n].b[len(to.path.header):]); err != nil {
			s.t.Fatal(err)
		}
		n++
	}
	from.fly = from.fly[n:]
	if n > 0 {
		f := to.path.flush(s.now)
		to.begun = append(to.begun, f.begun...)
		for _, c := range f.begun {
			c.Admit()
		}
		to.wakes = to.wakes || f.wake
		to.next = earliest(to.next, f.at)
		to.path.call(f.sinks)
	}
}

func (e *simEnd) pull() {
	e.wakes = false
	const many = 128
	if e.bufs == nil {
		e.bufs, e.sizes = make([][]byte, many), make([]int, many)
		for i := range e.bufs {
			e.bufs[i] = make([]byte, 2048)
		}
	}
	var n int
	n, e.next = e.path.pull(e.net.now, e.bufs, e.sizes, 0)
	for i := range n {
		e.send(bytes.Clone(e.bufs[i][:e.sizes[i]]))
	}
}

func (e *simEnd) send(b []byte) {
	s := e.net
	e.sent++
	if e.line.down || s.rand.Float64() < e.line.loss {
		e.lost++
		return
	}
	e.free = max(e.free, s.now)
	if e.line.rate > 0 {
		if float64(e.line.queue) < (e.free-s.now).Seconds()*e.line.rate {
			e.lost++
			return
		}
		e.free += time.Duration(float64(len(b)+60) / e.line.rate * float64(time.Second))
	}
	at := e.free + e.line.delay
	if s.rand.Float64() < e.line.late {
		at += time.Duration(s.rand.Int64N(int64(2 * e.line.delay)))
	}
	i := len(e.fly)
	for i > 0 && e.fly[i-1].at > at {
		i--
	}
	e.fly = slices.Insert(e.fly, i, simPacket{at, b})
}

// simStream is a sender that has always something to say, and a receiver that reads it.
type simStream struct {
	out, in *Conn
	seq     uint32 // of what is sent
	got     uint32 // of what was received
	limit   uint32 // what is sent at most; 0 is without end
	size    uint32 // of the payload of a frame
}

// simText is what streams say, over and over: a byte has the same value for each offset
// modulo simPeriod.
var simText = func() []byte {
	b := make([]byte, simPeriod+simFrame)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range b {
		if b[i] = byte(r.Uint32()); i >= simPeriod {
			b[i] = b[i-simPeriod]
		}
	}
	return b
}()

const (
	simPeriod = 65521
	simFrame  = 64 << 10 // the longest payload, sent or received
)

func (s *simNet) stream(from int) *simStream {
	return &simStream{out: s.ends[from].path.open(), size: simFrame}
}

// fill says what there is room for.
func (st *simStream) fill() {
	for st.out.err == nil && st.out.out.wrote-st.out.out.sent < Backlog && (st.limit == 0 || st.seq < st.limit) {
		n := st.size
		if st.limit > 0 {
			n = min(n, st.limit-st.seq)
		}
		at := st.seq % simPeriod
		if st.out.Send(&wire.Frame{Kind: wire.FrameData, Seq: st.seq, Payload: simText[at : at+n]}) != nil {
			return
		}
		st.seq += n
	}
}

// drain receives what there is.
func (st *simStream) drain(t *testing.T, s *simNet, to int) {
	if st.in == nil {
		for i, c := range s.ends[to].begun {
			if c.id == st.out.id {
				st.in = c
				s.ends[to].begun = append(s.ends[to].begun[:i:i], s.ends[to].begun[i+1:]...)
				break
			}
		}
		if st.in == nil {
			return
		}
	}
	var f wire.Frame
	for {
		ok, err := receiveNow(st.in, &f)
		if err != nil || !ok {
			return
		}
		if f.Seq != st.got {
			t.Fatalf("at %d comes %d", st.got, f.Seq)
		}
		at := st.got % simPeriod
		if !bytes.Equal(f.Payload, simText[at:at+uint32(len(f.Payload))]) {
			t.Fatalf("what comes at %d is not what was sent", st.got)
		}
		st.got += uint32(len(f.Payload))
	}
}

// run lets the streams go on for a while, and returns what each has received, in Mbit/s.
func (s *simNet) run(d time.Duration, from int, streams ...*simStream) []float64 {
	s.t.Helper()
	before := make([]uint32, len(streams))
	for i, st := range streams {
		before[i] = st.got
	}
	for until := s.now + d; s.now < until; {
		for _, st := range streams {
			st.fill()
		}
		s.step()
		for _, st := range streams {
			st.drain(s.t, s, 1-from)
		}
	}
	rates := make([]float64, len(streams))
	for i, st := range streams {
		rates[i] = float64(st.got-before[i]) * 8 / 1e6 / d.Seconds()
	}
	return rates
}
