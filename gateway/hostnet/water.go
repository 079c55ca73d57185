package hostnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/songgao/water"
	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/netstack/wire"
)

// waterDevice is the portable driver: packet by packet, each of them finished.
type waterDevice struct {
	name string
	mtu  int
	file *os.File
	raw  syscall.RawConn
	try  tryRead   // the reader's own
	bufs sync.Pool // of *[MaxPacket]byte, to put a packet's pieces together in
}

var _ Device = (*waterDevice)(nil)

func openWater(c TUNConfig) (*waterDevice, error) {
	// If the device cannot be opened, the library leaks its descriptor and hides the error: try
	// first. This makes and deletes a device that does not exist yet.
	fd, err := attach(c.Name, 0)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(setOffload(fd, 0), unix.Close(fd)); err != nil {
		return nil, err
	}
	ifce, err := water.New(water.Config{
		DeviceType:             water.TUN,
		PlatformSpecificParams: water.PlatformSpecificParams{Name: c.Name, Persist: c.Persist},
	})
	if err != nil {
		return nil, attachError(c.Name, err)
	}
	file, ok := ifce.ReadWriteCloser.(*os.File)
	if !ok {
		return nil, errors.Join(fmt.Errorf("water gave a %T in place of a file", ifce.ReadWriteCloser), ifce.Close())
	}
	d := &waterDevice{name: ifce.Name(), mtu: c.MTU, file: file}
	d.try.call = d.try.read
	d.bufs.New = func() any { return new([MaxPacket]byte) }
	if err := d.prepare(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return d, nil
}

// prepare sets on the library's descriptor what the library does not: the reader accepts no
// unfinished packets, and child processes do not inherit it.
func (d *waterDevice) prepare() error {
	var err, opErr error
	if d.raw, err = d.file.SyscallConn(); err != nil {
		return err
	}
	err = d.raw.Control(func(fd uintptr) {
		unix.CloseOnExec(int(fd))
		opErr = setOffload(int(fd), 0)
	})
	return errors.Join(err, opErr)
}

func (d *waterDevice) Offload() bool { return false }
func (d *waterDevice) Pending() bool { return pending(d.raw) }
func (d *waterDevice) Name() string  { return d.name }
func (d *waterDevice) MTU() int      { return d.mtu }

func (d *waterDevice) SetReadDeadline(t time.Time) error { return d.file.SetReadDeadline(t) }

func (d *waterDevice) Close() error { return d.file.Close() }

func (d *waterDevice) Read(b []byte) (int, wire.Offload, error) {
	n, err := d.file.Read(b)
	if err != nil {
		return 0, wire.Offload{}, deviceError(d.name, "read", d.raw, err)
	}
	return n, wire.Offload{}, nil
}

// TryRead bypasses the library and the file, which both wait.
func (d *waterDevice) TryRead(b []byte) (int, wire.Offload, error) {
	t := &d.try
	t.buf = b
	err := d.raw.Read(t.call)
	t.buf = nil
	switch {
	case err == nil && t.err == unix.EAGAIN:
		return 0, wire.Offload{}, nil
	case err == nil:
		err = t.err
	case !errors.Is(err, os.ErrDeadlineExceeded):
		err = os.ErrClosed // the poller's own error is none that errors.Is knows
	}
	if err != nil {
		return 0, wire.Offload{}, deviceError(d.name, "read", d.raw, err)
	}
	return t.n, wire.Offload{}, nil
}

// A tryRead is one read that doesn't wait. It is made once, because a closure made for each call
// would be garbage for each packet.
type tryRead struct {
	buf  []byte
	n    int
	err  error
	call func(fd uintptr) (done bool)
}

func (t *tryRead) read(fd uintptr) bool {
	for {
		t.n, t.err = unix.Read(int(fd), t.buf)
		if t.err != unix.EINTR {
			return true
		}
	}
}

// Write finishes the checksum of a packet that needs it, and refuses one that is still to be cut.
func (d *waterDevice) Write(vec [][]byte, o wire.Offload) error {
	if len(vec) == 0 {
		return fmt.Errorf("write tun %q: no packet", d.name)
	}
	if o.GSOSize != 0 {
		return fmt.Errorf("write tun %q: %w", d.name, ErrNoOffload)
	}
	pkt := vec[0]
	if len(vec) > 1 || o.NeedsCsum {
		buf := d.bufs.Get().(*[MaxPacket]byte)
		defer d.bufs.Put(buf)
		n := 0
		for _, b := range vec {
			if n+len(b) > len(buf) {
				return fmt.Errorf("write tun %q: packet of more than %d bytes", d.name, MaxPacket)
			}
			n += copy(buf[n:], b)
		}
		pkt = buf[:n]
	}
	if o.NeedsCsum && !finishChecksum(pkt, o) {
		return fmt.Errorf("write tun %q: checksum field lies outside the packet", d.name)
	}
	if _, err := d.file.Write(pkt); err != nil {
		return deviceError(d.name, "write", d.raw, err)
	}
	return nil
}

// finishChecksum sums the packet from o.CsumStart on, its field for the checksum holding the
// pseudo-header's sum, and stores the complement there (RFC 1071). It reports false when the field
// is not inside the packet.
func finishChecksum(pkt []byte, o wire.Offload) bool {
	field := int(o.CsumStart) + int(o.CsumOffset)
	if field+2 > len(pkt) {
		return false
	}
	var sum uint32
	b := pkt[o.CsumStart:]
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	c := ^uint16(sum)
	if c == 0 {
		c = 0xffff // RFC 768: 0 would mean that there is none; to TCP both are the same
	}
	binary.BigEndian.PutUint16(pkt[field:], c)
	return true
}
