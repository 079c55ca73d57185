package trunk

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/onewaylink/gw/netstack/wire"
)

// Frames with data that follow each other come as one, which says what the last of them
// does, but none goes on behind the end, another kind or a gap.
func TestGather(t *testing.T) {
	type frames []wire.Frame
	frame := func(seq, ack uint32, n int) wire.Frame {
		f := wire.Frame{Kind: wire.FrameData, Seq: seq, Ack: ack, Edge: ^ack}
		if n > 0 {
			f.Payload = noise[seq : seq+uint32(n)]
		}
		return f
	}
	fin := func(f wire.Frame) wire.Frame { f.Fin = true; return f }
	of := func(kind wire.FrameKind, f wire.Frame) wire.Frame { f.Kind = kind; return f }
	const size, large = wire.FrameHeaderSize, gatherSize
	for name, c := range map[string]struct {
		say  frames
		cut  int // bytes at the end that come later
		want frames
	}{
		"two":                          {frames{frame(0, 1, 10), frame(10, 2, 20)}, 0, frames{frame(0, 2, 30)}},
		"three":                        {frames{frame(0, 1, 10), frame(10, 2, 20), frame(30, 3, 1)}, 0, frames{frame(0, 3, 31)}},
		"the last is the end":          {frames{frame(0, 1, 10), fin(frame(10, 2, 20))}, 0, frames{fin(frame(0, 2, 30))}},
		"the first is the end":         {frames{fin(frame(0, 1, 10)), frame(10, 2, 20)}, 0, frames{fin(frame(0, 1, 10)), frame(10, 2, 20)}},
		"an end without payload":       {frames{frame(0, 1, 10), fin(frame(10, 2, 0)), frame(10, 3, 5)}, 0, frames{fin(frame(0, 2, 10)), frame(10, 3, 5)}},
		"progress behind":              {frames{frame(0, 1, 10), frame(10, 2, 0), frame(10, 3, 0)}, 0, frames{frame(0, 3, 10)}},
		"progress between":             {frames{frame(0, 1, 10), frame(10, 2, 0), frame(10, 3, 5)}, 0, frames{frame(0, 3, 15)}},
		"progress before":              {frames{frame(0, 1, 0), frame(0, 2, 10)}, 0, frames{frame(0, 1, 0), frame(0, 2, 10)}},
		"progress elsewhere":           {frames{frame(0, 1, 10), frame(11, 2, 0)}, 0, frames{frame(0, 1, 10), frame(11, 2, 0)}},
		"a gap":                        {frames{frame(0, 1, 10), frame(11, 2, 20)}, 0, frames{frame(0, 1, 10), frame(11, 2, 20)}},
		"once more":                    {frames{frame(0, 1, 10), frame(9, 2, 20)}, 0, frames{frame(0, 1, 10), frame(9, 2, 20)}},
		"another kind behind":          {frames{frame(0, 1, 10), of(wire.FrameClose, frame(10, 2, 5))}, 0, frames{frame(0, 1, 10), of(wire.FrameClose, frame(10, 2, 5))}},
		"another kind without payload": {frames{frame(0, 1, 10), of(wire.FrameClose, frame(10, 2, 0))}, 0, frames{frame(0, 1, 10), of(wire.FrameClose, frame(10, 2, 0))}},
		"another kind before":          {frames{of(wire.FrameOpen, frame(0, 1, 10)), frame(10, 2, 5)}, 0, frames{of(wire.FrameOpen, frame(0, 1, 10)), frame(10, 2, 5)}},
		"another kind between": {
			frames{frame(0, 1, 10), of(wire.FrameAccept, frame(10, 2, 0)), frame(10, 3, 5)}, 0,
			frames{frame(0, 1, 10), of(wire.FrameAccept, frame(10, 2, 0)), frame(10, 3, 5)},
		},
		"half of the next":           {frames{frame(0, 1, 10), frame(10, 2, 20)}, 15, frames{frame(0, 2, 15), frame(15, 2, 15)}},
		"half of the last":           {frames{frame(0, 1, 10), fin(frame(10, 2, 20))}, 15, frames{frame(0, 2, 15), fin(frame(15, 2, 15))}},
		"the next's header":          {frames{frame(0, 1, 10), fin(frame(10, 2, 20))}, 20, frames{frame(0, 2, 10), fin(frame(10, 2, 20))}},
		"half of a header":           {frames{frame(0, 1, 10), frame(10, 2, 20)}, 21, frames{frame(0, 1, 10), frame(10, 2, 20)}},
		"more than goes in one":      {frames{frame(0, 1, large-10), frame(large-10, 2, 50)}, 0, frames{frame(0, 2, large), frame(large, 2, 40)}},
		"as much as goes in one":     {frames{frame(0, 1, large-10), frame(large-10, 2, 10), frame(large, 3, 7)}, 0, frames{frame(0, 3, large), frame(large, 3, 7)}},
		"one that is long, and then": {frames{frame(0, 1, 2*large+9), frame(2*large+9, 2, 7)}, 0, frames{frame(0, 1, large), frame(large, 1, large), frame(2*large, 2, 16)}},
	} {
		t.Run(name, func(t *testing.T) {
			var b []byte
			for _, f := range c.say {
				b = append(wire.AppendFrameHeader(b, &f, len(f.Payload)), f.Payload...)
			}
			w := newLink().paths[1]
			far := newConn(w, 0)
			got := 0
			receive := func() {
				t.Helper()
				var f wire.Frame
				for {
					ok, err := receiveNow(far, &f)
					if err != nil {
						t.Fatal(err)
					}
					if !ok {
						return
					}
					if got == len(c.want) {
						t.Fatalf("%+v comes with %d bytes, and nothing is due", headerOf(&f), len(f.Payload))
					}
					want := &c.want[got]
					if f.Kind != want.Kind || f.Fin != want.Fin || f.Seq != want.Seq || f.Ack != want.Ack || f.Edge != want.Edge || !bytes.Equal(f.Payload, want.Payload) {
						t.Fatalf("%+v comes with %d bytes, want %+v with %d", headerOf(&f), len(f.Payload), headerOf(want), len(want.Payload))
					}
					got++
				}
			}
			for at := 0; at < len(b)-c.cut; {
				n := min(1000, len(b)-c.cut-at)
				far.deliver(&piece{offset: uint32(at), data: b[at : at+n]})
				at += n
			}
			receive()
			far.deliver(&piece{offset: uint32(len(b) - c.cut), data: b[len(b)-c.cut:]})
			receive()
			if got != len(c.want) {
				t.Errorf("%d of %d frames have come", got, len(c.want))
			}
			if slices.ContainsFunc(far.taking.further[:cap(far.taking.further)], func(p []byte) bool { return p != nil }) || held(&far.in.buffer) > 0 {
				t.Error("memory is kept, and nothing is there")
			}
		})
	}
}

// A malformed piece does not keep the pieces before it from being delivered.
func TestGatherBeforeNonsense(t *testing.T) {
	far := newConn(newLink().paths[1], 0)
	f := wire.Frame{Kind: wire.FrameData, Payload: noise[:10]}
	b := append(wire.AppendFrameHeader(nil, &f, len(f.Payload)), f.Payload...)
	far.deliver(&piece{data: append(b, bytes.Repeat([]byte{9}, wire.FrameHeaderSize)...)})
	var got wire.Frame
	if ok, err := receiveNow(far, &got); !ok || err != nil || !bytes.Equal(got.Payload, f.Payload) {
		t.Errorf("%d bytes, %v", len(got.Payload), err)
	}
	for range 2 {
		if _, err := receiveNow(far, &got); !errors.Is(err, wire.ErrFrameVersion) {
			t.Errorf("then %v", err)
		}
	}
}
