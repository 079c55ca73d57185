package conntrack

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// A router is a network namespace that forwards between two TUN devices, whose other ends the test
// holds: "lan" leads to the site's host, "gw0" to the other site. The test runs on one thread
// inside it.
type router struct {
	t        *testing.T
	lan, far *os.File
}

// The connection of the tests: the site's host opened it.
var (
	host   = netip.MustParseAddrPort("10.77.1.10:40000")
	remote = netip.MustParseAddrPort("10.77.2.10:5432")
)

func newRouter(t *testing.T) *router {
	t.Helper()
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	space, err := netns.New()
	if err != nil {
		t.Fatalf("make a network namespace (root is needed): %v", err)
	}
	t.Cleanup(func() {
		space.Close()
		if err := netns.Set(home); err != nil {
			panic(err) // the thread would stay in the wrong namespace
		}
		home.Close()
		runtime.UnlockOSThread()
	})
	r := &router{t: t}
	r.lan, r.far = r.tun("lan"), r.tun("gw0")
	r.sh("ip link set lo up; ip link set lan up; ip link set gw0 up; ip route add 10.77.1.0/24 dev lan; ip route add 10.77.2.0/24 dev gw0; " +
		"sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.lan.rp_filter=0 net.ipv4.conf.gw0.rp_filter=0 net.ipv6.conf.all.disable_ipv6=1")
	return r
}

func (r *router) tun(name string) *os.File {
	r.t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		r.t.Fatal(err)
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		r.t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), name)
	r.t.Cleanup(func() { f.Close() })
	return f
}

func (r *router) sh(cmd string) {
	r.t.Helper()
	if out, err := exec.Command("sh", "-ec", cmd).CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v: %s", cmd, err, out)
	}
}

// passes sends a segment into the router and reports whether it comes out on the other side. A
// datagram that no rule drops follows it, so that a loss is certain without a wait.
func (r *router) passes(out bool, flags byte, seq, acked uint32, payload int) bool {
	r.t.Helper()
	in, to := r.lan, r.far
	src, dst := host, remote
	if !out {
		in, to = r.far, r.lan
		src, dst = remote, host
	}
	marker := netip.AddrPortFrom(dst.Addr(), 9)
	for _, pkt := range [][]byte{
		// The window has no scaling.
		wiretest.TCP{Src: src, Dst: dst, Seq: seq, Ack: acked, Flags: flags, Window: 1000, Payload: make([]byte, payload)}.Packet(),
		wiretest.UDP(netip.AddrPortFrom(src.Addr(), 9), marker, []byte("end")),
	} {
		if _, err := in.Write(pkt); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := to.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for passed := false; ; {
		n, err := to.Read(buf)
		if err != nil {
			r.t.Fatalf("the datagram behind the segment was dropped, too: %v", err)
		}
		switch pkt := buf[:n]; {
		case pkt[9] == unix.IPPROTO_UDP:
			return passed
		case pkt[9] == unix.IPPROTO_TCP:
			passed = true
		}
	}
}
