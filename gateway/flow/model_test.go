package flow

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// What follows is a model of two correct but arbitrary TCPs: whatever RFC 9293
// allows an end to send, it may send at any moment, whether it would be wise or
// not. Between them is a gateway, with paths that lose, repeat, delay and reorder on
// either side of it. Nothing that they say may be refused, and what they could
// not have said has to be.

type endState int

const (
	stClosed endState = iota
	stListen
	stSynSent
	stSynRcvd
	stOpen // and all that follows it: fin, finRcvd and una tell which
)

// An end is one TCP.
type end struct {
	m     *model
	i     int
	state endState

	iss, una, nxt uint32
	edge          uint32 // the right edge that the peer has allowed
	left          int    // bytes that it has still to send
	fin, finRcvd  bool
	finSeq        uint32
	peerFin       uint32
	peerFinKnown  bool

	rcv     uint32
	rcvEdge uint32
	held    [][2]uint32 // received out of order
	room    int
	owes    bool // an ACK

	scale, peerScale uint8
	scales           bool
	shrinks          bool
	cookies          map[uint32]uint32 // numbers of stateless answers that may be taken up, with what they acknowledged
	useCookies       bool
	fastOpen         int
}

type flight struct {
	b    []byte
	at   int
	from int
}

type model struct {
	tb         testing.TB
	rng        *rand.Rand
	seed       uint64
	g          *gw
	tick       int
	end        [2]end
	near, far  [2][]flight // from end i to the gateway, from the gateway to end 1-i
	delay      int
	loss, copy float64
	calm       bool // nothing is lost any more
	wrap       bool
	bothCall   bool // both ends open at once
	log        []string
	maxWindow  uint32
	restarting bool // the gateway does so at times
	restarts   int
	kinds      map[string]int
}

func (m *model) chance(p float64) bool { return m.rng.Float64() < p }

func (m *model) isn() uint32 {
	if m.wrap {
		return -uint32(m.rng.IntN(200000)) // will wrap round
	}
	return m.rng.Uint32()
}

func (m *model) logf(format string, a ...any) {
	if len(m.log) > 120 {
		m.log = m.log[1:]
	}
	m.log = append(m.log, fmt.Sprintf("%5d ", m.tick)+fmt.Sprintf(format, a...))
}

func segment(i int, seq, ack uint32, flags uint8, win uint16, opts []byte, n int) []byte {
	src, dst := redDB, grayDB
	if i == 1 {
		src, dst = grayDB, redDB
	}
	b := make([]byte, 40+len(opts)+n)
	b[0], b[6], b[8], b[9] = 0x45, 0x40, 64, 6
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], src.Addr().AsSlice())
	copy(b[16:], dst.Addr().AsSlice())
	t := b[20:]
	binary.BigEndian.PutUint16(t, src.Port())
	binary.BigEndian.PutUint16(t[2:], dst.Port())
	binary.BigEndian.PutUint32(t[4:], seq)
	binary.BigEndian.PutUint32(t[8:], ack)
	t[12], t[13] = byte(5+len(opts)/4)<<4, flags
	binary.BigEndian.PutUint16(t[14:], win)
	copy(t[20:], opts)
	return wiretest.FinishHeader(b)
}

// say sends a segment on its way.
func (e *end) say(flags uint8, seq uint32, n int) {
	m := e.m
	var win uint32
	shift := e.scale
	var opts []byte
	if flags&wire.SYN != 0 {
		shift = 0
		if e.scales {
			opts = []byte{1, 3, 3, e.scale}
		}
	}
	if flags&wire.RST == 0 {
		win = e.offer(shift)
	}
	ack := uint32(0)
	if flags&wire.ACK != 0 {
		ack = e.rcv
		e.owes = false
	}
	b := segment(e.i, seq, ack, flags, uint16(win), opts, n)
	m.logf("%d says %s", e.i, describe(b))
	m.put(&m.near[e.i], b, e.i)
}

func describe(b []byte) string {
	var p wire.Packet
	wire.Parse(&p, b)
	return fmt.Sprintf("flags %08b seq %d +%d ack %d win %d", p.Flags, p.Seq, p.SegLen(), p.Ack, p.Window)
}

// offer is the window field of the next segment.
func (e *end) offer(shift uint8) uint32 {
	m := e.m
	want := uint32(m.rng.IntN(e.room + 1))
	if m.chance(0.1) && !m.calm {
		want = 0
	}
	if m.calm {
		want = uint32(e.room)
	}
	if open := e.rcvEdge - e.rcv; !e.shrinks && int32(open) > int32(want) {
		want = open // RFC 9293 section 3.8: a window is not shrunk
	}
	win := min(want>>shift, 65535)
	if told := e.rcv + win<<shift; int32(told-e.rcvEdge) > 0 {
		e.rcvEdge = told
	}
	m.maxWindow = max(m.maxWindow, win<<shift)
	return win
}

func (m *model) put(q *[]flight, b []byte, from int) {
	if !m.calm && m.chance(m.loss) {
		return
	}
	for {
		*q = append(*q, flight{b, m.tick + m.delay + m.rng.IntN(m.delay+1), from})
		if m.calm || !m.chance(m.copy) {
			return
		}
	}
}

// due takes what arrives now out of a queue.
func (m *model) due(q *[]flight) (out []flight) {
	rest := (*q)[:0]
	for _, f := range *q {
		if f.at <= m.tick {
			out = append(out, f)
		} else {
			rest = append(rest, f)
		}
	}
	*q = rest
	m.rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func (m *model) fail(format string, a ...any) {
	for _, l := range m.log {
		m.tb.Log(l)
	}
	m.tb.Fatalf("seed %d: "+format, append([]any{m.seed}, a...)...)
}

func (m *model) flow() *flow {
	var found *flow
	m.g.table.each(func(f *flow) bool { found = f; return false })
	return found
}

// step is one moment.
func (m *model) step() {
	m.tick++
	m.g.now += time.Millisecond
	for i := range 2 {
		for _, f := range m.due(&m.near[i]) {
			var p wire.Packet
			if r := wire.Parse(&p, f.b); r != wire.OK {
				m.fail("the model made a bad packet: %v", r)
			}
			_, r := m.g.table.pass(m.g.now, &p, i == 0)
			m.logf("gateway %v: from %d %s", r, i, describe(f.b))
			if r != wire.OK && p.Flags&wire.RST != 0 {
				// It answers a number of an earlier try, once more than was needed.
				m.kinds["old reset refused"]++
				continue
			}
			if r != wire.OK {
				m.fail("a correct segment was refused: %v %s\n%+v", r, describe(f.b), m.flow().tcp)
			}
			m.put(&m.far[i], f.b, i)
		}
		for _, f := range m.due(&m.far[i]) {
			var p wire.Packet
			wire.Parse(&p, f.b)
			m.end[1-i].hear(&p)
		}
	}
	for i := range m.end {
		m.end[i].act()
	}
}

// act may say something.
func (e *end) act() {
	m := e.m
	often := 0.3
	if m.calm {
		often = 1
	}
	if e.owes && m.chance(0.5) {
		e.say(wire.ACK, e.nxt, 0)
	}
	if !m.chance(often) {
		return
	}
	switch e.state {
	case stSynSent:
		if m.tick%(4*m.delay) == 0 || m.chance(0.01) {
			n := 0
			if m.chance(0.3) {
				n = e.fastOpen
			}
			if !m.calm && m.chance(0.1) && e.fastOpen == 0 && !m.bothCall && !m.restarting && !m.end[1].useCookies {
				// A new try. In truth that comes seconds later: a record need not tell
				// of the one before, nor cookies answer both in the wrong order.
				e.iss = m.isn()
				e.una, e.nxt = e.iss, e.iss+1
			}
			e.say(wire.SYN, e.iss, n)
		}
	case stSynRcvd:
		if m.chance(0.02) {
			e.say(wire.SYN|wire.ACK, e.iss, 0)
		}
	case stOpen:
		e.speak()
	}
}

// speak says something on an open connection.
func (e *end) speak() {
	m := e.m
	open := int(int32(e.edge - e.nxt))
	switch {
	case e.left > 0 && open > 0:
		n := min(e.left, open, 1+m.rng.IntN(3000))
		if m.chance(0.1) {
			n = min(e.left, open, 64000)
		}
		e.left -= n
		flags := uint8(wire.ACK)
		seq := e.nxt
		e.nxt += uint32(n)
		if e.left == 0 && m.chance(0.5) {
			flags |= wire.FIN // it goes with the last data
			e.fin, e.finSeq = true, e.nxt
			e.nxt++
		}
		e.say(flags, seq, n)
	case e.left == 0 && !e.fin && (m.calm || m.chance(0.02)):
		e.fin, e.finSeq = true, e.nxt
		e.nxt++
		e.say(wire.ACK|wire.FIN, e.finSeq, 0)
	}
	if m.chance(0.05) || m.calm && m.tick%(4*m.delay) == 0 {
		e.repeat()
	}
	if m.chance(0.01) {
		// A keepalive, of none or one byte, which asks for an ACK (RFC 9293
		// section 3.8.4); and unasked ACKs.
		switch {
		case e.una == e.nxt && e.una != e.iss+1 && !e.fin:
			e.say(wire.ACK, e.nxt-1, m.rng.IntN(2))
		default:
			e.say(wire.ACK, e.nxt, 0)
		}
	}
	if open <= 0 && e.left > 0 && !e.fin && (m.chance(0.02) || m.calm && m.tick%(4*m.delay) == 0) {
		// The window is probed by an old byte's number (Linux) or by a new byte.
		if m.chance(0.5) || open < 0 {
			e.say(wire.ACK, e.una-1, 0)
		} else {
			e.left--
			e.nxt++
			e.say(wire.ACK, e.nxt-1, 1)
		}
	}
}

// repeat sends something again that is not acknowledged, mostly the oldest.
func (e *end) repeat() {
	m := e.m
	out := int(e.nxt - e.una)
	if out <= 0 {
		return
	}
	from := 0
	if m.chance(0.3) {
		from = m.rng.IntN(out)
	}
	n := min(out-from, 1+m.rng.IntN(5000))
	seq := e.una + uint32(from)
	flags := uint8(wire.ACK)
	if e.fin && seq+uint32(n) == e.nxt {
		flags |= wire.FIN
		n--
	}
	e.say(flags, seq, n)
}

// hear takes a segment in.
func (e *end) hear(p *wire.Packet) {
	has := func(f uint8) bool { return p.Flags&f != 0 }
	n := uint32(len(p.Payload()))
	switch e.state {
	case stClosed:
		if has(wire.RST) {
			return
		}
		if has(wire.ACK) {
			e.reset(p.Ack)
		} else {
			e.say2(wire.RST|wire.ACK, 0, p.Seq+p.SegLen())
		}
	case stListen:
		switch {
		case has(wire.RST):
		case has(wire.SYN) && !has(wire.ACK):
			e.called(p)
		case has(wire.ACK) && e.cookies[p.Ack-1] == p.Seq:
			e.rcv = p.Seq
			e.iss = p.Ack - 1
			e.una, e.nxt = p.Ack, p.Ack
			e.state = stOpen
			e.edge = p.Ack + uint32(p.Window)<<e.peerScale
			e.hearOpen(p, n)
		case has(wire.ACK) && len(e.cookies) > 0:
			// More of the same came before.
		case has(wire.ACK):
			e.reset(p.Ack)
		}
	case stSynSent:
		ackOK := has(wire.ACK) && p.Ack != e.iss && p.Ack-e.iss <= e.nxt+uint32(e.fastOpen)-e.iss
		switch {
		case has(wire.ACK) && !ackOK:
			if !has(wire.RST) {
				e.reset(p.Ack)
			}
		case has(wire.RST):
			if ackOK {
				e.state = stClosed
			}
		case has(wire.SYN):
			e.learn(p)
			e.rcv = p.Seq + 1 + n
			e.edge = e.iss + 1 + uint32(p.Window)
			if ackOK {
				e.una = p.Ack
				e.left += int(e.iss + 1 + uint32(e.fastOpen) - p.Ack) // what of the Fast Open's data was not taken
				e.nxt, e.edge = p.Ack, p.Ack+uint32(p.Window)
				e.state = stOpen
				e.say(wire.ACK, e.nxt, 0)
				return
			}
			e.state = stSynRcvd
			e.say(wire.SYN|wire.ACK, e.iss, 0)
		}
	default:
		e.hearOpen(p, n)
	}
}

// called answers a SYN.
func (e *end) called(p *wire.Packet) {
	m := e.m
	e.learn(p)
	e.rcv = p.Seq + 1
	if len(p.Payload()) > 0 && m.chance(0.5) {
		e.rcv += uint32(len(p.Payload()))
	}
	e.rcvEdge = e.rcv
	e.iss = m.isn()
	e.una, e.nxt = e.iss, e.iss+1
	e.edge = e.nxt + uint32(p.Window)
	if e.useCookies {
		e.rcv = p.Seq + 1
		e.cookies[e.iss] = e.rcv
		e.say(wire.SYN|wire.ACK, e.iss, 0)
		return
	}
	e.state = stSynRcvd
	e.say(wire.SYN|wire.ACK, e.iss, 0)
}

// learn takes the peer's options from its SYN.
func (e *end) learn(p *wire.Packet) {
	shift, ok := p.WindowScale()
	e.peerScale = shift
	if !ok || !e.scales {
		e.scale, e.peerScale, e.scales = 0, 0, false
	}
}

func (e *end) reset(seq uint32) { e.say2(wire.RST, seq, 0) }

func (e *end) say2(flags uint8, seq, ack uint32) {
	b := segment(e.i, seq, ack, flags, 0, nil, 0)
	e.m.logf("%d says %s", e.i, describe(b))
	e.m.put(&e.m.near[e.i], b, e.i)
}

// hearOpen follows RFC 9293 section 3.10.7.4.
func (e *end) hearOpen(p *wire.Packet, n uint32) {
	m := e.m
	has := func(f uint8) bool { return p.Flags&f != 0 }
	if e.state == stSynRcvd && has(wire.SYN) {
		switch {
		case !has(wire.ACK) && p.Seq+1 == e.rcv-min(n, e.rcv-p.Seq-1):
			e.say(wire.SYN|wire.ACK, e.iss, 0)
		case has(wire.ACK) && p.Ack == e.iss+1 && p.Seq+1 == e.rcv:
			e.una, e.state = p.Ack, stOpen
			e.owes = true
		default:
			e.say(wire.ACK, e.nxt, 0)
		}
		return
	}
	if has(wire.SYN) {
		e.say(wire.ACK, e.nxt, 0)
		return
	}
	end := p.Seq + p.SegLen()
	if int32(p.Seq-e.rcvEdge) > 0 || int32(end-e.rcv) < 0 || p.SegLen() > 0 && int32(end-e.rcv) <= 0 {
		if !has(wire.RST) {
			e.owes = true
		}
		if has(wire.ACK) && int32(e.una-p.Ack) < 0 && int32(p.Ack-e.nxt) <= 0 && p.SegLen() > 0 {
			e.una = p.Ack // Linux and others accept the acknowledgment even so
		}
		return
	}
	if has(wire.RST) {
		if p.Seq == e.rcv {
			e.state = stClosed
			if e.i == 1 {
				e.state = stListen
			}
			return
		}
		e.say(wire.ACK, e.nxt, 0)
		return
	}
	if int32(p.Ack-e.nxt) > 0 {
		if e.state == stSynRcvd {
			e.reset(p.Ack)
			return
		}
		e.owes = true
		return
	}
	if e.state == stSynRcvd {
		if p.Ack != e.nxt {
			e.reset(p.Ack)
			return
		}
		e.state = stOpen
	}
	if int32(p.Ack-e.una) > 0 {
		e.una = p.Ack
	}
	if told := p.Ack + uint32(p.Window)<<e.peerScale; int32(told-e.edge) > 0 || e.m.end[1-e.i].shrinks && p.Ack == e.una {
		e.edge = told
	}
	if has(wire.FIN) {
		e.peerFin, e.peerFinKnown = end-1, true
	}
	if p.SegLen() == 0 {
		return
	}
	e.owes = true
	if n > 0 {
		e.held = append(e.held, [2]uint32{p.Seq, p.Seq + n})
	}
	if m.chance(0.02) {
		e.held = nil // RFC 2018 section 8: what was not acknowledged may be dropped again
	}
	for again := true; again; {
		again = false
		for _, h := range e.held {
			if int32(h[0]-e.rcv) <= 0 && int32(h[1]-e.rcv) > 0 {
				e.rcv, again = h[1], true
			}
		}
	}
	e.held = slices.DeleteFunc(e.held, func(h [2]uint32) bool { return int32(h[1]-e.rcv) <= 0 })
	if e.peerFinKnown && e.rcv == e.peerFin {
		e.rcv++
		e.finRcvd = true
	}
	if int32(e.rcv-e.rcvEdge) > 0 {
		e.rcvEdge = e.rcv
	}
}

func (e *end) finished() bool { return e.state == stOpen && e.fin && e.una == e.nxt && e.finRcvd }

// newModel draws the kind of conversation from the seed.
func newModel(tb testing.TB, seed uint64) *model {
	rng := rand.New(rand.NewPCG(seed, 1))
	m := &model{tb: tb, kinds: map[string]int{}, rng: rng, seed: seed, delay: 1 + rng.IntN(10), g: newGW(tb, allow)}
	m.loss, m.copy = 0.2*rng.Float64(), 0.1*rng.Float64()
	m.wrap = m.chance(0.5)
	for i := range m.end {
		e := &m.end[i]
		*e = end{m: m, i: i, left: rng.IntN(400000), scale: uint8(rng.IntN(9)), scales: m.chance(0.8), room: 1 + rng.IntN(300000)}
		if m.chance(0.3) {
			e.left = rng.IntN(100)
		}
		if m.chance(0.2) {
			e.room = 1 + rng.IntN(3000)
		}
		e.shrinks = m.chance(0.2)
	}
	a, b := &m.end[0], &m.end[1]
	b.state = stListen
	b.useCookies, b.cookies = m.chance(0.2), map[uint32]uint32{}
	if m.chance(0.2) && !b.useCookies {
		a.fastOpen = min(a.left, 1+rng.IntN(1400))
		a.left -= a.fastOpen
	}
	if m.chance(0.1) && a.fastOpen == 0 && !b.useCookies {
		b.state, m.bothCall = stSynSent, true
		b.iss = m.isn()
		b.una, b.nxt = b.iss, b.iss+1
	}
	a.state = stSynSent
	a.iss = m.isn()
	a.una, a.nxt = a.iss, a.iss+1
	a.say(wire.SYN, a.iss, a.fastOpen)
	if b.state == stSynSent {
		b.say(wire.SYN, b.iss, 0)
	}
	return m
}

// restart kills the gateway and starts another from what the first one noted.
func (m *model) restart() {
	m.logf("the gateway restarts")
	old := m.g
	m.g = newGW(m.tb, allow)
	m.g.now = old.now
	m.g.book = old.book
	for k, v := range old.book.records {
		if r, err := m.g.table.Take([]byte(k), v); r != wire.OK || err != nil {
			m.fail("a record was refused: %v, %v", r, err)
		}
	}
	m.g.table.cfg.Recorder = m.g.book
	m.restarts++
}

// forge sends what neither end could have said.
func (m *model) forge() {
	f := m.flow()
	if f == nil || !f.tcp.Exact() || f.tcp.Phase() < tcptrack.Established || f.tcp.Phase() == tcptrack.Reset {
		return
	}
	i := m.rng.IntN(2)
	e, o := &m.end[i], &m.end[1-i]
	if e.state != stOpen || o.state != stOpen {
		return
	}
	reach := 4 * max(m.maxWindow, tcptrack.Slack, f.tcp.Window(0), f.tcp.Window(1))
	near := func(a, b uint32) bool { return a-b+reach < 2*reach }
	seq, ack := e.nxt, o.nxt
	if m.chance(0.5) {
		seq = m.rng.Uint32()
	} else {
		ack = m.rng.Uint32()
	}
	if near(seq, e.nxt) && near(ack, o.nxt) {
		return
	}
	flags := []uint8{wire.ACK, wire.ACK | wire.FIN, wire.ACK | wire.RST}[m.rng.IntN(3)]
	if ack == 0 {
		return // a RST without an acknowledgement
	}
	var p wire.Packet
	wire.Parse(&p, segment(i, seq, ack, flags, 1000, nil, m.rng.IntN(100)))
	if _, r := m.g.table.pass(m.g.now, &p, i == 0); r != wire.OutWindow {
		m.fail("a forged segment passed: %v from %d %s (nxt %d, %d)\n%+v", r, i, describe(p.B), e.nxt, o.nxt, f.tcp)
	}
	m.kinds["forged"]++
}

func (m *model) run(ticks int, restart, forge float64) {
	for range ticks {
		if m.chance(restart) {
			m.restart()
		}
		if m.chance(forge) {
			m.forge()
		}
		m.step()
	}
}

// modelSeeds is what fits a test run; tens of thousands more have been run.
const modelSeeds = 250

func TestModelOfTwoTCPs(t *testing.T) {
	kinds := map[string]int{}
	for seed := range uint64(modelSeeds) {
		seed += 20000

		m := newModel(t, seed)
		m.kinds = kinds
		restart := 0.0
		if seed%2 == 1 {
			m.restarting, restart = true, 0.005
		}
		m.run(600, restart, 0.02)
		m.calm = true
		for i := range m.end {
			m.end[i].room = max(m.end[i].room, 60000)
		}
		for n := 0; !(m.end[0].finished() && m.end[1].finished()); n++ {
			if n > 20000 {
				m.fail("the conversation doesn't end: %+v\n%+v\n%+v", m.end[0], m.end[1], m.flow().tcp)
			}
			m.step()
		}
		m.run(100, 0, 0.1)
		f := m.flow()
		if f == nil || f.tcp.Phase() != tcptrack.TimeWait && m.restarts == 0 {
			m.fail("both have ended, and the flow is %v", f.tcp.Phase())
		}
		kinds["restarts"] += m.restarts
		if !f.tcp.Exact() {
			kinds["loose"]++
		}
	}
	t.Log(kinds)
}
