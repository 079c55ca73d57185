package legs

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/stacktest"
	"github.com/onewaylink/gw/netstack/wire"
)

// Operations of FuzzRelay: the low bits of a byte choose one, the others are its argument.
const (
	fuzzFrame  = iota // a frame of the other gateway, of kind argument%6; see fuzzed.numbers
	fuzzHost          // the near database sends argument*100 bytes, and acknowledges what it was sent
	fuzzLink          // a segment of the far database passes raw
	fuzzPass          // argument*10 ms pass
	fuzzTooBig        // a router reports an MTU of argument*20
	fuzzOps
)

// farBytes are what the far database sends, by position, whatever else a frame claims.
var farBytes = stacktest.Noise(3, 1<<17)

// fuzzed is a relay under attack: the near database is honest, and the other gateway sends whatever
// the script says.
type fuzzed struct {
	*soloist
	script []byte
	// Of the near database: the bytes that it has sent and received, and the edge of its window.
	sent, have, edge int
	seen             int // segments that were written to it and have been checked
}

// FuzzRelay feeds a living relay a sequence of frames of a hostile gateway, while the near database
// is honest. It checks what must hold whatever arrives: no panic; no segment that the checker would
// drop (soloist.stop); the near database is written each byte at its place, and none beyond the
// window that it has advertised; the relay ends once, and leaves nothing.
func FuzzRelay(f *testing.F) {
	op := func(what, arg int) byte { return byte(arg*fuzzOps + what) }
	data := func(kind, seq, ack, edge, size int, fin byte) []byte {
		b := []byte{op(fuzzFrame, kind)}
		for _, n := range []int{seq, ack, edge, size} {
			b = binary.BigEndian.AppendUint16(b, uint16(n))
		}
		return append(b, 0, fin)
	}
	f.Add(slices.Concat(data(4, 0, 0, 33000, 1000, 0), []byte{op(fuzzHost, 10)}, data(4, 1000, 1000, 34000, 500, 1), []byte{op(fuzzPass, 20), op(fuzzHost, 0)}))
	f.Add(slices.Concat([]byte{op(fuzzHost, 30)}, data(4, 0, 3000, 3000, 0, 0), data(4, 0, 1000, 0, 100, 0)))
	f.Add(slices.Concat(data(4, 0, 0, 0, 64000, 0), data(4, 64000, 0, 0, 2000, 0)))
	f.Add(slices.Concat(data(4, 7, 0, 0, 100, 0), data(4, 0, 60000, 0, 0, 1)))
	f.Add([]byte{op(fuzzHost, 20), op(fuzzFrame, 5), op(fuzzTooBig, 20)})
	f.Fuzz(func(t *testing.T, script []byte) {
		z := &fuzzed{soloist: asked(t), script: script, edge: soloEdge}
		for range 40 {
			if len(z.script) == 0 || z.relay.Ended() != nil {
				break
			}
			z.step()
		}
		z.legs.ReleaseAll(EndMoved)
		z.Await(t, "end", func() bool {
			z.mu.Lock()
			defer z.mu.Unlock()
			return len(z.detached) > 0 && z.legs.Stats().Relayed == 0
		})
		z.mu.Lock()
		defer z.mu.Unlock()
		if len(z.detached) != 1 {
			t.Errorf("ended %d times: %+v", len(z.detached), z.detached)
		}
	})
}

// step takes one operation from the script.
func (z *fuzzed) step() {
	z.Helper()
	what, arg := int(z.script[0])%fuzzOps, int(z.script[0])/fuzzOps
	z.script = z.script[1:]
	switch what {
	case fuzzFrame:
		seq, ack := z.number(), z.number()
		fr := wire.Frame{Kind: wire.FrameKind(arg % 6), Seq: f(seq), Ack: n(ack), Edge: n(ack + 2*z.number())}
		fr.Payload = farBytes[seq:][:z.number()]
		fr.Fin = z.number()&1 != 0
		if z.trunk.Send(&fr) != nil {
			return // the relay has ended
		}
	case fuzzHost:
		size := min(arg*100, soloEdge-z.sent)
		z.host(wire.ACK, z.sent, z.got(), z.got()+soloEdge, stacktest.Noise(9, size))
		z.sent += size
	case fuzzLink:
		z.link(wire.ACK, arg*500, 0, soloEdge, farBytes[arg*500:][:100])
	case fuzzPass:
		z.clock.advance(time.Duration(arg) * 10 * time.Millisecond)
	case fuzzTooBig:
		z.relay.TooBig(arg * 20)
	}
	z.Await(z.T, "the relay has read the frame", func() bool {
		var fr wire.Frame
		for {
			if ok, _ := z.trunk.TryReceive(&fr); !ok { // what the relay sends is read, or it would wait
				break
			}
		}
		l := z.mine.in
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.frames) == 0 || z.relay.Ended() != nil
	})
	for _, w := range z.segments()[z.seen:] {
		z.seen++
		if len(w.payload) == 0 {
			continue
		}
		from := int(int32(w.seq - f(0)))
		end := from + len(w.payload)
		if from < 0 || end > len(farBytes) || !bytes.Equal(w.payload, farBytes[from:end]) {
			z.Errorf("%d bytes are written at %d, which the far database has never sent there", len(w.payload), from)
		}
		if end > z.edge+1 { // one byte is a window probe
			z.Errorf("%d bytes are written up to %d, and the window ends at %d", len(w.payload), end, z.edge)
		}
		if from <= z.have && end > z.have {
			z.have = end
		}
	}
}

// number takes a number of two bytes, or what is left of it.
func (z *fuzzed) number() int {
	var b [2]byte
	z.script = z.script[copy(b[:], z.script):]
	return int(binary.BigEndian.Uint16(b[:]))
}

// got is what the near database acknowledges: all bytes without a gap. Its window moves with it.
func (z *fuzzed) got() int {
	z.edge = max(z.edge, z.have+soloEdge)
	return z.have
}
