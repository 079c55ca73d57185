package hostnet

import (
	"net"
	"testing"
)

func TestQueueLen(t *testing.T) {
	for _, c := range []struct {
		memory uint64
		want   int
	}{
		{256 << 20, minQueue}, {512 << 20, 1024}, {1 << 30, 2048}, {2 << 30, 4096}, {4 << 30, maxQueue}, {1 << 40, maxQueue},
	} {
		if got := queueLen(c.memory); got != c.want {
			t.Errorf("%d MB: %d packets may wait, want %d", c.memory>>20, got, c.want)
		}
	}
}

// TestMissed: what nobody reads is dropped and counted once the queue is full, and not before.
func TestMissed(t *testing.T) {
	s := newSpace(t, "a")
	s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	s.do(func() { s.up("gw0", "10.9.0.1/24") })
	missed := func() (n uint64) {
		t.Helper()
		s.do(func() {
			var err error
			if n, err = missed("gw0"); err != nil {
				t.Fatal(err)
			}
		})
		return n
	}
	sock := s.udp("10.9.0.1:7000")
	peer := &net.UDPAddr{IP: net.IPv4(10, 9, 0, 2), Port: 9}
	send := func(n int) {
		t.Helper()
		for range n {
			if _, err := sock.WriteTo([]byte("x"), peer); err != nil {
				t.Fatal(err)
			}
		}
	}
	const slack, more = 50, 200 // the kernel itself says something, too
	send(queueLen(memory()) - slack)
	if n := missed(); n != 0 {
		t.Errorf("%d packets were dropped before the queue was full", n)
	}
	send(slack + more)
	if n := missed(); n < more || n > more+slack {
		t.Errorf("%d packets were dropped of %d too many", n, more)
	}
}
