package link

import (
	"net"
	"net/netip"
	"sync"
	"testing"
)

// proxy is the way between two nodes: it passes what the test lets pass.
type proxy struct {
	conn *net.UDPConn
	gray netip.AddrPort

	mu   sync.Mutex
	pass func(fromRed bool, b []byte) bool
	red  netip.AddrPort
}

// newProxy puts a proxy in front of gray and makes red dial it.
func newProxy(t testing.TB, p *pair) *proxy {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	x := &proxy{conn: c, gray: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.port)}
	p.red.Peers[0].Endpoint = c.LocalAddr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.run()
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return x
}

func (x *proxy) run() {
	b := make([]byte, 1<<16)
	for {
		n, from, err := x.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		x.mu.Lock()
		fromRed := from != x.gray
		to := x.gray
		if fromRed {
			x.red = from
		} else {
			to = x.red
		}
		pass := x.pass == nil || x.pass(fromRed, b[:n])
		x.mu.Unlock()
		if pass && to.IsValid() {
			_, _ = x.conn.WriteToUDPAddrPort(b[:n], to)
		}
	}
}

// let sets what passes; nil is everything.
func (x *proxy) let(pass func(fromRed bool, b []byte) bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pass = pass
}

func nothing(bool, []byte) bool { return false }
