package udp

import (
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// A long train of datagrams under bulk is dozens of equal size. Once one has
// come, the kernel is told to lay the datagrams of the next ones where
// wireguard-go wants them, which saves copying them there.
const (
	// scatterSegments is how many datagrams make a message a train.
	scatterSegments = 8
	// scatterSize is the shortest datagram that is worth it, such that the
	// longest message takes no more than maxSegments of them.
	scatterSize = receiveBuffer / maxSegments
)

// scatter aims messages at wireguard-go's buffers. The zero value aims at none.
// Not safe for concurrent use.
type scatter struct {
	next  int // size of datagrams to expect in the next call; 0: no train
	size  int // of those expected in this one; 0: it wasn't aimed
	count int // buffers for each message
	iovs  [maxBatchSize]unix.Iovec
}

// learn takes note of a message: its size, and that of its datagrams.
func (s *scatter) learn(size, segment int) {
	if segment >= scatterSize && size >= scatterSegments*segment {
		s.next = segment
	}
}

// aim points messages at bufs and returns how many; 0 if no train is expected
// or bufs don't suit.
func (s *scatter) aim(msgs *[receiveMessages]mmsghdr, bufs [][]byte) int {
	s.size, s.next = s.next, 0
	if s.size == 0 {
		return 0
	}
	s.count = (receiveBuffer + s.size - 1) / s.size
	n := min(len(bufs), maxBatchSize) / s.count
	for i, b := range bufs[:n*s.count] {
		if len(b) < s.size {
			n = 0
			break
		}
		s.iovs[i].Base = unsafe.SliceData(b)
		s.iovs[i].SetLen(s.size)
	}
	for i := range n {
		msgs[i].hdr.Iov = &s.iovs[i*s.count]
		msgs[i].hdr.SetIovlen(s.count)
	}
	if n == 0 {
		s.size = 0
	}
	return n
}

// hit says whether a message lies as it was aimed: each datagram at the start of
// a buffer.
func (s *scatter) hit(size, segment int) bool {
	return segment == s.size || segment == 0 && size <= s.size
}

// gather copies the message read i-th from where it was aimed.
func (s *scatter) gather(to []byte, bufs [][]byte, i, size int) {
	for _, b := range bufs[i*s.count : (i+1)*s.count] {
		n := copy(to[:min(size, s.size)], b)
		to, size = to[n:], size-n
	}
}

// scattered hands on the datagrams that were read into bufs. A message that
// lies otherwise than it was aimed, and all behind it, it moves into the
// receiver's own buffers for unpack.
func (r *receiver) scattered(bufs [][]byte, sizes []int, eps []conn.Endpoint) (n int) {
	s := &r.scatter
	if s.size == 0 {
		return 0
	}
	clear(sizes[:r.got*s.count]) // wireguard-go passes over these
	for ; r.at < r.got; r.at++ {
		rest := int(r.msgs[r.at].n)
		info := parseControl(r.ctls[r.at][:r.msgs[r.at].hdr.Controllen])
		if !s.hit(rest, info.segment) {
			break
		}
		r.meet(r.at, info)
		for i := r.at * s.count; rest > 0; i++ {
			size := min(rest, s.size)
			rest -= size
			sizes[i], eps[i] = size, r.from
			n = i + 1
		}
	}
	for i := r.at; i < r.got; i++ {
		s.gather(r.buffer(i), bufs, i, int(r.msgs[i].n))
	}
	return n
}
