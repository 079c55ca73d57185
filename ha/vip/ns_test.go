package vip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var spaces atomic.Int64 // how many were made

// space is a network namespace made for one test.
type space struct{ h netns.NsHandle }

// do runs f on a thread in the namespace. What f opens stays there.
func (s space) do(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		// The thread is not unlocked, so it ends with its goroutine.
		runtime.LockOSThread()
		err := netns.Set(s.h)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func newSpace(t *testing.T) (s space) {
	t.Helper()
	name := fmt.Sprintf("gw-vip-%d-%d", os.Getpid(), spaces.Add(1))
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // see do
		var err error
		s.h, err = netns.NewNamed(name)
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatalf("make network namespace (root is needed): %v", err)
	}
	t.Cleanup(func() {
		if err := s.h.Close(); err != nil {
			t.Error(err)
		}
		if err := netns.DeleteNamed(name); err != nil {
			t.Error(err)
		}
	})
	return s
}

// wire joins a gateway's namespace and a host's by a pair of interfaces called
// lan0, without any address but IPv6's link-local ones.
func wire(t *testing.T) (gateway, host space) {
	t.Helper()
	gateway, host = newSpace(t), newSpace(t)
	gateway.do(t, func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "lan0"}, PeerName: "lan0", PeerNamespace: netlink.NsFd(host.h),
		})
	})
	for i, s := range []space{gateway, host} {
		s.do(t, func() error {
			l, err := netlink.LinkByName("lan0")
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(l); err != nil {
				return err
			}
			// The kernel makes a link-local address too, but takes a while.
			a := net.IPNet{IP: net.IP{0: 0xfe, 1: 0x80, 15: byte(i + 1)}, Mask: net.CIDRMask(64, 128)}
			return netlink.AddrAdd(l, &netlink.Addr{IPNet: &a, Flags: unix.IFA_F_NODAD})
		})
	}
	return gateway, host
}

// run makes a Keeper in the namespace and runs it until the test ends.
func run(t *testing.T, s space, addrs ...netip.Addr) *Keeper {
	t.Helper()
	return runWith(t, s, Config{Addresses: addrs, Logger: hclog.NewNullLogger()})
}

func runWith(t *testing.T, s space, cfg Config) (k *Keeper) {
	t.Helper()
	cfg.Interface = "lan0"
	s.do(t, func() (err error) {
		k, err = New(cfg)
		return err
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return k
}

func interfaceOf(t *testing.T, s space) (ifi *net.Interface) {
	t.Helper()
	s.do(t, func() (err error) {
		ifi, err = net.InterfaceByName("lan0")
		return err
	})
	return ifi
}
