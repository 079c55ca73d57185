package lab

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// boxLink is the name of the TUN at either side of the box.
const boxLink = "box0"

// boxQueue is how many packets wait in a TUN for the box; what the kernel drops there
// is not counted, so it is ample.
const boxQueue = 20000

// Direction is a direction through the box.
type Direction int

// The two directions.
const (
	RedToGray Direction = iota
	GrayToRed
)

// Box impairs the WAN: a wire between two TUNs that is made worse on request.
// Its methods may be called from any goroutine, while packets flow.
type Box struct {
	dirs [2]*lane
	ns   [2]*Namespace
	fds  [2]int
	wg   sync.WaitGroup
}

// box puts a box between the WAN router and the far router.
func (l *Lab) box(wan, far *Namespace) (*Box, error) {
	b := &Box{ns: [2]*Namespace{wan, far}, fds: [2]int{-1, -1}}
	near4, near6 := netip.MustParsePrefix("192.0.2.1/30"), netip.MustParsePrefix("2001:db8:ff::1/64")
	far4, far6 := netip.MustParsePrefix("192.0.2.2/30"), netip.MustParsePrefix("2001:db8:ff::2/64")
	for i, addrs := range [][]netip.Prefix{{near4, near6}, {far4, far6}} {
		ns := b.ns[i]
		if err := ns.Do(func() (err error) {
			b.fds[i], err = openTUN(boxLink)
			return err
		}); err != nil {
			return b, fmt.Errorf("open the WAN box's TUN: %w", err)
		}
		link, err := ns.link.LinkByName(boxLink)
		if err == nil {
			err = ns.link.LinkSetTxQLen(link, boxQueue)
		}
		if err != nil {
			return b, fmt.Errorf("%s: queue of the WAN box's TUN: %w", ns.name, err)
		}
		if err := ns.configure(boxLink, addrs...); err != nil {
			return b, err
		}
	}
	for i := range 2 {
		if err := errors.Join(
			wan.Route(l.Gray.underlay[i], netip.Addr{}, boxLink),
			far.Route(l.Red.underlay[i], netip.Addr{}, boxLink),
		); err != nil {
			return b, err
		}
	}
	for d := range b.dirs {
		wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			return b, fmt.Errorf("WAN box: %w", err)
		}
		// The seed is fixed so that a test's losses are the same in every run, as
		// far as its packets are.
		lane := &lane{from: b.fds[d], to: b.fds[1-d], wake: wake, shaper: shaper{rnd: rand.New(rand.NewPCG(uint64(d), 77))}}
		lane.imp.Store(&Impairment{})
		b.dirs[d] = lane
		b.wg.Go(lane.run)
	}
	return b, nil
}

func openTUN(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("make TUN %s: %w", name, err)
	}
	return fd, nil
}

// close ends both lanes before it closes the descriptors that they use.
func (b *Box) close() error {
	for _, l := range b.dirs {
		if l != nil {
			l.closed.Store(true)
			l.poke()
		}
	}
	b.wg.Wait()
	var errs []error
	for _, l := range b.dirs {
		if l != nil {
			errs = append(errs, unix.Close(l.wake))
		}
	}
	for _, fd := range b.fds {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}

// Set impairs one direction from now on. Packets under way keep their times.
func (b *Box) Set(d Direction, imp Impairment) {
	b.dirs[d].imp.Store(&imp)
	b.dirs[d].poke()
}

// SetBoth impairs both directions alike.
func (b *Box) SetBoth(imp Impairment) {
	b.Set(RedToGray, imp)
	b.Set(GrayToRed, imp)
}

// Get is what a direction does now.
func (b *Box) Get(d Direction) Impairment { return *b.dirs[d].imp.Load() }

// Cut cuts or mends both directions and leaves the rest of the impairment as it
// is.
func (b *Box) Cut(cut bool) {
	for d := range b.dirs {
		imp := b.Get(Direction(d))
		imp.Cut = cut
		b.Set(Direction(d), imp)
	}
}

// SetLinkMTU changes the MTU, in bytes, of the link through the box in both directions. The
// routers then fragment, or send packet too big (RFC 1191, RFC 8201), as
// [Impairment.MTU] does not. Below 1280 the kernel turns IPv6 off.
func (b *Box) SetLinkMTU(mtu int) error {
	for _, ns := range b.ns {
		link, err := ns.link.LinkByName(boxLink)
		if err == nil {
			err = ns.link.LinkSetMTU(link, mtu)
		}
		if err != nil {
			return fmt.Errorf("%s: set MTU %d on %s: %w", ns.name, mtu, boxLink, err)
		}
	}
	return nil
}

// Stats is a snapshot of one direction's counters.
func (b *Box) Stats(d Direction) BoxStats {
	l := b.dirs[d]
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shaper.stats
}

// lane carries packets in one direction, on a thread of its own: it sleeps in
// poll until a packet arrives or one is due. Go's own timers are good to a
// millisecond only.
type lane struct {
	from, to, wake int
	imp            atomic.Pointer[Impairment]
	closed         atomic.Bool

	mu     sync.Mutex // guards shaper.stats against Stats; taken once a batch
	shaper shaper

	queue dueHeap
	seq   uint64
	free  [][]byte
}

func (l *lane) poke() {
	var one = [8]byte{1}
	// The only possible failure is a full counter, and then it is awake anyway.
	_, _ = unix.Write(l.wake, one[:])
}

const (
	// batch bounds how many packets are read before due ones are written.
	batch = 64
	// pace is how long a lane with a delay of at least slow sleeps after it has
	// worked, so that packets come and go in small batches. At 300 Mbit/s this
	// halves the box's CPU time, and no packet is off by much more than pace.
	pace = 100 * time.Microsecond
	slow = time.Millisecond
)

// maxPacket is what a TUN without offloads can hand out.
const maxPacket = 65536

func (l *lane) run() {
	// The kernel's slack for timers is per thread; the thread dies with the lane.
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // without it only less precise
	fds := []unix.PollFd{{Fd: int32(l.from), Events: unix.POLLIN}, {Fd: int32(l.wake), Events: unix.POLLIN}}
	buf := make([]byte, maxPacket)
	for !l.closed.Load() {
		var wait *unix.Timespec
		if len(l.queue) > 0 {
			ts := unix.NsecToTimespec(int64(max(0, time.Until(l.queue[0].due))))
			wait = &ts
		}
		if _, err := unix.Ppoll(fds, wait, nil); err != nil && !errors.Is(err, unix.EINTR) {
			panic(fmt.Sprintf("lab: poll in the WAN box: %v", err))
		}
		if fds[1].Revents != 0 {
			var b [8]byte
			_, _ = unix.Read(l.wake, b[:])
		}
		for l.work(buf) && l.imp.Load().Delay >= slow && !l.closed.Load() {
			ts := unix.NsecToTimespec(int64(pace))
			_ = unix.Nanosleep(&ts, nil) // a signal that cuts it short does no harm
		}
	}
}

// work reads and writes what there is, and reports whether there was any.
func (l *lane) work(buf []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	imp := l.imp.Load()
	now := time.Now()
	read := l.read(buf, now, imp)
	if imp.Delay >= slow {
		now = now.Add(pace / 2) // as often early as late
	}
	return l.write(now, imp) || read
}

// read reads what the TUN has, up to a batch.
func (l *lane) read(buf []byte, now time.Time, imp *Impairment) (some bool) {
	for range batch {
		n, err := unix.Read(l.from, buf)
		if err != nil || n <= 0 {
			return some // nothing there, or the interface is down
		}
		some = true
		due, copies := l.shaper.admit(now, n, imp)
		for _, at := range due[:copies] {
			l.seq++
			heap.Push(&l.queue, parcel{due: at, seq: l.seq, data: append(l.buffer(), buf[:n]...)})
		}
	}
	return some
}

// write delivers what is due by now.
func (l *lane) write(now time.Time, imp *Impairment) (some bool) {
	for len(l.queue) > 0 && !l.queue[0].due.After(now) {
		some = true
		p := heap.Pop(&l.queue).(parcel)
		if imp.Cut {
			l.shaper.stats.DroppedCut++
		} else if _, err := unix.Write(l.to, p.data); err != nil {
			l.shaper.stats.DroppedOut++
		} else {
			l.shaper.stats.Delivered++
			l.shaper.stats.Bytes += uint64(len(p.data))
		}
		l.free = append(l.free, p.data[:0])
	}
	return some
}

func (l *lane) buffer() []byte {
	if n := len(l.free); n > 0 {
		b := l.free[n-1]
		l.free = l.free[:n-1]
		return b
	}
	return make([]byte, 0, 2048)
}

// parcel is a packet under way; seq keeps those in order that are due together.
type parcel struct {
	due  time.Time
	seq  uint64
	data []byte
}

type dueHeap []parcel

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	if h[i].due.Equal(h[j].due) {
		return h[i].seq < h[j].seq
	}
	return h[i].due.Before(h[j].due)
}
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)   { *h = append(*h, x.(parcel)) }
func (h *dueHeap) Pop() any {
	old := *h
	n := len(old) - 1
	p := old[n]
	old[n] = parcel{}
	*h = old[:n]
	return p
}
