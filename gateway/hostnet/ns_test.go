package hostnet

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A space is a network namespace made for one test.
type space struct {
	tb testing.TB
	h  netns.NsHandle
}

var spaces atomic.Int64 // how many were made

// newSpace makes a network namespace whose name carries the process id, with its
// loopback up.
func newSpace(tb testing.TB, name string) *space {
	tb.Helper()
	name = fmt.Sprintf("gw-hostnet-%d-%d-%s", os.Getpid(), spaces.Add(1), name)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		tb.Fatalf("get own network namespace: %v", err)
	}
	defer home.Close()
	h, err := netns.NewNamed(name)
	if err != nil {
		tb.Fatalf("make network namespace (root is needed): %v", err)
	}
	if err := netns.Set(home); err != nil {
		panic(err) // the thread would go on in the wrong namespace
	}
	tb.Cleanup(func() {
		if err := h.Close(); err != nil {
			tb.Error(err)
		}
		if err := netns.DeleteNamed(name); err != nil {
			tb.Error(err)
		}
	})
	s := &space{tb: tb, h: h}
	s.do(func() { s.up("lo") })
	return s
}

// do runs f on a thread that is in the namespace. What f opens stays there.
func (s *space) do(f func()) {
	s.tb.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		s.tb.Fatal(err)
	}
	defer home.Close()
	if err := netns.Set(s.h); err != nil {
		s.tb.Fatal(err)
	}
	defer func() {
		if err := netns.Set(home); err != nil {
			panic(err)
		}
	}()
	f()
}

// up brings an interface up and gives it addresses, inside do.
func (s *space) up(name string, addrs ...string) {
	s.tb.Helper()
	l := s.link(name)
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			s.tb.Fatal(err)
		}
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(l, addr); err != nil {
			s.tb.Fatalf("add %s to %s: %v", a, name, err)
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		s.tb.Fatal(err)
	}
}

func (s *space) link(name string) netlink.Link {
	s.tb.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		s.tb.Fatalf("find %s: %v", name, err)
	}
	return l
}

// open opens a device in the namespace. It is closed when the test ends.
func (s *space) open(c TUNConfig) (d Device) {
	s.tb.Helper()
	s.do(func() {
		var err error
		if d, err = Open(c); err != nil {
			s.tb.Fatal(err)
		}
	})
	s.tb.Cleanup(func() { d.Close() })
	return d
}

// udp gives a UDP socket of the namespace, bound to addr.
func (s *space) udp(addr string) (c *net.UDPConn) {
	s.tb.Helper()
	s.do(func() {
		var err error
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
		if err != nil {
			s.tb.Fatal(err)
		}
	})
	s.tb.Cleanup(func() { c.Close() })
	return c
}

// listen gives a TCP listener of the namespace.
func (s *space) listen(addr string) (l net.Listener) {
	s.tb.Helper()
	s.do(func() {
		var err error
		if l, err = net.Listen("tcp", addr); err != nil {
			s.tb.Fatal(err)
		}
	})
	s.tb.Cleanup(func() { l.Close() })
	return l
}

// dial connects from the namespace.
func (s *space) dial(addr string) (c net.Conn) {
	s.tb.Helper()
	s.do(func() {
		var err error
		if c, err = net.DialTimeout("tcp", addr, testTimeout); err != nil {
			s.tb.Fatal(err)
		}
	})
	s.tb.Cleanup(func() { c.Close() })
	return c
}
