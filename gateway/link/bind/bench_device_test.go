package bind_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/onewaylink/gw/gateway/link/bind"
)

// bulkTUN is a tun.Device that has packets without end once started, and
// counts those it is given.
type bulkTUN struct {
	packet        []byte
	start         chan struct{}
	closed        chan struct{}
	events        chan tun.Event
	out           *bind.Gate
	in            *bind.Intake
	window        *bind.Gate // end to end, as TCP has
	sent          atomic.Int64
	received      atomic.Int64
	receivedBytes atomic.Int64
	progress      chan struct{} // a token when more was received
}

func newBulkTUN(packet []byte, out, window *bind.Gate) *bulkTUN {
	return &bulkTUN{
		packet: packet, out: out, window: window,
		start: make(chan struct{}), closed: make(chan struct{}),
		events: make(chan tun.Event, 1), progress: make(chan struct{}, 1),
	}
}

func (b *bulkTUN) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	select {
	case <-b.start:
	case <-b.closed:
		return 0, os.ErrClosed
	}
	select {
	case <-b.closed:
		return 0, os.ErrClosed
	default:
	}
	n := min(len(bufs), 44) // what a 64 KB segment is cut into
	for i := range n {
		sizes[i] = copy(bufs[i][offset:], b.packet)
	}
	b.window.Enter(n)
	b.out.Enter(n)
	b.sent.Add(int64(n))
	return n, nil
}

func (b *bulkTUN) Write(bufs [][]byte, offset int) (int, error) {
	b.in.Leave(bufs)
	b.window.Leave(len(bufs))
	b.received.Add(int64(len(bufs)))
	for _, p := range bufs {
		b.receivedBytes.Add(int64(len(p) - offset))
	}
	select {
	case b.progress <- struct{}{}:
	default:
	}
	return len(bufs), nil
}

func (b *bulkTUN) File() *os.File           { return nil }
func (b *bulkTUN) MTU() (int, error)        { return 1420, nil }
func (b *bulkTUN) Name() (string, error)    { return "bulk", nil }
func (b *bulkTUN) Events() <-chan tun.Event { return b.events }
func (b *bulkTUN) BatchSize() int           { return 128 }
func (b *bulkTUN) Close() error {
	close(b.closed)
	close(b.events)
	return nil
}

// resetPeakRSS and peakRSS measure the process's peak of resident memory, MB
// (proc_pid_clear_refs(5), VmHWM in proc_pid_status(5)).
func resetPeakRSS(b *testing.B) {
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		b.Fatal(err)
	}
}

func peakRSS(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	var kB float64
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kB); err == nil {
			return kB / 1e3
		}
	}
	b.Fatal("no VmHWM in /proc/self/status")
	return 0
}

// BenchmarkDevices carries packets through two whole devices, without and with
// gates. One operation is a packet that has arrived; what doesn't is lost.
func BenchmarkDevices(b *testing.B) {
	for _, c := range []struct {
		name   string
		theirs bool
		limit  int // of both gates; 0: none
	}{
		{name: "std", theirs: true},
		{name: "gw"},
		{name: "gw/gates=1024", limit: 1024},
		{name: "gw/gates=512", limit: 512},
		{name: "gw/gates=256", limit: 256},
	} {
		b.Run(c.name, func(b *testing.B) {
			resetPeakRSS(b)
			_, redKey := newKey(b, 1)
			_, grayKey := newKey(b, 2)
			gate := func(limit int) *bind.Gate {
				if limit == 0 {
					return nil
				}
				return bind.NewGate(limit)
			}
			p := make([]byte, 1420)
			p[0] = 0x45
			binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
			copy(p[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
			out := gate(c.limit)
			window := bind.NewGate(4096)
			redTUN, grayTUN := newBulkTUN(p, out, window), newBulkTUN(nil, nil, window)
			redBind, grayBind := conn.NewStdNetBind(), conn.NewStdNetBind()
			if !c.theirs {
				redBind = bind.New(bind.Config{PublicKey: redKey, Peers: []bind.Peer{{PublicKey: grayKey, MayDial: true}}, Outbound: out}, newUDP())
				gray := bind.New(bind.Config{PublicKey: grayKey, Peers: []bind.Peer{{PublicKey: redKey, DialsIn: true}}, InboundLimit: c.limit}, newUDP())
				grayBind, grayTUN.in = gray, gray.Intake()
			}
			logger := device.NewLogger(device.LogLevelError, c.name+": ")
			red := startOn(b, redTUN, redBind, 1, 0, logger)
			gray := startOn(b, grayTUN, grayBind, 2, 0, logger)
			gray.peer(b, red, "")
			red.peer(b, gray, fmt.Sprintf("127.0.0.1:%d", gray.port))

			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			close(redTUN.start)
			<-grayTUN.progress
			from, sent, cpu := grayTUN.received.Load(), redTUN.sent.Load(), cpuTime(b)
			b.ResetTimer()
			for grayTUN.received.Load() < from+int64(b.N) {
				<-grayTUN.progress
			}
			b.StopTimer()
			cpu = cpuTime(b) - cpu
			received := grayTUN.received.Load() - from
			b.ReportMetric(float64(received)/b.Elapsed().Seconds(), "packets/s")
			b.ReportMetric(cpu.Seconds()/float64(received*int64(len(p)))*1e9, "cpu-s/GB")
			b.ReportMetric(peakRSS(b), "peak-MB")
			b.ReportMetric(100*float64(redTUN.sent.Load()-sent-received)/float64(received), "lost-%")
			b.ReportMetric(float64(out.Resets()), "resets")
			red.device.Close()
			gray.device.Close()
		})
	}
}
