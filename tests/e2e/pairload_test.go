package e2e

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/tests/lab"
)

// ways are both directions in both families.
func (n *pairNetwork) ways() []way {
	return (&network{Lab: n.Lab}).ways()
}

// transfers moves size bytes each way on two connections, one opened from either
// side, one in each family.
func (n *pairNetwork) transfers(t *testing.T, size int64) []*lab.Transfer {
	t.Helper()
	return n.transfersOf(t, size, nil)
}

// paced is transfers at a rate that the WAN carries with nothing waiting: as much
// as the line takes makes its queue overflow now and then, and the reader waits
// for what was lost there for longer than a drain takes.
func (n *pairNetwork) paced(t *testing.T, size int64, bytesPerSecond int) []*lab.Transfer {
	t.Helper()
	return n.transfersOf(t, size, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, bytesPerSecond)
	})
}

func (n *pairNetwork) transfersOf(t *testing.T, size int64, socket func(fd int) error) []*lab.Transfer {
	t.Helper()
	var runs []*lab.Transfer
	ways := n.ways()
	for _, w := range []way{ways[0], ways[3]} {
		tr, err := lab.StartTransfer(t.Context(), lab.TransferConfig{
			From: w.from.Namespace, To: w.to.Namespace, Addr: netip.AddrPortFrom(w.addr, 0), Bytes: size, Back: size, Socket: socket,
		})
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, tr)
	}
	return runs
}

// longest waits for the transfers, whose hashes the lab compares, and returns
// the longest stall that a reader saw. One that stands still for long never
// ends: then the nodes are asked what they know of it.
func (n *pairNetwork) longest(t *testing.T, runs []*lab.Transfer) (stall time.Duration) {
	t.Helper()
	for _, res := range n.results(t, runs) {
		stall = max(stall, res.LongestStall)
	}
	return stall
}

func (n *pairNetwork) results(t *testing.T, runs []*lab.Transfer) (all []lab.TransferResult) {
	t.Helper()
	for _, tr := range runs {
		n.moving(t, tr)
		res, err := tr.Wait()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, res)
	}
	return all
}

// moving returns when the transfer has ended, and fails the test when nothing
// has arrived for long.
func (n *pairNetwork) moving(t *testing.T, tr *lab.Transfer) {
	t.Helper()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	last, since := tr.Received(), time.Now()
	for {
		select {
		case <-tr.Done():
			return
		case <-look.C:
		}
		if got := tr.Received(); got != last {
			last, since = got, time.Now()
		}
		if time.Since(since) > standstill {
			for _, nd := range n.nodes() {
				if s, err := nd.status(); err == nil {
					t.Logf("%s: %+v, drops %v, conns %+v", nd.name, s.HA, nd.allDrops(t), nd.conns())
				}
			}
			t.Fatalf("a transfer has stalled for %v after %d bytes", standstill, last)
		}
	}
}

// standstill is longer than any timer of TCP after the faults that are tried.
const standstill = 40 * time.Second

// guard is what holds in every test of a pair: no database sees a reset, and
// roles change only when there is a reason.
type guard struct {
	n           *pairNetwork
	red, gray   *watch
	activations map[*node]int // of the site that begins with this node
}

// watch begins to guard.
func (n *pairNetwork) watch(t *testing.T) *guard {
	t.Helper()
	g := &guard{n: n, red: startWatch(t, n.Red.DB()), gray: startWatch(t, n.Gray.DB()), activations: map[*node]int{}}
	for _, site := range [][]*node{n.red, n.gray} {
		g.activations[site[0]] = activations(site)
	}
	return g
}

// changes is how often a node of the site has become active since the guard began.
func (g *guard) changes(site []*node) int { return activations(site) - g.activations[site[0]] }

// end fails the test for a reset, and unless roles have changed so often.
func (g *guard) end(t *testing.T, redChanges, grayChanges int) {
	t.Helper()
	g.red.noResets(t)
	g.gray.noResets(t)
	for _, c := range []struct {
		site []*node
		want int
	}{{g.n.red, redChanges}, {g.n.gray, grayChanges}} {
		if got := g.changes(c.site); got != c.want && len(c.site) > 1 {
			t.Errorf("roles of %s and %s changed %d times, want %d:\n%s", c.site[0].name, c.site[1].name, got, c.want, strings.Join(roles(c.site), "\n"))
		}
	}
}

// roles are the lines about changed roles in the logs of all processes of a site,
// in order of time.
func roles(site []*node) []string {
	var lines []string
	for _, nd := range site {
		for _, p := range nd.past {
			for line := range strings.Lines(p.Log.String()) {
				if strings.Contains(line, "role changed") {
					lines = append(lines, strings.TrimSpace(line)+" <"+nd.name+">")
				}
			}
		}
	}
	slices.Sort(lines) // they begin with the time
	return lines
}

// activations counts how often a node of the site has become active. One that
// was frozen and thawed doesn't count.
func activations(site []*node) (sum int) {
	for _, line := range roles(site) {
		if strings.Contains(line, "role=active") && !strings.Contains(line, "process was frozen") {
			sum++
		}
	}
	return sum
}

// stalls sums up how long transfers stood still.
type stalls []time.Duration

// log sorts and shows them.
func (s stalls) log(t *testing.T, what string) {
	t.Helper()
	if len(s) == 0 {
		return
	}
	slices.Sort(s)
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	t.Logf("%s: %d stalls, p50 %v, p99 %v, longest %v", what, len(s), ms(s.percentile(50)), ms(s.percentile(99)), ms(s[len(s)-1]))
}

// percentile is of a sorted list.
func (s stalls) percentile(p int) time.Duration { return s[min(len(s)-1, len(s)*p/100)] }
