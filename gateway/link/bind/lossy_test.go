package bind_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// middle is a network between red and gray that loses what it is told to.
type middle struct {
	conn *net.UDPConn
	gray netip.AddrPort
	lose func(m []byte) bool

	mu          sync.Mutex
	initiations map[uint32]int // copies seen, by sender index
}

func startMiddle(t testing.TB, grayPort uint16, lose func(m []byte) bool) *middle {
	t.Helper()
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		t.Fatal(err)
	}
	n := &middle{conn: c, gray: netip.AddrPortFrom(local, grayPort), lose: lose, initiations: map[uint32]int{}}
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
		if m[0] == 1 {
			n.mu.Lock()
			n.initiations[binary.LittleEndian.Uint32(m[4:])]++
			n.mu.Unlock()
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
			t.Parallel()
			redBind, grayBind := pair(t, nil)
			red, gray := start(t, 1, redBind, 0), start(t, 2, grayBind, 0)
			left := c.losses
			n := startMiddle(t, gray.port, func(m []byte) bool {
				if left > 0 && m[0] == c.kind {
					left--
					return true
				}
				return false
			})
			gray.peer(t, red, "")
			red.peer(t, gray, n.address())
			exchange(t, red, gray)
			exchange(t, gray, red)
			n.mu.Lock()
			defer n.mu.Unlock()
			if len(n.initiations) != 1 {
				t.Errorf("red made %d initiations", len(n.initiations))
			}
			for _, copies := range n.initiations { // a slow host sends more
				if copies < c.losses+1 {
					t.Errorf("red sent its initiation %d times, want %d", copies, c.losses+1)
				}
			}
			byRed, byGray := redBind.Stats().Repeats, grayBind.Stats().Repeats
			if byRed < uint64(c.losses) || c.kind == 2 && byGray < uint64(c.losses) {
				t.Errorf("red has counted %d repetitions and gray %d, of %d losses", byRed, byGray, c.losses)
			}
		})
	}
}
