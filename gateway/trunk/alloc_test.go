//go:build !race

package trunk

import (
	"testing"

	"github.com/onewaylink/gw/netstack/wire"
)

// Not under the race detector, which makes sync.Pool forget at random.
func TestNoAllocations(t *testing.T) {
	l := newLink()
	near := l.ways[0].open()
	out := wire.Frame{Kind: wire.FrameData, Payload: noise[:64<<10]}
	in := new(wire.Frame)
	carry := func() {
		if err := near.Send(&out); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < len(out.Payload); {
			l.pass(t)
			for len(l.begun[1]) > 0 {
				ok, err := receiveNow(l.begun[1][0], in)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				got += len(in.Payload)
			}
		}
	}
	for range 500 {
		carry() // until all has been made that stays
	}
	if n := testing.AllocsPerRun(500, carry); n != 0 {
		t.Errorf("64 KB cost %v allocations", n)
	}
}
