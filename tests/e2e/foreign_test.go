package e2e

import (
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

// TestFarEndSendsFirst: red alone may open connections, and its gateway restarts without its
// records. Idle connections that gray's gateway remembers are confirmed by red's host, a real
// kernel, without a packet of either end. Those that red's host no longer has are not, and nothing
// that gray sends on them gets in.
func TestFarEndSendsFirst(t *testing.T) {
	const conns = 20
	const oneWay = `
  rule "out" {
    from  = ["red"]
    to    = ["gray"]
    ports = ["tcp"]
  }`
	n := start(t, setup{rules: oneWay})
	red, gray := n.Red.DB(), n.Gray.DB()
	accepted := make(chan net.Conn, conns)
	l, err := gray.Listen(t.Context(), "tcp", netip.AddrPortFrom(gray.LAN4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	var ours, theirs []net.Conn
	for range conns {
		c, err := red.Dial(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		far := <-accepted
		defer far.Close()
		ours, theirs = append(ours, c), append(theirs, far)
	}
	n.red.kill()
	if err := os.Remove(filepath.Join(n.red.dir, "state", "flows.log")); err != nil {
		t.Fatal(err)
	}
	// Half of them end while no gateway sees it.
	const gone = conns / 2
	for _, c := range ours[:gone] {
		if err := c.(*net.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	n.red.up()
	result := func(s status.Status, name string) uint64 {
		for _, r := range s.Sites[0].Records {
			if r.Result == name {
				return r.Count
			}
		}
		return 0
	}
	n.red.waitStatus("every connection is confirmed or refuted", func(s status.Status) bool {
		return len(s.Sites) == 1 && result(s, "confirmed") == conns-gone && result(s, "refuted") == gone
	})
	began := time.Now()
	for i := gone; i < conns; i++ {
		if _, err := theirs[i].Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := gone; i < conns; i++ {
		if err := ours[i].SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		if _, err := io.ReadFull(ours[i], b[:]); err != nil || b[0] != byte(i) {
			t.Errorf("connection %d: %d, %v", i, b[0], err)
		}
	}
	t.Logf("the far ends answered after %v", time.Since(began).Round(time.Millisecond))
	in := startWatch(t, red)
	if _, err := theirs[0].Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	n.red.waitStatus("what gray sends on a connection that is no more is dropped", func(s status.Status) bool {
		for _, d := range s.Drops {
			if d.Reason == "no-flow" || d.Reason == "grace" {
				if d.Packets > 0 {
					return true
				}
			}
		}
		return false
	})
	in.noResets(t)
}
