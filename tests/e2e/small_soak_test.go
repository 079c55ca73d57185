//go:build soak

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// smallMemory is what a small machine has, in bytes, and smallLimit what the Go
// runtime has as its limit.
const (
	smallMemory = 512 << 20
	smallLimit  = "400MiB"
)

// TestSmallMachine: gateways with one processor and 512 MB each carry 1,000
// connections at once that all have something to send, raw, relayed, and with fewer
// relays than they would need; and release that memory within a minute.
func TestSmallMachine(t *testing.T) {
	t.Run("raw", func(t *testing.T) { smallMachine(t, modeRoute, 0) })
	t.Run("relayed", func(t *testing.T) { smallMachine(t, modeRelay, 0) })
	t.Run("limited", func(t *testing.T) { smallMachine(t, modeRelay, 100) })
}

// smallMachine bounds the relays unless that is 0.
func smallMachine(t *testing.T, mode string, relays uint64) {
	s := setup{lab: lab.Config{Impaired: true}, rules: relayPolicy(mode)}
	if relays > 0 {
		s.local = fmt.Sprintf("limits { relays = %d }", relays)
	}
	n := newNetwork(t, s)
	n.Box.SetBoth(lab.Impairment{Delay: farDelay})
	nodes := []*node{n.red, n.gray}
	for i, nd := range nodes {
		nd.under = small(t, nd, i)
	}
	n.start()
	rss := func(nd *node) int64 {
		u, err := nd.proc.Usage()
		if err != nil {
			t.Fatal(err)
		}
		return u.RSS
	}
	var before []int64
	for _, nd := range nodes {
		before = append(before, rss(nd))
	}

	const flows, size = 250, 256 << 10
	var g errgroup.Group
	for i, w := range n.ways() {
		g.Go(func() error {
			_, err := lab.RunTransfer(t.Context(), lab.TransferConfig{
				From: w.from.Namespace, To: w.to.Namespace, Addr: netip.AddrPortFrom(w.addr, uint16(6000+i)),
				Flows: flows, Bytes: size, Back: size,
			})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	burst := time.Now()
	for i, nd := range nodes {
		u, err := nd.proc.Usage()
		if err != nil {
			t.Fatalf("%s has exited: %v", nd.name, err)
		}
		s, err := nd.status()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d MB before, at most %d, %d now; %d flows, %d relays begun, %d refused", nd.name, before[i]>>20, u.PeakRSS>>20, u.RSS>>20, s.Flows.TCP, s.Relay.Begun, s.Relay.Full)
		if u.PeakRSS > smallMemory {
			t.Errorf("%s used %d MB", nd.name, u.PeakRSS>>20)
		}
		if mode == modeRelay && s.Relay.Begun == 0 {
			t.Errorf("%s: no connection was relayed", nd.name)
		}
		if limited := s.Relay.Full > 0; limited != (relays > 0) {
			t.Errorf("%s: %d connections were refused a relay, want none", nd.name, s.Relay.Full)
		}
		most := before[i] + (u.PeakRSS-before[i])/4 + 8<<20
		ctx, cancel := context.WithDeadline(t.Context(), burst.Add(time.Minute))
		err = lab.Until(ctx, nd.name+" gives memory back", func() (bool, error) { return rss(nd) <= most, nil })
		cancel()
		if err != nil {
			t.Errorf("%v: still %d MB", err, rss(nd)>>20)
		}
		t.Logf("%s: %d MB %v after the burst", nd.name, rss(nd)>>20, time.Since(burst).Round(time.Second))
	}
	n.red.waitStatus("the link is still up", func(s status.Status) bool { return s.Links[0].State == status.LinkUp })
}

// small makes a command that runs a program on one processor and with little
// memory. Where the kernel keeps no memory of control groups the test holds
// what was used against the bound, which is as strict.
func small(t *testing.T, nd *node, cpu int) []string {
	t.Helper()
	join := ""
	if dir := memoryGroup(t, nd); dir != "" {
		join = "echo $$ >" + filepath.Join(dir, "cgroup.procs") + "; "
	} else {
		t.Log("no control group for memory here: only what was used is checked")
	}
	return []string{"sh", "-c", join + `exec taskset -c ` + strconv.Itoa(cpu) + ` env GOMEMLIMIT=` + smallLimit + ` "$@"`, "sh"}
}

// memoryGroup makes a control group that may take smallMemory, of the second
// version or else of the first; empty if there is none to be had.
func memoryGroup(t *testing.T, nd *node) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []struct{ fstype, option, file string }{{"cgroup2", "", "memory.max"}, {"cgroup", "memory", "memory.limit_in_bytes"}} {
		for line := range strings.Lines(string(mounts)) {
			f := strings.Fields(line)
			if f[2] != kind.fstype || !strings.Contains(","+f[3]+",", kind.option) {
				continue
			}
			dir := filepath.Join(f[1], fmt.Sprintf("gwlab-%d-%s", os.Getpid(), nd.name))
			if os.Mkdir(dir, 0o755) != nil {
				continue
			}
			if os.WriteFile(filepath.Join(dir, kind.file), []byte(strconv.Itoa(smallMemory)), 0) != nil {
				os.Remove(dir)
				continue
			}
			t.Cleanup(func() {
				if nd.proc != nil {
					nd.kill()
				}
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				if err := lab.Until(ctx, "the control group is empty", func() (bool, error) { return os.Remove(dir) == nil, nil }); err != nil {
					t.Error(err)
				}
			})
			t.Logf("memory of %s is bounded by %s", nd.name, filepath.Join(dir, kind.file))
			return dir
		}
	}
	return ""
}
