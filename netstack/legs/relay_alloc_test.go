//go:build !race

package legs

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/netstack/stacktest"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// A treadmill is a relay whose near database acknowledges whatever it is written, and
// whose trunk gives and takes frames without keeping any, so that what is allocated
// is the relay's.
type treadmill struct {
	tb      testing.TB
	legs    *Stack
	relay   *Relay
	stop    func()
	written atomic.Uint32 // payload bytes that the near database has
	carried atomic.Int64  // and that the other gateway has
	acked   uint32

	mu      sync.Mutex
	feed    []int // payload bytes of the next frames for the near database
	fed     uint32
	payload []byte
	closed  atomic.Bool
	served  atomic.Bool
	ready   atomic.Bool // source must be called
	source  func()
	sink    func()
	ended   func()

	packet wire.Packet // a 64 KB segment of the near database
	ack    wire.Packet // an acknowledgement
	sent   uint32
}

const millPayload = 64000

func (m *treadmill) WriteHost(vec [][]byte, _ wire.Offload) {
	end := binary.BigEndian.Uint32(vec[0][24:]) - f(0)
	for _, b := range vec[1:] {
		end += uint32(len(b))
	}
	if wire.SeqLess(m.written.Load(), end) {
		m.written.Store(end)
	}
}
func (m *treadmill) SendLink([]byte)     {}
func (m *treadmill) Heard(wire.Position) {}
func (m *treadmill) Detach(e End) {
	if e.Cause != EndClosing.Cause {
		m.tb.Errorf("ended by %+v", e)
	}
}

func (m *treadmill) Send(f *wire.Frame) error {
	m.carried.Add(int64(len(f.Payload)))
	return nil
}

func (m *treadmill) Serve(source, sink, ended func()) {
	m.source, m.sink, m.ended = source, sink, ended
	m.served.Store(true)
}

func (m *treadmill) Ready() { m.ready.Store(true) }

func (m *treadmill) Begin(int) (bool, error) { return true, nil }

func (m *treadmill) Write(p []byte) (int, error) {
	m.carried.Add(int64(len(p)))
	return len(p), nil
}

func (m *treadmill) Commit(*wire.Frame) error { return nil }

// TryReceive gives frames that acknowledge all that was carried.
func (m *treadmill) TryReceive(f *wire.Frame) (bool, error) {
	if m.closed.Load() {
		return false, net.ErrClosed
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.feed) == 0 {
		return false, nil
	}
	n := m.feed[0]
	m.feed = m.feed[:copy(m.feed, m.feed[1:])]
	ack := soloN + uint32(m.carried.Load())
	*f = wire.Frame{Kind: wire.FrameData, Seq: m.fed, Ack: ack, Edge: ack + 1<<22, Payload: m.payload[:n]}
	m.fed += uint32(n)
	return true, nil
}

func (m *treadmill) Close() {
	m.closed.Store(true)
	if m.ended != nil {
		m.ended()
	}
}
func (m *treadmill) Finish()          { m.Close() }
func (m *treadmill) Quality() Quality { return Quality{} }

func newTreadmill(tb testing.TB, check bool) *treadmill {
	m := &treadmill{tb: tb, payload: make([]byte, millPayload), fed: f(0)}
	var err error
	start := time.Now()
	if m.legs, err = New(Config{
		Near: m, Offload: true, Now: func() time.Duration { return time.Since(start) }, Alive: func() bool { return true },
		Logger: hclog.NewNullLogger(), Check: check,
	}); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { m.legs.Run(ctx); close(ran) }()
	m.stop = func() { cancel(); <-ran }
	tb.Cleanup(m.stop)
	conn := millConn(netip.AddrPortFrom(red4, 40000))
	other := wire.Connection{Near: conn.Far, Far: conn.Near, NearSaid: conn.FarSaid, FarSaid: conn.NearSaid, SACK: true}
	open := wire.Frame{Kind: wire.FrameOpen, Seq: f(0), Ack: n(0), Edge: n(1 << 22), Payload: appendOpening(nil, &other)}
	o, err := ParseOpening(&open)
	if err != nil {
		tb.Fatal(err)
	}
	if m.relay, err = m.legs.Accept(conn, m, m, &open, &o); err != nil {
		tb.Fatal(err)
	}
	s := wiretest.TCP{Src: conn.Near, Dst: conn.Far, Seq: n(0), Ack: f(0), Flags: wire.ACK, Window: 0xffff}
	wire.Parse(&m.ack, s.Packet())
	s.Payload = make([]byte, millPayload)
	wire.Parse(&m.packet, s.Packet())
	m.sent = n(0)
	m.until(m.served.Load)
	return m
}

func millConn(near netip.AddrPort) wire.Connection {
	return wire.Connection{
		Near: near, Far: netip.AddrPortFrom(gray4, 5432), SACK: true,
		NearSaid: wire.Position{End: n(0), Ack: f(0), Edge: f(0xffff << 7), Scale: 7, MSS: 1400},
		FarSaid:  wire.Position{End: f(0), Ack: n(0), Edge: n(1 << 22), Scale: 7, MSS: 1400},
	}
}

func (m *treadmill) until(cond func() bool) {
	end := time.Now().Add(stacktest.Deadline)
	for !cond() {
		if time.Now().After(end) {
			m.tb.Fatalf("stands still: %d bytes written, %d carried; %+v", m.written.Load(), m.carried.Load(), m.relay.Ended())
		}
		if m.served.Load() && m.ready.Swap(false) {
			m.source()
		}
		runtime.Gosched()
	}
}

// come has a frame with so many bytes come by the trunk.
func (m *treadmill) come(n int) {
	m.mu.Lock()
	m.feed = append(m.feed, n)
	m.mu.Unlock()
	m.sink()
}

// out relays a segment of the near database, in relays one to it.
func (m *treadmill) out() {
	want := m.carried.Load() + millPayload
	m.packet.Seq, m.packet.Ack = m.sent, m.acked+f(0)
	m.sent += millPayload
	m.relay.FromHost(&m.packet, false)
	m.relay.Settle()
	m.until(func() bool { return m.carried.Load() >= want })
	m.come(0) // acknowledged
}

func (m *treadmill) in() {
	want := m.acked + millPayload
	m.come(millPayload)
	m.until(func() bool {
		if end := m.written.Load(); end != m.acked {
			m.acked = end
			m.ack.Seq, m.ack.Ack = m.sent, end+f(0)
			m.relay.FromHost(&m.ack, false)
			m.relay.Settle()
		}
		return m.acked == want
	})
}

// The race detector empties pools and makes objects larger: this file is not built with it.

// TestRelayAllocates: relaying bulk each way allocates nothing of our own; what gVisor
// does for its segments is its business. Each allocation is judged by the function
// that makes it.
func TestRelayAllocates(t *testing.T) {
	for name, check := range map[string]bool{"": false, "checked": true} {
		t.Run(name, func(t *testing.T) {
			rate := runtime.MemProfileRate
			runtime.MemProfileRate = 1
			defer func() { runtime.MemProfileRate = rate }()
			m := newTreadmill(t, check)
			const rounds = 300
			for range rounds {
				m.in()
				m.out()
			}
			before := allocations()
			for range rounds {
				m.in()
				m.out()
			}
			after := allocations()
			ours, all := 0.0, 0.0
			for where, n := range after {
				n -= before[where]
				all += float64(n)
				// Pools are emptied by the garbage collector, so that it is not exactly none.
				if per := float64(n) / rounds; strings.HasPrefix(where, "github.com/onewaylink/gw/netstack") && per > 0.05 {
					t.Errorf("%.2f allocations for each segment in %s", per, where)
					ours += per
				}
			}
			t.Logf("%.1f allocations for a segment of %d bytes each way, %.2f of them ours", all/rounds, millPayload, ours)
		})
	}
}

// allocations counts them by the function that makes them, of which the runtime's own
// and those of sync are made on behalf of others.
func allocations() map[string]int64 {
	runtime.GC()
	runtime.GC() // what is counted lags behind by two
	var records []runtime.MemProfileRecord
	for n, ok := runtime.MemProfile(nil, true); ; {
		records = make([]runtime.MemProfileRecord, n+200)
		if n, ok = runtime.MemProfile(records, true); ok {
			records = records[:n]
			break
		}
	}
	byFunc := make(map[string]int64)
	for _, r := range records {
		frames := runtime.CallersFrames(r.Stack())
		for {
			f, more := frames.Next()
			if !strings.HasPrefix(f.Function, "runtime.") && !strings.HasPrefix(f.Function, "sync.") {
				if !strings.HasSuffix(f.File, "_test.go") {
					byFunc[f.Function] += r.AllocObjects
				}
				break
			}
			if !more {
				break
			}
		}
	}
	return byFunc
}

func benchmarkRelay(b *testing.B, check bool, step func(m *treadmill)) {
	m := newTreadmill(b, check)
	b.SetBytes(millPayload)
	b.ReportAllocs()
	for b.Loop() {
		step(m)
	}
	b.StopTimer()
	m.stop()
}

// BenchmarkRelay carries segments of 64 KB past one node, without the databases and
// the trunk.
func BenchmarkRelay(b *testing.B) {
	b.Run("in", func(b *testing.B) { benchmarkRelay(b, false, (*treadmill).in) })
	b.Run("out", func(b *testing.B) { benchmarkRelay(b, false, (*treadmill).out) })
	b.Run("in, checked", func(b *testing.B) { benchmarkRelay(b, true, (*treadmill).in) })
	b.Run("out, checked", func(b *testing.B) { benchmarkRelay(b, true, (*treadmill).out) })
}

// BenchmarkMake makes legs and destroys them, with their relays.
func BenchmarkMake(b *testing.B) {
	legs, stop := idleLegs(b)
	defer stop()
	b.ReportAllocs()
	for b.Loop() {
		waitReleased(b, legs, makeIdle(b, legs, 1))
	}
}

// idler is whatever an idle relay needs.
type idler struct{ *memTrunk }

func (idler) WriteHost([][]byte, wire.Offload) {}
func (idler) SendLink([]byte)                  {}
func (idler) Heard(wire.Position)              {}
func (idler) Detach(End)                       {}

func idleLegs(tb testing.TB) (*Stack, func()) {
	start := time.Now()
	legs, err := New(Config{
		Near: idler{}, Offload: true, Now: func() time.Duration { return time.Since(start) / 1000 }, // nothing takes too long
		Alive: func() bool { return true }, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { legs.Run(ctx); close(ran) }()
	return legs, func() { cancel(); <-ran }
}

// makeIdle makes relays that have nothing to do.
func makeIdle(tb testing.TB, legs *Stack, count int) []*Relay {
	var list []*Relay
	var wg sync.WaitGroup
	bell := stacktest.NewBell()
	for i := range count {
		conn := millConn(netip.AddrPortFrom(red4, uint16(1024+i)))
		mine, theirs := newTrunks(bell)
		other := wire.Connection{Near: conn.Far, Far: conn.Near, NearSaid: conn.FarSaid, FarSaid: conn.NearSaid, SACK: true}
		open := wire.Frame{Kind: wire.FrameOpen, Seq: f(0), Ack: n(0), Edge: n(1 << 22), Payload: appendOpening(nil, &other)}
		o, err := ParseOpening(&open)
		if err != nil {
			tb.Fatal(err)
		}
		r, err := legs.Accept(conn, idler{}, mine, &open, &o)
		if err != nil {
			tb.Fatal(err)
		}
		list = append(list, r)
		wg.Go(func() {
			var f wire.Frame
			if err := theirs.receive(&f); err != nil || f.Kind != wire.FrameAccept {
				tb.Errorf("%v, %v", f.Kind, err)
			}
		})
	}
	wg.Wait()
	return list
}

func waitReleased(tb testing.TB, legs *Stack, list []*Relay) {
	legs.ReleaseAll(EndMoved)
	stacktest.NewBell().Await(tb, "end of all relays", func() bool { return legs.Stats().Relayed == 0 })
}

// TestRelayMemory says what an idle relayed connection costs, and that it all comes
// back.
func TestRelayMemory(t *testing.T) {
	legs, stop := idleLegs(t)
	defer stop()
	const count = 500
	waitReleased(t, legs, makeIdle(t, legs, count)) // fills the pools
	before, goroutines := stacktest.Heap(), runtime.NumGoroutine()
	list := makeIdle(t, legs, count)
	during := stacktest.Heap()
	t.Logf("%d bytes of heap for each idle relayed connection, and %d goroutines", (during-before)/count, (runtime.NumGoroutine()-goroutines)/count)
	if each := (during - before) / count; each > 16<<10 {
		t.Errorf("%d bytes each", each)
	}
	waitReleased(t, legs, list)
	after := stacktest.Heap()
	if after > before+count*500 {
		t.Errorf("the heap has grown from %d to %d bytes", before, after)
	}
}
