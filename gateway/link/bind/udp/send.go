package udp

import (
	"net"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/gateway/link/bind"
)

// Bounds of a coalesced datagram: the kernel's UDP_MAX_SEGMENTS of old (it is
// 128 since Linux 6.9), and the longest payload that an IP header can tell.
const (
	maxSegments  = 64
	maxPayload4  = 1<<16 - 1 - 20 - 8
	maxPayload6  = 1<<16 - 1 - 8
	maxBatchSize = 128
)

// outgoing is a batch of datagrams to one endpoint on its way to the kernel.
// Equal ones in a row, and a shorter one behind them, make one message: the
// kernel cuts it up again (UDP_SEGMENT). The buffers are gathered from where
// they are.
type outgoing struct {
	to   *Endpoint
	msgs [maxBatchSize]mmsghdr
	runs [maxBatchSize]run
	iovs [maxBatchSize]unix.Iovec
	ctls [maxBatchSize][sendControlSpace]byte

	nmsgs, niovs int

	// The call under way, for write, which is made once.
	call  func(fd uintptr, msgs []mmsghdr) (int, syscall.Errno)
	from  int
	sent  int
	errno syscall.Errno
	try   func(fd uintptr) // tryWrite, once for all
}

// run is what one message consists of.
type run struct {
	first, count int // in iovs
	size         int // bytes of each datagram but the last
	total        int // bytes
	open         bool
}

var outgoingPool = sync.Pool{New: func() any {
	o := new(outgoing)
	o.try = o.tryWrite
	return o
}}

func newOutgoing(to *Endpoint) *outgoing {
	o := outgoingPool.Get().(*outgoing)
	o.to = to
	return o
}

// free gives the batch back, without a pointer to anybody's buffer: it would
// keep 64 KB alive for each.
func (o *outgoing) free() {
	o.reset()
	o.to = nil
	outgoingPool.Put(o)
}

func (o *outgoing) reset() {
	clear(o.iovs[:o.niovs])
	clear(o.msgs[:o.nmsgs])
	o.call = nil
	o.nmsgs, o.niovs = 0, 0
}

func (o *outgoing) full() bool { return o.niovs == maxBatchSize }

// add appends a datagram, in the message before if segment allows.
func (o *outgoing) add(b []byte, segment bool) {
	i := o.niovs
	o.niovs++
	o.iovs[i].Base = unsafe.SliceData(b)
	o.iovs[i].SetLen(len(b))

	if o.nmsgs > 0 && segment {
		limit := maxPayload4
		if o.to.nameLen == unix.SizeofSockaddrInet6 {
			limit = maxPayload6
		}
		r := &o.runs[o.nmsgs-1]
		if r.open && len(b) <= r.size && r.total+len(b) <= limit && r.count < maxSegments {
			r.count++
			r.total += len(b)
			r.open = len(b) == r.size
			return
		}
	}
	o.runs[o.nmsgs] = run{first: i, count: 1, size: len(b), total: len(b), open: len(b) > 0}
	o.nmsgs++
}

// seal makes the kernel's headers from the runs, from one of them on.
func (o *outgoing) seal(from int) {
	source := o.to.source()
	for i := from; i < o.nmsgs; i++ {
		r, h := &o.runs[i], &o.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&o.to.name))
		h.Namelen = o.to.nameLen
		h.Iov = &o.iovs[r.first]
		h.SetIovlen(r.count)
		control := append(o.ctls[i][:0], source...)
		if r.count > 1 {
			control = appendSegmentSize(control, r.size)
		}
		h.Control = nil
		if len(control) > 0 {
			h.Control = &control[0]
		}
		h.SetControllen(len(control))
	}
}

// write hands messages to the kernel, and waits while that has no room. The error is
// that the socket is closed.
func (o *outgoing) write(s *socket) error {
	for {
		if err := s.raw.Control(o.try); err != nil {
			return err
		}
		switch o.errno {
		default:
			return nil
		case unix.EINTR:
		case unix.EAGAIN:
			if err := s.raw.Control(awaitRoom); err != nil {
				return err
			}
		}
	}
}

func (o *outgoing) tryWrite(fd uintptr) { o.sent, o.errno = o.call(fd, o.msgs[o.from:o.nmsgs]) }

// awaitRoom waits until the kernel accepts more on a socket, or the closing goroutine has
// waited long enough. That is rare, so a thread may wait.
func awaitRoom(fd uintptr) {
	const patience = 10 // ms
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, patience)
}

// send hands the batch to the kernel. A datagram that can't be sent is counted
// and dropped, as a network does. It returns an error only when the socket is
// closed.
func (c *Carrier) send(s *socket, o *outgoing) error {
	o.seal(0)
	o.call = s.sendmmsg
	tooBig := false
	for o.from = 0; o.from < o.nmsgs; {
		if err := o.write(s); err != nil {
			return net.ErrClosed
		}
		if o.errno == 0 {
			c.countSent(o.runs[o.from : o.from+o.sent])
			o.from += o.sent
			continue
		}
		r := &o.runs[o.from]
		switch refusal := o.errno; {
		case r.count > 1 && refusedAsWhole(refusal):
			// EIO: the network card can't compute checksums (udp(7)).
			if refusal == unix.EIO {
				s.segment.Store(false)
			}
			if err := c.sendSingly(s, o, r); err != nil {
				return err
			}
			o.from++
			o.seal(o.from) // the source may have been cleared
		case o.to.sourceLen > 0 && !o.to.cleared.Load() && maybeSource(refusal):
			// The local address that the peer has dialled is gone, or leads
			// nowhere any more: leave it to the routing table.
			o.to.ClearSrc()
			o.seal(o.from)
		default:
			reason := sendReason(refusal)
			tooBig = tooBig || reason == bind.SendTooBig
			c.counters.drops[reason].Add(uint64(r.count))
			o.from++
		}
	}
	if tooBig && c.config.OnTooBig != nil {
		c.config.OnTooBig()
	}
	return nil
}

// sendSingly sends the datagrams of a message that was refused as a whole one
// by one: those that fit go out.
func (c *Carrier) sendSingly(s *socket, o *outgoing, r *run) error {
	c.counters.splitSends.Add(1)
	single := newOutgoing(o.to)
	defer single.free()
	for _, v := range o.iovs[r.first : r.first+r.count] {
		single.add(unsafe.Slice(v.Base, v.Len), false)
	}
	return c.send(s, single)
}

func (c *Carrier) countSent(runs []run) {
	var datagrams, bytes uint64
	for i := range runs {
		datagrams += uint64(runs[i].count)
		bytes += uint64(runs[i].total)
	}
	c.counters.sentDatagrams.Add(datagrams)
	c.counters.sentBytes.Add(bytes)
}

// refusedAsWhole: the datagrams of a coalesced message may fare better one by
// one. A segment over the MTU is EINVAL before Linux 6.14, EMSGSIZE since.
func refusedAsWhole(e syscall.Errno) bool {
	return e == unix.EMSGSIZE || e == unix.EINVAL || e == unix.EIO || e == unix.EOPNOTSUPP
}

// maybeSource: the source address may be to blame.
func maybeSource(e syscall.Errno) bool {
	switch e {
	case unix.EINVAL, unix.EADDRNOTAVAIL, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENODEV:
		return true
	}
	return false
}

func sendReason(e syscall.Errno) bind.Reason {
	switch e {
	case unix.EMSGSIZE:
		return bind.SendTooBig
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.ENODEV, unix.EADDRNOTAVAIL:
		return bind.SendNoRoute
	case unix.ENOBUFS, unix.ENOMEM:
		return bind.SendNoBuffer
	case unix.EPERM, unix.EACCES:
		return bind.SendForbidden
	}
	return bind.SendFailed
}
