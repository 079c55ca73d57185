package trunk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// A stream's chunks may be lost, come late, more than once and in any order, and what is
// said of them, too: all that was sent is received.
func TestChunksInAnyOrder(t *testing.T) {
	type fate struct {
		chunk
		p    piece
		lost bool
	}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(6, seed))
		l := newLink()
		c, far := l.paths[0].open(), newConn(l.paths[1], 0)
		say := script(r, 20000)
		far.admitted = true
		h := hearer{want: say}
		var fly []*fate
		var f wire.Frame
		var err error
		for step := 0; !c.forgotten || len(h.want) > 0; step++ {
			if step > 100000 {
				t.Fatalf("seed %d: no end: %d of %d bytes are acknowledged, %d packets under way", seed, c.out.una, c.out.wrote, len(fly))
			}
			switch r.IntN(5) {
			case 0:
				if len(say) == 0 {
					c.Finish()
				} else if err := c.Send(&say[0]); err != nil {
					t.Fatal(err)
				} else {
					say = say[1:]
				}
			case 1, 2:
				s, flags, ok := c.fill(1 + r.IntN(1400))
				if !ok {
					break
				}
				p := piece{stream: c.id, flags: flags, offset: uint32(s.from), data: make([]byte, s.len())}
				c.out.buffer.get(s.from, p.data)
				fly = append(fly, &fate{chunk{c, s, flags}, p, false})
			case 3, 4:
				if len(fly) == 0 {
					break
				}
				i := r.IntN(len(fly))
				k := fly[i]
				if r.IntN(3) == 0 && len(say) > 0 {
					far.deliver(&k.p) // and it is not heard of
				}
				if !k.lost && r.IntN(3) == 0 {
					k.lost = true
					c.settle(&k.chunk, false)
					break
				}
				if fly = append(fly[:i], fly[i+1:]...); !k.lost || r.IntN(2) == 0 {
					_, kept := far.deliver(&k.p)
					c.settle(&k.chunk, kept)
				}
			}
			if !c.forgotten {
				checkConn(t, c)
			}
			for ok := true; ok && err == nil; {
				if ok, err = receiveNow(far, &f); ok {
					if err := h.take(&f); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
				}
			}
			checkConn(t, far)
		}
		if !errors.Is(err, io.EOF) {
			t.Fatalf("seed %d: at the end: %v", seed, err)
		}
	}
}

// quick is a line on which not much time passes.
var quick = simLine{delay: 5 * time.Millisecond, rate: 30e6, queue: 300000}

// Frames arrive whole and in order, whatever the network does, by many streams in both
// directions at once, and then the end.
func TestFramesArrive(t *testing.T) {
	for name, c := range map[string]struct {
		loss, late, twice float64
	}{
		"good": {}, "losses": {loss: 0.02}, "heavy losses": {loss: 0.2}, "late": {late: 0.1}, "twice": {twice: 0.01},
		"all of it": {loss: 0.05, late: 0.1, twice: 0.005},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line := quick
			line.loss, line.late = c.loss, c.late
			s := newSim(t, line)
			r := rand.New(rand.NewPCG(8, 1))
			var talks []*talk
			for i := range 10 {
				talks = append(talks, finishing(s, i%2, script(r, 1<<(9+i)), script(r, 1<<(18-i)))...)
			}
			proceed(s, 5*time.Minute, "end", func() bool {
				duplicate(s, c.twice)
				return allDone(talks)() && quiet(s)
			}, talks...)
			for i, k := range talks {
				if k.failed != nil {
					t.Errorf("end %d: %v", i, k.failed)
				}
			}
		})
	}
}

// sizes of payloads in turn: small ones between the largest, and those around the size of
// a buffer's blocks.
var sizes = []int{
	0, 1, wire.MaxFramePayload, 0, 0, 100, wire.MaxFramePayload, 64 << 10, 64<<10 - 1, 1448, 0,
	blockSize - wire.FrameHeaderSize, blockSize - wire.FrameHeaderSize + 1, blockSize, blockSize + 1, 3, wire.MaxFramePayload, 7,
}

// Frames of all kinds and sizes arrive, data perhaps in parts, all others whole, wherever in
// a block they lie; the hearer sees to it.
func TestFramesOfAllSizes(t *testing.T) {
	t.Parallel()
	for kind := wire.FrameOpen; kind <= wire.FrameClose; kind++ {
		s := newSim(t, simLine{delay: time.Millisecond})
		var list []wire.Frame
		seq := uint32(1<<32 - 1000) // across the wrap
		for i, n := range sizes {
			f := wire.Frame{Kind: kind, Fin: i%3 == 0, Seq: seq, Ack: uint32(i), Edge: ^uint32(i)}
			if n > 0 {
				f.Payload = noise[n : 2*n]
			}
			list = append(list, f)
			seq += uint32(n)
		}
		near, far := call(s, 0, list, nil)
		proceed(s, time.Minute, "last frame", far.heard, near, far)
	}
}

func TestTooLong(t *testing.T) {
	s := newSim(t, quick)
	near, far := call(s, 0, []wire.Frame{{Kind: wire.FrameData}}, nil)
	if err := near.c.Send(&wire.Frame{Kind: wire.FrameData, Payload: make([]byte, wire.MaxFramePayload+1)}); !errors.Is(err, wire.ErrFrame) {
		t.Error(err)
	}
	proceed(s, time.Second, "frame after one that was not sent", far.heard, near, far)
}

// What is no frame ends reading, and so does one that is cut off.
func TestReceiveRefuses(t *testing.T) {
	whole := wire.AppendFrameHeader(nil, &wire.Frame{Kind: wire.FrameData}, 100)
	other := wire.AppendFrameHeader(nil, &wire.Frame{Kind: wire.FrameOpen}, 100)
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"version":      {bytes.Repeat([]byte{9}, wire.FrameHeaderSize), wire.ErrFrameVersion},
		"kind":         {append([]byte{1, 9}, make([]byte, wire.FrameHeaderSize)...), wire.ErrFrame},
		"no header":    {whole[:7], io.ErrUnexpectedEOF},
		"no payload":   {whole, io.ErrUnexpectedEOF},
		"half of data": {append(bytes.Clone(whole), make([]byte, 50)...), io.ErrUnexpectedEOF},
		"half of open": {append(bytes.Clone(other), make([]byte, 50)...), io.ErrUnexpectedEOF},
		"nothing":      {nil, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, quick)
			near, far := call(s, 0, []wire.Frame{{Kind: wire.FrameOpen}}, nil)
			proceed(s, time.Second, "frame", far.heard, near, far)
			near.c.out.buffer.put(near.c.out.wrote, c.bytes)
			near.c.out.wrote += uint64(len(c.bytes))
			near.c.Finish()
			var err error
			proceed(s, time.Second, "end", func() bool {
				var f wire.Frame
				for ok := true; ok && err == nil; {
					ok, err = receiveNow(far.c, &f)
				}
				return err != nil
			})
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if _, again := receiveNow(far.c, new(wire.Frame)); again != err {
				t.Errorf("%v, and then %v", err, again)
			}
			far.c.Close()
			proceed(s, time.Second, "end of the stream", func() bool { return quiet(s) })
		})
	}
}

// empty reports whether an ended stream keeps memory.
func empty(c *Conn) bool {
	return len(c.out.buffer.blocks)+len(c.in.buffer.blocks)+len(c.in.got)+len(c.out.acked)+len(c.out.lost) == 0
}

// Finish delivers all that was sent, then the end, also when what was sent last is lost and
// the other end still says something.
func TestFinishDelivers(t *testing.T) {
	for name, lose := range map[string]func(near, far *simEnd){
		"all well":                       func(near, far *simEnd) {},
		"the last packets lost":          func(near, far *simEnd) { near.fly = nil },
		"the last acknowledgements lost": func(near, far *simEnd) { far.fly = nil; far.line.loss = 0.5 },
		"both lost": func(near, far *simEnd) {
			near.fly, far.fly = nil, nil
			near.line.loss, far.line.loss = 0.3, 0.3
		},
	} {
		for from := range 2 {
			t.Run(fmt.Sprintf("%s, from %d", name, from), func(t *testing.T) {
				s := newSim(t, quick)
				r := rand.New(rand.NewPCG(9, 1))
				near, far := call(s, 0, script(r, 100000), script(r, 100000))
				if from == 1 {
					proceed(s, time.Second, "first words", func() bool { return far.c != nil }, near, far)
					near, far = far, near
				}
				far.ends = false
				near.deaf = true // what the other end says is not waited for
				proceed(s, time.Second, "last words", func() bool { return len(near.say) == 0 }, near, far)
				near.c.Finish()
				near.c.Finish()
				wantEnded(t, near.c, "after Finish", net.ErrClosed)
				proceed(s, time.Second, "end said", func() bool { return near.c.out.finSent }, near, far)
				lose(s.ends[near.at], s.ends[far.at])
				proceed(s, time.Minute, "end", far.atEnd, near, far)
				proceed(s, time.Minute, "end of this direction", func() bool { return near.c.forgotten && len(far.say) == 0 }, near, far)
				far.c.Finish()
				proceed(s, time.Minute, "end of the stream", func() bool { return quiet(s) }, near, far)
				if !empty(near.c) || !empty(far.c) {
					t.Error("an ended stream keeps memory")
				}
			})
		}
	}
}

// Nobody takes what the other end says after Finish, however much it is: it can finish, too,
// whether it does so afterwards or has done it already.
func TestFinishTakesTheRest(t *testing.T) {
	for _, afterwards := range []bool{true, false} {
		t.Run(fmt.Sprintf("afterwards %v", afterwards), func(t *testing.T) {
			t.Parallel()
			s := newSim(t, simLine{delay: time.Millisecond, rate: 500e6, queue: 4 << 20})
			near, far := call(s, 0, []wire.Frame{{Kind: wire.FrameOpen}}, nil)
			proceed(s, time.Second, "frame", far.heard, near, far)
			for range inWindow/wire.MaxFramePayload + 4 {
				far.say = append(far.say, wire.Frame{Kind: wire.FrameData, Payload: noise[:wire.MaxFramePayload]})
			}
			if afterwards {
				near.c.Finish()
				proceed(s, time.Second, "end", far.atEnd, near, far)
				far.ends = true
			} else {
				near.deaf = true
				proceed(s, 20*time.Second, "end of what may be sent", func() bool {
					return far.c.out.sent == far.c.out.limit && !far.c.hasRoom()
				}, near, far)
				far.say = nil
				far.c.Finish()
				proceed(s, time.Second, "while", passes(s, 50*time.Millisecond), near, far)
				if far.c.out.finSent {
					t.Fatal("all of it may be sent")
				}
				near.c.Finish()
			}
			proceed(s, 20*time.Second, "end of the stream", func() bool { return quiet(s) }, near, far)
		})
	}
}

// A stream on which nothing was said is none to the other end.
func TestNothingSaid(t *testing.T) {
	s := newSim(t, quick)
	for _, end := range []func(*Conn){(*Conn).Close, (*Conn).Finish} {
		end(s.ends[0].path.open())
	}
	proceed(s, time.Second, "while", passes(s, 100*time.Millisecond))
	if n := s.ends[0].sent + s.ends[1].sent; n > 0 || !quiet(s) {
		t.Errorf("%d packets were sent, %d streams are left", n, len(s.ends[0].path.streams))
	}
}

// A node that was asked to open may finish without sending a byte.
func TestFinishWithoutAWord(t *testing.T) {
	s := newSim(t, quick)
	near, far := call(s, 0, []wire.Frame{{Kind: wire.FrameOpen}}, nil)
	proceed(s, time.Second, "frame", far.heard, near, far)
	far.c.Finish()
	proceed(s, time.Second, "end", near.atEnd, near, far)
	near.c.Finish()
	proceed(s, time.Second, "end of the stream", func() bool { return quiet(s) })
}

// Send waits while there is enough to send, and Receive while there is nothing, both as long
// as nothing happens.
func TestWaits(t *testing.T) {
	for name, end := range map[string]func(*Conn){"Close": (*Conn).Close, "Finish": (*Conn).Finish} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLink()
				near := l.paths[0].open()
				sent, received := 0, 0
				var sending, other, receiving error
				go func() {
					for sending == nil {
						if sending = near.Send(&wire.Frame{Kind: wire.FrameData, Payload: noise[:Backlog-1]}); sending == nil {
							sent++
						}
					}
				}()
				go func() {
					for receiving == nil {
						if receiving = near.Receive(new(wire.Frame)); receiving == nil {
							received++
						}
					}
				}()
				synctest.Wait()
				if sent != 1 || received != 0 {
					t.Fatalf("%d sent, %d received before anything was pulled", sent, received)
				}
				for len(l.begun[1]) == 0 {
					l.pass(t)
				}
				if err := l.begun[1][0].Send(&wire.Frame{Kind: wire.FrameData}); err != nil {
					t.Fatal(err)
				}
				for range 20 {
					l.pass(t)
					synctest.Wait()
				}
				if sent < 2 || received != 1 {
					t.Fatalf("%d sent, %d received afterwards", sent, received)
				}
				// The other one waits for a mutex, which synctest does not take for waiting.
				go func() { other = near.Send(&wire.Frame{Kind: wire.FrameData}) }()
				end(near)
				synctest.Wait()
				for _, err := range []error{sending, other, receiving} {
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("at the end: %v", err)
					}
				}
			})
		})
	}
}

// What has been received lets the other end send more, and what goes beyond what it may is
// not kept.
func TestWindow(t *testing.T) {
	l := newLink()
	near := l.paths[0].open()
	var far *Conn
	for near.out.limit == inWindow {
		for near.hasRoom() {
			if err := near.Send(&wire.Frame{Kind: wire.FrameData, Payload: noise[:wire.MaxFramePayload]}); err != nil {
				t.Fatal(err)
			}
		}
		l.pass(t)
		if len(l.begun[1]) == 0 {
			continue
		}
		far = l.begun[1][0]
		for ok := true; ok; {
			var err error
			if ok, err = receiveNow(far, new(wire.Frame)); err != nil {
				t.Fatal(err)
			}
		}
		if far.in.read > inWindow {
			t.Fatal("it has received all that was allowed, and allows no more")
		}
	}
	blocks := held(&far.in.buffer)
	far.deliver(&piece{stream: far.id, offset: uint32(far.in.advertised - 1), data: []byte("xy")})
	far.deliver(&piece{stream: far.id, offset: uint32(far.in.advertised), data: []byte("x")})
	if n := held(&far.in.buffer); n != blocks || len(far.in.got) > 0 {
		t.Errorf("%d blocks for what may not be sent", n-blocks)
	}
	far.deliver(&piece{stream: far.id, offset: uint32(far.in.advertised - 1), data: []byte("x")})
	if len(far.in.got) != 1 {
		t.Error("what may be sent is not taken")
	}
}

// What Receive has given stays as it is until the next one, also when the stream ends.
func TestPayloadStays(t *testing.T) {
	for name, end := range map[string]func(near, far *Conn){
		"Close":                 func(_, far *Conn) { far.Close() },
		"Finish":                func(_, far *Conn) { far.Finish() },
		"the other end's Close": func(near, _ *Conn) { near.Close() },
	} {
		for _, parts := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, %d parts", name, parts), func(t *testing.T) {
				l := newLink()
				near := l.paths[0].open()
				for at := uint32(0); at < uint32(parts)*5000; at += 5000 {
					if err := near.Send(&wire.Frame{Kind: wire.FrameData, Seq: at, Payload: noise[at : at+5000]}); err != nil {
						t.Fatal(err)
					}
				}
				for len(l.begun[1]) == 0 || l.begun[1][0].in.whole < uint64(parts)*5000 {
					l.pass(t)
				}
				far := l.begun[1][0]
				var f wire.Frame
				if err := far.Receive(&f); err != nil {
					t.Fatal(err)
				}
				if f.Size() != parts*5000 {
					t.Fatalf("received %d bytes", f.Size())
				}
				end(near, far)
				l.pass(t)
				l.pass(t)
				if far.err == nil {
					t.Fatal("it has not ended")
				}
				var b buffer
				for at := uint64(0); at < 8*blockSize; at += blockSize {
					b.put(at, make([]byte, blockSize))
				}
				if inOne(&f); !bytes.Equal(f.Payload, noise[:len(f.Payload)]) {
					t.Error("somebody else has its memory")
				}
			})
		}
	}
}

// After Close the other end fails, though more had been said, and nothing is kept.
func TestCloseIsSeen(t *testing.T) {
	for from := range 2 {
		for name, meanwhile := range map[string]func(s *simNet, closes *talk){
			"":                    func(*simNet, *talk) {},
			", lost at first":     func(s *simNet, _ *talk) { s.both(func(l *simLine) { l.down = true }) },
			", after Finish":      func(_ *simNet, closes *talk) { closes.c.Finish() },
			", with nothing read": func(_ *simNet, closes *talk) { closes.deaf = true },
		} {
			t.Run(fmt.Sprintf("by %d%s", from, name), func(t *testing.T) {
				s := newSim(t, quick)
				r := rand.New(rand.NewPCG(10, 1))
				near, far := call(s, 0, script(r, 1<<20), script(r, 1<<20))
				proceed(s, time.Second, "words", func() bool { return len(near.hear.want) > 0 && near.c.in.read > 1000 && far.c.in.read > 1000 }, near, far)
				closes, sees := near, far
				if from == 1 {
					closes, sees = far, near
				}
				meanwhile(s, closes)
				proceed(s, time.Second, "while", passes(s, 20*time.Millisecond), near, far)
				closes.c.Close()
				closes.c.Close()
				closes.c.Finish()
				wantEnded(t, closes.c, "after Close", net.ErrClosed)
				proceed(s, time.Second, "while", passes(s, 100*time.Millisecond), near, far)
				s.both(func(l *simLine) { l.down = false })
				proceed(s, 5*time.Second, "end of the stream", func() bool { return quiet(s) }, near, far)
				wantEnded(t, sees.c, "at the other end", errReset)
				sees.c.Close()
				if !empty(near.c) || !empty(far.c) {
					t.Error("an ended stream keeps memory")
				}
			})
		}
	}
}

// Both ends may end at once, and each by either way.
func TestBothEnd(t *testing.T) {
	type end struct {
		name string
		do   func(*Conn)
	}
	ends := []end{{"Close", (*Conn).Close}, {"Finish", (*Conn).Finish}}
	for _, one := range ends {
		for _, other := range ends {
			for _, loss := range []float64{0, 0.4} {
				t.Run(fmt.Sprintf("%s and %s, loss %v", one.name, other.name, loss), func(t *testing.T) {
					s := newSim(t, quick)
					r := rand.New(rand.NewPCG(11, 1))
					near, far := call(s, 0, script(r, 1<<18), script(r, 1<<18))
					proceed(s, time.Second, "words", func() bool { return near.c.in.read > 1000 && far.c.in.read > 1000 }, near, far)
					s.both(func(l *simLine) { l.loss = loss })
					one.do(near.c)
					other.do(far.c)
					proceed(s, time.Minute, "end of the stream", func() bool { return quiet(s) }, near, far)
					if !empty(near.c) || !empty(far.c) {
						t.Error("an ended stream keeps memory")
					}
				})
			}
		}
	}
}

// A receiver that does not read stops its own sender, and no other.
func TestNotReceived(t *testing.T) {
	t.Parallel()
	s := newSim(t, simLine{delay: time.Millisecond, rate: 500e6, queue: 4 << 20})
	r := rand.New(rand.NewPCG(12, 1))
	deaf := make([]wire.Frame, inWindow/wire.MaxFramePayload+8)
	for i := range deaf {
		deaf[i] = wire.Frame{Kind: wire.FrameData, Payload: noise[i : i+wire.MaxFramePayload]}
	}
	near, far := call(s, 0, deaf, nil)
	far.deaf = true
	proceed(s, 10*time.Second, "end of what may be sent", func() bool { return near.c.out.sent == near.c.out.limit && near.c.out.una == near.c.out.sent }, near, far)
	if near.c.out.sent > inWindow || near.c.hasRoom() || near.c.out.wrote-near.c.out.sent > Backlog+wire.MaxFramePayload+wire.FrameHeaderSize {
		t.Errorf("%d bytes were sent, %d wait", near.c.out.sent, near.c.out.wrote-near.c.out.sent)
	}
	other := finishing(s, 0, script(r, 1<<18), script(r, 1<<18))
	proceed(s, 10*time.Second, "other stream's end", func() bool { return allDone(other)() && len(s.ends[1].path.streams) == 1 },
		append([]*talk{near, far}, other...)...)
	// A lost window update is sent again.
	far.deaf = false
	s.ends[1].line.down = true
	proceed(s, time.Second, "while", passes(s, 20*time.Millisecond), near, far)
	s.ends[1].line.down = false
	proceed(s, 10*time.Second, "rest", far.heard, near, far)
}

// An outage does not end a stream.
func TestOutage(t *testing.T) {
	for _, both := range []bool{true, false} {
		s := newSim(t, quick)
		r := rand.New(rand.NewPCG(13, 1))
		talks := finishing(s, 0, script(r, 1<<20), script(r, 1<<18))
		proceed(s, time.Second, "words", func() bool { return talks[1].c != nil && talks[1].c.in.read > 1<<17 }, talks...)
		s.ends[0].line.down, s.ends[1].line.down = true, both
		proceed(s, time.Second, "end of the outage", passes(s, 300*time.Millisecond), talks...)
		s.both(func(l *simLine) { l.down = false })
		proceed(s, time.Minute, "end", func() bool { return allDone(talks)() && quiet(s) }, talks...)
	}
}

// The path may take smaller packets only from some moment on.
func TestLowerMTU(t *testing.T) {
	const mtu = 700
	s := newSim(t, quick)
	r := rand.New(rand.NewPCG(14, 1))
	talks := finishing(s, 0, script(r, 1<<20), script(r, 1<<18))
	proceed(s, time.Second, "words", func() bool { return talks[1].c != nil && talks[1].c.in.read > 1<<17 }, talks...)
	for _, e := range s.ends {
		e.path.set(s.now, mtu, 0)
	}
	dropped := 0
	proceed(s, time.Minute, "end", func() bool {
		for _, e := range s.ends {
			all := len(e.fly)
			e.fly = slices.DeleteFunc(e.fly, func(p simPacket) bool { return len(p.b) > mtu })
			dropped += all - len(e.fly)
		}
		return allDone(talks)() && quiet(s)
	}, talks...)
	if dropped == 0 || dropped > 2000 {
		t.Errorf("%d packets were too large", dropped)
	}
}

// A path that becomes much longer ends no stream, whether much is said or little.
func TestMuchLonger(t *testing.T) {
	for _, rtt := range []time.Duration{300 * time.Millisecond, 1500 * time.Millisecond} {
		for _, size := range []int{10, 1 << 18} {
			t.Run(fmt.Sprintf("%v, %d bytes", rtt, size), func(t *testing.T) {
				s := newSim(t, quick)
				r := rand.New(rand.NewPCG(15, 1))
				near, far := call(s, 0, script(r, 1<<16), nil)
				acked := func() bool { return near.c.err != nil || far.heard() && near.c.out.una == near.c.out.wrote }
				proceed(s, time.Second, "words", acked, near, far)
				s.both(func(l *simLine) { l.delay = rtt / 2 })
				near.say = script(r, size)
				far.hear.want = near.say
				proceed(s, time.Minute, "end", acked, near, far)
				if near.c.err != nil {
					t.Errorf("the stream has failed: %v", near.c.err)
				}
			})
		}
	}
}
