package udp

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// While it is quiet, Go's poller reports no datagram that arrives; wait still finds it,
// and the poller hears of what comes next.
func TestReadiness(t *testing.T) {
	s, err := openSocket(false, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	from, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(s.port)})
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	say := func() {
		t.Helper()
		if _, err := from.Write([]byte("datagram")); err != nil {
			t.Fatal(err)
		}
	}
	pending := func() (n int) {
		if err := s.raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ) }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	heard := func() bool {
		t.Helper()
		var n int
		if err := s.ready.raw.Control(func(epoll uintptr) {
			n, _ = unix.Poll([]unix.PollFd{{Fd: int32(epoll), Events: unix.POLLIN}}, 0)
		}); err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
	read := func() bool {
		if pending() == 0 {
			return false
		}
		var n int
		_ = s.raw.Control(func(fd uintptr) { n, _, _ = unix.Recvfrom(int(fd), make([]byte, 100), unix.MSG_DONTWAIT) })
		return n == len("datagram")
	}
	wait := func() {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- s.ready.wait(read) }()
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("wait does not return")
		}
	}

	say() // loopback has delivered when Write returns
	if !heard() {
		t.Error("nothing is heard of the first datagram")
	}
	wait()
	for range 3 {
		s.ready.hush()
		say()
		if heard() || pending() == 0 {
			t.Errorf("heard: %v, pending: %d bytes", heard(), pending())
		}
		wait() // it is there already
		if heard() {
			t.Error("what is no longer there is heard of")
		}
		// It waits, and hears of what comes then.
		done := make(chan error, 1)
		go func() { done <- s.ready.wait(read) }()
		say() // before it waits or after
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if pending() != 0 {
			t.Error("something is left")
		}
	}

	// A datagram arrives after the first try and before the poller watches again.
	if err := s.ready.raw.Control(func(epoll uintptr) {
		s.ready.quiet = s.ready.control(epoll, unix.EPOLL_CTL_MOD, unix.EPOLLIN) != nil
	}); err != nil || s.ready.quiet {
		t.Fatal("the poller does not watch", err)
	}
	tried, woken := make(chan struct{}), make(chan error, 1)
	first := true
	go func() {
		woken <- s.ready.wait(func() bool {
			if first {
				first = false
				close(tried)
				return false
			}
			return read()
		})
	}()
	<-tried
	say() // the poller sees it, and the epoll instance keeps the socket on its ready list
	if err := <-woken; err != nil {
		t.Fatal(err)
	}
	s.ready.hush()
	arrived := false
	awaited := func() bool {
		if !arrived {
			arrived = true
			say()
			return false
		}
		return read()
	}
	late := make(chan error, 1)
	go func() { late <- s.ready.wait(awaited) }()
	select {
	case err := <-late:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("wait misses a datagram that arrives while it begins to listen")
	}

	done := make(chan error, 1)
	go func() { done <- s.ready.wait(read) }()
	if err := s.close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("wait returns from a closed socket without an error")
	}
}
