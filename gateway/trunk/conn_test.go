package trunk

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/netstack/wire"
)

// sizes of payloads in turn: small ones between the largest, and those around the
// sizes of the buffers.
var sizes = []int{
	0, 1, wire.MaxFramePayload, 0, 0, 100, wire.MaxFramePayload, 64 << 10, 64<<10 - 1, 1448, 0,
	bufSize - wire.FrameHeaderSize, bufSize - wire.FrameHeaderSize + 1, bufSize, 3, largeRest, wire.MaxFramePayload, 7,
}

// say sends frames whose payloads have the sizes given, and finishes.
func say(c *Conn, sizes []int) error {
	seq := uint32(1<<32 - 1000) // across the wrap
	for i, n := range sizes {
		f := wire.Frame{Kind: wire.FrameData, Seq: seq, Ack: uint32(i), Edge: ^uint32(i), Payload: pattern(seq, n)}
		if err := c.Send(&f); err != nil {
			return err
		}
		seq += uint32(n)
	}
	return c.Send(&wire.Frame{Kind: wire.FrameClose, Fin: true, Seq: seq})
}

// hear receives what say says, up to the last frame.
func hear(t *testing.T, c *Conn, sizes []int) {
	t.Helper()
	var f wire.Frame
	seq := uint32(1<<32 - 1000)
	for i, n := range sizes {
		if err := c.Receive(&f); err != nil {
			t.Errorf("frame %d: %v", i, err)
			return
		}
		if f.Kind != wire.FrameData || f.Fin || f.Seq != seq || f.Ack != uint32(i) || f.Edge != ^uint32(i) {
			t.Errorf("frame %d: %v fin %v seq %d ack %d edge %d", i, f.Kind, f.Fin, f.Seq, f.Ack, f.Edge)
		}
		if !bytes.Equal(f.Payload, pattern(seq, n)) {
			t.Fatalf("frame %d of %d bytes has %d, or others", i, n, len(f.Payload))
		}
		seq += uint32(n)
	}
	if err := c.Receive(&f); err != nil || f.Kind != wire.FrameClose || !f.Fin || f.Seq != seq || f.Payload != nil {
		t.Errorf("the last frame: %+v, %v", f, err)
	}
}

func TestFramesBothWays(t *testing.T) {
	r, g := pair(t)
	near, far := dialled(t, r, g)
	defer near.Close()
	defer far.Close()
	random := make([]int, 200)
	for i := range random {
		random[i] = rand.IntN(1 << rand.IntN(19))
	}
	all := append(append([]int(nil), sizes...), random...)
	said := make(chan error, 2)
	for _, c := range []*Conn{near, far} {
		go func() { said <- say(c, all) }()
	}
	heard := make(chan struct{})
	go func() { defer close(heard); hear(t, far, all) }()
	hear(t, near, all)
	<-heard
	for range 2 {
		if err := <-said; err != nil {
			t.Error(err)
		}
	}
}

func TestTooLong(t *testing.T) {
	r, g := pair(t)
	near, far := dialled(t, r, g)
	if err := near.Send(&wire.Frame{Kind: wire.FrameData, Payload: make([]byte, wire.MaxFramePayload+1)}); !errors.Is(err, wire.ErrFrame) {
		t.Error(err)
	}
	if err := near.Send(&wire.Frame{Kind: wire.FrameData}); err != nil {
		t.Error(err)
	}
	if err := far.Receive(new(wire.Frame)); err != nil {
		t.Errorf("after a frame that was not sent: %v", err)
	}
}

// What is no frame ends reading, and so does one that is cut off.
func TestReceiveRefuses(t *testing.T) {
	whole := wire.AppendFrameHeader(nil, &wire.Frame{Kind: wire.FrameData, Payload: make([]byte, 100)})
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"version":      {bytes.Repeat([]byte{9}, wire.FrameHeaderSize), wire.ErrFrameVersion},
		"kind":         {append([]byte{1, 9}, make([]byte, wire.FrameHeaderSize)...), wire.ErrFrame},
		"no header":    {whole[:7], io.ErrUnexpectedEOF},
		"no payload":   {whole, io.ErrUnexpectedEOF},
		"half payload": {append(append([]byte(nil), whole...), make([]byte, 50)...), io.ErrUnexpectedEOF},
		"nothing":      {nil, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			r, g := pair(t)
			near, far := dialled(t, r, g)
			if _, err := near.tcp.Write(c.bytes); err != nil {
				t.Fatal(err)
			}
			near.Finish()
			if err := far.Receive(new(wire.Frame)); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if far.in.b != nil {
				t.Error("the buffer was not given back")
			}
			far.Close()
		})
	}
}

// fillUp sends until the kernel takes no more, and goes on in a goroutine.
func fillUp(t *testing.T, c *Conn) (done chan error) {
	t.Helper()
	done = make(chan error, 1)
	go func() {
		f := wire.Frame{Kind: wire.FrameData, Payload: make([]byte, wire.MaxFramePayload)}
		for {
			if err := c.Send(&f); err != nil {
				done <- err
				return
			}
		}
	}()
	// The other end reads nothing: once its window is shut, what is unsent stays.
	for until := time.Now().Add(deadline); ; {
		p, err := c.Path()
		if err != nil {
			t.Fatal(err)
		}
		if p.Unsent >= Backlog {
			return done
		}
		if time.Now().After(until) {
			t.Fatalf("Send does not block: %+v", p)
		}
	}
}

func TestCloseUnblocksSend(t *testing.T) {
	r, g := pair(t)
	near, far := dialled(t, r, g)
	done := fillUp(t, near)
	second := make(chan error, 1)
	go func() { second <- near.Send(&wire.Frame{Kind: wire.FrameData}) }() // waits for the lock
	near.Close()
	for _, ch := range []chan error{done, second} {
		select {
		case err := <-ch:
			if !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		case <-time.After(deadline):
			t.Fatal("still blocked")
		}
	}
	// The other end gets what had arrived, at most, and then an error.
	var err error
	for err == nil {
		err = far.Receive(new(wire.Frame))
	}
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the other end: %v", err)
	}
	if err := near.Send(&wire.Frame{Kind: wire.FrameData}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := near.Receive(new(wire.Frame)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	far.Close()
}

func TestCloseIsSeen(t *testing.T) {
	for name, closer := range map[string]func(near, far *Conn) (closes, sees *Conn){
		"dialler":  func(near, far *Conn) (*Conn, *Conn) { return near, far },
		"acceptor": func(near, far *Conn) (*Conn, *Conn) { return far, near },
	} {
		t.Run(name, func(t *testing.T) {
			r, g := pair(t)
			closes, sees := closer(dialled(t, r, g))
			got := make(chan error, 2)
			for _, c := range []*Conn{closes, sees} {
				go func() {
					err := c.Receive(new(wire.Frame))
					if c == closes && !errors.Is(err, net.ErrClosed) || c == sees && !errors.Is(err, unix.ECONNRESET) {
						t.Errorf("received %v", err)
					}
					got <- err
				}()
			}
			closes.Close()
			<-got
			<-got
			sees.Close()
		})
	}
}

// Finish delivers all that was sent, also what waits in the kernel and what the
// other end has said meanwhile.
func TestFinishDelivers(t *testing.T) {
	r, g := pair(t)
	near, far := dialled(t, r, g)
	if err := far.Send(&wire.Frame{Kind: wire.FrameData, Payload: make([]byte, 1000)}); err != nil {
		t.Fatal(err) // it stays unread, which would make a plain close reset
	}
	said := make(chan error, 1)
	go func() {
		err := say(near, sizes)
		near.Finish()
		near.Finish()
		said <- err
	}()
	hear(t, far, sizes)
	if err := <-said; err != nil {
		t.Error(err)
	}
	if err := near.Send(&wire.Frame{Kind: wire.FrameData}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Finish: %v", err)
	}
	if err := far.Receive(new(wire.Frame)); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	far.Finish()
	r.await("end of use", func(s Stats) bool { return s.InUse == 0 })
	g.await("end of use", func(s Stats) bool { return s.InUse == 0 })
}

// Finish returns at once, and so does a Receive under way; Close ends the rest.
func TestFinishThenClose(t *testing.T) {
	r, g := pair(t)
	near, far := dialled(t, r, g)
	got := make(chan error, 1)
	go func() { got <- near.Receive(new(wire.Frame)) }()
	sent := fillUp(t, near)
	near.Finish()
	if err := <-got; !errors.Is(err, net.ErrClosed) {
		t.Errorf("received %v", err)
	}
	near.Close()
	if err := <-sent; !errors.Is(err, net.ErrClosed) {
		t.Errorf("sent %v", err)
	}
	r.await("end of use", func(s Stats) bool { return s.InUse == 0 })
	far.Close()
}

func TestPath(t *testing.T) {
	r, g := pair(t)
	near, far := dialled(t, r, g)
	for _, c := range []*Conn{near, far} {
		// The acceptor's comes from the listener.
		for opt, want := range map[int]int{
			unix.TCP_NODELAY: 1, unix.TCP_NOTSENT_LOWAT: Backlog, unix.TCP_USER_TIMEOUT: int(userTimeout.Milliseconds()),
			unix.TCP_KEEPIDLE: 2, unix.TCP_KEEPINTVL: 1,
		} {
			var got int
			var err error
			if cerr := c.raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, opt) }); cerr != nil || err != nil {
				t.Fatal(cerr, err)
			}
			if got != want {
				t.Errorf("option %d is %d, want %d", opt, got, want)
			}
		}
		p, err := c.Path()
		if err != nil || p.RTT <= 0 || p.Window <= 0 || p.Retransmits != 0 || p.Congestion != r.Stats().Congestion {
			t.Errorf("%+v, %v", p, err)
		}
	}
	done := fillUp(t, near)
	p, err := near.Path()
	if err != nil || p.MinRTT <= 0 || p.DeliveryRate == 0 || p.Queued < p.Unsent {
		t.Errorf("under load: %+v, %v", p, err)
	}
	if p.Congestion == congestion && p.Bandwidth == 0 {
		t.Errorf("bbr knows no bandwidth: %+v", p)
	}
	near.Close()
	<-done
	if _, err := near.Path(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	far.Close()
}
