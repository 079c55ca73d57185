package netstack

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

func syn(from, to netip.Addr, port uint16) []byte {
	return wiretest.TCP{Src: netip.AddrPortFrom(from, port), Dst: netip.AddrPortFrom(to, 9771), Flags: wiretest.SYN, Window: 1000}.Packet()
}

// TestShares: each node has its own share of queue, connections and opening, and gets it back.
func TestShares(t *testing.T) {
	now := time.Unix(1000, 0)
	s := newShares(func() time.Time { return now })
	red, blue := netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("10.77.3.1")
	count := func(n int, take func() bool) (got int) {
		for range n {
			if take() {
				got++
			}
		}
		return got
	}
	data := func() bool { return s.enqueue(red, false) }
	if n := count(2*sourceQueue, data); n != sourceQueue {
		t.Errorf("%d packets wait, want %d", n, sourceQueue)
	}
	if !s.enqueue(blue, true) {
		t.Error("red's packets keep blue's out")
	}
	for range sourceQueue {
		s.dequeue(red)
	}
	open := func() bool {
		ok := s.enqueue(red, true)
		if ok {
			s.dequeue(red)
		}
		return ok
	}
	if n := count(100, open); n != sourceSYNs {
		t.Errorf("%d SYNs at once, want %d", n, sourceSYNs)
	}
	now = now.Add(5*synEvery + synEvery/2)
	if n := count(100, open); n != 5 {
		t.Errorf("%d SYNs after five more are due", n)
	}
	if !data() {
		t.Error("SYNs keep the other packets out")
	}
	accept := func() bool { return s.accept(red) }
	if n := count(100, accept); n != sourceConns {
		t.Errorf("%d connections, want %d", n, sourceConns)
	}
	s.closed(red)
	if n := count(100, accept); n != 1 {
		t.Errorf("%d connections after one was closed", n)
	}
	for i := range 3 * maxSources {
		s.enqueue(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), false)
	}
	if n := len(s.source); n > maxSources {
		t.Errorf("shares of %d nodes are kept", n)
	}
}

// TestFloodOfOneNode: a node that floods the host with SYNs and other packets makes it keep next to
// nothing, and another node's connections work meanwhile.
func TestFloodOfOneNode(t *testing.T) {
	red, gray, _, stop := connect(t, 0)
	exchange(t, red, gray, gray4, 1<<20) // fills the pools
	before := heap()
	flooding, done := make(chan struct{}), make(chan struct{})
	blue := netip.MustParseAddr("10.77.3.1") // nobody: what is sent there is lost
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-flooding:
				return
			default:
			}
			gray.Inject(syn(blue, gray4, uint16(i)))
			gray.Inject(wiretest.TCP{Src: netip.AddrPortFrom(blue, uint16(i)), Dst: netip.AddrPortFrom(gray4, 9771), Flags: wiretest.ACK, Window: 1000}.Packet())
		}
	}()
	for range 3 {
		exchange(t, red, gray, gray4, 1<<20)
	}
	close(flooding)
	<-done
	st := gray.Stats()
	if after := heap(); after > before+4<<20 {
		t.Errorf("heap grew from %d to %d bytes by %d packets", before, after, st.Received)
	}
	if st.Limited < st.Received/4 {
		t.Errorf("%+v", st)
	}
	stop()
	checkLeaks(t)
}

// TestConnectionsOfOneNodeAreBounded: beyond its share a node's connections are reset; closing one
// makes room for another.
func TestConnectionsOfOneNodeAreBounded(t *testing.T) {
	red, gray, _, _ := connect(t, 0)
	l, err := gray.Listen(9771)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, sourceConns+1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		c, err := red.Dial(t.Context(), netip.AddrPortFrom(gray4, 9771))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	var first net.Conn
	for i := range sourceConns {
		dial()
		if c := <-accepted; i == 0 {
			first = c
		}
	}
	// The reset comes while it dials or afterwards.
	c, err := red.Dial(t.Context(), netip.AddrPortFrom(gray4, 9771))
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("one connection too many ends with %v, want a reset", err)
	}
	if st := gray.Stats(); st.Limited != 1 {
		t.Errorf("%+v", st)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	dial()
	<-accepted
}

// FuzzInject: whatever a peer sends, the host keeps to its shares and goes on.
func FuzzInject(f *testing.F) {
	f.Add(syn(red4, gray4, 1))
	f.Add(wiretest.TCP{Src: netip.AddrPortFrom(red4, 1), Dst: netip.AddrPortFrom(gray4, 9771), Flags: wiretest.ACK}.Packet())
	f.Add(syn(red6, gray6, 1))
	f.Add([]byte{0x45})
	f.Add([]byte{0x6f, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := New(Config{Addresses: []netip.Addr{gray4, gray6}, MTU: 1400, Output: &cable{}, Logger: hclog.NewNullLogger()})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		for range inQueue + 1 {
			h.Inject(b)
		}
		if n := len(h.in); n > sourceQueue {
			t.Fatalf("%d packets of one node wait", n)
		}
		if st := h.Stats(); st.Received != inQueue+1 || st.Dropped+st.Limited+uint64(len(h.in)) != st.Received {
			t.Fatalf("%+v", st)
		}
	})
}
