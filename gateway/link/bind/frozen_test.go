package bind

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// TestFrozen: while the process is taken for frozen, packets that waited are
// dropped in both directions, and handshakes are not.
func TestFrozen(t *testing.T) {
	var alive atomic.Bool
	b := New(Config{Alive: alive.Load, Peers: []Peer{{DialsIn: true}}})
	fns, port, err := b.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	other, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	data := make([]byte, 100)
	data[0] = typeTransport
	initiation := makeInitiation(t, [32]byte{}, 1)
	for _, m := range [][]byte{data, initiation} {
		if _, err := other.Write(m); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for !b.Pending() {
		if time.Now().After(deadline) {
			t.Fatal("nothing is pending")
		}
	}
	// An unknown session is passed on outside the gate, so make it a known one.
	b.own.add(0, 0)
	bufs, sizes, eps := [][]byte{make([]byte, 2048)}, make([]int, 1), make([]conn.Endpoint, 1)
	n, err := fns[0](bufs, sizes, eps)
	if err != nil || n != 1 || messageType(bufs[0]) != typeInitiation {
		t.Fatalf("received %d, type %d: %v", n, bufs[0][0], err)
	}
	if err := b.Send([][]byte{data}, eps[0]); err != nil {
		t.Fatal(err)
	}
	if d := b.Stats().Drops[Frozen]; d != 2 {
		t.Errorf("%d dropped as frozen, want one each way", d)
	}
	if b.Pending() {
		t.Error("still pending")
	}
	alive.Store(true)
	if _, err := other.Write(data); err != nil {
		t.Fatal(err)
	}
	if n, err := fns[0](bufs, sizes, eps); err != nil || n != 1 || sizes[0] != len(data) {
		t.Errorf("awake: received %d of %d bytes: %v", n, sizes[0], err)
	}
}
