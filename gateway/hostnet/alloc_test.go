//go:build !race

package hostnet

import (
	"net"
	"testing"
	"time"
)

// Not under the race detector, which makes sync.Pool forget at random.
func TestNoAllocations(t *testing.T) {
	s := newSpace(t, "a")
	d := s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	s.do(func() { s.up("gw0", "10.9.0.1/24") })
	p, o := udpPacket("x", 0)
	p[12] = 127
	vec := [][]byte{p[:20], p[20:]}
	if n := testing.AllocsPerRun(1000, func() {
		if err := d.Write(vec, o); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Write allocates %v times", n)
	}
	sock := s.udp("10.9.0.1:7000")
	peer := &net.UDPAddr{IP: net.IPv4(10, 9, 0, 2), Port: 9}
	b := make([]byte, MaxPacket)
	const packets = 200 // fewer than the queue holds
	for range packets + 1 {
		if _, err := sock.WriteTo([]byte("x"), peer); err != nil {
			t.Fatal(err)
		}
	}
	d.SetReadDeadline(time.Now().Add(testTimeout))
	if n := testing.AllocsPerRun(packets, func() {
		if _, _, err := d.Read(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Read allocates %v times", n)
	}
	if n := testing.AllocsPerRun(packets, func() {
		if _, _, err := d.TryRead(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("TryRead allocates %v times", n)
	}
}
