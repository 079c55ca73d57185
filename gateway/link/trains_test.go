package link

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/tests/await"
)

// spoiler is a path between two nodes that receives trains whole (UDP_GRO) and passes only the
// first datagram of each, as broken network cards do.
type spoiler struct {
	conn   *net.UDPConn
	gray   netip.AddrPort
	spoils atomic.Bool
	trains atomic.Int64 // that it received from red
}

func newSpoiler(t *testing.T, p *pair) *spoiler {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := c.SyscallConn()
	if err == nil {
		errControl := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1) })
		if errControl != nil {
			err = errControl
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	x := &spoiler{conn: c, gray: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.port)}
	p.red.Peers[0].Endpoint = c.LocalAddr().String()
	var wg sync.WaitGroup
	wg.Go(x.run)
	t.Cleanup(func() {
		c.Close()
		wg.Wait()
	})
	return x
}

func (x *spoiler) run() {
	b, oob := make([]byte, 1<<16), make([]byte, 128)
	var red netip.AddrPort
	for {
		n, oobn, _, from, err := x.conn.ReadMsgUDPAddrPort(b, oob)
		if err != nil {
			return
		}
		m, to := b[:n], x.gray
		if from == x.gray {
			to = red
		} else {
			red = from
		}
		if size := segmentSize(oob[:oobn]); size > 0 && size < n {
			if from != x.gray {
				x.trains.Add(1)
			}
			for len(m) > 0 && to.IsValid() {
				_, _ = x.conn.WriteToUDPAddrPort(m[:min(size, len(m))], to)
				m = m[min(size, len(m)):]
				if x.spoils.Load() {
					break
				}
			}
			continue
		}
		if to.IsValid() {
			_, _ = x.conn.WriteToUDPAddrPort(m, to)
		}
	}
}

// segmentSize returns the size of a train's datagrams; 0 if there is one datagram only.
func segmentSize(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_UDP && m.Header.Type == unix.UDP_GRO && len(m.Data) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(m.Data)))
		}
	}
	return 0
}

// TestTrainsSpoiled: trains are lost while singles pass. The node finds out and sends singly, and
// what hosts send arrives again.
func TestTrainsSpoiled(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	x := newSpoiler(t, p)
	gray := start(t, p.gray)
	red := start(t, p.red)
	red.await("full size", 10*time.Second, func(s PeerState) bool { return s.MTU == 1420 })
	gray.await("up", 5*time.Second, isUp)
	bulk := packet("10.77.1.10:1000", "10.77.2.10:2000", string(make([]byte, 1300)))
	train := func() {
		for range 16 {
			red.path.In <- bulk
		}
	}
	await.True(t, "trains leave", func() bool { train(); return x.trains.Load() > 0 })
	x.spoils.Store(true)
	off := func() bool { return red.Snapshot()[0].TrainsOff }
	began := time.Now()
	await.True(t, "trains are called off", func() bool { train(); return off() })
	t.Logf("called off after %v", time.Since(began).Round(time.Millisecond))
	red.awaitLog("trains of datagrams (UDP GSO) are lost", 5*time.Second)
	if gray.Snapshot()[0].TrainsOff {
		t.Error("gray has called them off, too, and has sent none")
	}
	await.True(t, "all packets arrive", func() bool {
		before := x.trains.Load()
		for len(gray.path.Out) > 0 {
			<-gray.path.Out
		}
		train()
		await.True(t, "a train's worth", func() bool { return len(gray.path.Out) >= 16 || x.trains.Load() > before })
		return x.trains.Load() == before
	})
}

// TestSingly: a node that is told so sends no train.
func TestSingly(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.red.Singly = true
	x := newSpoiler(t, p)
	x.spoils.Store(true)
	gray := start(t, p.gray)
	red := start(t, p.red)
	red.await("up", 5*time.Second, isUp)
	gray.await("up", 5*time.Second, isUp)
	bulk := packet("10.77.1.10:1000", "10.77.2.10:2000", string(make([]byte, 1000)))
	for range 32 { // fewer than fill a socket's buffer
		red.path.In <- bulk
	}
	await.True(t, "all packets arrive", func() bool { return len(gray.path.Out) >= 32 })
	if n := x.trains.Load(); n != 0 {
		t.Errorf("%d trains", n)
	}
}
