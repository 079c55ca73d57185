package hostnet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const tunPath = "/dev/net/tun"

// attach opens /dev/net/tun and makes the descriptor the queue of the TUN of that name, which is
// made if there is none. The descriptor does not block: Go's poller accepts it now that it belongs
// to a device (the kernel reports an error event for one without a device).
func attach(name string, flags uint16) (fd int, err error) {
	fd, err = unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return -1, fmt.Errorf("%w: modprobe tun", ErrNoTUN)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return -1, fmt.Errorf("open %s: %w: run gw as root, or add the device to the container", tunPath, ErrNotPermitted)
	case err != nil:
		return -1, fmt.Errorf("open %s: %w", tunPath, err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return -1, attachError(name, err)
	}
	return fd, nil
}

func attachError(name string, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		if who := holder(name); who != "" {
			return fmt.Errorf("%w: %s: stop it, or set another tun name for this node", ErrBusy, who)
		}
		return fmt.Errorf("%w: stop it, or set another tun name for this node", ErrBusy)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: ip link del dev %s", ErrNotTUN, name)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("make the device: %w: run gw as root or with CAP_NET_ADMIN", ErrNotPermitted)
	}
	return fmt.Errorf("make the device: %w", err)
}

// holder names the process that has the TUN open ("process 1234 (gw)"), or nothing when /proc does
// not tell. A TUN's fdinfo has a line "iff:\tNAME". Other namespaces may have devices of that name:
// processes in this namespace come first, and in doubt all are named.
func holder(name string) string {
	infos, err := filepath.Glob("/proc/[0-9]*/fdinfo/*")
	if err != nil {
		return ""
	}
	space, _ := os.Readlink("/proc/thread-self/ns/net")
	var here, elsewhere []string
	for _, path := range infos {
		info, err := os.ReadFile(path)
		if err != nil || !hasLine(string(info), "iff:\t"+name) {
			continue
		}
		proc := filepath.Dir(filepath.Dir(path))
		comm, err := os.ReadFile(filepath.Join(proc, "comm"))
		if err != nil {
			continue
		}
		who := fmt.Sprintf("process %s (%s)", filepath.Base(proc), strings.TrimSpace(string(comm)))
		if its, _ := os.Readlink(filepath.Join(proc, "ns/net")); its == space {
			here = append(here, who)
		} else {
			elsewhere = append(elsewhere, who)
		}
	}
	if len(here) == 0 {
		here = elsewhere
	}
	return strings.Join(slices.Compact(here), " or ")
}

func hasLine(text, line string) bool {
	for l := range strings.Lines(text) {
		if strings.TrimSuffix(l, "\n") == line {
			return true
		}
	}
	return false
}

func setPersist(fd int, on bool) error {
	v := 0
	if on {
		v = 1
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, v); err != nil {
		return fmt.Errorf("set persist: %w", err)
	}
	return nil
}

// setOffload tells the kernel which unfinished packets the reader accepts. Set it on every open: a
// persistent device remembers its last owner's setting, and would send 64 KB segments to a reader
// of single packets.
func setOffload(fd int, flags int) error {
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, flags); err != nil {
		return fmt.Errorf("set offloads: %w", err)
	}
	return nil
}

func setVnetHdrLen(fd int) error {
	n := int32(vnetHdrLen)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETVNETHDRSZ, uintptr(unsafe.Pointer(&n)))
	if errno != 0 {
		return fmt.Errorf("set the size of the vnet header: %w", errno)
	}
	return nil
}

// pending asks the kernel whether a read would find something. A device that is closed has nothing.
func pending(raw syscall.RawConn) bool {
	var n int
	err := raw.Control(func(fd uintptr) {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	return err == nil && n > 0
}
