package udp

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

	"github.com/onewaylink/gw/gateway/link/bind"
	"github.com/onewaylink/gw/tests/await"
)

// Two hosts that a pair of veth devices connects.
const (
	nearDevice, farDevice = "near", "far"
	near4, far4           = "192.0.2.1", "192.0.2.2"
	near6, far6           = "2001:db8::1", "2001:db8::2"
)

// openHosts opens a Carrier at each of two hosts, and returns them with a handle
// for the near host's devices.
func openHosts(t *testing.T, config Config) (near, far *tap, host *netlink.Handle) {
	t.Helper()
	runtime.LockOSThread()
	origin, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, 2)
	spaces := make([]netns.NsHandle, 2)
	for i, side := range []string{nearDevice, farDevice} {
		names[i] = fmt.Sprintf("gw-udp-%d-%s", os.Getpid(), side)
		if spaces[i], err = netns.NewNamed(names[i]); err != nil {
			t.Fatalf("make a network namespace (are you root?): %v", err)
		}
		t.Cleanup(func() {
			if err := spaces[i].Close(); err != nil {
				t.Error(err)
			}
			if err := netns.DeleteNamed(names[i]); err != nil {
				t.Error(err)
			}
		})
	}
	// Taken up before the cleanups above, for they would delete the namespace
	// that this thread is in.
	t.Cleanup(func() {
		if err := netns.Set(origin); err != nil {
			t.Fatal(err) // the thread is not unlocked, and ends with the test
		}
		origin.Close()
		runtime.UnlockOSThread()
	})

	enter := func(i int) {
		t.Helper()
		if err := netns.Set(spaces[i]); err != nil {
			t.Fatal(err)
		}
	}
	enter(0)
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: nearDevice, MTU: 1500},
		PeerName:      farDevice,
		PeerNamespace: netlink.NsFd(spaces[1]),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	if host, err = netlink.NewHandleAt(spaces[0]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	address(t, nearDevice, near4+"/24", near6+"/64")
	near = openTap(t, config)
	enter(1)
	address(t, farDevice, far4+"/24", far6+"/64")
	far = openTap(t, Config{})

	nearLink, err := host.LinkByName(nearDevice)
	if err != nil {
		t.Fatal(err)
	}
	farLink, err := netlink.LinkByName(farDevice)
	if err != nil {
		t.Fatal(err)
	}
	// The kernel drops what a device sends until its queue is active, which a worker of the
	// kernel does some time after both ends are up, together with the operational state.
	operates := func(h *netlink.Handle, name string) bool {
		l, err := h.LinkByName(name)
		return err == nil && l.Attrs().OperState == netlink.OperUp
	}
	farHost, err := netlink.NewHandleAt(spaces[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(farHost.Close)
	await.True(t, "both devices operate", func() bool {
		return operates(host, nearDevice) && operates(farHost, farDevice)
	})
	// Neighbor discovery would take a second: the far device is up too late for the first
	// solicitation.
	if err := host.NeighAdd(&netlink.Neigh{
		LinkIndex: nearLink.Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: net.ParseIP(far6), HardwareAddr: farLink.Attrs().HardwareAddr,
	}); err != nil {
		t.Fatal(err)
	}
	return near, far, host
}

// address gives addresses to a device of the namespace that this thread is in.
func address(t *testing.T, device string, addresses ...string) {
	t.Helper()
	link, err := netlink.LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		ip, prefix, err := net.ParseCIDR(a)
		if err != nil {
			t.Fatal(err)
		}
		prefix.IP = ip
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: prefix, Flags: unix.IFA_F_NODAD}); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
}

// When the interface's MTU is lowered, what still fits goes out, also from
// among what doesn't; what doesn't is dropped and never fragmented.
func TestLoweredMTU(t *testing.T) {
	var tooBig atomic.Int32
	near, far, host := openHosts(t, Config{OnTooBig: func() { tooBig.Add(1) }})
	send := func(ip string, sizes ...int) {
		t.Helper()
		var bufs [][]byte
		for i, size := range sizes {
			bufs = append(bufs, makeMessage(size, i))
		}
		if err := near.Send(bufs, endpointTo(t, ip, far.port)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(sizes ...int) {
		t.Helper()
		for _, size := range sizes {
			if d := far.next(t); len(d.m) != size {
				t.Errorf("got a datagram of %d bytes, want %d", len(d.m), size)
			}
		}
	}
	for _, ip := range []string{far4, far6} {
		send(ip, 1452, 1452, 1452, 600, 64)
		want(1452, 1452, 1452, 600, 64)
	}
	if n := tooBig.Load(); n != 0 {
		t.Errorf("OnTooBig called %d times before anything was", n)
	}
	link, err := host.LinkByName(nearDevice)
	if err != nil {
		t.Fatal(err)
	}
	if err := host.LinkSetMTU(link, 1400); err != nil {
		t.Fatal(err)
	}
	for i, ip := range []string{far4, far6} {
		send(ip, 1452, 1452, 1452, 600, 64)
		want(600, 64)
		send(ip, 1453) // a probe
		send(ip, 1344, 1344)
		want(1344, 1344)
		if n := tooBig.Load(); n != int32(2*(i+1)) {
			t.Errorf("OnTooBig called %d times, want %d", n, 2*(i+1))
		}
		if n := near.Stats().Drops[bind.SendTooBig]; n != uint64(4*(i+1)) {
			t.Errorf("%d datagrams dropped as too big, want %d", n, 4*(i+1))
		}
	}
}

// A peer that no route leads to costs a counter, and no error: wireguard-go
// would say it for each packet.
func TestNoRoute(t *testing.T) {
	near, far, host := openHosts(t, Config{})
	unreachable := endpointTo(t, "203.0.113.1", far.port)
	if err := near.Send([][]byte{makeMessage(64, 0), makeMessage(64, 0)}, unreachable); err != nil {
		t.Errorf("Send: %v", err)
	}
	if n := near.Stats().Drops[bind.SendNoRoute]; n != 2 {
		t.Errorf("%d datagrams dropped for want of a route, want 2", n)
	}
	// The address that the peer had dialled moves away: it is answered still.
	if err := far.Send([][]byte{makeMessage(64, 0)}, endpointTo(t, near4, near.port)); err != nil {
		t.Fatal(err)
	}
	from := near.next(t).from
	link, err := host.LinkByName(nearDevice)
	if err != nil {
		t.Fatal(err)
	}
	second := netip.MustParsePrefix("192.0.2.9/24")
	if err := host.AddrReplace(link, netlinkAddr(second)); err != nil {
		t.Fatal(err)
	}
	if err := host.AddrDel(link, netlinkAddr(netip.MustParsePrefix(near4+"/24"))); err != nil {
		t.Fatal(err)
	}
	if err := host.AddrReplace(link, netlinkAddr(second)); err != nil {
		t.Fatal(err)
	}
	if err := near.Send([][]byte{makeMessage(64, 0)}, from); err != nil {
		t.Fatal(err)
	}
	if got := far.next(t).from.DstIP(); got != second.Addr() {
		t.Errorf("answered from %s, want %s", got, second.Addr())
	}
}

func netlinkAddr(p netip.Prefix) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
}
