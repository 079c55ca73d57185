package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/tests/lab"
)

// TestRelayOptions: connections whose ends send unusual options in their SYNs, or
// have something that no gateway can carry on in its own way.
func TestRelayOptions(t *testing.T) {
	t.Parallel() // it waits most of the time
	eachMode(t, func(t *testing.T, mode string) {
		n := startRelay(t, mode, farWAN)
		n.scenario(t, "window scales", noReset, func(t *testing.T) { windowScales(t, n) })
		for _, w := range n.twoWays() {
			n.scenario(t, "tiny segments, "+w.name, noReset, func(t *testing.T) { n.tinySegments(t, w) })
			n.scenario(t, "Fast Open, "+w.name, noReset, func(t *testing.T) { n.fastOpen(t, w) })
			n.scenario(t, "Multipath TCP, "+w.name, noReset, func(t *testing.T) { n.multipath(t, w) })
			n.scenario(t, "signatures, "+w.name, noReset, func(t *testing.T) { n.signed(t, w) })
			n.scenario(t, "urgent bytes, "+w.name, noReset, func(t *testing.T) { n.urgent(t, w) })
		}
		for _, c := range []struct{ name, sysctl string }{
			{"no SACK", "ipv4/tcp_sack"}, {"no timestamps", "ipv4/tcp_timestamps"}, {"no window scale", "ipv4/tcp_window_scaling"},
		} {
			for _, h := range []*lab.Host{n.Red.DB(), n.Gray.DB()} {
				n.scenario(t, c.name+" at "+h.Name(), noReset, func(t *testing.T) { n.without(t, h, c.sysctl) })
			}
		}
	})
}

// windowScales has the ends send each scale that there is, one up and one down.
func windowScales(t *testing.T, n *relayNet) {
	for _, h := range []*lab.Host{n.Red.DB(), n.Gray.DB()} {
		// The largest buffer bounds the scale.
		if err := h.Sysctl("ipv4/tcp_rmem", fmt.Sprintf("4096 131072 %d", 1<<30)); err != nil {
			t.Fatal(err)
		}
	}
	const most = 14 // RFC 7323 section 2.3
	scaled := func(scale int) func(fd int) error {
		// The kernel sends the smallest scale with which its largest window fits.
		clamp := min(1<<(16+scale)-1, 1<<30)
		return func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, clamp) }
	}
	for scale := range most + 1 {
		w := n.ways()[scale%4]
		seen := make(chan [2]int, 1)
		cap, err := w.to.Capture("lan0", lab.CaptureConfig{Each: scales(seen)})
		if err != nil {
			t.Fatal(err)
		}
		client, server := meet(t, w, sockets{client: scaled(scale), server: scaled(most - scale)})
		if got, want := <-seen, [2]int{scale, most - scale}; got != want {
			t.Errorf("the ends sent scales %d, want %d", got, want)
		}
		if err := cap.Stop(); err != nil {
			t.Fatal(err)
		}
		within(t, patience, client, server)
		n.awake(t, client, server)
		exchange(t, client, server, some)
		all(t, client.Close, server.Close)
	}
}

// scales returns the scales in a SYN and its answer.
func scales(seen chan<- [2]int) func(lab.Packet) {
	client := -1
	return func(p lab.Packet) {
		s, ok := lab.DecodeTCP(p)
		if !ok || s.Flags&lab.SYN == 0 {
			return
		}
		scale := -1
		if v := option(s, 3); len(v) == 1 {
			scale = int(v[0])
		}
		if s.Flags&lab.ACK == 0 {
			client = scale
			return
		}
		select {
		case seen <- [2]int{client, scale}:
		default: // retransmitted
		}
	}
}

// option finds an option's value; nil is none.
func option(s lab.Segment, kind byte) []byte {
	for o := s.Options; len(o) >= 2 && o[0] != 0; {
		if o[0] == 1 {
			o = o[1:]
			continue
		}
		if o[1] < 2 || int(o[1]) > len(o) {
			return nil
		}
		if o[0] == kind {
			return o[2:o[1]]
		}
		o = o[o[1]:]
	}
	return nil
}

// tinySegments are as small as Linux lets anybody ask for.
func (n *relayNet) tinySegments(t *testing.T, w way) {
	const least = 88
	tiny := func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, least) }
	for _, s := range []sockets{{client: tiny}, {server: tiny}, {client: tiny, server: tiny}} {
		client, server := meet(t, w, s)
		within(t, patience, client, server)
		n.awake(t, client, server)
		exchange(t, client, server, some/4)
		all(t, client.Close, server.Close)
	}
}

// fastOpen: the second connection's SYN has bytes in it (RFC 7413), unless a
// gateway on the path has removed the option.
func (n *relayNet) fastOpen(t *testing.T, w way) {
	const everybody = "1027" // clients, and servers that have not asked for it
	for _, h := range []*lab.Host{w.from, w.to} {
		if err := h.Sysctl("ipv4/tcp_fastopen", everybody); err != nil {
			t.Fatal(err)
		}
	}
	s, err := lab.EchoTCP(t.Context(), w.to.Namespace, netip.AddrPortFrom(w.addr, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	before, err := w.to.Nstat()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		// The SYN waits for the first byte.
		d := net.Dialer{Control: lab.OnSocket(func(fd int) error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1)
		})}
		d.SetMultipathTCP(false)
		c, err := w.from.DialWith(t.Context(), &d, "tcp", s.Addr.String())
		if err != nil {
			t.Fatal(err)
		}
		within(t, patience, c)
		all(t,
			func() error { return errors.Join(send(c, stream(1), some), c.(*net.TCPConn).CloseWrite()) },
			func() error { return errors.Join(expect(c, stream(1), some), expectEnd(c)) },
		)
		all(t, c.Close)
	}
	after, err := w.to.Nstat()
	if err != nil {
		t.Fatal(err)
	}
	got := after.Since(before)["TcpExt.TCPFastOpenPassive"]
	t.Logf("%d connections were opened fast", got)
	if !n.relays() && got == 0 {
		t.Error("no connection was opened fast")
	}
}

// multipath: both ends would use Multipath TCP (RFC 8684).
func (n *relayNet) multipath(t *testing.T, w way) {
	client, server := meet(t, w, sockets{multipath: true})
	within(t, patience, client, server)
	n.awake(t, client, server)
	exchange(t, client, server, some)
	is, err := client.MultipathTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("multipath: %t", is)
	all(t, client.Close, server.Close)
}

// signed connections (RFC 2385) are raw for life.
func (n *relayNet) signed(t *testing.T, w way) {
	key := func(peer netip.Addr) func(fd int) error {
		return func(fd int) error { return signWith(fd, peer, "a secret") }
	}
	client, server := meet(t, w, sockets{client: key(w.addr), server: key(w.source())})
	within(t, patience, client, server)
	exchange(t, client, server, some)
	n.raw(t, port(client))
	all(t, client.Close, server.Close)
}

// signWith is TCP_MD5SIG with struct tcp_md5sig of linux/tcp.h.
func signWith(fd int, peer netip.Addr, key string) error {
	const (
		storage   = 128 // struct sockaddr_storage
		keyLength = storage + 2
		keyAt     = storage + 8
		size      = keyAt + 80
	)
	var b [size]byte
	binary.NativeEndian.PutUint16(b[keyLength:], uint16(len(key)))
	copy(b[keyAt:], key)
	binary.NativeEndian.PutUint16(b[:], unix.AF_INET)
	at := 4 // sin_addr
	if peer.Is6() {
		binary.NativeEndian.PutUint16(b[:], unix.AF_INET6)
		at = 8 // sin6_addr
	}
	copy(b[at:], peer.AsSlice())
	return unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, unsafe.String(&b[0], size))
}

// urgent: a connection on which one end has sent urgent data (RFC 9293
// section 3.8.5) is raw for life. All bytes arrive, the urgent ones among them.
func (n *relayNet) urgent(t *testing.T, w way) {
	inline := func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) }
	client, server := meet(t, w, sockets{client: inline, server: inline})
	within(t, patience, client, server)
	n.awake(t, client, server)
	exchange(t, client, server, some/4)
	s, r := stream(9), stream(9)
	for range 3 {
		all(t, func() error { return send(client, s, 5000) }, func() error { return expect(server, r, 5000) })
		onFD(t, client, func(fd int) error {
			var b [1]byte
			_, _ = s.Read(b[:])
			return unix.Send(fd, b[:], unix.MSG_OOB)
		})
	}
	all(t, func() error { return send(client, s, some/4) }, func() error { return expect(server, r, some/4+1+2) })
	exchange(t, server, client, some/4)
	n.raw(t, port(client))
	all(t, client.Close, server.Close)
}

// without lets one host's kernel do without something, over a WAN that loses.
func (n *relayNet) without(t *testing.T, h *lab.Host, sysctl string) {
	if err := h.Sysctl(sysctl, "0"); err != nil {
		t.Fatal(err)
	}
	lossy := farWAN
	lossy.Loss = 0.005
	n.Box.SetBoth(lossy)
	defer n.Box.SetBoth(farWAN)
	for _, w := range n.twoWays() {
		client, server := meet(t, w, sockets{})
		within(t, patience, client, server)
		n.awake(t, client, server)
		exchange(t, client, server, some/2)
		all(t, client.Close, server.Close)
	}
	if err := h.Sysctl(sysctl, "1"); err != nil {
		t.Fatal(err)
	}
}
