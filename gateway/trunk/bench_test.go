package trunk

import (
	"fmt"
	"testing"

	"github.com/onewaylink/gw/netstack/wire"
)

func TestAllocations(t *testing.T) {
	r, g := pair(t)
	near, far := dialled(t, r, g)
	payload := make([]byte, 16<<10)
	var got wire.Frame
	n := testing.AllocsPerRun(1000, func() {
		for _, f := range []wire.Frame{{Kind: wire.FrameData}, {Kind: wire.FrameData, Payload: payload}} {
			if err := near.Send(&f); err != nil {
				t.Fatal(err)
			}
			if err := far.Receive(&got); err != nil {
				t.Fatal(err)
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for two frames", n)
	}
}

func BenchmarkFrames(b *testing.B) {
	for _, size := range []int{0, 1448, 16 << 10, 64 << 10, wire.MaxFramePayload} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			r, g := pair(b)
			near, far := dialled(b, r, g)
			f := wire.Frame{Kind: wire.FrameData, Payload: make([]byte, size)}
			got := make(chan error, 1)
			n := b.N
			b.SetBytes(int64(wire.FrameHeaderSize + size))
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				var err error
				var f wire.Frame
				for i := 0; i < n && err == nil; i++ {
					err = far.Receive(&f)
				}
				got <- err
			}()
			for range n {
				if err := near.Send(&f); err != nil {
					b.Fatal(err)
				}
			}
			if err := <-got; err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
		})
	}
}
