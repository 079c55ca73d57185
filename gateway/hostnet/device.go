package hostnet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/netstack/wire"
)

// MaxPacket is the size in bytes of the largest packet that a Device reads or writes: the maximum
// of an IPv4 header's total length (RFC 791, section 3.1).
const MaxPacket = 65535

// The drivers that TUNConfig.Driver names.
const (
	DriverOffload = "offload"
	DriverWater   = "water"
)

// Errors that callers distinguish with errors.Is.
var (
	// ErrBusy reports that another process has the device open.
	ErrBusy = errors.New("another process has it open")
	// ErrNotTUN reports that another interface than a single-queue TUN has the name.
	ErrNotTUN = errors.New("an interface of that name exists and is not a single-queue tun device")
	// ErrNoTUN reports that the kernel has no TUN devices here.
	ErrNoTUN = errors.New("/dev/net/tun is missing")
	// ErrNotPermitted reports that this process may not make network devices.
	ErrNotPermitted = errors.New("not permitted")
	// ErrNoOffload reports that a super-segment was written to a Device whose Offload reports
	// false.
	ErrNoOffload = errors.New("device does not accept super-segments")
	// ErrGone reports that the device was deleted while it was open.
	ErrGone = errors.New("the device was deleted")
)

// A Device is an open TUN device. One goroutine reads; any number may write at the same time, and
// may write while one reads. SetReadDeadline and Close may be called at any time.
type Device interface {
	// Read reads one IP packet into b, which should hold MaxPacket bytes (a longer packet is
	// truncated), and returns what the sender left unfinished. It fails with os.ErrDeadlineExceeded
	// when the deadline has passed and with os.ErrClosed after Close.
	Read(b []byte) (n int, o wire.Offload, err error)
	// TryRead is Read for the same goroutine, but returns 0 without an error at once when no packet
	// is there.
	TryRead(b []byte) (n int, o wire.Offload, err error)
	// Write hands the kernel one IP packet: vec in its order, of at most 1023 pieces. Neither vec
	// nor what it holds is kept or changed. A super-segment must have an unfinished checksum, and
	// its headers in the first piece.
	Write(vec [][]byte, o wire.Offload) error
	// SetReadDeadline makes a waiting Read and later ones fail from t on. The zero time means
	// never.
	SetReadDeadline(t time.Time) error
	// Pending reports whether packets wait to be read.
	Pending() bool
	// Offload reports whether Write accepts super-segments and unfinished checksums, and whether
	// Read may return them.
	Offload() bool
	// Name is the interface's name, as the kernel has it.
	Name() string
	// MTU is the interface's MTU in bytes, as Open has set it.
	MTU() int
	// Close closes the device. The kernel deletes it unless it was opened with Persist. A Read that
	// waits returns.
	Close() error
}

// TUNConfig describes the device that Open opens.
type TUNConfig struct {
	// Name is the interface's name, of at most 15 bytes.
	Name string
	// MTU is the interface's MTU in bytes.
	MTU int
	// Driver is DriverOffload or DriverWater; empty means DriverOffload.
	Driver string
	// Persist keeps the device, its addresses and its routes when it is closed or the process dies,
	// and reuses a device that an earlier process has left. Without it Open removes such a device
	// first.
	Persist bool
}

// Open opens the TUN device that c describes, in the network namespace of the calling thread, and
// makes it if there is none. A new device is down and has no addresses: Apply brings it up.
func Open(c TUNConfig) (Device, error) {
	d, err := open(c)
	if err != nil {
		return nil, fmt.Errorf("open tun %q: %w", c.Name, advised(err))
	}
	if err := setLink(c); err != nil {
		return nil, errors.Join(fmt.Errorf("open tun %q: %w", c.Name, advised(err)), d.Close())
	}
	return d, nil
}

// advised adds what to do to an error that only the kernel can explain.
func advised(err error) error {
	for _, known := range []error{ErrBusy, ErrNotTUN, ErrNoTUN, ErrNotPermitted} {
		if errors.Is(err, known) {
			return err
		}
	}
	return fmt.Errorf("%w; see what the kernel says: dmesg, and try the other driver: local { tun { driver = … } }", err)
}

func open(c TUNConfig) (Device, error) {
	if len(c.Name) == 0 || len(c.Name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("the name must have 1 to %d bytes", unix.IFNAMSIZ-1)
	}
	if err := dropLeftOver(c); err != nil {
		return nil, err
	}
	switch c.Driver {
	case "", DriverOffload:
		return openOffload(c)
	case DriverWater:
		return openWater(c)
	}
	return nil, fmt.Errorf("no driver %q: use %q or %q", c.Driver, DriverOffload, DriverWater)
}

// setLink sets what the interface needs and a driver cannot set.
func setLink(c TUNConfig) error {
	l, err := netlink.LinkByName(c.Name)
	if err != nil {
		return fmt.Errorf("find its interface: %w", err)
	}
	if err := netlink.LinkSetMTU(l, c.MTU); err != nil {
		return fmt.Errorf("set mtu %d: %w", c.MTU, err)
	}
	n := queueLen(memory())
	if err := netlink.LinkSetTxQLen(l, n); err != nil {
		return fmt.Errorf("set queue length %d: %w", n, err)
	}
	return nil
}

// dropLeftOver removes a persistent device that an earlier process has left, unless c reuses it.
func dropLeftOver(c TUNConfig) error {
	if c.Persist {
		return nil
	}
	if _, err := net.InterfaceByName(c.Name); err != nil {
		return nil // there is none
	}
	fd, err := attach(c.Name, 0)
	if err != nil {
		return err
	}
	err = setPersist(fd, false)
	return errors.Join(err, unix.Close(fd))
}

// deviceError translates a driver's error to what Device promises.
func deviceError(name, op string, raw syscall.RawConn, err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	case errors.Is(err, os.ErrClosed):
		return os.ErrClosed
	case gone(raw):
		return fmt.Errorf("%s tun %q: %w: restart gw", op, name, ErrGone)
	case errors.Is(err, unix.EIO):
		return fmt.Errorf("%s tun %q: the interface is down: ip link set dev %s up: %w", op, name, name, err)
	}
	return fmt.Errorf("%s tun %q: %w", op, name, err)
}

// gone reports whether the descriptor's device was deleted. The failed call does not show it: a
// waiting reader gets an error of the poller.
func gone(raw syscall.RawConn) bool {
	var opErr error
	req, err := unix.NewIfreq("")
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) { opErr = unix.IoctlIfreq(int(fd), unix.TUNGETIFF, req) })
	return err == nil && errors.Is(opErr, unix.EBADFD)
}
