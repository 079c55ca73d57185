package flow

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

const (
	// After a refused super-segment, packets are written singly for singlyFirst. The time doubles
	// with each further refusal, up to singlyMost.
	singlyFirst = time.Second
	singlyMost  = 5 * time.Minute
	// refusesAfter is how many looks in a row must find refused writes only.
	refusesAfter = 3
	// probeAfter is how many looks without a write precede a probe.
	probeAfter = 10
)

// probePacket is an IPv4 header with a wrong checksum. The device accepts it, and the kernel
// discards it silently before any hook and any route (RFC 1122, section 3.2.1.2).
var probePacket = [wire.IPv4Header]byte{0: 0x45, 3: wire.IPv4Header, 8: 1, 9: 255, 10: 0xde, 11: 0xad}

// hostWriter writes packets to the host's device. What the kernel refuses with an offload it writes
// once more as single packets with finished checksums. Its methods but look are safe for concurrent
// use.
type hostWriter struct {
	host Host
	now  func() time.Duration

	accepted, refused atomic.Uint64 // writes, probes left out
	singly            atomic.Int64  // until when packets are written singly; 0: they are not
	last              atomic.Pointer[error]

	mu    sync.Mutex
	pause time.Duration // of the last refusal of a super-segment; guarded by mu

	// Only look touches these.
	lastAccepted, lastRefused uint64
	idle, bad                 int
}

// Refusals is what the host's device refuses.
type Refusals struct {
	// Singles reports that the device refuses all packets.
	Singles bool
	// Segments reports that it refused super-segments and takes the same bytes in single packets.
	Segments bool
	// Err is the last error of the device.
	Err error
}

// Refusals reports what the device refuses. Like Stuck it has one caller, at a steady pace. When
// nothing has been written for ten calls it writes a packet that the kernel discards, so that an
// idle node knows its device too.
func (p *Path) Refusals() Refusals { return p.writer.look() }

func (w *hostWriter) write(vec [][]byte, o wire.Offload) error {
	err := w.attempt(vec, o)
	if err == nil {
		w.accepted.Add(1)
		return nil
	}
	if !errors.Is(err, os.ErrClosed) { // the process ends
		w.failed(err)
		w.refused.Add(1)
	}
	return err
}

func (w *hostWriter) attempt(vec [][]byte, o wire.Offload) error {
	if o.GSOSize == 0 && !o.NeedsCsum {
		return w.host.Write(vec, o)
	}
	until := w.singly.Load()
	if until != 0 && int64(w.now()) < until {
		return w.plain(vec, o)
	}
	err := w.host.Write(vec, o)
	if err == nil {
		if until != 0 && o.GSOSize != 0 {
			w.mend()
		}
		return nil
	}
	if w.plain(vec, o) != nil {
		return err // not the offload's fault
	}
	w.failed(err)
	if !errors.Is(err, syscall.ENOBUFS) && !errors.Is(err, syscall.ENOMEM) && !errors.Is(err, syscall.EAGAIN) {
		w.fallBack()
	}
	return nil
}

func (w *hostWriter) failed(err error) { w.last.Store(&err) }

// fallBack makes writes single for a while.
func (w *hostWriter) fallBack() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if int64(now) < w.singly.Load() {
		return // another writer's attempt failed at the same time
	}
	w.pause = min(max(2*w.pause, singlyFirst), singlyMost)
	w.singly.Store(int64(now + w.pause))
}

// mend ends the fallback: a super-segment was accepted again.
func (w *hostWriter) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pause = 0
	w.singly.Store(0)
}

// plain writes what vec and o make up as packets that ask nothing of the device. It copies, and is
// not for a device that works.
func (w *hostWriter) plain(vec [][]byte, o wire.Offload) error {
	b := make([]byte, 0, size(vec))
	for _, piece := range vec {
		b = append(b, piece...)
	}
	var pkt wire.Packet
	if r := wire.Parse(&pkt, b); r != wire.OK {
		return errors.New("packet is damaged: " + r.String())
	}
	if o.GSOSize == 0 {
		pkt.FinishChecksum()
		return w.host.Write([][]byte{pkt.B}, wire.Offload{})
	}
	var c wire.Cutter
	out := make([]byte, pkt.Data+int(o.GSOSize))
	for c.Reset(&pkt, int(o.GSOSize), false); c.Busy(); {
		n := c.Next(out)
		if err := w.host.Write([][]byte{out[:n]}, wire.Offload{}); err != nil {
			return err
		}
	}
	return nil
}

// look counts the looks that find refused writes and no accepted one.
func (w *hostWriter) look() Refusals {
	accepted, refused := w.accepted.Load(), w.refused.Load()
	switch {
	case accepted != w.lastAccepted:
		w.idle, w.bad = 0, 0
	case refused != w.lastRefused:
		w.idle = 0
		w.bad++
	default:
		if w.idle++; w.idle >= probeAfter || w.bad > 0 {
			w.probe()
		}
	}
	w.lastAccepted, w.lastRefused = accepted, refused
	r := Refusals{Singles: w.bad >= refusesAfter, Segments: w.singly.Load() != 0}
	if err := w.last.Load(); err != nil {
		r.Err = *err
	}
	return r
}

func (w *hostWriter) probe() {
	w.idle = 0
	if err := w.host.Write([][]byte{probePacket[:]}, wire.Offload{}); err != nil && !errors.Is(err, os.ErrClosed) {
		w.failed(err)
		w.bad++
		return
	}
	w.bad = 0
}
