package udp

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// readiness waits for a socket to be readable. It can be told to be quiet: a socket that
// Go's poller knows wakes a thread for each datagram that arrives, also while none waits
// for it, and under bulk the receiver lets datagrams gather. So the poller knows an epoll
// instance instead, in which there is only the socket. One goroutine calls wait and hush.
type readiness struct {
	socket syscall.RawConn
	file   *os.File // the epoll instance
	raw    syscall.RawConn
	quiet  bool
	try    func() bool              // wait's
	look   func(epoll uintptr) bool // tryOrListen, once for all
}

func newReadiness(socket syscall.RawConn) (*readiness, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(epoll, true); err != nil { // or the poller would not take it
		return nil, errors.Join(os.NewSyscallError("set non-blocking", err), unix.Close(epoll))
	}
	r := &readiness{socket: socket, file: os.NewFile(uintptr(epoll), "epoll")}
	r.look = r.tryOrListen
	if r.raw, err = r.file.SyscallConn(); err == nil {
		err = r.control(uintptr(epoll), unix.EPOLL_CTL_ADD, unix.EPOLLIN)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch the socket: %w", err), r.file.Close())
	}
	return r, nil
}

// control says of what the poller is to hear.
func (r *readiness) control(epoll uintptr, op int, events uint32) (err error) {
	closed := r.socket.Control(func(fd uintptr) {
		err = unix.EpollCtl(int(epoll), op, int(fd), &unix.EpollEvent{Events: events, Fd: int32(fd)})
	})
	return errors.Join(closed, err)
}

// hush keeps quiet about what comes until wait has to wait.
func (r *readiness) hush() {
	if !r.quiet {
		_ = r.raw.Control(func(epoll uintptr) { r.quiet = r.control(epoll, unix.EPOLL_CTL_MOD, 0) == nil })
	}
}

// wait calls try, and again whenever there is something to read, until it returns true.
// The error is that of a closed socket.
func (r *readiness) wait(try func() bool) error {
	r.try = try
	return r.raw.Read(r.look)
}

// tryOrListen reports what try returns. Before it returns false, the poller watches the socket.
func (r *readiness) tryOrListen(epoll uintptr) bool {
	if r.try() {
		return true
	}
	if !r.quiet {
		return false
	}
	r.quiet = r.control(epoll, unix.EPOLL_CTL_MOD, unix.EPOLLIN) != nil
	// EPOLL_CTL_MOD wakes the poller only if the socket was not on the epoll instance's ready
	// list. It may still be there from before, so a datagram that has just arrived wakes none.
	return r.try()
}

// close makes wait return.
func (r *readiness) close() error { return r.file.Close() }
