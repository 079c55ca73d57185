//go:build !race

package trunk

import (
	"fmt"
	"testing"

	"github.com/onewaylink/gw/netstack/wire"
)

// Not under the race detector, which makes sync.Pool forget at random.
func TestNoAllocations(t *testing.T) {
	l := newLink()
	near := l.paths[0].open()
	out := wire.Frame{Kind: wire.FrameData, Payload: noise[:64<<10]}
	in := new(wire.Frame)
	send := func() error { return near.Send(&out) }
	carry := func() {
		if err := send(); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < len(out.Payload); {
			l.pass(t)
			for len(l.begun[1]) > 0 {
				ok, err := l.begun[1][0].TryReceive(in)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				got += in.Size()
			}
		}
	}
	composed := func() error {
		if room, err := near.Begin(len(out.Payload)); !room {
			return fmt.Errorf("no room: %w", err)
		}
		if _, err := near.Write(out.Payload); err != nil {
			return err
		}
		return near.Commit(&out)
	}
	for name, how := range map[string]func() error{"sent": send, "composed": composed} {
		send = how
		for range 500 {
			carry() // until all has been made that stays
		}
		if n := testing.AllocsPerRun(500, carry); n != 0 {
			t.Errorf("64 KB %s cost %v allocations", name, n)
		}
	}
}
