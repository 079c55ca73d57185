package bind_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// middle is a path between two UDP sockets that drops what lose is true for.
type middle struct {
	conn *net.UDPConn
	gray netip.AddrPort
	lose func(m []byte) bool
}

func startMiddle(t testing.TB, grayPort uint16, lose func(m []byte) bool) *middle {
	t.Helper()
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		t.Fatal(err)
	}
	n := &middle{conn: c, gray: netip.AddrPortFrom(local, grayPort), lose: lose}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.forward()
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return n
}

func (n *middle) address() string { return n.conn.LocalAddr().String() }

func (n *middle) forward() {
	var red netip.AddrPort
	buf := make([]byte, 1<<16)
	for {
		size, from, err := n.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		m, to := buf[:size], red
		if from != n.gray {
			red, to = from, n.gray
		}
		if !n.lose(m) {
			_, _ = n.conn.WriteToUDPAddrPort(m, to)
		}
	}
}

// A handshake message that got lost is sent again long before wireguard-go
// would make a new one: no second initiation is made.
func TestLostHandshake(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   byte
		losses int
	}{
		{"initiation lost", 1, 1},
		{"initiation lost twice", 1, 2},
		{"response lost", 2, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var mu sync.Mutex
			var left int
			var initiations map[uint32]int // copies seen, by sender index
			lose := func(m []byte) bool {
				mu.Lock()
				defer mu.Unlock()
				if m[0] == 1 {
					initiations[binary.LittleEndian.Uint32(m[4:])]++
				}
				if left > 0 && m[0] == c.kind {
					left--
					return true
				}
				return false
			}
			overNetworks(t, lose, func(t *testing.T, n *network) {
				left, initiations = c.losses, map[uint32]int{}
				redBind, grayBind := pair(t, n, nil)
				red, gray := start(t, 1, redBind, 0), start(t, 2, grayBind, 0)
				gray.peer(t, red, "")
				red.peer(t, gray, n.through(t, gray.port))
				exchange(t, red, gray)
				exchange(t, gray, red)
				mu.Lock()
				defer mu.Unlock()
				if len(initiations) != 1 {
					t.Errorf("red made %d initiations", len(initiations))
				}
				for _, copies := range initiations { // a slow host sends more
					if copies < c.losses+1 {
						t.Errorf("red sent its initiation %d times, want %d", copies, c.losses+1)
					}
				}
				byRed, byGray := redBind.Stats().Repeats, grayBind.Stats().Repeats
				if byRed < uint64(c.losses) || c.kind == 2 && byGray < uint64(c.losses) {
					t.Errorf("red has counted %d repetitions and gray %d, of %d losses", byRed, byGray, c.losses)
				}
			})
		})
	}
}
