package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxPath is the longest path of a unix socket: sun_path has 108 bytes with the final zero
// (unix(7)).
const maxPath = 107

// elsewhere is what helps where the directory can't be used.
const elsewhere = "choose another path with local { socket = … }"

// listen makes the socket at path, and its directory if it is missing. It replaces the socket of a
// dead process; a live one is an error.
func listen(path string) (*net.UnixListener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("open control socket %s: the path is longer than %d bytes; choose a shorter one with local { socket = … }", path, maxPath)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of control socket %s: %w; %s", path, err, elsewhere)
	}
	// Two gateways that start at the same time could each remove the other's new socket as a dead
	// one, between the check and the bind. So listen locks the directory; unlike a lock file, that
	// leaves nothing behind, and the kernel unlocks it if the process dies.
	lock, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory of control socket %s: %w; %s", path, err, elsewhere)
	}
	defer lock.Close()
	if err := retryInterrupted(func() error { return unix.Flock(int(lock.Fd()), unix.LOCK_EX) }); err != nil {
		return nil, fmt.Errorf("lock the directory of control socket %s: %w; %s", path, err, elsewhere)
	}
	if err := clearDead(path); err != nil {
		return nil, err
	}
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		// The file gets its mode from the unbound socket, so that it never exists with a wider one.
		if ctlErr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); ctlErr != nil {
			return ctlErr
		}
		return err
	}}
	l, err := private.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w; %s", err, elsewhere)
	}
	return l.(*net.UnixListener), nil
}

// clearDead removes a socket without a listener. Anything else in its place is an error.
func clearDead(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at control socket %s: %w; %s", path, err, elsewhere)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket %s: something that is no socket is in its place; move it away or choose another path with local { socket = … }", path)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		defer conn.Close()
		return fmt.Errorf("control socket %s: %w", path, &InUseError{PID: listenerPID(conn.(*net.UnixConn))})
	}
	// Only ECONNREFUSED proves that there is no listener. A full backlog, for example, means a slow
	// gateway.
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("look whether a gateway lives at control socket %s: %w; stop the process that has it, or %s", path, err, elsewhere)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove control socket of a dead gateway: %w; remove it as root, or %s", err, elsewhere)
	}
	return nil
}

// InUseError says that a live process listens on the control socket.
type InUseError struct {
	// PID is the process, or zero if it is in another namespace.
	PID int
}

// Error names the process and what to do.
func (e *InUseError) Error() string {
	if e.PID == 0 {
		return "a gateway is already running there; stop it first, or choose another path for this one with local { socket = … }"
	}
	return fmt.Sprintf("a gateway is already running there as process %d; stop it first, or choose another path for this one with local { socket = … }", e.PID)
}

// listenerPID asks for the process that called listen(2) on the other end; the answer needs no
// accept. Zero when unknown.
func listenerPID(c *net.UnixConn) int {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	var pid int
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	if err != nil {
		return 0
	}
	return pid
}

func retryInterrupted(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
