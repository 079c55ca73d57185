package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// What WireGuard puts around a packet over IPv4: IP, UDP, and 32 bytes of its
// own. It pads to 16 bytes, so the measure is that coarse.
const (
	overhead = 20 + 8 + 32
	padding  = 16
)

// narrow is the MTU of the path in these tests, and what fits it inside.
const narrow = 1380

// measures waits until both gateways show a path MTU that fits the outer one.
func (n *network) measures(t *testing.T, outer int) {
	t.Helper()
	for _, nd := range []*node{n.red, n.gray} {
		nd.waitStatus(fmt.Sprintf("%s shows what fits %d bytes", nd.name, outer), func(s status.Status) bool {
			m := s.Links[0].MTUOut
			return m <= outer-overhead && m > outer-overhead-padding
		})
		t.Logf("%s measures %d in %d bytes", nd.name, nd.link().MTUOut, outer)
	}
}

// TestNarrowPath: a path that loses large packets without a word, as one does
// whose firewall filters ICMP, carries everything from the start.
func TestNarrowPath(t *testing.T) {
	n := newNetwork(t, setup{lab: lab.Config{Impaired: true}})
	n.Box.SetBoth(lab.Impairment{MTU: narrow})
	n.start()
	for _, w := range n.ways() {
		carriesBulk(t, w, 4<<20)
	}
	n.measures(t, narrow)
	for _, w := range n.ways() {
		t.Run("df "+w.name, func(t *testing.T) { reportsMTU(t, n, w) })
		t.Run("udp "+w.name, func(t *testing.T) { echoesDatagrams(t, w) })
		carriesBulk(t, w, 4<<20)
	}
	if s := n.Box.Stats(lab.RedToGray); s.DroppedMTU == 0 {
		t.Error("no packet was too large: the test has nothing to check")
	}
}

// reportsMTU: a sender that forbids fragments learns what fits, by ICMP as its
// kernel wants it, and then gets through.
func reportsMTU(t *testing.T, n *network, w way) {
	echo, err := lab.EchoUDP(t.Context(), w.to.Namespace, netip.AddrPortFrom(w.addr, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	c, err := w.from.Dial(t.Context(), "udp", echo.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	level, discover, option, headers := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_MTU, 28
	if w.addr.Is6() {
		level, discover, option, headers = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_MTU, 48
	}
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	mtu := 0
	control := func(fn func(fd int) error) {
		t.Helper()
		if err := lab.WithFD(raw, fn); err != nil {
			t.Fatal(err)
		}
	}
	const forbid = 2 // IP_PMTUDISC_DO and IPV6_PMTUDISC_DO
	control(func(fd int) error { return unix.SetsockoptInt(fd, level, discover, forbid) })
	// The first reports the device's MTU, the second the path's.
	for range 4 {
		control(func(fd int) (err error) {
			mtu, err = unix.GetsockoptInt(fd, level, option)
			return err
		})
		err = echoOnce(c, mtu-headers, 1)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EMSGSIZE) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	near := n.red
	if w.from == n.Gray.DB() {
		near = n.gray
	}
	if want := near.link().MTUOut; err != nil || mtu != want {
		t.Errorf("the sender's path MTU is %d bytes (%v), the gateway's %d", mtu, err, want)
	}
}

// wan is a path on which transfers last long enough for something to happen.
var wan = lab.Impairment{Rate: 200e6, QueueBytes: 1 << 20, Delay: 2 * time.Millisecond}

// TestPathNarrows: the path's MTU falls in the middle of transfers, and the
// routers send no ICMP error.
func TestPathNarrows(t *testing.T) {
	narrowPath(t, func(b *lab.Box) error {
		w := wan
		w.MTU = narrow
		b.SetBoth(w)
		return nil
	})
}

// TestPathNarrowsICMP is the same with routers that send ICMP errors, which the
// gateways' own kernels take.
func TestPathNarrowsICMP(t *testing.T) {
	narrowPath(t, func(b *lab.Box) error { return b.SetLinkMTU(narrow) })
}

func narrowPath(t *testing.T, change func(*lab.Box) error) *network {
	n := newNetwork(t, setup{lab: lab.Config{Impaired: true}})
	n.Box.SetBoth(wan)
	n.start()
	n.measures(t, 1420+overhead)
	red, gray := startWatch(t, n.Red.DB()), startWatch(t, n.Gray.DB())
	const size = 12 << 20
	runs := n.startTransfers(t, size)
	if err := runs[0].Reached(size / 4); err != nil {
		t.Fatal(err)
	}
	if err := change(n.Box); err != nil {
		t.Fatal(err)
	}
	n.finishTransfers(t, runs, 10*time.Second)
	n.measures(t, narrow)
	red.noResets(t)
	gray.noResets(t)
	return n
}
