package udp

import (
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"

	"github.com/onewaylink/gw/gateway/link/bind"
)

const (
	// receiveMessages is how many messages one system call may bring; with
	// GRO, each may hold dozens of datagrams.
	receiveMessages = 128
	// receiveBuffer is the longest message there can be. Memory that no
	// message has reached yet is not resident.
	receiveBuffer = 1 << 16
	// receivePause follows a failed system call, so that a failure that lasts
	// doesn't take a whole core.
	receivePause = 5 * time.Millisecond
)

// receiver takes datagrams from one socket. As long as the kernel brings long
// trains of coalesced datagrams, it is told to lay each of them where
// wireguard-go wants it (scatter.go). All else is read into buffers of the
// receiver's own and copied: wireguard-go's are 64 KB each, of which so only the
// first pages are ever touched. Not safe for concurrent use.
type receiver struct {
	c      *Carrier
	s      *socket
	closed <-chan struct{}
	eps    endpointCache

	msgs  [receiveMessages]mmsghdr
	names [receiveMessages]unix.RawSockaddrInet6
	iovs  [receiveMessages]unix.Iovec
	ctls  [receiveMessages][receiveControlSpace]byte
	bufs  []byte

	// What was read and not yet handed on: messages at to got; of the first,
	// the rest, its segment size and endpoint.
	at, got int
	rest    []byte
	segment int
	from    *Endpoint

	scatter    scatter
	moderation moderation

	asked int // messages that the next call may bring
	errno syscall.Errno
	try   func() bool      // tryRead, and
	call  func(fd uintptr) // receiveNow, once for all
}

func newReceiver(c *Carrier, s *socket, closed <-chan struct{}) *receiver {
	r := &receiver{c: c, s: s, closed: closed, bufs: make([]byte, receiveMessages*receiveBuffer)}
	r.try, r.call = r.tryRead, r.receiveNow
	for i := range r.msgs {
		buf := r.buffer(i)
		r.iovs[i].Base = &buf[0]
		r.iovs[i].SetLen(len(buf))
		h := &r.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Control = &r.ctls[i][0]
	}
	return r
}

// buffer is the receiver's own for the message read i-th.
func (r *receiver) buffer(i int) []byte { return r.bufs[i*receiveBuffer : (i+1)*receiveBuffer] }

// receive is a conn.ReceiveFunc. wireguard-go never calls again after an error,
// so it returns one only when the socket is closed.
func (r *receiver) receive(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	for {
		n := r.unpack(bufs, sizes, eps)
		if n == 0 {
			if err := r.fill(bufs); err != nil {
				return 0, err
			}
			n = r.scattered(bufs, sizes, eps)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// unpack copies datagrams out of the receiver's own buffers.
func (r *receiver) unpack(bufs [][]byte, sizes []int, eps []conn.Endpoint) (n int) {
	for n < len(bufs) {
		m := r.next()
		if m == nil {
			break
		}
		if len(m) > len(bufs[n]) {
			r.c.counters.drops[bind.ReceiveMalformed].Add(1)
			continue
		}
		sizes[n] = copy(bufs[n], m)
		eps[n] = r.from
		n++
	}
	return n
}

// next returns the next datagram that was read, nil if there is none.
func (r *receiver) next() []byte {
	for len(r.rest) == 0 {
		if r.at == r.got {
			return nil
		}
		r.open(r.at)
		r.at++
	}
	size := len(r.rest)
	if r.segment > 0 && r.segment < size {
		size = r.segment
	}
	m := r.rest[:size]
	r.rest = r.rest[size:]
	return m
}

// open makes the message read i-th the current one.
func (r *receiver) open(i int) {
	r.meet(i, parseControl(r.ctls[i][:r.msgs[i].hdr.Controllen]))
	r.rest = r.buffer(i)[:r.msgs[i].n]
}

// meet takes note of whose the message read i-th is, and what it consists of.
func (r *receiver) meet(i int, info received) {
	size := int(r.msgs[i].n)
	r.segment = info.segment
	key := endpointKey{name: r.names[i], local: info.local}
	if r.s.v6 {
		key.name.Flowinfo = 0 // not part of the address
	}
	r.from = r.eps.get(&key)
	r.scatter.learn(size, info.segment)

	datagrams := uint64(1)
	if r.segment > 0 {
		datagrams = uint64(size+r.segment-1) / uint64(r.segment)
	}
	r.c.counters.receivedDatagrams.Add(datagrams)
	r.c.counters.receivedBytes.Add(uint64(size))
}

// fill waits for messages and reads them: into bufs, if they are likely to be
// what fits there, or into the receiver's own buffers.
func (r *receiver) fill(bufs [][]byte) error {
	if most := time.Duration(r.c.moment.Load()); most > 0 {
		if d := r.moderation.wait(time.Now(), most); d > 0 {
			r.s.ready.hush()
			time.Sleep(d)
		}
	}
	for {
		r.asked = r.scatter.aim(&r.msgs, bufs)
		if r.asked == 0 {
			r.asked = receiveMessages
			for i := range r.msgs {
				r.msgs[i].hdr.Iov = &r.iovs[i]
				r.msgs[i].hdr.SetIovlen(1)
			}
		}
		for i := range r.asked {
			h := &r.msgs[i].hdr
			h.Namelen = unix.SizeofSockaddrInet6
			h.SetControllen(receiveControlSpace)
		}
		r.at, r.got = 0, 0
		if err := r.s.ready.wait(r.try); err != nil {
			return net.ErrClosed
		}
		if r.errno == 0 {
			bytes := 0
			for i := range r.msgs[:r.got] {
				bytes += int(r.msgs[i].n)
			}
			r.moderation.brought(r.got, r.asked, bytes)
			return nil
		}
		r.c.counters.receiveErrors.Add(1)
		select {
		case <-r.closed:
			return net.ErrClosed
		case <-time.After(receivePause):
		}
	}
}

// tryRead reads what there is, and reports false if that is nothing.
func (r *receiver) tryRead() bool {
	for {
		if r.s.raw.Control(r.call) != nil {
			r.got, r.errno = 0, unix.EBADF // closed, as the waiting receiver finds out
			return false
		}
		switch r.errno {
		case unix.EINTR:
		case unix.EAGAIN:
			r.got = 0
			return false
		case 0:
			return true
		default:
			r.got = 0
			return true
		}
	}
}

func (r *receiver) receiveNow(fd uintptr) { r.got, r.errno = r.s.recvmmsg(fd, r.msgs[:r.asked]) }
