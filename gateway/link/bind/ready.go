package bind

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// readiness waits for a socket to be readable. It can be told to be quiet: a socket that
// Go's poller knows wakes a thread for each datagram that comes, also while nobody waits
// for it, and under bulk the receiver lets datagrams gather. So the poller knows an epoll
// instance instead, in which there is only the socket. One goroutine calls wait and hush.
type readiness struct {
	socket syscall.RawConn
	file   *os.File // the epoll instance
	raw    syscall.RawConn
	quiet  bool

	// What set and look need, made once: a closure for each call would be garbage.
	events      uint32
	err         error
	onSocket    func(fd uintptr)
	onEpoll     func(epoll uintptr)
	epoll       int
	try         func() bool
	lookOnEpoll func(epoll uintptr) bool
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
	op := unix.EPOLL_CTL_ADD
	r.onSocket = func(fd uintptr) {
		r.err = unix.EpollCtl(r.epoll, op, int(fd), &unix.EpollEvent{Events: r.events, Fd: int32(fd)})
	}
	r.onEpoll = func(epoll uintptr) {
		r.epoll = int(epoll)
		if err := r.socket.Control(r.onSocket); err != nil {
			r.err = err
		}
	}
	r.lookOnEpoll = func(epoll uintptr) bool {
		if r.try() {
			return true
		}
		if r.quiet {
			// It is seen by that if something came just now.
			r.quiet, r.events = false, unix.EPOLLIN
			r.onEpoll(epoll)
		}
		return false
	}
	r.events = unix.EPOLLIN
	r.raw, err = r.file.SyscallConn()
	if err == nil {
		err = r.set(unix.EPOLLIN)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch the socket: %w", err), r.file.Close())
	}
	op = unix.EPOLL_CTL_MOD
	return r, nil
}

// set says of what the poller is to hear.
func (r *readiness) set(events uint32) error {
	r.events, r.err = events, nil
	if err := r.raw.Control(r.onEpoll); err != nil {
		return err
	}
	return r.err
}

// hush keeps quiet about what comes until wait has to wait.
func (r *readiness) hush() {
	if !r.quiet {
		r.quiet = r.set(0) == nil
	}
}

// wait calls try, and again whenever there is something to read, until it returns true.
// The error is that of a closed socket.
func (r *readiness) wait(try func() bool) error {
	r.try = try
	return r.raw.Read(r.lookOnEpoll)
}

// close makes wait return.
func (r *readiness) close() error { return r.file.Close() }
