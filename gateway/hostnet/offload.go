package hostnet

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/netstack/wire"
)

// tunOffloads is what the reader accepts unfinished. Not UDP segmentation, which the link does not
// use, and not TSO_ECN: the kernel then cuts the rare segment with CWR itself.
const tunOffloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6

// maxVec is how many pieces one system call gathers (UIO_MAXIOV), the header being one.
const maxVec = 1024

// offload is the driver that moves whole segments behind a virtio-net header.
type offload struct {
	name   string
	mtu    int
	file   *os.File
	raw    syscall.RawConn
	closed atomic.Bool
	reads  *transfer // the reader's own
	writes sync.Pool // of *transfer
}

var _ Device = (*offload)(nil)

func openOffload(c TUNConfig) (*offload, error) {
	fd, err := attach(c.Name, unix.IFF_VNET_HDR)
	if err != nil {
		return nil, err
	}
	err = errors.Join(setVnetHdrLen(fd), setOffload(fd, tunOffloads), setPersist(fd, c.Persist))
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	d := &offload{name: c.Name, mtu: c.MTU, file: os.NewFile(uintptr(fd), tunPath), reads: newTransfer()}
	d.raw, err = d.file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, d.file.Close())
	}
	d.writes.New = func() any { return newTransfer() }
	return d, nil
}

func (d *offload) Offload() bool { return true }
func (d *offload) Pending() bool { return pending(d.raw) }
func (d *offload) Name() string  { return d.name }
func (d *offload) MTU() int      { return d.mtu }

func (d *offload) SetReadDeadline(t time.Time) error { return d.file.SetReadDeadline(t) }

func (d *offload) Close() error {
	d.closed.Store(true)
	return d.file.Close()
}

func (d *offload) Read(b []byte) (int, wire.Offload, error) {
	if len(b) == 0 {
		return 0, wire.Offload{}, errors.New("read tun: empty buffer")
	}
	for {
		n, o, err := d.readOnce(b, d.reads.readv)
		if n > 0 || err != nil {
			return n, o, err
		}
	}
}

func (d *offload) TryRead(b []byte) (int, wire.Offload, error) {
	if len(b) == 0 {
		return 0, wire.Offload{}, errors.New("read tun: empty buffer")
	}
	return d.readOnce(b, d.reads.tryReadv)
}

// readOnce reads what may be no packet.
func (d *offload) readOnce(b []byte, readv func(fd uintptr) bool) (int, wire.Offload, error) {
	t := d.reads
	t.start()
	t.add(b)
	err := d.raw.Read(readv)
	n := t.finish()
	if err == nil && t.errno != 0 && t.errno != unix.EAGAIN {
		err = t.errno
	}
	if err != nil {
		return 0, wire.Offload{}, d.error("read", err)
	}
	if n <= vnetHdrLen {
		return 0, wire.Offload{}, nil
	}
	n -= vnetHdrLen
	return n, t.hdr.decode(b[:n]), nil
}

// Write gathers the header and the packet in one system call. It bypasses the poller and its lock:
// the kernel accepts packets from several writers at a time and blocks none.
func (d *offload) Write(vec [][]byte, o wire.Offload) error {
	if err := checkWrite(vec, o); err != nil {
		return fmt.Errorf("write tun %q: %w", d.name, err)
	}
	t := d.writes.Get().(*transfer)
	defer d.writes.Put(t)
	t.hdr.encode(vec[0], o)
	t.start()
	for _, b := range vec {
		t.add(b)
	}
	err := d.raw.Control(t.writev)
	t.finish()
	if err == nil && t.errno != 0 {
		err = t.errno
	}
	if err != nil {
		return d.error("write", err)
	}
	return nil
}

func checkWrite(vec [][]byte, o wire.Offload) error {
	switch {
	case len(vec) == 0 || len(vec[0]) == 0:
		return errors.New("no packet")
	case len(vec) >= maxVec:
		return fmt.Errorf("packet of %d pieces: at most %d", len(vec), maxVec-1)
	case o.GSOSize != 0 && !o.NeedsCsum:
		return errors.New("a super-segment can't have a finished checksum")
	case o.GSOSize != 0 && int(o.CsumStart)+tcpMinHeader > len(vec[0]):
		return errors.New("the first piece must hold the headers of a super-segment")
	}
	return nil
}

func (d *offload) error(op string, err error) error {
	if d.closed.Load() {
		// The poller's own error for a closed file is none that errors.Is knows.
		return os.ErrClosed
	}
	return deviceError(d.name, op, d.raw, err)
}

// A transfer is one readv or writev: the header, then the packet's pieces. It is made once and used
// again, because a closure made for each call would be garbage for each packet.
type transfer struct {
	hdr   vnetHdr
	iov   []unix.Iovec
	n     int
	errno syscall.Errno
	// readv waits for a packet, tryReadv doesn't.
	readv, tryReadv func(fd uintptr) (done bool)
	writev          func(fd uintptr)
}

func newTransfer() *transfer {
	t := &transfer{iov: make([]unix.Iovec, 0, 8)}
	t.readv = func(fd uintptr) bool {
		t.call(unix.SYS_READV, fd)
		return t.errno != unix.EAGAIN
	}
	t.tryReadv = func(fd uintptr) bool {
		t.call(unix.SYS_READV, fd)
		return true
	}
	t.writev = func(fd uintptr) { t.call(unix.SYS_WRITEV, fd) }
	return t
}

func (t *transfer) start() {
	t.n, t.errno = 0, 0
	t.iov = t.iov[:0]
	t.add(t.hdr[:])
}

func (t *transfer) add(b []byte) {
	if len(b) == 0 {
		return
	}
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	t.iov = append(t.iov, v)
}

// finish drops the references to the caller's buffers and returns the number of bytes moved.
func (t *transfer) finish() int {
	clear(t.iov)
	return t.n
}

// call never blocks, since the descriptor doesn't. So Go's scheduler is not involved: it would take
// the processor from a goroutine that spends more than 20 us in the kernel, as a whole segment
// does, and give it to another thread.
func (t *transfer) call(trap, fd uintptr) {
	for {
		n, _, errno := unix.RawSyscall(trap, fd, uintptr(unsafe.Pointer(&t.iov[0])), uintptr(len(t.iov)))
		t.n, t.errno = int(n), errno
		if errno != unix.EINTR {
			return
		}
	}
}
