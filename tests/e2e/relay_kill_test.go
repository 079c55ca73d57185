package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/onewaylink/gw/tests/lab"
)

// TestRelayKill kills gateways at random moments of bulk.
func TestRelayKill(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string) { relayKill(t, mode, 20) })
}

// relayKill kills one gateway or both, some with the loss of its records, and
// restarts them. The connections resume.
func relayKill(t *testing.T, mode string, rounds int) {
	n := startRelay(t, mode, farWAN)
	n.scenario(t, fmt.Sprintf("%d kills", rounds), noReset, func(t *testing.T) {
		p := n.startPump(t, 16<<20)
		for i := range rounds {
			p.advance(t, some+rand.Int64N(4*some))
			victims := [][]*node{{n.red}, {n.gray}, {n.red, n.gray}}[i%3]
			for _, nd := range victims {
				nd.kill()
			}
			if forgets := i%2 == 1 && len(victims) == 1; forgets {
				// The other gateway knows the connections.
				if err := os.RemoveAll(filepath.Join(victims[0].dir, "state")); err != nil {
					t.Fatal(err)
				}
			}
			for _, nd := range victims {
				nd.up()
			}
			p.advance(t, some)
		}
		if n.relays() {
			n.waitRelayed(t)
		}
		p.stop(t)
	})
}

// pump keeps bulk moving both ways on connections opened from both sides.
type pump struct {
	n       *relayNet
	lanes   []*pumpLane
	over    atomic.Bool
	running sync.WaitGroup
}

type pumpLane struct {
	done    atomic.Int64 // by transfers that have ended
	current atomic.Pointer[lab.Transfer]
	count   int
	err     error // valid once nothing runs
}

// received is never too much: a transfer that ends just now may be missing.
func (l *pumpLane) received() int64 {
	done := l.done.Load()
	if r := l.current.Load(); r != nil {
		return done + r.Received()
	}
	return done
}

// startPump begins with transfers of size bytes each way, and continues with the
// next when one has ended.
func (n *relayNet) startPump(t *testing.T, size int64) *pump {
	t.Helper()
	p := &pump{n: n}
	for _, w := range n.twoWays() {
		l := &pumpLane{}
		p.lanes = append(p.lanes, l)
		p.running.Go(func() {
			for l.err == nil && !p.over.Load() {
				l.err = l.once(t.Context(), w, size)
			}
		})
	}
	t.Cleanup(func() { p.over.Store(true); p.running.Wait() })
	return p
}

func (l *pumpLane) once(ctx context.Context, w way, size int64) error {
	r, err := lab.StartTransfer(ctx, transferOf(w, size))
	if err != nil {
		return err
	}
	l.current.Store(r)
	res, err := r.Wait()
	if err != nil {
		return err
	}
	l.current.Store(nil) // before it counts as done, or it would count twice
	l.done.Add(res.Received)
	l.count++
	return nil
}

// advance waits until every lane has moved some bytes from now on.
func (p *pump) advance(t *testing.T, bytes int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var from []int64
	for _, l := range p.lanes {
		from = append(from, l.received())
	}
	if err := lab.Until(ctx, fmt.Sprintf("%d bytes on every connection", bytes), func() (bool, error) {
		for i, l := range p.lanes {
			if l.received() < from[i]+bytes {
				return false, nil
			}
		}
		return true, nil
	}); err != nil {
		for _, nd := range []*node{p.n.red, p.n.gray} {
			t.Logf("%s: drops %v, connections %+v", nd.name, nd.allDrops(t), nd.conns())
		}
		t.Fatal(err)
	}
}

// stop waits for the transfers that run, whose hashes the lab compares.
func (p *pump) stop(t *testing.T) {
	t.Helper()
	p.over.Store(true)
	p.running.Wait()
	for i, l := range p.lanes {
		if l.err != nil {
			t.Errorf("lane %d, after %d transfers: %v", i, l.count, l.err)
		}
		t.Logf("lane %d: %d transfers, %d MB", i, l.count, l.done.Load()>>20)
	}
}

// waitRelayed waits until both gateways relay something.
func (n *relayNet) waitRelayed(t *testing.T) {
	t.Helper()
	for _, nd := range []*node{n.red, n.gray} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := lab.Until(ctx, nd.name+" relays", func() (bool, error) {
			for _, c := range nd.conns() {
				if c.Mode == "relayed" {
					return true, nil
				}
			}
			return false, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}
