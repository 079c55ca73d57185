package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// netnsDir is where iproute2 keeps named namespaces.
const netnsDir = "/run/netns"

// Namespace is a network namespace of the lab. Its methods may be called from
// any goroutine. It lives as long as the lab that made it.
type Namespace struct {
	name   string
	full   string
	logDir string
	handle netns.NsHandle
	link   *netlink.Handle

	mu       sync.Mutex
	captures []*Capture // stopped before the namespace goes
}

// newNamespace makes an empty namespace with its loopback up.
func newNamespace(full, name string) (*Namespace, error) {
	n := &Namespace{name: name, full: full}
	err := onThread(func() error {
		handle, err := netns.NewNamed(full)
		n.handle = handle
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make network namespace %s (are you root?): %w", full, err)
	}
	if n.link, err = netlink.NewHandleAt(n.handle); err != nil {
		return nil, errors.Join(fmt.Errorf("netlink in namespace %s: %w", full, err), n.remove())
	}
	lo, err := n.link.LinkByName("lo")
	if err == nil {
		err = n.link.LinkSetUp(lo)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("loopback in namespace %s: %w", full, err), n.remove())
	}
	return n, nil
}

// remove takes the namespace's name away and closes what is held of it. The
// kernel drops the namespace itself with the last process and socket in it.
func (n *Namespace) remove() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.captures {
		// A test that needs to know what it missed has called Stop.
		_ = c.Stop()
	}
	if n.link != nil {
		n.link.Close()
	}
	return errors.Join(netns.DeleteNamed(n.full), n.handle.Close())
}

// Name is the short name, for example "red-gw".
func (n *Namespace) Name() string { return n.name }

// FullName is the name for `ip netns exec`.
func (n *Namespace) FullName() string { return n.full }

// Path is the file that stands for the namespace.
func (n *Namespace) Path() string { return filepath.Join(netnsDir, n.full) }

// Netlink is a handle for links, addresses and routes of this namespace.
func (n *Namespace) Netlink() *netlink.Handle { return n.link }

// Do calls fn on a thread that is in the namespace, and returns its error.
// Sockets and files that fn opens stay in the namespace and may be used
// anywhere. fn runs on a goroutine of its own, so it must not call t.Fatal, and
// what it starts with the go statement is not in the namespace.
func (n *Namespace) Do(fn func() error) error {
	err := onThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter namespace: %w", err)
		}
		return fn()
	})
	if err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	return nil
}

// onThread calls fn on a thread whose namespace fn may change. The thread goes
// back to the scheduler only when it is in its first namespace again; otherwise
// it stays locked, and the runtime ends it together with its goroutine.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("the function ended its goroutine")
		defer func() { done <- err }()
		runtime.LockOSThread()
		home, homeErr := netns.Get()
		if homeErr != nil {
			err = fmt.Errorf("own namespace: %w", homeErr)
			return
		}
		defer home.Close()
		err = fn()
		if back := netns.Set(home); back != nil {
			err = errors.Join(err, fmt.Errorf("leave namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return <-done
}

// Dial connects from the namespace; it takes what [net.Dialer] takes, addresses
// as literals only. Multipath TCP is off.
func (n *Namespace) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	return n.DialWith(ctx, &d, network, address)
}

// DialWith is Dial with a dialer of the caller's, for a local address or socket
// options.
func (n *Namespace) DialWith(ctx context.Context, d *net.Dialer, network, address string) (c net.Conn, err error) {
	err = n.Do(func() error {
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Listen listens in the namespace, without Multipath TCP.
func (n *Namespace) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	return n.ListenWith(ctx, &lc, network, address)
}

// ListenWith is Listen with a configuration of the caller's, for socket options.
func (n *Namespace) ListenWith(ctx context.Context, lc *net.ListenConfig, network, address string) (l net.Listener, err error) {
	err = n.Do(func() error {
		l, err = lc.Listen(ctx, network, address)
		return err
	})
	return l, err
}

// ListenPacket opens a packet socket in the namespace.
func (n *Namespace) ListenPacket(ctx context.Context, network, address string) (c net.PacketConn, err error) {
	err = n.Do(func() error {
		var lc net.ListenConfig
		c, err = lc.ListenPacket(ctx, network, address)
		return err
	})
	return c, err
}

// Sysctl writes a value below /proc/sys/net, for example
// Sysctl("ipv4/ip_forward", "1").
func (n *Namespace) Sysctl(name, value string) error {
	return n.Do(func() error {
		f, err := os.OpenFile(filepath.Join("/proc/sys/net", name), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(value)
		return errors.Join(err, f.Close())
	})
}

// SetLink brings an interface up or down, as pulling its cable does.
func (n *Namespace) SetLink(ifname string, up bool) error {
	link, err := n.link.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("%s: interface %s: %w", n.name, ifname, err)
	}
	set := n.link.LinkSetDown
	if up {
		set = n.link.LinkSetUp
	}
	if err := set(link); err != nil {
		return fmt.Errorf("%s: set interface %s up=%t: %w", n.name, ifname, up, err)
	}
	return nil
}
