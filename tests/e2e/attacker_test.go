package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/attacker"
	"github.com/onewaylink/gw/tests/lab"
)

const (
	// attackTime is how long the compromised gateway attacks, and attackRate how many hostile
	// packets it sends in a second, beside its streams.
	attackTime = 60 * time.Second
	attackRate = 3000
	// statusWithin is the time in which a victim answers `gw status` throughout.
	statusWithin = time.Second
	// attackedRSS bounds a victim's resident memory, in bytes.
	attackedRSS = 128 << 20
	// greenHost is a host of the attacker's site.
	greenHost = "10.77.3.10"
)

// TestCompromisedGateway: the gateway of a third site, green, was broken into and attacks both
// gateways of red with its valid key, by every protocol that they speak, while PostgreSQL
// replicates between red and gray. Red's gateways answer their operator, stay small and keep their
// roles, the databases see no reset, and afterwards red's pair still fails over.
func TestCompromisedGateway(t *testing.T) {
	key := lab.NewKey()
	n := newPairNetwork(t, pairSetup{redPair: true, redDatabases: 2, mode: "auto", third: func(l *lab.Lab) (blocks, rules string) {
		return fmt.Sprintf(`
site "green" {
  subnets = ["10.77.3.0/24", "fd77:3::/64"]
  node "green-1" {
    public_key = %q
    address    = ["10.77.3.1", "fd77:3::1"]
    endpoint   = "%s:51820"
  }
}
link "red" "green" {
  initiator = "red"
}`, key.Public(), l.Gray.Gateways[1].WAN4), fmt.Sprintf(`
  rule "green" {
    from  = ["green"]
    to    = [%q, %q]
    ports = ["any"]
    mode  = "relay"
  }`, l.Red.Databases[1].LAN4.String()+"/32", l.Red.Databases[1].LAN6.String()+"/128")
	}})
	for _, nd := range n.red {
		nd.edit("log { level", "audit { to = "+strconv.Quote(auditLog(nd))+" }\n  log { level")
	}
	for _, nd := range n.nodes() {
		nd.up()
	}
	for _, nd := range n.nodes() {
		nd.waitStatus("the links of "+nd.name+" to all but green are up", func(s status.Status) bool {
			up := 0
			for _, l := range s.Links {
				if l.State == status.LinkUp && l.Site != "green" {
					up++
				}
			}
			return up == len(s.Links)-1 || nd == n.gray[0] && up == len(s.Links)
		})
	}
	n.settled(n.red)
	b := n.replicates(t, "bank")
	g := n.watch(t)
	b.replicates = b.connection(t)

	target := n.Red.Databases[1]
	for _, r := range []string{"10.77.3.0/24 " + n.Red.Routers[0].String(), "fd77:3::/64 " + n.Red.Routers[1].String()} {
		to, via, _ := strings.Cut(r, " ")
		if out, err := target.Command(t.Context(), "ip", "route", "add", to, "via", via).CombinedOutput(); err != nil {
			t.Fatalf("route to green: %v: %s", err, out)
		}
	}
	swallow(t, target)
	a, err := attacker.New(attacker.Config{
		Site: n.stolen(t, key), Enter: n.Gray.Gateways[1].Do,
		Target: netip.AddrPortFrom(target.LAN4, 5432), Host: netip.MustParseAddr(greenHost),
		Strangers: []netip.Addr{n.Red.DB().LAN4, n.Red.DB().LAN6, n.Gray.DB().LAN4, n.Gray.DB().LAN6},
		Rate:      attackRate, Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	var through atomic.Bool
	var writing sync.WaitGroup
	writing.Go(func() { b.write(t, &through) })
	defer writing.Wait()
	defer through.Store(true)

	ctx, cancel := context.WithTimeout(t.Context(), attackTime)
	defer cancel()
	var watching sync.WaitGroup
	for _, nd := range n.red {
		watching.Go(func() { answers(ctx, t, nd) })
	}
	report, err := a.Run(ctx)
	if err != nil {
		t.Error(err)
	}
	watching.Wait()
	t.Logf("the attacker %v", report)
	for p, sent := range report.Sent {
		if sent < 1000 {
			t.Errorf("the attacker sent only %d packets of %s", sent, p)
		}
	}
	if report.Streams < 10 || report.Relays < 10 {
		t.Errorf("the attacker established %d streams and asked for %d relays: want some of each", report.Streams, report.Relays)
	}
	for _, nd := range n.red {
		u, err := nd.proc.Usage()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: resident %d MB, at most %d", nd.name, u.RSS>>20, u.PeakRSS>>20)
		if u.PeakRSS > attackedRSS {
			t.Errorf("%s held %d MB during the attack, want at most %d", nd.name, u.PeakRSS>>20, attackedRSS>>20)
		}
	}
	advance(t, []*bank{b})
	for _, nd := range n.red {
		nd.noticed(t, "green")
	}

	// What the attacker left behind does not prevent a takeover.
	dead, _ := active(t, n.red)
	dead.kill()
	advance(t, []*bank{b})
	through.Store(true)
	writing.Wait()
	b.equal(t)
	g.end(t, 1, 0)
}

// auditLog is where a node's audit log is.
func auditLog(nd *node) string { return filepath.Join(nd.dir, "audit.log") }

// noticedLines bounds the lines about denied packets after a minute: the first one and one a minute
// for each of a few dozen destinations.
const noticedLines = 150

// noticed fails the test unless status, log and audit log name the site whose packets the node has
// denied, in few lines.
func (n *node) noticed(t *testing.T, site string) {
	t.Helper()
	s, err := n.status()
	if err != nil {
		t.Fatal(err)
	}
	total := uint64(0)
	for _, d := range s.Denials.Totals {
		if d.Site == site {
			total += d.Packets
		}
	}
	if total < 1000 {
		t.Errorf("%s shows %d denied packets of %s, want thousands", n.name, total, site)
	}
	audit, err := os.ReadFile(auditLog(n))
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"log": n.proc.Log.String(), "audit log": string(audit)} {
		lines := 0
		for line := range strings.Lines(text) {
			if strings.Contains(line, "denied") && strings.Contains(line, site) {
				lines++
			}
		}
		if lines == 0 || lines > noticedLines {
			t.Errorf("the %s of %s has %d lines about denied packets of %s, want 1 to %d", what, n.name, lines, site, noticedLines)
		}
		t.Logf("%s: %d denied packets of %s, %d lines in the %s", n.name, total, site, lines, what)
	}
}

// stolen is the configuration as the node with the key has it.
func (n *pairNetwork) stolen(t *testing.T, key lab.Key) configs.Config {
	t.Helper()
	dir := filepath.Join(n.Dir, "green-1")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(n.red[0].dir, "site.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	shared, _, _ := strings.Cut(string(text), "\nlocal {")
	file := filepath.Join(dir, "site.hcl")
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "private.key"), []byte(key.String()+"\n"), 0o600),
		os.WriteFile(file, []byte(shared+"\nlocal {\n  private_key_file = \"private.key\"\n}\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	cfg, diags := configs.Load([]string{file}, configs.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return cfg
}

// swallow accepts connections to port 5432 of a host, and discards it, until the test ends.
func swallow(t *testing.T, h *lab.Host) {
	t.Helper()
	l, err := h.Listen(t.Context(), "tcp", netip.AddrPortFrom(h.LAN4, 5432).String())
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				defer context.AfterFunc(t.Context(), func() { c.Close() })()
				_, _ = c.Write([]byte("N"))
				_, _ = io.Copy(io.Discard, c) // it ends when the attacker resets it or the test ends
			})
		}
	})
	context.AfterFunc(t.Context(), func() { l.Close() })
	t.Cleanup(open.Wait)
}

// answers asks a node for its status over and over until ctx ends, and fails the test when an
// answer takes longer than statusWithin.
func answers(ctx context.Context, t *testing.T, nd *node) {
	pace := time.NewTicker(200 * time.Millisecond)
	defer pace.Stop()
	asked, slowest := 0, time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			t.Logf("%s answered %d times, in %v at most", nd.name, asked, slowest.Round(time.Millisecond))
			return
		case <-pace.C:
		}
		began := time.Now()
		// In front of the load, as the gateway itself: the victim is judged, not the machine.
		out, err := nd.host.Command(t.Context(), "nice", "-n", "-19", nd.bin, "status", "--json", "--socket", nd.socket).Output()
		took := time.Since(began)
		var s status.Status
		if err == nil {
			err = json.Unmarshal(out, &s)
		}
		asked++
		slowest = max(slowest, took)
		if err != nil || took > statusWithin {
			t.Errorf("%s answered gw status after %v, %v", nd.name, took, err)
			return
		}
	}
}
