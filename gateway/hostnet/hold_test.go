package hostnet

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A killed gateway: its TUN is gone, its holds stand. Connections of its host and of a host
// behind it live on, nothing goes out by the default route, and a connection that a
// host behind it opens meanwhile comes about once the gateway is back.
func TestHoldKeepsConnections(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, gateway, lan, host, far string }{
		{"IPv4", "10.77.1.1", "10.77.1.30", "10.77.1.31", "10.77.2.1"},
		{"IPv6", "fd77:1::1", "fd77:1::30", "fd77:1::31", "fd77:2::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they spend their time waiting
			h := newHoldLab(t, c.lan, c.host, false)
			l := h.b.listen(net.JoinHostPort(c.far, "5432"))
			local, localFar := connect(t, h.a, c.lan, l)
			own, ownFar := connect(t, h.a, c.gateway, l) // by the address that goes with the TUN
			behind, behindFar := connect(t, h.behind, c.host, l)
			conns := []net.Conn{local, own, behind, localFar, ownFar, behindFar}

			h.kill()
			for _, conn := range conns {
				if _, err := conn.Write([]byte("said meanwhile")); err != nil {
					t.Fatal(err)
				}
			}
			opened := make(chan error, 1)
			go h.behind.do(func() {
				conn, err := net.DialTimeout("tcp", l.Addr().String(), 3*testTimeout)
				if err == nil {
					conn.Close()
				}
				opened <- err
			})
			awaitBackoff(t, local, 2)
			awaitBackoff(t, own, 2)
			awaitBackoff(t, behind, 2)
			h.a.do(func() {
				_, err := net.DialTimeout("tcp", l.Addr().String(), testTimeout)
				if !errors.Is(err, unix.EINVAL) {
					t.Errorf("connect of the gateway's host: %v", err)
				}
			})

			h.start(t)
			for _, conn := range conns {
				b := make([]byte, len("said meanwhile"))
				conn.SetReadDeadline(time.Now().Add(testTimeout))
				if _, err := io.ReadFull(conn, b); err != nil || string(b) != "said meanwhile" {
					t.Errorf("after the gateway is back: %q, %v", b, err)
				}
			}
			if err := <-opened; err != nil {
				t.Errorf("connection opened behind the gateway: %v", err)
			}
			h.leaked(t)
			// What comes from another interface has been put together by it, not by a
			// socket of this host.
			exchange(t, behind, behindFar, 4<<20)
		})
	}
}

// A killed gateway whose device persists: a connect of its own host waits too.
func TestPersistHoldsConnects(t *testing.T) {
	t.Parallel()
	h := newHoldLab(t, "10.77.1.30", "10.77.1.31", true)
	h.b.listen("10.77.2.1:5432")
	h.kill()
	var fd int
	h.a.do(func() {
		var err error
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0); err != nil {
			t.Fatal(err)
		}
	})
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 5432, Addr: [4]byte{10, 77, 2, 1}}); !errors.Is(err, unix.EINPROGRESS) {
		t.Fatalf("connect: %v", err)
	}
	h.start(t)
	events := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(events, int(testTimeout.Milliseconds())); n != 1 || events[0].Revents != unix.POLLOUT {
		t.Fatalf("not connected: %d %v %v", n, events, err)
	}
}

// connect connects from an address of a namespace.
func connect(t *testing.T, from *space, addr string, l net.Listener) (near, far net.Conn) {
	t.Helper()
	var err error
	from.do(func() {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}, Timeout: testTimeout}
		if near, err = d.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { near.Close() })
	far, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}

// awaitBackoff waits until a connection has repeated itself n times in vain.
func awaitBackoff(t *testing.T, c net.Conn, n uint8) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(testTimeout); ; <-tick.C {
		var info *unix.TCPInfo
		var opErr error
		err := raw.Control(func(fd uintptr) { info, opErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
		if err := errors.Join(err, opErr); err != nil {
			t.Fatal(err)
		}
		if info.Backoff >= n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%v: %d retransmissions in %v: %+v", c.LocalAddr(), info.Backoff, testTimeout, *info)
		}
	}
}

// A holdLab is red with a host behind its gateway and a default route, and gray.
type holdLab struct {
	a, b, behind *space
	config       Config
	persist      bool
	near, far    Device
	wan          Device // the default route leads here
	carriers     sync.WaitGroup
}

func newHoldLab(t *testing.T, lan, host string, persist bool) *holdLab {
	h := &holdLab{a: newSpace(t, "a"), b: newSpace(t, "b"), behind: newSpace(t, "behind"), config: red(), persist: persist}
	bits := "/24"
	if net.ParseIP(lan).To4() == nil {
		bits = "/64"
	}
	h.wan = h.a.open(TUNConfig{Name: "wan", MTU: testMTU})
	h.a.do(func() {
		if err := netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "lan"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(h.behind.h),
		}); err != nil {
			t.Fatal(err)
		}
		h.a.up("lan", lan+bits)
		h.a.up("wan", "192.0.2.1/24", "2001:db8::1/64")
		for _, p := range prefixes("0.0.0.0/0", "::/0") {
			if err := netlink.RouteAdd(&netlink.Route{Dst: netOf(p), LinkIndex: h.a.link("wan").Attrs().Index}); err != nil {
				t.Fatal(err)
			}
		}
		for _, path := range []string{"net/ipv4/conf/lan/forwarding", "net/ipv6/conf/all/forwarding"} {
			if err := writeSysctl(path, "1"); err != nil {
				t.Fatal(err)
			}
		}
	})
	h.behind.do(func() {
		h.behind.up("eth0", host+bits)
		for _, r := range h.config.Routes {
			if r.Prefix.Addr().Is4() != (bits == "/24") {
				continue
			}
			if err := netlink.RouteAdd(&netlink.Route{Dst: netOf(r.Prefix), Gw: net.ParseIP(lan)}); err != nil {
				t.Fatal(err)
			}
		}
	})
	h.far = h.b.open(TUNConfig{Name: "gw0", MTU: testMTU})
	h.b.apply(Config{Device: "gw0", Addresses: addrs("10.77.2.1", "fd77:2::1"), Routes: routesTo("10.77.1.0/24", "fd77:1::/64")})
	h.start(t)
	t.Cleanup(func() {
		h.kill()
		h.far.Close()
	})
	h.await(t, lan, host)
	return h
}

// await waits until the gateway's host, by both its addresses, and the one behind reach gray. The
// kernel finishes new interfaces in the background, and a connection whose SYN it has lost
// meanwhile would have a retransmission time-out of seconds.
func (h *holdLab) await(t *testing.T, lan, host string) {
	own, far := "10.77.1.1", "10.77.2.1"
	if net.ParseIP(host).To4() == nil {
		own, far = "fd77:1::1", "fd77:2::1"
	}
	answering := h.b.udp(net.JoinHostPort(far, "7"))
	h.carriers.Go(func() {
		b := make([]byte, 100)
		for {
			n, from, err := answering.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			answering.WriteToUDPAddrPort(b[:n], from)
		}
	})
	for _, sock := range []*net.UDPConn{
		h.a.udp(net.JoinHostPort(own, "7000")), h.a.udp(net.JoinHostPort(lan, "7000")), h.behind.udp(net.JoinHostPort(host, "7000")),
	} {
		ask(t, sock, net.JoinHostPort(far, "7"), []byte("ready?"))
	}
	answering.Close()
}

// start starts red's gateway.
func (h *holdLab) start(t *testing.T) {
	h.near = h.a.open(TUNConfig{Name: "gw0", MTU: testMTU, Persist: h.persist})
	h.a.apply(h.config)
	if err := h.far.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	for _, way := range [][2]Device{{h.near, h.far}, {h.far, h.near}} {
		h.carriers.Go(func() {
			b := make([]byte, MaxPacket)
			for {
				n, o, err := way[0].Read(b)
				if err != nil {
					return
				}
				if err := way[1].Write([][]byte{b[:n]}, o); err != nil {
					return
				}
			}
		})
	}
}

// kill closes the TUN without taking anything away, as the kernel does for a killed
// process.
func (h *holdLab) kill() {
	h.near.Close()
	h.far.SetReadDeadline(time.Now())
	h.carriers.Wait()
}

// leaked fails the test if a packet to or from either site has gone out by the default
// route. It reads that route's packets up to one that it sends itself.
func (h *holdLab) leaked(t *testing.T) {
	const marker = "192.0.2.9"
	sock := h.a.udp("192.0.2.1:7000")
	if _, err := sock.WriteToUDP([]byte("x"), &net.UDPAddr{IP: net.ParseIP(marker), Port: 9}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, MaxPacket)
	h.wan.SetReadDeadline(time.Now().Add(testTimeout))
	for {
		n, _, err := h.wan.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		dst, _ := netip.AddrFromSlice(b[16:20])
		if b[0]>>4 == 6 {
			dst, _ = netip.AddrFromSlice(b[24:40])
		}
		if dst.String() == marker {
			return
		}
		if inAny(prefixes("10.77.0.0/16", "fd77::/16"), dst) {
			t.Errorf("a packet of %d bytes to %v left by the default route", n, dst)
		}
	}
}
