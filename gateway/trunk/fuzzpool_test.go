package trunk

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// FuzzPool feeds sequences of packets from a hostile peer to a living pool, which also carries a
// stream to an honest one. The bytes are a small program, in which most packets are of the right
// session and near what counts, so that they get deep: see hostilePeer.step. After each step the
// path must not contradict itself, must hold no more memory than its share, and no more than a
// small multiple of what has come and was sent. At the end the honest stream has to be whole.
func FuzzPool(f *testing.F) {
	for _, program := range hostilePrograms {
		f.Add(program)
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		program = program[:min(len(program), 500)] // a longer one shows no more
		within(t, "a hostile peer's program", func() { runHostile(t, program) })
	})
}

// hostilePrograms begin the search: each way that was found to do harm, and combinations.
var hostilePrograms = [][]byte{
	{},
	{opOpen, 0, 0, opAck, 0, 0, opAck, 1, 7, opAck, 2, 200},
	{opTake, 4, opTime, 5, opTime, 5, opAck, 3, 0, opAck, 4, 1, opIdle, 0, opAck, 5, 0, opAck, 6, 9},
	{opOpen, 0, 60, opOpen, 1, 3, opAdmit, 0, opData, 0, 40, opData, 0, 80, opData, 1, 120, opTime, 9, opData, 0, 0},
	{opTake, 200, opWindow, 2, 255, opTime, 3, opAck, 7, 3, opTime, 9, opAck, 7, 3, opTime, 9, opAck, 7, 5, opTime, 30},
	{opOpen, 0, 20, opReset, 0, 0, opOpen, 0, 20, opFlood, 100, 1, opFlood, 200, 2, opTime, 20, opSession, 1, opFlood, 5, 0, opTime, 200},
	{opOpen, 0, 20, opFin, 0, 10, opFin, 0, 200, opAdmit, 0, opClose, 0, opTime, 10, opRaw, 8, 1, 2, 3, 4, 5, 6, 7, 8, opSession, 0, opTime, 255, opTime, 255},
	{opTake, 100, opFinish, 0, opTime, 1, opAck, 7, 0, opTime, 255, opTime, 255, opTake, 30, opSession, 3, opTake, 9, opTime, 1},
	{opOpen, 3, 255, opData, 3, 3, opData, 3, 6, opWindow, 3, 0, opAdmit, 0, opSparse, 3, 99, opSparse, 3, 98, opRead, 0, opTime, 3, opSparse, 3, 97},
}

// The instructions of a program. Those that it does not know are others, modulo their number.
const (
	opOpen    = iota // stream, size of its first frame
	opData           // stream, where
	opSparse         // stream, seed: a byte here and there
	opFin            // stream, where
	opReset          // stream, ignored
	opWindow         // stream, how far
	opFlood          // how many streams, how they begin
	opAck            // which ranges, how many
	opSession        // how the session changes
	opRaw            // size, and so many bytes of a packet
	opTake           // bytes to send to the peer
	opAdmit          // which stream that was handed over
	opRead           // the same
	opClose          // the same, or one that was taken
	opFinish         // the same
	opTime           // for how long
	opIdle           // ignored
	ops
)

type hostilePeer struct {
	*hostile
	t       *testing.T
	program []byte
	session uint32
	took    []*Conn // begun by the victim
	lent    int     // bytes that the victim has sent of its own
}

// arg is the program's next byte.
func (h *hostilePeer) arg() (b byte) {
	if len(h.program) > 0 {
		b, h.program = h.program[0], h.program[1:]
	}
	return b
}

// packet delivers a packet in the peer's session.
func (h *hostilePeer) packet(kind uint8, count int, body []byte) {
	b := make([]byte, longSize, longSize+len(body))
	putHead(b, &head{kind: kind, count: count, long: true, from: h.session, to: h.w.session.local})
	b = append(b, body...)
	h.sent += len(b)
	_ = h.w.deliver(h.now, b) // whether it is malformed is counted elsewhere
}

func (h *hostilePeer) chunks(list ...piece) {
	for len(list) > 0 {
		part := list[:min(len(list), 15)]
		list = list[len(part):]
		body := binary.BigEndian.AppendUint32(nil, h.number)
		h.number++
		for i := range part {
			at := len(body)
			body = append(body, make([]byte, chunkSize)...)
			putPiece(body[at:], &part[i])
			body = append(body, part[i].data...)
		}
		h.packet(kindData, len(part), body)
	}
}

// id is the number of a stream that one of both has begun.
func (h *hostilePeer) id() uint32 {
	n := h.arg()
	if n >= 128 && len(h.took) > 0 {
		return h.took[int(n)%len(h.took)].id
	}
	return h.stream(int(n) % 16)
}

// handed is a stream that the victim has.
func (h *hostilePeer) handed() *Conn {
	list := append(h.begun[0], h.took...)
	if n := int(h.arg()); len(list) > 0 {
		return list[n%len(list)]
	}
	return h.w.open()
}

// offset is an offset in a stream, near what counts or far from it.
func offset(n byte) uint32 {
	return []uint32{0, 1, 20, 60, 1000, blockSize - 1, blockSize, openWindow, inWindow - 1, inWindow, 1 << 30, 1 << 31, ^uint32(0)}[int(n)%13] + uint32(n)/13
}

func (h *hostilePeer) step() {
	switch h.arg() % ops {
	case opOpen:
		id, size := h.id(), int(h.arg())
		first := wire.AppendFrameHeader(nil, &wire.Frame{Kind: wire.FrameOpen}, size)
		h.chunks(piece{stream: id, flags: flagOpen, data: append(first, noise[:size/2]...)}, piece{stream: id, offset: uint32(len(first) + size/2), data: noise[:size-size/2]})
	case opData:
		id, at := h.id(), h.arg()
		h.chunks(piece{stream: id, flags: at & flagOpen, offset: offset(at), data: noise[:1+16*int(at)%1300]})
	case opSparse:
		id, seed := h.id(), uint32(h.arg())
		var list []piece
		for i := range uint32(64) {
			list = append(list, piece{stream: id, offset: (i*(seed+1)*4099 + seed) % inWindow, data: []byte{1}})
		}
		h.chunks(list...)
	case opFin:
		id, at := h.id(), h.arg()
		h.chunks(piece{stream: id, flags: flagFin, offset: offset(at)})
	case opReset:
		h.chunks(piece{stream: h.id(), flags: flagReset | h.arg()&flagOpen})
	case opWindow:
		h.chunks(piece{stream: h.id(), flags: flagWindow, offset: uint32(h.arg()) << 16})
	case opFlood:
		n, how := uint32(h.arg()), int(h.arg())
		var list []piece
		for i := range 4 * n {
			list = append(list, piece{stream: h.stream(int(16 + h.number*60 + i)), flags: flagOpen, data: noise[:how%30]})
		}
		h.chunks(list...)
	case opAck:
		h.ackAny(h.arg(), uint64(h.arg()))
	case opSession:
		if h.arg()%4 > 0 {
			h.session += 2
			h.number = 0
			h.packet(kindReset, 0, nil)
		} else {
			b := make([]byte, headSize)
			putHead(b, &head{kind: kindReset, from: h.session, to: h.w.session.local})
			_ = h.w.deliver(h.now, b)
		}
	case opRaw:
		n := min(int(h.arg()), len(h.program))
		b := h.program[:n]
		h.program = h.program[n:]
		if n > 0 {
			h.packet(b[0]&kindMask, int(b[0]>>countShift), b[1:])
			_ = h.w.deliver(h.now, b)
		}
	case opTake:
		c := h.w.open()
		h.took = append(h.took, c)
		size := int(h.arg()) << 8
		for range 8 {
			if room, err := c.Begin(size); err != nil || !room {
				break
			}
			_, _ = c.Write(noise[:size])
			_ = c.Commit(&wire.Frame{Kind: wire.FrameData}) // it fails where the stream has ended
			h.lent += size + wire.FrameHeaderSize
		}
	case opAdmit:
		h.handed().Admit()
	case opRead:
		c := h.handed()
		var f wire.Frame
		for range 100 {
			if ok, err := c.TryReceive(&f); err != nil || !ok {
				break
			}
		}
	case opClose:
		h.handed().Close()
	case opFinish:
		h.handed().Finish()
	case opTime:
		h.rest(time.Duration(h.arg()) * 40 * time.Millisecond)
	case opIdle:
		h.w.set(h.now+2*forgetAfter, 1400, 20*time.Millisecond)
	}
	if len(h.begun[0]) > 200 {
		h.begun[0] = h.begun[0][100:]
	}
}

// ackAny acknowledges ranges, of which how says where they lie.
func (h *hostilePeer) ackAny(how byte, n uint64) {
	fl := &h.w.flight
	next, oldest := fl.next, fl.oldest
	var spans []span
	switch how % 8 {
	case 0:
		spans = wrapping(next)
	case 1:
		spans = []span{{next, next + n}}
	case 2:
		spans = []span{{0, ^uint64(0) - n}}
	case 3:
		spans = []span{{next - min(next, 1), next}}
	case 4:
		spans = []span{{oldest + 1<<32, next + 1<<32}}
	case 5:
		spans = []span{{next + n<<31, next + n<<32}, {0, n}}
	case 6:
		spans = []span{{oldest, next}}
	case 7: // all but some
		for at := next; at > oldest+n%4 && len(spans) < maxSpans; {
			size := min(1+n%7, at-oldest)
			spans = append(spans, span{at - size, at})
			at -= min(size+1+n%3, at)
		}
	}
	body := binary.BigEndian.AppendUint32(nil, uint32(n)<<(4*how%28))
	for _, s := range spans {
		body = binary.BigEndian.AppendUint64(body, s.from)
		body = binary.BigEndian.AppendUint64(body, s.to)
	}
	h.packet(kindAck, 0, body)
}

func runHostile(t *testing.T, program []byte) {
	// The honest stream has a path of the same pool.
	l, good := newLink(), newLink()
	pool := l.paths[0].pool
	good.paths[0] = newPath(pool, simNodes[0], simNodes[1], good.now)
	h := &hostilePeer{t: t, program: program, session: 77, hostile: &hostile{T: t, link: l, w: l.paths[0]}}
	honest := good.paths[0].open()
	const total = 1 << 20
	said, heard := 0, 0
	converse := func() {
		if said < total && honest.hasRoom() {
			if err := honest.Send(&wire.Frame{Kind: wire.FrameData, Payload: noise[:16<<10]}); err != nil {
				t.Fatal(err)
			}
			said += 16 << 10
		}
		good.pass(t)
		for _, c := range good.begun[1] {
			var f wire.Frame
			for {
				ok, err := receiveNow(c, &f)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				heard += f.Size()
			}
		}
	}
	for len(h.program) > 0 {
		h.step()
		check(t, h.w)
		if used, most := int(h.w.memory.used), 12*h.sent+h.lent+(len(h.begun[0])+len(h.took)+1)*(spareBlocks+2)*blockSize; used > most {
			t.Fatalf("%d bytes are held for %d that have come and %d that were sent", used, h.sent, h.lent)
		}
		converse()
	}
	for i := 0; heard < total; i++ {
		if i > 10000 {
			t.Fatalf("the honest stream has %d of %d bytes", heard, total)
		}
		converse()
	}
	check(t, good.paths[0])
	// Silence ends what waits for the peer.
	for range 40 {
		h.rest(time.Second)
	}
	check(t, h.w)
	if h.w.guests > 0 {
		t.Fatalf("%d streams are half open", h.w.guests)
	}
	if h.w.flight.inside > 0 && h.now-h.w.flight.progress > 2*deadAfter {
		t.Fatalf("%d bytes are under way to a node that does not answer", h.w.flight.inside)
	}
}
