package e2e

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/audit"
	"github.com/onewaylink/gw/tests/lab"
)

// TestKillAndRestart kills a gateway, or both, in the middle of transfers that
// were opened from either side, and restarts it: the connections resume.
func TestKillAndRestart(t *testing.T) {
	n := start(t, setup{})
	for _, c := range []struct {
		name string
		kill []*node
	}{
		{"red", []*node{n.red}},
		{"gray", []*node{n.gray}},
		{"both", []*node{n.red, n.gray}},
	} {
		t.Run(c.name, func(t *testing.T) {
			red, gray := startWatch(t, n.Red.DB()), startWatch(t, n.Gray.DB())
			const size = 32 << 20
			runs := n.startTransfers(t, size)
			if err := runs[0].Reached(size/4 + rand.Int64N(size/2)); err != nil {
				t.Fatal(err)
			}
			for _, nd := range c.kill {
				nd.kill()
			}
			for _, nd := range c.kill {
				nd.up()
			}
			n.finishTransfers(t, runs, 10*time.Second)
			red.noResets(t)
			gray.noResets(t)
		})
	}
}

// TestIdleConnectionsSurvive: connection pools, opened from either side in both
// families, are used again after a gateway was stopped in one way or another.
// The connections were idle, so only the record knows of them. The audit log shows
// of each once, and its source.
func TestIdleConnectionsSurvive(t *testing.T) {
	const each = 50
	n := newNetwork(t, setup{})
	log := n.red.audited()
	n.start()
	forget := func(nd *node) {
		if err := os.Remove(filepath.Join(nd.dir, "state", "flows.log")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		stop []*node
		how  func(*node)
		came string // in red's audit log
	}{
		{"kill red", []*node{n.red}, (*node).kill, "restored"},
		{"kill gray", []*node{n.gray}, (*node).kill, ""},
		{"kill both", []*node{n.red, n.gray}, (*node).kill, ""},
		{"stop red", []*node{n.red}, (*node).term, ""},
		{"stop gray", []*node{n.gray}, (*node).term, ""},
		{"kill red and lose its state", []*node{n.red}, func(nd *node) { nd.kill(); forget(nd) }, "fetched"},
		{"kill gray and lose its state", []*node{n.gray}, func(nd *node) { nd.kill(); forget(nd) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			red, gray := startWatch(t, n.Red.DB()), startWatch(t, n.Gray.DB())
			pools := n.openPools(t, each)
			for _, nd := range c.stop {
				nd.waitRecords()
			}
			for _, nd := range c.stop {
				c.how(nd)
			}
			if c.came != "" {
				if err := os.Rename(log, log+".1"); err != nil {
					t.Fatal(err)
				}
			}
			for _, nd := range c.stop {
				nd.up()
			}
			began := time.Now()
			for i, p := range pools {
				if err := p.Check(patience); err != nil {
					t.Errorf("%s: %v", n.ways()[i].name, err)
				}
			}
			t.Logf("all answered %v after the start", time.Since(began).Round(time.Millisecond))
			if c.came != "" {
				told := func(lines []audit.Event) (opened int) {
					for _, e := range lines {
						if e.Kind == "flow_open" && e.Reason == c.came {
							opened++
						}
					}
					return opened
				}
				all := each * len(pools)
				lines := n.red.auditWhole(t, func(lines []audit.Event) bool { return told(lines) >= all }, log)
				if opened := told(lines); opened != all {
					t.Errorf("the audit log has %d connections that were %s, want %d", opened, c.came, all)
				}
			}
			red.noResets(t)
			gray.noResets(t)
		})
	}
}

// openPools opens idle connections in each of the ways.
func (n *network) openPools(t *testing.T, each int) []*lab.Pool {
	t.Helper()
	var pools []*lab.Pool
	for _, w := range n.ways() {
		echo, err := lab.EchoTCP(t.Context(), w.to.Namespace, netip.AddrPortFrom(w.addr, 0))
		if err != nil {
			t.Fatal(err)
		}
		pool, err := lab.OpenPool(t.Context(), w.from.Namespace, echo.Addr, each)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pool.Close(); echo.Close() })
		pools = append(pools, pool)
	}
	return pools
}

// waitRecords waits until the node has written what it knows: its file has been
// left alone for longer than the time between two batches.
func (n *node) waitRecords() {
	n.t.Helper()
	err := lab.Until(n.t.Context(), "records in the file", func() (bool, error) {
		info, err := os.Stat(filepath.Join(n.dir, "state", "flows.log"))
		return err == nil && time.Since(info.ModTime()) > 100*time.Millisecond, nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// TestKillAmidConnects: a gateway is killed while connections are being opened,
// some of them a moment before. Those that are open resume, though the file knows
// nothing of the last ones; the others are established after the restart.
func TestKillAmidConnects(t *testing.T) {
	n := start(t, setup{})
	for _, victim := range []*node{n.red, n.gray} {
		for _, w := range n.ways() {
			t.Run(victim.name+" "+w.name, func(t *testing.T) {
				red, gray := startWatch(t, n.Red.DB()), startWatch(t, n.Gray.DB())
				const conns = 200
				half := make(chan struct{})
				var accepted atomic.Int64
				s, err := lab.ServeTCP(t.Context(), w.to.Namespace, netip.AddrPortFrom(w.addr, 0), func(c *net.TCPConn) {
					if accepted.Add(1) == conns/2 {
						close(half)
					}
					echo(c)
				})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				var pool *lab.Pool
				var dialled sync.WaitGroup
				dialled.Go(func() { pool, err = lab.OpenPool(t.Context(), w.from.Namespace, s.Addr, conns) })
				<-half
				victim.kill()
				victim.up()
				dialled.Wait()
				if err != nil {
					t.Fatal(err)
				}
				defer pool.Close()
				if err := pool.Check(patience); err != nil {
					t.Error(err)
				}
				red.noResets(t)
				gray.noResets(t)
			})
		}
	}
}

// echo sends back what it gets until the end.
func echo(c *net.TCPConn) {
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}
