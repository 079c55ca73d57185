package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// TestPairSettingsDiffer: two nodes that start with different heartbeats form no
// pair, and both name the attribute. Mended, they do.
func TestPairSettingsDiffer(t *testing.T) {
	n := newPairNetwork(t, pairSetup{redPair: true, pair: `heartbeat = "50ms"`})
	n.red[1].edit(`"50ms"`, `"60ms"`)
	for _, nd := range n.nodes() {
		nd.up()
	}
	for _, nd := range n.red {
		nd.waitStatus(nd.name+" refuses its sibling", func(s status.Status) bool {
			return s.HA != nil && s.HA.Sibling.State == status.SiblingRefused
		})
		named := false
		s, err := nd.status()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range s.Links {
			for _, d := range l.Differences {
				named = named || strings.Contains(d.Attribute, "heartbeat") && d.Fatal
			}
		}
		if !named {
			t.Errorf("%s does not name heartbeat as what differs: %+v", nd.name, s.Links)
		}
	}
	for _, nd := range n.red {
		other := n.red[0].name
		if nd == n.red[0] {
			other = n.red[1].name
		}
		if code, out := nd.run(t, "ha", "drain", "--socket", nd.socket); code == 0 || !strings.Contains(out, "no pair is formed with "+other) {
			t.Errorf("gw ha drain on %s exits with %d:\n%s", nd.name, code, out)
		}
	}
	n.red[1].term()
	n.red[1].edit(`"60ms"`, `"50ms"`)
	n.red[1].up()
	n.settled(n.red)
	a, _ := active(t, n.red)
	n.answersAlone(t, a)
}

// TestPairCommands: what is to run when the role changes does, and what hangs is
// killed, and holds nothing up.
func TestPairCommands(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "note")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$1\" >> "+dir+"/roles\necho said \"$1\"\n[ \"$1\" = active ] || exec sleep 600\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	n := newPairNetwork(t, pairSetup{redPair: true, pair: `
    on_active       = ["` + script + `", "active"]
    on_standby      = ["` + script + `", "standby"]
    command_timeout = "1s"`})
	n.start()
	from, to := active(t, n.red)
	from.drain(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, want := range []struct {
		nd   *node
		text string
	}{
		{from, "command done: setting=on_active"}, {to, "command done: setting=on_active"}, {to, "said active"},
		{from, "command timed out and was killed: setting=on_standby"},
	} {
		if err := want.nd.proc.Saw(ctx, want.text); err != nil {
			t.Error(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "roles"))
	if err != nil {
		t.Fatal(err)
	}
	if a, s := strings.Count(string(b), "active"), strings.Count(string(b), "standby"); a != 2 || s != 1 {
		t.Errorf("on_active ran %d times and on_standby %d, want 2 and 1", a, s)
	}
}

// traces asks both nodes of red's pair for packets both ways. Each names the nodes on the
// way; the standby reports that it is none of them but for what the LAN sends to it. The other
// site's node sends its verdict, not its rule.
func (n *pairNetwork) traces(t *testing.T, a, s *node) {
	t.Helper()
	gray := n.gray[0].name
	for _, c := range []struct {
		nd         *node
		from, to   string
		want, says []string
	}{
		{a, n.Red.DB().LAN4.String(), n.Gray.DB().LAN4.String(), []string{a.name + " passes all", gray + " passes"}, nil},
		{a, n.Gray.DB().LAN4.String(), n.Red.DB().LAN4.String(), []string{gray + " passes", a.name + " passes all"}, nil},
		{s, n.Red.DB().LAN4.String(), n.Gray.DB().LAN4.String(), []string{s.name + " passes", a.name + " passes all", gray + " passes"},
			[]string{s.name + ", which stands by; " + a.name + " is active", "passed on to its sibling " + a.name}},
		{s, n.Gray.DB().LAN4.String(), n.Red.DB().LAN4.String(), []string{gray + " passes", a.name + " passes all"},
			[]string{s.name + ", which stands by; " + a.name + " is active"}},
	} {
		if got := said(c.nd.trace(c.from, c.to+":5432")); !slices.Equal(got, c.want) {
			t.Errorf("%s reports for packets from %s to %s: %q, want %q", c.nd.name, c.from, c.to, got, c.want)
		}
		_, out := c.nd.run(t, "trace", c.from, c.to+":5432", "--socket", c.nd.socket)
		for _, word := range c.says {
			if !strings.Contains(strings.Join(strings.Fields(out), " "), word) {
				t.Errorf("the output of gw trace on %s lacks %q:\n%s", c.nd.name, word, out)
			}
		}
	}
}

// TestPairOrders: what an operator may ask for, and what is refused.
func TestPairOrders(t *testing.T) {
	n := newPairNetwork(t, pairSetup{redPair: true})
	n.start()
	a, s := active(t, n.red)
	for _, c := range []struct {
		nd   *node
		args []string
		want string
	}{
		{s, []string{"drain"}, "not active"},
		{a, []string{"failover"}, "active already"},
	} {
		args := append([]string{"ha"}, append(c.args, "--socket", c.nd.socket)...)
		if code, out := c.nd.run(t, args...); code == 0 || !strings.Contains(out, c.want) {
			t.Errorf("gw %v on %s exits with %d, want an error with %q:\n%s", args, c.nd.name, code, c.want, out)
		}
	}
	n.traces(t, a, s)
	// A plan names who has to agree, and the order.
	s.edit("  pair {", "  pair {\n    dead_after = \"200ms\"")
	code, out := s.run(t, "plan", "-c", filepath.Join(s.dir, "site.hcl"), "--socket", s.socket)
	if want := "red-1 and red-2 must agree on site.red.pair.dead_after"; code != 4 || !strings.Contains(strings.Join(strings.Fields(out), " "), want) ||
		!strings.Contains(strings.Join(strings.Fields(out), " "), "Then restart "+s.name+", which stands by, and "+a.name+" right after it") {
		t.Errorf("the plan ends with %d:\n%s", code, out)
	}
	s.edit("\n    dead_after = \"200ms\"", "")
	n.proven(t, n.red)
	if code, out := s.run(t, "ha", "failover", "--socket", s.socket); code != 0 {
		t.Fatalf("failover: %s", out)
	}
	n.settled(n.red)
	if now, _ := active(t, n.red); now != s {
		t.Errorf("%s is active after the failover, want %s", now.name, s.name)
	}
	h := s.ha(t)
	if h.Planned != 1 || h.Unplanned != 0 || h.LastFailover == nil || h.LastFailover.From != a.name || !h.VIP.Held || h.Sibling.State != status.SiblingUp {
		t.Errorf("after the failover %s reports %+v", s.name, h)
	}
	for _, w := range h.Witnesses {
		if !w.HearsUs || w.HeardAgo == nil || time.Duration(*w.HeardAgo) > time.Second {
			t.Errorf("witness %+v", w)
		}
	}
	// A standby whose sibling is dead: there is no node to drain to.
	a.kill()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := lab.Until(ctx, "the sibling is missed", func() (bool, error) { return s.ha(t).Sibling.State == status.SiblingSilent, nil }); err != nil {
		t.Fatal(err)
	}
	// A sibling that has just fallen silent may be late only, and is asked in vain.
	if err := lab.Until(ctx, "a drain is refused", func() (bool, error) {
		code, out := s.run(t, "ha", "drain", "--socket", s.socket)
		if code == 0 {
			return false, fmt.Errorf("drained to a dead sibling:\n%s", out)
		}
		return strings.Contains(out, "not reachable"), nil
	}); err != nil {
		t.Fatal(err)
	}
	if code, _ := s.run(t, "ha", "test", "--socket", s.socket); code != 1 {
		t.Errorf("gw ha test without a standby exits with %d, want 1", code)
	}
}
