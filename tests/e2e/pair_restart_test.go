package e2e

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// openPools opens idle connections, so many in each of the ways.
func (n *pairNetwork) openPools(t *testing.T, each int) []*lab.Pool {
	t.Helper()
	return (&network{Lab: n.Lab}).openPools(t, each)
}

// check fails the test for every pool with a dead connection, and returns how
// long the slowest took.
func (n *pairNetwork) check(t *testing.T, pools []*lab.Pool) time.Duration {
	t.Helper()
	began := time.Now()
	ways := n.ways()
	for i, p := range pools {
		if err := p.Check(patience); err != nil {
			t.Errorf("%s: %v", ways[i%len(ways)].name, err)
		}
	}
	return time.Since(began)
}

// forget removes the dead node's state.
func (n *node) forget(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(n.dir, "state")); err != nil {
		t.Fatal(err)
	}
}

// TestPairBothDead kills both nodes of a site and starts one of them again, which
// has its own file, or only what the other site remembers.
func TestPairBothDead(t *testing.T) { bothDead(t, modeRoute) }

func bothDead(t *testing.T, mode string) {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, mode: mode})
	n.start()
	for _, c := range []struct {
		name   string
		site   []*node
		forget bool
	}{
		{"red", n.red, false},
		{"gray", n.gray, false},
		{"red without its state", n.red, true},
		{"gray without its state", n.gray, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := n.watch(t)
			pools := n.openPools(t, 25)
			runs := n.transfers(t, pairBulk)
			if err := runs[0].Reached(pairBulk / 2); err != nil {
				t.Fatal(err)
			}
			act, standby := active(t, c.site)
			standby.kill()
			act.kill()
			if c.forget {
				act.forget(t)
				standby.forget(t)
			}
			back := standby
			back.up()
			back.waitStatus(back.name+" is active alone", func(s status.Status) bool { return s.HA != nil && s.HA.Role == status.RoleActive })
			t.Logf("all answered after %v", n.check(t, pools).Round(time.Millisecond))
			t.Logf("stall %v, drops %v", n.longest(t, runs).Round(time.Millisecond), back.allDrops(t))
			n.answersAlone(t, back)
			act.up()
			n.settled(c.site)
			changes := map[*node]int{c.site[0]: 1}
			g.end(t, changes[n.red[0]], changes[n.gray[0]])
		})
	}
}

// TestPairJoinsUnderLoad: a standby starts, and is started again, while
// connections are opened and used. Then the active node dies.
func TestPairJoinsUnderLoad(t *testing.T) { joinsUnderLoad(t, modeRoute) }

func joinsUnderLoad(t *testing.T, mode string) {
	n := newPairNetwork(t, pairSetup{redPair: true, mode: mode})
	first, second := n.red[0], n.red[1]
	n.gray[0].up()
	first.up()
	first.waitStatus(first.name+" is active", func(s status.Status) bool {
		return s.HA != nil && s.HA.Role == status.RoleActive && linksUp(s, "gray")
	})
	g := n.watch(t)
	pools := n.openPools(t, 25)
	n.replicated(t, first, status.RecordWaiting)
	for round, name := range []string{"joins", "is killed and joins again", "is stopped and joins again"} {
		runs := n.transfers(t, pairBulk)
		if err := runs[0].Reached(pairBulk / 8); err != nil {
			t.Fatal(err)
		}
		switch round {
		case 1:
			second.kill()
		case 2:
			second.term()
		}
		second.up()
		pools = append(pools, n.openPools(t, 25)...)
		n.settled(n.red)
		n.replicated(t, first, status.RecordHeld)
		t.Logf("the standby %s: stall %v", name, n.longest(t, runs).Round(time.Millisecond))
	}
	n.proven(t, n.red)
	first.kill()
	t.Logf("all answered after %v", n.check(t, pools).Round(time.Millisecond))
	g.end(t, 1, 0)
}

// replicated waits until the node reports the records of all that have one as replicated.
func (n *pairNetwork) replicated(t *testing.T, nd *node, want status.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := lab.Until(ctx, "records "+string(want), func() (bool, error) {
		conns := nd.conns()
		for _, c := range conns {
			if c.Standby != want {
				return false, nil
			}
		}
		return len(conns) > 0, nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestPairNewWhileCut: the siblings are cut off from each other while many
// connections are opened. They find together again, and the active node dies.
func TestPairNewWhileCut(t *testing.T) { newWhileCut(t, modeRoute, 10*time.Second, 200) }

func newWhileCut(t *testing.T, mode string, d time.Duration, conns int) {
	n := newPairNetwork(t, pairSetup{redPair: true, mode: mode})
	n.start()
	g := n.watch(t)
	mend := n.red[0].deaf(t, "lan0")
	over := time.After(d)
	pools := n.openPools(t, conns/4)
	<-over // the length of the cut is what is tried
	mend()
	n.settled(n.red)
	n.proven(t, n.red)
	before := g.changes(n.red)
	if before > 1 {
		t.Errorf("roles changed %d times by the cut, want at most once", before)
	}
	dead, heir := active(t, n.red)
	dead.kill()
	t.Logf("all of %d answered after %v, drops %v", conns, n.check(t, pools).Round(time.Millisecond), heir.allDrops(t))
	g.end(t, before+1, 0)
}

// TestPairManyConnections kills the active node under many connections, most of
// them idle.
func TestPairManyConnections(t *testing.T) { manyConnections(t, modeRoute, 400, 20, false) }

// manyConnections also shows how long as many busy ones stand still undisturbed,
// if that is wanted: they overflow the line's queue in any case.
func manyConnections(t *testing.T, mode string, idle, busy int, undisturbed bool) {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, impaired: true, mode: mode})
	n.Box.SetBoth(lab.Impairment{Rate: 300e6, QueueBytes: 8 << 20, Delay: 5 * time.Millisecond})
	n.start()
	g := n.watch(t)
	pools := n.openPools(t, idle/4)
	n.proven(t, n.red)
	n.proven(t, n.gray)
	begin := func() *lab.Transfer {
		w := n.ways()[0]
		tr, err := lab.StartTransfer(t.Context(), lab.TransferConfig{
			From: w.from.Namespace, To: w.to.Namespace, Addr: netip.AddrPortFrom(w.addr, 0),
			Flows: busy, Bytes: 2 << 20, Back: 2 << 20,
		})
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	if undisturbed {
		t.Logf("undisturbed: longest stall of %d busy connections %v", busy, n.longest(t, []*lab.Transfer{begin()}).Round(time.Millisecond))
	}
	for _, site := range [][]*node{n.red, n.gray} {
		tr := begin()
		if err := tr.Reached(int64(busy) << 20); err != nil {
			t.Fatal(err)
		}
		dead, heir := active(t, site)
		dead.kill()
		var last time.Duration
		var checked sync.WaitGroup
		checked.Go(func() { last = n.check(t, pools) })
		stall := n.longest(t, []*lab.Transfer{tr})
		checked.Wait()
		t.Logf("kill of %s: longest stall of %d busy connections %v, all of %d idle ones answered within %v; %v",
			dead.name, busy, stall.Round(time.Millisecond), idle, last.Round(time.Millisecond), heir.allDrops(t))
		dead.up()
		n.settled(site)
	}
	g.end(t, 1, 1)
}
