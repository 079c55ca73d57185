package link

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// inNamespace makes a network namespace with a loopback device and returns how
// to run in it. A thread that was in it is thrown away with its goroutine.
func inNamespace(t *testing.T) (in func(run func())) {
	t.Helper()
	name := fmt.Sprintf("gw-link-%d-%s", os.Getpid(), t.Name())
	made := make(chan error, 1)
	in = func(run func()) {
		go func() {
			runtime.LockOSThread()
			ns, err := netns.GetFromName(name)
			if err != nil {
				t.Errorf("namespace %s: %v", name, err)
				return
			}
			defer ns.Close()
			if err := netns.Set(ns); err != nil {
				t.Errorf("enter namespace %s: %v", name, err)
				return
			}
			run()
		}()
	}
	go func() {
		runtime.LockOSThread()
		ns, err := netns.NewNamed(name)
		if err == nil {
			err = ns.Close()
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatalf("make namespace %s (this test needs root): %v", name, err)
	}
	t.Cleanup(func() {
		if err := netns.DeleteNamed(name); err != nil {
			t.Errorf("delete namespace %s: %v", name, err)
		}
	})
	return in
}

// loopback sets the MTU of the namespace's loopback device and brings it up.
func loopback(t *testing.T, in func(func()), mtu int) {
	t.Helper()
	done := make(chan error, 1)
	in(func() {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetMTU(lo, mtu)
		}
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		done <- err
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// The interface's own MTU is lowered under a running link: the socket says
// EMSGSIZE, and the search starts at once instead of with the next check.
func TestInterfaceMTULowered(t *testing.T) {
	in := inNamespace(t)
	loopback(t, in, 1500)
	p := newPair(t)
	gray, red := startWith(t, p.gray, in), startWith(t, p.red, in)
	at := func(mtu int) func(PeerState) bool { return func(s PeerState) bool { return s.MTU == mtu } }
	red.await("full", 5*time.Second, at(1420))
	gray.await("full", 5*time.Second, at(1420))
	loopback(t, in, 1400)
	began := time.Now()
	big := packet("10.77.1.10:1000", "10.77.2.10:2000", string(make([]byte, 1392)))
	red.path.In <- big // as a sender would that knows nothing yet
	red.await("shrunk", 5*time.Second, at(1328))
	t.Logf("the path is known after %v", time.Since(began))
	gray.await("shrunk", 5*time.Second, at(1328))
	carries(t, red, gray, packet("10.77.1.10:1000", "10.77.2.10:2000", string(make([]byte, 1300))))
}
