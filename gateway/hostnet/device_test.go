package hostnet

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/onewaylink/gw/netstack/wire"
)

const (
	testTimeout = 10 * time.Second
	testMTU     = 1420
)

// eachDriver runs a conformance test over both drivers.
func eachDriver(t *testing.T, f func(t *testing.T, driver string)) {
	for _, driver := range []string{DriverOffload, DriverWater} {
		t.Run(driver, func(t *testing.T) { f(t, driver) })
	}
}

func TestEcho(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		s := newSpace(t, "a")
		d := s.open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: driver})
		s.do(func() { s.up("gw0", "10.9.0.1/24", "fd09::1/64") })
		if d.Name() != "gw0" || d.MTU() != testMTU || d.Offload() != (driver == DriverOffload) {
			t.Fatalf("name %q, mtu %d, offload %v", d.Name(), d.MTU(), d.Offload())
		}
		s.do(func() {
			if got := s.link("gw0").Attrs().MTU; got != testMTU {
				t.Fatalf("the kernel's mtu is %d", got)
			}
		})
		done := make(chan error, 1)
		go func() { done <- echo(d) }()
		for _, c := range [][2]string{{"10.9.0.1:7000", "10.9.0.2:7"}, {"[fd09::1]:7000", "[fd09::2]:7"}} {
			sock := s.udp(c[0])
			for _, size := range []int{1, 100, 1300} {
				ask(t, sock, c[1], bytes.Repeat([]byte{byte(size)}, size))
			}
		}
		d.Close()
		if err := <-done; !errors.Is(err, os.ErrClosed) {
			t.Fatalf("read after close: %v", err)
		}
	})
}

// echo answers every UDP packet until the device is closed. Addresses and ports change
// places, which leaves the checksum right, the pseudo-header's too.
func echo(d Device) error {
	b := make([]byte, MaxPacket)
	for {
		n, o, err := d.Read(b)
		if err != nil {
			return err
		}
		p := b[:n]
		addr, size, proto, udp := 12, 4, p[9], 20
		if p[0]>>4 == 6 {
			addr, size, proto, udp = 8, 16, p[6], 40
		}
		if proto != 17 {
			continue
		}
		swap(p[addr:addr+size], p[addr+size:])
		swap(p[udp:udp+2], p[udp+2:])
		// In three pieces, so that gathering is tried.
		if err := d.Write([][]byte{p[:udp], p[udp : udp+3], nil, p[udp+3:]}, o); err != nil {
			return err
		}
	}
}

// ask sends msg to an echoing peer until the answer comes. Once is not enough: the kernel
// finishes the carrier and IPv6 addresses in the background, and drops until then.
func ask(t *testing.T, sock *net.UDPConn, peer string, msg []byte) {
	t.Helper()
	b := make([]byte, 2000)
	for end := time.Now().Add(testTimeout); ; {
		if _, err := sock.WriteToUDPAddrPort(msg, netip.MustParseAddrPort(peer)); err != nil {
			t.Fatal(err)
		}
		sock.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		n, from, err := sock.ReadFromUDPAddrPort(b)
		switch {
		case err == nil && from.String() == peer && bytes.Equal(b[:n], msg):
			return
		case err == nil: // a late answer to an earlier question
		case !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end):
			t.Fatalf("%s does not answer: %v", peer, err)
		}
	}
}

func swap(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}

// A pairOf is two namespaces whose TUNs are joined by the test.
type pairOf struct {
	a, b    *space
	biggest atomic.Int64 // bytes of the biggest packet seen
}

func newPair(tb testing.TB, driver string) *pairOf {
	p := &pairOf{a: newSpace(tb, "a"), b: newSpace(tb, "b")}
	c := TUNConfig{Name: "gw0", MTU: testMTU, Driver: driver}
	if driver == DriverWater {
		// The hard way: the devices are left-overs which had offloads on, and must not
		// give segments to a reader that takes none.
		c.Persist = true
		left := c
		left.Driver = DriverOffload
		p.a.open(left).Close()
		p.b.open(left).Close()
	}
	da, db := p.a.open(c), p.b.open(c)
	p.a.do(func() { p.a.up("gw0", "10.9.0.1/24", "fd09::1/64") })
	p.b.do(func() { p.b.up("gw0", "10.9.0.2/24", "fd09::2/64") })
	var wg sync.WaitGroup
	wg.Go(func() { p.carry(tb, da, db) })
	wg.Go(func() { p.carry(tb, db, da) })
	tb.Cleanup(func() { da.Close(); db.Close(); wg.Wait() })
	return p
}

func (p *pairOf) carry(tb testing.TB, from, to Device) {
	b := make([]byte, MaxPacket)
	for {
		n, o, err := from.Read(b)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			tb.Errorf("read: %v", err)
			return
		}
		if int64(n) > p.biggest.Load() {
			p.biggest.Store(int64(n))
		}
		if err := checkOffload(b[:n], o); err != nil {
			tb.Error(err)
		}
		if err := to.Write([][]byte{b[:n]}, o); err != nil && !errors.Is(err, os.ErrClosed) {
			tb.Errorf("write: %v", err)
		}
	}
}

// checkOffload holds what a driver says of a TCP packet against the packet.
func checkOffload(p []byte, o wire.Offload) error {
	ip, proto := 20, p[9]
	if p[0]>>4 == 6 {
		ip, proto = 40, p[6]
	}
	if proto != 6 {
		return nil
	}
	hdr := ip + int(p[ip+12]>>4)*4
	if o.GSOSize != 0 && (int(o.HdrLen) != hdr || int(o.GSOSize) > testMTU-hdr) {
		return fmt.Errorf("headers of %d bytes: %+v", hdr, o)
	}
	if o.GSOSize == 0 && len(p) > testMTU {
		return fmt.Errorf("%d bytes, not to be cut: %+v", len(p), o)
	}
	if o.NeedsCsum && (int(o.CsumStart) != ip || o.CsumOffset != 16) {
		return fmt.Errorf("sum from %d: %+v", ip, o)
	}
	return nil
}

func TestTCP(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		p := newPair(t, driver)
		for _, addr := range []string{"10.9.0.2:5432", "[fd09::2]:5432"} {
			l := p.b.listen(addr)
			there := make(chan net.Conn, 1)
			go func() {
				c, err := l.Accept()
				if err != nil {
					t.Error(err)
				}
				there <- c
			}()
			near := p.a.dial(addr)
			far := <-there
			if far == nil {
				t.FailNow()
			}
			exchange(t, near, far, 16<<20)
			far.Close()
		}
		if big := p.biggest.Load(); (big > 16<<10) != (driver == DriverOffload) {
			t.Errorf("biggest packet %d bytes", big)
		}
	})
}

// exchange sends size bytes each way at once, and compares hashes.
func exchange(t *testing.T, near, far net.Conn, size int64) {
	t.Helper()
	var wg sync.WaitGroup
	for i, way := range [][2]net.Conn{{near, far}, {far, near}} {
		way[0].SetDeadline(time.Now().Add(6 * testTimeout))
		sent, got := sha256.New(), sha256.New()
		wg.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { send(t, way[0].(*net.TCPConn), io.TeeReader(io.LimitReader(newNoise(i), size), sent)) })
			both.Go(func() {
				if _, err := io.Copy(got, way[1]); err != nil {
					t.Errorf("receive: %v", err)
				}
			})
			both.Wait()
			if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
				t.Errorf("direction %d: hashes differ", i)
			}
		})
	}
	wg.Wait()
}

func send(t *testing.T, c *net.TCPConn, r io.Reader) {
	if _, err := io.CopyBuffer(struct{ io.Writer }{c}, r, make([]byte, 256<<10)); err != nil {
		t.Errorf("send: %v", err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// newNoise gives bytes that no displaced piece would equal.
func newNoise(seed int) io.Reader { return rand.NewChaCha8([32]byte{byte(seed)}) }

func TestDeadline(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		s := newSpace(t, "a")
		d := s.open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: driver})
		if err := d.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, MaxPacket)
		if _, _, err := d.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("deadline in the past: %v", err)
		}
		d.SetReadDeadline(time.Time{})
		got := make(chan error, 1)
		go func() {
			_, _, err := d.Read(b)
			got <- err
		}()
		d.SetReadDeadline(time.Now())
		if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("deadline while reading: %v", err)
		}
		d.SetReadDeadline(time.Time{})
		go func() {
			_, _, err := d.Read(b)
			got <- err
		}()
		d.Close()
		if err := <-got; !errors.Is(err, os.ErrClosed) {
			t.Fatalf("closed while reading: %v", err)
		}
		if err := d.Write([][]byte{{0x45}}, wire.Offload{}); !errors.Is(err, os.ErrClosed) {
			t.Fatalf("write after close: %v", err)
		}
	})
}

// udpPacket is a UDP packet from 10.9.0.2:9 to 10.9.0.1:7000 whose checksum field holds the
// pseudo-header's sum, plus off.
func udpPacket(payload string, off uint16) ([]byte, wire.Offload) {
	n := 8 + len(payload)
	p := make([]byte, 20+n)
	p[0], p[8], p[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], []byte{10, 9, 0, 2, 10, 9, 0, 1})
	if !finishChecksum(p[:20], wire.Offload{CsumOffset: 10}) {
		panic("no room")
	}
	u := p[20:]
	binary.BigEndian.PutUint16(u[0:], 9)
	binary.BigEndian.PutUint16(u[2:], 7000)
	binary.BigEndian.PutUint16(u[4:], uint16(n))
	var sum uint32 = 17 + uint32(n)
	for i := 12; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	binary.BigEndian.PutUint16(u[6:], uint16(sum&0xffff+sum>>16)+off)
	copy(u[8:], payload)
	return p, wire.Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 6}
}

func TestPartialChecksum(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		s := newSpace(t, "a")
		d := s.open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: driver})
		s.do(func() { s.up("gw0", "10.9.0.1/24") })
		sock := s.udp("10.9.0.1:7000")
		// One with a wrong sum that claims to be finished must not get through; one left to be
		// finished must.
		wrong, _ := udpPacket("wrong", 1)
		right, o := udpPacket("right", 0)
		before := bytes.Clone(right)
		if err := errors.Join(d.Write([][]byte{wrong}, wire.Offload{}), d.Write([][]byte{right}, o)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		sock.SetReadDeadline(time.Now().Add(testTimeout))
		n, err := sock.Read(b)
		if err != nil || string(b[:n]) != "right" {
			t.Fatalf("got %q, %v", b[:n], err)
		}
		if !bytes.Equal(before, right) {
			t.Error("Write changed the packet")
		}
	})
}

func TestConcurrentWriters(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		s := newSpace(t, "a")
		d := s.open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: driver})
		s.do(func() { s.up("gw0", "10.9.0.1/24") })
		sock := s.udp("10.9.0.1:7000")
		const writers, each = 8, 20
		for w := range writers {
			go func() {
				for i := range each {
					p, o := udpPacket(fmt.Sprint(w, " ", i), 0)
					if err := d.Write([][]byte{p[:28], p[28:]}, o); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		seen := map[string]bool{}
		b := make([]byte, 100)
		sock.SetReadDeadline(time.Now().Add(testTimeout))
		for len(seen) < writers*each {
			n, err := sock.Read(b)
			if err != nil {
				t.Fatalf("after %d packets: %v", len(seen), err)
			}
			seen[string(b[:n])] = true
		}
	})
}

func TestPersist(t *testing.T) {
	for _, first := range []string{DriverOffload, DriverWater} {
		for _, second := range []string{DriverOffload, DriverWater} {
			t.Run(first+" then "+second, func(t *testing.T) {
				s := newSpace(t, "a")
				d := s.open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: first, Persist: true})
				s.do(func() { s.up("gw0", "10.9.0.1/24") })
				sock := s.udp("10.9.0.1:7000")
				d.Close()

				d = s.open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: second, Persist: true})
				// The socket outlives the change of owner, and what it sends arrives in the new
				// owner's form.
				done := make(chan error, 1)
				go func() { done <- echo(d) }()
				ask(t, sock, "10.9.0.2:7", []byte("still here"))
				d.Close()
				<-done

				d = s.open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: second})
				s.do(func() {
					l := s.link("gw0")
					if addrs, err := netlink.AddrList(l, netlink.FAMILY_V4); err != nil || len(addrs) != 0 {
						t.Errorf("a left-over was not removed: %v, %v", addrs, err)
					}
				})
				d.Close()
				s.do(func() {
					if _, err := net.InterfaceByName("gw0"); err == nil {
						t.Error("the device is still there")
					}
				})
			})
		}
	}
}

func TestOpenErrors(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		s := newSpace(t, "a")
		s.open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: driver})
		s.do(func() {
			for _, persist := range []bool{false, true} {
				_, err := Open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: driver, Persist: persist})
				if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
					t.Errorf("busy: %v", err)
				}
				_, err = Open(TUNConfig{Name: "lo", MTU: testMTU, Driver: driver, Persist: persist})
				if !errors.Is(err, ErrNotTUN) {
					t.Errorf("not a tun: %v", err)
				}
			}
			for _, c := range []TUNConfig{{Name: ""}, {Name: "sixteen-bytes-it"}, {Name: "gw1", Driver: "tap"}, {Name: "gw2", MTU: 3, Driver: driver}} {
				if _, err := Open(c); err == nil {
					t.Errorf("%+v was opened", c)
				}
			}
			if _, err := net.InterfaceByName("gw2"); err == nil {
				t.Error("a device that failed to open is still there")
			}
		})
	})
}

func TestDeleted(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		s := newSpace(t, "a")
		d := s.open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: driver})
		got := make(chan error, 1)
		go func() {
			_, _, err := d.Read(make([]byte, MaxPacket))
			got <- err
		}()
		s.do(func() {
			if err := netlink.LinkDel(s.link("gw0")); err != nil {
				t.Fatal(err)
			}
		})
		if err := <-got; !errors.Is(err, ErrGone) {
			t.Errorf("read: %v", err)
		}
		if err := d.Write([][]byte{make([]byte, 20)}, wire.Offload{}); !errors.Is(err, ErrGone) {
			t.Errorf("write: %v", err)
		}
	})
}

func TestWriteErrors(t *testing.T) {
	s := newSpace(t, "a")
	d := s.open(TUNConfig{Name: "gw0", MTU: testMTU})
	w := s.open(TUNConfig{Name: "gw1", MTU: testMTU, Driver: DriverWater})
	p, o := udpPacket("x", 0)
	if err := d.Write([][]byte{p}, o); err == nil || !strings.Contains(err.Error(), "ip link set dev gw0 up") {
		t.Errorf("interface down: %v", err)
	}
	if err := w.Write([][]byte{p}, wire.Offload{GSOSize: 100}); !errors.Is(err, ErrNoOffload) {
		t.Errorf("to be cut: %v", err)
	}
	if err := w.Write([][]byte{p}, wire.Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 100}); err == nil {
		t.Error("checksum outside of the packet")
	}
	if err := w.Write([][]byte{make([]byte, MaxPacket), p}, wire.Offload{}); err == nil {
		t.Error("packet too big")
	}
	for _, vec := range [][][]byte{nil, {nil}, {p[:25]}, make([][]byte, maxVec)} {
		if err := d.Write(vec, wire.Offload{GSOSize: 100, NeedsCsum: true, CsumStart: 20}); err == nil {
			t.Errorf("%d pieces", len(vec))
		}
	}
	if err := d.Write([][]byte{make([]byte, 1000)}, wire.Offload{GSOSize: 100}); err == nil {
		t.Error("to be cut, but finished")
	}
}

func TestPending(t *testing.T) {
	eachDriver(t, func(t *testing.T, driver string) {
		s := newSpace(t, "pending")
		// Without IPv6 the kernel sends nothing here of its own: its multicast
		// reports and solicitations come at random, also just after a look.
		s.do(func() {
			if err := writeSysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil {
				t.Fatal(err)
			}
		})
		d := s.open(TUNConfig{Name: "gw0", MTU: testMTU, Driver: driver})
		s.do(func() { s.up("gw0", "10.9.0.1/24") })
		sock := s.udp("10.9.0.1:7000")
		to, err := net.ResolveUDPAddr("udp", "10.9.0.2:7")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sock.WriteTo([]byte("x"), to); err != nil {
			t.Fatal(err)
		}
		if !d.Pending() {
			t.Error("a packet waits, and none is pending")
		}
		if err := d.SetReadDeadline(time.Now().Add(testTimeout)); err != nil {
			t.Fatal(err)
		}
		if n, _, err := d.TryRead(make([]byte, MaxPacket)); err != nil || n == 0 {
			t.Fatalf("something is pending, but TryRead gave %d bytes: %v", n, err)
		}
		if d.Pending() {
			t.Error("the only packet is read, and one is pending")
		}
		if n, _, err := d.TryRead(make([]byte, MaxPacket)); n != 0 || err != nil {
			t.Errorf("nothing is pending, but TryRead gave %d bytes: %v", n, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if d.Pending() {
			t.Error("a closed device has something pending")
		}
		if _, _, err := d.TryRead(make([]byte, MaxPacket)); !errors.Is(err, os.ErrClosed) {
			t.Errorf("TryRead of a closed device: %v", err)
		}
	})
}
