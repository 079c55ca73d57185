package trunk

import (
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// bandwidth is what the kernel believes that a connection's way carries.
func bandwidth(t *testing.T, c *Conn) uint64 {
	t.Helper()
	p, err := c.Path()
	if err != nil {
		t.Fatal(err)
	}
	if p.Congestion != congestion {
		t.Fatalf("this kernel has no %s, which a gateway needs: modprobe tcp_%s", congestion, congestion)
	}
	return p.Bandwidth
}

// What the kernel knows is forgotten when somebody takes a connection, unless it was
// made on another way: then the kernel has to find out.
func TestBegin(t *testing.T) {
	r, g := pair(t)
	near, far := dialled(t, r, g)
	defer near.Close()
	defer far.Close()
	for bandwidth(t, near) == 0 {
		if err := near.Send(&wire.Frame{Kind: wire.FrameData, Payload: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
		var f wire.Frame
		if err := far.Receive(&f); err != nil {
			t.Fatal(err)
		}
	}
	if near.begin(time.Hour); bandwidth(t, near) == 0 {
		t.Error("forgotten, though the way has become longer")
	}
	if near.begin(0); bandwidth(t, near) != 0 {
		t.Error("not forgotten")
	}
}

// What waits is dialled anew when the way has become longer.
func TestSweepLongerWay(t *testing.T) {
	r, _ := pair(t)
	var before Stats
	r.await("warm connections", func(s Stats) bool { before = s; return s.Warm == DefaultWarm })
	r.SawRTT(gray, time.Hour)
	r.mu.Lock()
	k := r.keepers[gray]
	r.mu.Unlock()
	k.sweep()
	if s := r.Stats(); s.Warm != 0 || s.Lost != before.Lost {
		t.Errorf("%d wait, %d lost", s.Warm, s.Lost-before.Lost)
	}
	r.SawRTT(gray, time.Millisecond)
	k.kick()
	r.await("others in their place", func(s Stats) bool { return s.Warm == DefaultWarm && s.Dialled >= before.Dialled+DefaultWarm })
	k.sweep()
	if s := r.Stats(); s.Warm != DefaultWarm {
		t.Errorf("%d wait after the next look", s.Warm)
	}
}
