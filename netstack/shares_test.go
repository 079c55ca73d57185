package netstack

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/stacktest"
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
	before := stacktest.Heap()
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
	if after := stacktest.Heap(); after > before+4<<20 {
		t.Errorf("heap grew from %d to %d bytes by %d packets", before, after, st.Received)
	}
	if st.Limited < st.Received/4 {
		t.Errorf("%+v", st)
	}
	stop()
	stacktest.CheckLeaks(t)
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

// FuzzInject lets another node send a running host a sequence of TCP segments, eight bytes each,
// and what is no segment. The host keeps to that node's shares, and in the end an honest node
// connects and is answered.
func FuzzInject(f *testing.F) {
	f.Add([]byte("\x02\x01\x00\x00\x00\x00\x00\x00\x10\x01\x00\x01\x00\x00\x00\x01")) // SYN, ACK
	f.Add([]byte("\x82\x01\x00\x00\x00\x00\x00\x00\x84\x01\xff\xff\xff\xff\x00\x00")) // SYN, RST over IPv6
	f.Add([]byte("\x40\x45\x00\x00\xff\xff\x00\x00\x40\x6f\xff\xff\x00\x00\x00\x00"))
	flood := []byte{}
	for i := range byte(60) {
		flood = append(flood, 2, i, 0, 0, 0, 0, 0, 0)
	}
	f.Add(flood)
	f.Fuzz(func(t *testing.T, script []byte) {
		red, gray, _, _ := connect(t, 0)
		l, err := gray.Listen(9771)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		served := make(chan struct{})
		go func() {
			defer close(served)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					_ = c.SetDeadline(time.Now().Add(time.Minute))
					_, _ = io.CopyN(c, c, 1)
				}()
			}
		}()
		blue4, blue6 := netip.MustParseAddr("10.77.3.1"), netip.MustParseAddr("fd77:3::1")
		for ; len(script) >= 8; script = script[8:] {
			x := script[:8]
			if x[0]&0x40 != 0 {
				gray.Inject(x[1:])
				continue
			}
			from, to := blue4, gray4
			if x[0]&0x80 != 0 {
				from, to = blue6, gray6
			}
			gray.Inject(wiretest.TCP{
				Src: netip.AddrPortFrom(from, uint16(x[1])), Dst: netip.AddrPortFrom(to, 9771),
				Seq: binary.BigEndian.Uint32(x[2:]), Ack: binary.BigEndian.Uint32(x[4:]), Flags: x[0] & 0x37, Window: uint16(x[7]), Payload: x[6:7],
			}.Packet())
		}
		c, err := red.Dial(t.Context(), netip.AddrPortFrom(gray4, 9771))
		if err != nil {
			t.Fatalf("the honest node: %v", err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := c.Write([]byte{7}); err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != 7 {
			t.Fatalf("the honest node reads %d, %v", b[0], err)
		}
		gray.shares.mu.Lock()
		defer gray.shares.mu.Unlock()
		for a, x := range gray.shares.source {
			if x.queued < 0 || x.queued > sourceQueue || x.conns < 0 || x.conns > sourceConns || x.syns > sourceSYNs {
				t.Errorf("%v uses %+v", a, *x)
			}
		}
		l.Close()
		<-served
	})
}
