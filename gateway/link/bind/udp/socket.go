package udp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketBuffer is the size in bytes asked for the kernel's send and receive
// buffers: 100 ms at 300 Mbit/s.
const socketBuffer = 4 << 20

// socket is the UDP socket of one address family. Safe for concurrent use.
type socket struct {
	file  *os.File // which Go's poller does not know
	raw   syscall.RawConn
	ready *readiness
	port  uint16
	v6    bool

	segment atomic.Bool // UDP_SEGMENT may be used on send

	// The system calls; tests put failing ones here.
	sendmmsg, recvmmsg func(fd uintptr, msgs []mmsghdr) (int, syscall.Errno)
}

// openSocket opens a socket on a port, any if 0. It returns nil if the host
// hasn't the address family.
func openSocket(v6 bool, port uint16) (*socket, error) {
	s := &socket{v6: v6, sendmmsg: sendmmsg, recvmmsg: recvmmsg}
	network := "udp4"
	if v6 {
		network = "udp6"
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if errControl := c.Control(func(fd uintptr) { err = s.configure(int(fd)) }); errControl != nil {
			return errControl
		}
		return err
	}}
	pc, err := lc.ListenPacket(context.Background(), network, ":"+strconv.Itoa(int(port)))
	switch {
	case errors.Is(err, unix.EAFNOSUPPORT):
		return nil, nil
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fmt.Errorf("listen on UDP port %d: another process holds it (see `ss -ulnp`): %w", port, err)
	case err != nil:
		return nil, fmt.Errorf("listen on UDP port %d: %w", port, err)
	}
	c := pc.(*net.UDPConn)
	s.port = c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	if err := errors.Join(s.takeOver(c), c.Close()); err != nil {
		return nil, fmt.Errorf("reach the socket on UDP port %d: %w", s.port, err)
	}
	return s, nil
}

// takeOver makes c's socket this one, of which Go's poller is told by readiness only.
func (s *socket) takeOver(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	fd := -1
	if errControl := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); errControl != nil {
		return errControl
	}
	if err != nil {
		return os.NewSyscallError("dup", err)
	}
	// A file that does not wait is one for the poller. No call here waits: MSG_DONTWAIT.
	if err := unix.SetNonblock(fd, false); err != nil {
		return errors.Join(os.NewSyscallError("set blocking", err), unix.Close(fd))
	}
	s.file = os.NewFile(uintptr(fd), "udp")
	if s.raw, err = s.file.SyscallConn(); err == nil {
		s.ready, err = newReadiness(s.raw)
	}
	if err != nil {
		return errors.Join(err, s.file.Close())
	}
	return nil
}

// close ends all calls that wait, and those to come.
func (s *socket) close() error { return errors.Join(s.ready.close(), s.file.Close()) }

func (s *socket) configure(fd int) error {
	type option struct {
		name              string
		level, opt, value int
	}
	must := []option{
		// Don't-fragment is always set, and no ICMP message, true or forged,
		// has any influence: the link measures the path MTU itself.
		{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE},
		// The local address of each datagram, to answer from.
		{"IP_PKTINFO", unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
	}
	if s.v6 {
		must = []option{
			{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
			{"IPV6_MTU_DISCOVER", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE},
			{"IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
		}
	}
	for _, o := range must {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	// The rest makes it faster, where kernel and privileges allow.
	for _, o := range []struct{ force, plain int }{
		{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF},
		{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF},
	} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.force, socketBuffer) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.plain, socketBuffer)
		}
	}
	_, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	s.segment.Store(err == nil)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	return nil
}

// openSockets opens a socket for each address family that the host has, on the
// same port.
func openSockets(port uint16) (v4, v6 *socket, err error) {
	// Two sockets can't be given one free port at once: the port that the
	// first got may be taken for the second.
	const tries = 100
	for try := 1; ; try++ {
		if v4, err = openSocket(false, port); err != nil {
			return nil, nil, err
		}
		port6 := port
		if v4 != nil {
			port6 = v4.port
		}
		if v6, err = openSocket(true, port6); err == nil {
			break
		}
		if v4 != nil {
			err = errors.Join(err, v4.close())
		}
		if port != 0 || !errors.Is(err, unix.EADDRINUSE) || try == tries {
			return nil, nil, err
		}
	}
	if v4 == nil && v6 == nil {
		return nil, nil, fmt.Errorf("this host has neither IPv4 nor IPv6: %w", unix.EAFNOSUPPORT)
	}
	return v4, v6, nil
}

// mmsghdr is the kernel's struct mmsghdr (sendmmsg(2), recvmmsg(2)).
// golang.org/x/net has these calls, too, but allocates an address for each
// datagram received.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32 // bytes sent or received
}

// The calls never block (MSG_DONTWAIT), so they are made without telling Go's
// scheduler: it would take the processor away from a goroutine that spends more
// than 20 us in the kernel, as each batch does, hand it to another thread, and
// back again.

func sendmmsg(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, fd,
		uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func recvmmsg(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd,
		uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// Control messages (cmsg(3), ip(7), ipv6(7), udp(7)). They are in the byte
// order of the machine.

// Space that control messages take: what a datagram sent or received may have
// is the source address and the size of the segments it is made of.
const (
	sourceControlSpace  = 40 // CMSG_SPACE(sizeof(struct in6_pktinfo)), the larger
	sendControlSpace    = sourceControlSpace + 24
	receiveControlSpace = 128
)

// appendControl appends one control message, padded as the kernel wants it.
func appendControl(b []byte, level, kind int32, data []byte) []byte {
	start := len(b)
	b = b[:start+unix.CmsgSpace(len(data))]
	clear(b[start:])
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[start]))
	h.Level = level
	h.Type = kind
	h.SetLen(unix.CmsgLen(len(data)))
	copy(b[start+unix.CmsgLen(0):], data)
	return b
}

// appendSegmentSize appends UDP_SEGMENT: the kernel cuts the datagram into
// datagrams of that size.
func appendSegmentSize(b []byte, size int) []byte {
	var data [2]byte
	binary.NativeEndian.PutUint16(data[:], uint16(size))
	return appendControl(b, unix.IPPROTO_UDP, unix.UDP_SEGMENT, data[:])
}

// appendSource appends the control message that has a datagram leave from a
// local address. The interface is left to the routing table: the way back need
// not be the way in.
func appendSource(b []byte, src netip.Addr) []byte {
	if src.Is4() {
		var info [unix.SizeofInet4Pktinfo]byte
		a := src.As4()
		copy(info[4:], a[:]) // ipi_spec_dst
		return appendControl(b, unix.IPPROTO_IP, unix.IP_PKTINFO, info[:])
	}
	var info [unix.SizeofInet6Pktinfo]byte
	a := src.As16()
	copy(info[:], a[:]) // ipi6_addr
	return appendControl(b, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, info[:])
}

// received is what the control messages of a datagram say.
type received struct {
	segment int      // bytes in each datagram that was coalesced; 0: just one
	local   [16]byte // the address it was sent to, 4 or 16 bytes of it
}

func parseControl(b []byte) (r received) {
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(h.Len)
		if size < unix.CmsgLen(0) || size > len(b) {
			return r
		}
		data := b[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			r.segment = int(int32(binary.NativeEndian.Uint32(data)))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			copy(r.local[:4], data[4:8]) // ipi_spec_dst
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			copy(r.local[:], data[:16]) // ipi6_addr
		}
		next := unix.CmsgSpace(len(data))
		if next >= len(b) {
			return r
		}
		b = b[next:]
	}
	return r
}
