package trunk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// compose sends a frame as Send does, written in pieces, and calls between between them.
func compose(t *testing.T, r *rand.Rand, c *Conn, f *wire.Frame, between func()) error {
	t.Helper()
	if room, err := c.Begin(len(f.Payload)); !room {
		return fmt.Errorf("no room: %w", err)
	}
	for rest := f.Payload; len(rest) > 0; between() {
		n := 1 + r.IntN(len(rest))
		if m, err := c.Write(rest[:n]); m != n || err != nil {
			t.Fatalf("%d of %d bytes written: %v", m, n, err)
		}
		rest = rest[n:]
	}
	if n, err := c.Write([]byte("more")); n != 0 || err != io.ErrShortWrite {
		t.Fatalf("%d bytes written beyond the end: %v", n, err)
	}
	header := *f
	header.Payload = nil
	return c.Commit(&header)
}

// Frames that are written where they are sent from arrive as those that are sent do,
// whatever is sent, discarded, acknowledged and received meanwhile.
func TestCompose(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(31, seed))
		l := newLink()
		c := l.paths[0].open()
		h := hearer{want: script(r, 1<<20)}
		hear := func() {
			l.pass(t)
			for len(l.begun[1]) > 0 {
				var f wire.Frame
				ok, err := receiveNow(l.begun[1][0], &f)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					return
				}
				if err := h.take(&f); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
		}
		sometimes := func() {
			if r.IntN(4) == 0 {
				hear()
			}
		}
		for _, f := range h.want {
			var err error
			switch r.IntN(3) {
			case 0:
				err = c.Send(&f)
			case 1:
				if room, err := c.Begin(r.IntN(1 << 17)); !room {
					t.Fatalf("no room: %v", err)
				}
				c.Write(noise[:r.IntN(1<<17)])
				sometimes()
				if err := c.Commit(nil); err != nil {
					t.Fatal(err)
				}
				fallthrough
			default:
				err = compose(t, r, c, &f, sometimes)
			}
			if err != nil {
				t.Fatal(err)
			}
			for !c.hasRoom() {
				hear()
			}
			sometimes()
		}
		for until := time.Now().Add(deadline); len(h.want) > 0 || c.out.una < c.out.wrote; hear() {
			if time.Now().After(until) {
				t.Fatalf("seed %d: %d frames do not come, %d of %d bytes are acknowledged", seed, len(h.want), c.out.una, c.out.wrote)
			}
		}
		if n := held(&c.out.buffer); n != 0 {
			t.Errorf("seed %d: %d blocks are held when all is acknowledged", seed, n)
		}
	}
}

// A frame that was discarded leaves no memory behind, nor does one shorter than was said.
func TestComposeLess(t *testing.T) {
	l := newLink()
	c := l.paths[0].open()
	for _, f := range []*wire.Frame{nil, {Kind: wire.FrameData}} {
		if room, err := c.Begin(wire.MaxFramePayload); !room {
			t.Fatalf("no room: %v", err)
		}
		if n, want := held(&c.out.buffer), (wire.MaxFramePayload+wire.FrameHeaderSize+blockSize-1)/blockSize; n != want {
			t.Errorf("%d blocks for a frame that was begun, want %d", n, want)
		}
		if err := c.Commit(f); err != nil {
			t.Fatal(err)
		}
		want := 0
		if f != nil {
			want = 1
		}
		if n := held(&c.out.buffer); n != want {
			t.Errorf("%d blocks held, want %d", n, want)
		}
	}
}

// A stream that ends while a frame is written leaves that memory alone: nobody else gets
// it before it is no longer written to.
func TestComposeEnds(t *testing.T) {
	for name, end := range map[string]func(c *Conn){
		"closed":   (*Conn).Close,
		"finished": (*Conn).Finish,
		"given up": func(c *Conn) { c.path.mu.Lock(); c.fail(errReset); c.path.mu.Unlock() },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLink()
			c := l.paths[0].open()
			if err := c.Send(&wire.Frame{Kind: wire.FrameOpen}); err != nil {
				t.Fatal(err)
			}
			if room, err := c.Begin(blockSize); !room {
				t.Fatalf("no room: %v", err)
			}
			mine := (*block)(c.out.buffer.block(c.out.wrote, blockSize-int(c.out.wrote%blockSize)))
			end(c)
			lent := blocks.Get().(*block)
			if lent == mine {
				t.Error("the memory is somebody else's already")
			}
			if n, err := c.Write(noise[:1000]); n != 1000 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			if !bytes.Equal(mine[2*wire.FrameHeaderSize:][:1000], noise[:1000]) {
				t.Error("it was not written")
			}
			if err := c.Commit(&wire.Frame{Kind: wire.FrameData}); err == nil || name != "given up" && !errors.Is(err, net.ErrClosed) {
				t.Errorf("sent: %v", err)
			}
			if room, err := c.Begin(1); room || err == nil {
				t.Error("another can be begun")
			}
		})
	}
}
