package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// TestPairSettingsDiffer: two nodes that start with different heartbeats form no
// pair, and both say why, by name. Mended, they do.
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
	}{{from, "on_active done"}, {to, "on_active done"}, {to, "said active"}, {from, "on_standby was killed after its time-out"}} {
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
			t.Errorf("gw %v on %s ends with %d, want an error with %q:\n%s", args, c.nd.name, code, c.want, out)
		}
	}
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
		t.Errorf("after the failover %s says %+v", s.name, h)
	}
	for _, w := range h.Witnesses {
		if !w.HearsUs || w.HeardAgo == nil || time.Duration(*w.HeardAgo) > time.Second {
			t.Errorf("witness %+v", w)
		}
	}
	// A standby whose sibling is dead: there is nobody to drain to.
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
		return strings.Contains(out, "not heard"), nil
	}); err != nil {
		t.Fatal(err)
	}
	if code, _ := s.run(t, "ha", "test", "--socket", s.socket); code != 1 {
		t.Errorf("gw ha test without a standby ends with %d, want 1", code)
	}
}
