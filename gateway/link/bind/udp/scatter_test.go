package udp

import (
	"bytes"
	"slices"
	"testing"

	"golang.zx2c4.com/wireguard/conn"
)

// Trains are laid in place, and whatever comes in their stead arrives all the
// same, in order.
func TestTrains(t *testing.T) {
	train := func(size, n int) []int { return slices.Repeat([]int{size}, n) }
	for _, family := range families {
		t.Run(family.name, func(t *testing.T) {
			to := New(Config{})
			if _, _, err := to.Open(0); err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			s := family.socket(to)
			r := newReceiver(to, s, to.closed)
			from := openTap(t, Config{})
			ep := endpointTo(t, family.ip, s.port)
			bufs := make([][]byte, to.BatchSize())
			for i := range bufs {
				bufs[i] = make([]byte, 1<<16-1)
			}
			sizes, eps := make([]int, len(bufs)), make([]conn.Endpoint, len(bufs))
			aimed := 0
			for name, batches := range map[string][][]int{
				"trains":          {train(1452, 40), train(1452, 45), train(1452, 45), train(1452, 45)},
				"a tail":          {train(1452, 40), append(train(1452, 20), 100), train(1452, 45)},
				"single ones":     {train(1452, 40), {1452}, {100}, {1200}, {32}},
				"longer ones":     {train(1400, 40), train(1452, 40), {9000}, train(1452, 40), {9000}, {60000}},
				"shorter ones":    {train(1452, 40), train(80, 60), train(1452, 40), train(1300, 45)},
				"fit and misfit":  {train(1452, 40), train(1452, 10), train(600, 10), train(1452, 40), {32}, train(1000, 60)},
				"misfit and fit":  {train(1452, 40), train(600, 10), train(1452, 10), {100}},
				"too short to be": {train(200, 60), train(200, 60), train(200, 60)},
			} {
				var want [][]byte
				for _, batch := range batches {
					var send [][]byte
					for _, size := range batch {
						send = append(send, makeMessage(size, len(want)))
						want = append(want, send[len(send)-1])
					}
					if err := from.Send(send, ep); err != nil {
						t.Fatal(err)
					}
				}
				for got := 0; got < len(want); {
					n, err := r.receive(bufs, sizes, eps)
					if err != nil {
						t.Fatal(err)
					}
					if r.scatter.size > 0 {
						aimed++
					}
					for i, size := range sizes[:n] {
						if size == 0 {
							continue // as conn.ReceiveFunc says
						}
						if got == len(want) || !bytes.Equal(bufs[i][:size], want[got]) {
							t.Fatalf("%s: datagram %d of %d: got %d bytes, or others than were sent", name, got, len(want), size)
						}
						got++
					}
				}
			}
			if aimed == 0 {
				t.Error("no train was laid in place")
			}
		})
	}
}
