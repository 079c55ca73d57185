package link

import (
	"math"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/link/linktest"
)

// flood is a Path that always has packets for its peer and counts those that arrive.
type flood struct {
	*linktest.Path
	pkt  []byte
	left atomic.Int64 // packets still to send
	got  atomic.Int64
	all  chan struct{} // closed when want packets arrived
	want int64
}

func (f *flood) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if f.left.Load() <= 0 {
		return f.Path.Read(bufs, sizes, offset)
	}
	for i := range bufs {
		sizes[i] = copy(bufs[i][offset:], f.pkt)
	}
	f.left.Add(-int64(len(bufs)))
	return len(bufs), nil
}

func (f *flood) Write(bufs [][]byte, offset int) (int, error) {
	if n := f.got.Add(int64(len(bufs))); n >= f.want && n-int64(len(bufs)) < f.want {
		close(f.all)
	}
	return len(bufs), nil
}

// TestBulkStaysBounded: whatever the host sends, the packets inside wireguard-go stay bounded.
// Without a bound it uses more than a gigabyte.
func TestBulkStaysBounded(t *testing.T) {
	const packets = 30_000
	p := newPair(t)
	from := &flood{Path: linktest.NewPath(16), pkt: packet("10.77.1.10:1000", "10.77.2.10:2000", string(make([]byte, 1392)))}
	to := &flood{Path: linktest.NewPath(16), all: make(chan struct{}), want: packets}
	p.red.Path, p.gray.Path = from, to
	gray, red := start(t, p.gray), start(t, p.red)
	red.await("up", 5*time.Second, isUp)
	gray.await("up", 5*time.Second, isUp)
	// The kernel may drop most datagrams of a busy machine: send until enough have arrived.
	from.left.Store(math.MaxInt64)
	defer from.left.Store(0)
	from.Wake()
	var peak uint64
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(20 * time.Second)
	for done := false; !done; {
		select {
		case <-to.all:
			done = true
		case <-tick.C:
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse)
			// A full gate lets up to four batches pass before it decides.
			if n := red.outbound.Inside(); n > outboundLimit+4*tunBatch {
				t.Errorf("%d packets inside on their way out", n)
			}
			if n := gray.bind.Intake().Inside(); n > inboundLimit+4*tunBatch {
				t.Errorf("%d packets inside on their way in", n)
			}
		case <-timeout:
			t.Fatalf("%d of %d packets arrived: %+v", to.got.Load(), packets, gray.Stats())
		}
	}
	t.Logf("heap in use at most %d MB in both nodes together", peak>>20)
	if peak > 400<<20 {
		t.Errorf("heap grew to %d MB", peak>>20)
	}
}
