package hosttest

import (
	"bytes"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
)

// Packet is a packet that Device has received from a Path.
type Packet struct {
	B []byte
	O wire.Offload
}

// Device is a host in memory: it returns the packets that a test sends, and keeps those that are
// written to it. One goroutine reads; the methods are safe for concurrent use otherwise.
type Device struct {
	// The test sets these while no other goroutine uses the Device.
	CanOffload bool
	Fail       error           // Write returns it
	Setting    func(time.Time) // called before a deadline is set; may be nil
	Rearmed    func()          // called after a deadline was removed; may be nil

	wake chan struct{}

	// mu guards these.
	mu     sync.Mutex
	in     []Packet
	out    []Packet
	passed bool      // a deadline that has passed
	until  time.Time // a deadline in the future, which the Device never reaches
	closed bool
}

// NewDevice returns a Device without packets.
func NewDevice(offload bool) *Device {
	return &Device{CanOffload: offload, wake: make(chan struct{}, 1)}
}

func (d *Device) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Send queues a copy of b for Read.
func (d *Device) Send(b []byte, o wire.Offload) {
	d.mu.Lock()
	d.in = append(d.in, Packet{bytes.Clone(b), o})
	d.mu.Unlock()
	d.signal()
}

// SetClosed makes reads fail with os.ErrClosed once no packet waits, or ends that.
func (d *Device) SetClosed(closed bool) {
	d.mu.Lock()
	d.closed = closed
	d.mu.Unlock()
	d.signal()
}

// Close is SetClosed(true).
func (d *Device) Close() error {
	d.SetClosed(true)
	return nil
}

// Read implements flow.Host.
func (d *Device) Read(b []byte) (int, wire.Offload, error) {
	for {
		n, o, err := d.TryRead(b)
		if n > 0 || err != nil {
			return n, o, err
		}
		<-d.wake
	}
}

// TryRead implements flow.Host.
func (d *Device) TryRead(b []byte) (int, wire.Offload, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.passed:
		return 0, wire.Offload{}, os.ErrDeadlineExceeded
	case len(d.in) > 0:
		p := d.in[0]
		d.in = d.in[1:]
		return copy(b, p.B), p.O, nil
	case d.closed:
		return 0, wire.Offload{}, os.ErrClosed
	}
	return 0, wire.Offload{}, nil
}

// Write implements flow.Host.
func (d *Device) Write(vec [][]byte, o wire.Offload) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.Fail != nil {
		return d.Fail
	}
	d.out = append(d.out, Packet{slices.Concat(vec...), o})
	return nil
}

// SetReadDeadline implements flow.Host. A deadline in the future never passes by itself: Until
// returns it.
func (d *Device) SetReadDeadline(t time.Time) error {
	if d.Setting != nil {
		d.Setting(t)
	}
	d.mu.Lock()
	d.passed, d.until = false, time.Time{}
	if t.After(time.Now()) {
		d.until = t
	} else {
		d.passed = !t.IsZero()
	}
	d.mu.Unlock()
	d.signal()
	if t.IsZero() && d.Rearmed != nil {
		d.Rearmed()
	}
	return nil
}

// Offload implements flow.Host.
func (d *Device) Offload() bool { return d.CanOffload }

// Pending implements flow.Host.
func (d *Device) Pending() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.in) > 0
}

// Until returns the deadline in the future, or the zero time.
func (d *Device) Until() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.until
}

// Passed reports whether a deadline in the past is set.
func (d *Device) Passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed
}

// Written returns what was written since the last call.
func (d *Device) Written() []Packet {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.out
	d.out = nil
	return out
}

// Held returns how many packets Written would return.
func (d *Device) Held() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.out)
}
