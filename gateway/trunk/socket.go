package trunk

import (
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// congestion repairs a link's loss without taking each for congestion.
	congestion = "bbr"
	// Backlog bounds what waits in the kernel unsent, in bytes, so that what a frame
	// says of the windows is not old when it leaves.
	Backlog = 128 << 10
	// userTimeout is how long sent bytes may stay unacknowledged (RFC 5482). A
	// relayed connection is released long before.
	userTimeout = 5 * time.Second
)

// keepAlive lets each end notice, after userTimeout, that the other is gone while
// nothing is said.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3}

// socket sets options before a socket is bound. Connections inherit them from the
// listener.
type socket struct {
	device string
	// congestion is the name of what the last socket has got.
	congestion atomic.Pointer[string]
}

// control is net.Dialer's and net.ListenConfig's Control.
func (s *socket) control(_, _ string, raw syscall.RawConn) error {
	var err error
	if cerr := raw.Control(func(fd uintptr) { err = s.set(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

func (s *socket) set(fd int) error {
	if s.device != "" {
		if err := unix.BindToDevice(fd, s.device); err != nil {
			return wrapSyscall("bind to device "+s.device, err)
		}
	}
	for _, o := range []struct {
		name  string
		opt   int
		value int
	}{
		{"TCP_NOTSENT_LOWAT", unix.TCP_NOTSENT_LOWAT, Backlog},
		{"TCP_USER_TIMEOUT", unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds())},
	} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, o.opt, o.value); err != nil {
			return wrapSyscall("set "+o.name, err)
		}
	}
	// A kernel without bbr leaves its default, which works and is slower.
	_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, congestion)
	name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil {
		return wrapSyscall("get TCP_CONGESTION", err)
	}
	if last := s.congestion.Load(); last == nil || *last != name {
		s.congestion.Store(&name)
	}
	return nil
}

// congestionName is what the last socket has got; empty before the first.
func (s *socket) congestionName() string {
	if name := s.congestion.Load(); name != nil {
		return *name
	}
	return ""
}

// wrapSyscall says what was asked of the kernel in vain.
func wrapSyscall(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }
