package main

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/status"
)

// madeUpReloader says what a test wants to see, and keeps the files of a plan.
type madeUpReloader struct {
	plan   status.Plan
	reload status.Reload
	files  []control.File
}

func (m *madeUpReloader) Plan(files []control.File) status.Plan {
	m.files = files
	return m.plan
}
func (m *madeUpReloader) Reload() status.Reload { return m.reload }

func serveReload(t *testing.T, r control.Reloader) (socket string) {
	t.Helper()
	return serveWith(t, madeUp{}, control.ReloadRoutes(r, hclog.NewNullLogger())...)
}

var (
	someConfig = status.Config{Node: "red-1", Site: "red", Changes: []status.Change{
		{Attribute: "local.log.level", Kind: "changed", Old: "info", New: "debug", Effect: status.EffectReload},
		{Attribute: "policy.rule.admin", Kind: "removed", Old: "from = 10.77.2.10; mode = auto; ports = tcp/22; to = red", Effect: status.EffectReload},
		{Attribute: "policy.rule.replication.ports", Kind: "changed", Old: "tcp/5432", New: "tcp/5432, tcp/5433", Effect: status.EffectReload},
		{Attribute: "site.gray.pair.heartbeat", Kind: "changed", Old: "50ms", New: "100ms", Effect: status.EffectNone},
	}}
	mistaken = status.Config{Node: "red-1", Site: "red", Mistakes: []status.Mistake{
		{File: "/etc/gw/site.hcl", Line: 31, Column: 13, Summary: `"tcp/54a32": a port is a number from 1 to 65535`, Detail: `Write "tcp/5432", "tcp/5000-5010", "udp/53", "icmp" or "any".`},
		{Summary: "no private key: there is no *.key file beside the configuration"},
	}}
	lost = status.Ending{Reason: "denied", Conn: status.Conn{
		Proto: "tcp", Source: netip.MustParseAddr("10.77.2.10"), SourcePort: 40112, Destination: netip.MustParseAddr("10.77.1.10"), DestinationPort: 22,
		Site: "gray", OpenedBy: status.OpenedRemote, Mode: "raw", State: "established", Rule: "admin", RulePos: "site.hcl:40",
		Age: seconds(49 * time.Hour), Idle: seconds(4 * time.Second),
	}}
)

func restarting() status.Config {
	c := someConfig
	c.Changes = append([]status.Change{}, c.Changes[0],
		status.Change{Attribute: "local.tun.mtu", Kind: "changed", Old: "1420", New: "1380", Effect: status.EffectRestart},
		status.Change{Attribute: "site.gray.node.gray-1.endpoint", Kind: "added", New: "203.0.113.10:51820", Effect: status.EffectRestart})
	return c
}

// agreeing is a change that other nodes have to make, too.
func agreeing(a status.Agreement, changes ...status.Change) status.Config {
	return status.Config{Node: "red-1", Site: "red", Changes: changes, Agreement: &a}
}

var (
	wider = agreeing(status.Agreement{
		Refused: []string{"site.gray.subnets"}, First: []string{"red-2"}, Then: []string{"red-1", "gray-1"},
		Shown: []string{"policy.rule.admin.ports"}, ShownOn: []string{"gray-1", "red-2"},
	}, status.Change{Attribute: "site.gray.subnets", Kind: "changed", Old: "10.77.2.0/24", New: "10.77.2.0/23", Effect: status.EffectRestart},
		status.Change{Attribute: "policy.rule.admin.ports", Kind: "changed", Old: "tcp/22", New: "tcp/2222", Effect: status.EffectReload})
	slower = agreeing(status.Agreement{
		Refused: []string{"site.red.pair.dead_after"}, Pair: true, First: []string{"red-2"}, Then: []string{"red-1"},
	}, status.Change{Attribute: "site.red.pair.dead_after", Kind: "changed", Old: "150ms", New: "200ms", Effect: status.EffectRestart})
	shown = agreeing(status.Agreement{Shown: []string{"link.gray.red.keepalive"}, ShownOn: []string{"gray-1"}},
		status.Change{Attribute: "link.gray.red.keepalive", Kind: "changed", Old: "5s", New: "10s", Effect: status.EffectReload})
	single = agreeing(status.Agreement{Refused: []string{"site.gray.subnets"}, Then: []string{"red-1", "gray-1"}}, wider.Changes[0])
)

func TestPlan(t *testing.T) {
	file := writeFile(t, filepath.Join(t.TempDir(), "site.hcl"), "site \"red\" {\n}\n")
	dir := starter(t)
	long := lost
	long.Source, long.Destination = netip.MustParseAddr("fd77:2:1111:2222:3333:4444:5555:6666"), netip.MustParseAddr("fd77:1:1111:2222:3333:4444:5555:6666")
	for _, tt := range []struct {
		golden string
		plan   status.Plan
		code   int
	}{
		{"plan-nothing.txt", status.Plan{Config: status.Config{Node: "red-1", Site: "red"}, Conns: 50}, 0},
		{"plan-reload.txt", status.Plan{Config: someConfig, Conns: 50, Moves: 2}, 0},
		{"plan-ends.txt", status.Plan{Config: someConfig, Conns: 50, Ends: []status.Ending{lost, long}}, exitEnds},
		{"plan-restart.txt", status.Plan{Config: restarting(), Follows: true, Conns: 50, Ends: []status.Ending{lost}}, exitRestart},
		{"plan-agree-link.txt", status.Plan{Config: wider, Conns: 50}, exitRestart},
		{"plan-agree-sites.txt", status.Plan{Config: single, Conns: 50}, exitRestart},
		{"plan-agree-pair.txt", status.Plan{Config: slower, Conns: 50}, exitRestart},
		{"plan-agree-shown.txt", status.Plan{Config: shown, Conns: 50}, 0},
		{"plan-mistakes.txt", status.Plan{Config: mistaken}, exitUsage},
	} {
		t.Run(tt.golden, func(t *testing.T) {
			m := &madeUpReloader{plan: tt.plan}
			socket := serveReload(t, m)
			stdout, stderr, code := gw("plan", "-c", dir, "--socket", socket)
			if code != tt.code || stderr != "" {
				t.Fatalf("exit %d, want %d: %s", code, tt.code, stderr)
			}
			checkWidth(t, stdout)
			checkGolden(t, tt.golden, stdout)
			if len(m.files) != 1 || !filepath.IsAbs(m.files[0].Name) || !strings.Contains(string(m.files[0].Text), `site "red"`) {
				t.Errorf("the gateway was given %q", m.files)
			}
			stdout, _, _ = gw("plan", "-c", dir, "--socket", socket, "--json")
			var got status.Plan
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.plan, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
	m := &madeUpReloader{}
	if _, stderr, code := gw("plan", "-c", file, "--socket", serveReload(t, m)); code != exitUsage || !strings.Contains(stderr, "site.hcl:1,") || m.files != nil {
		t.Errorf("a mistake that can be seen here: exit %d: %s", code, stderr)
	}
	if _, stderr, code := gw("plan", "-c", dir, "--socket", filepath.Join(dir, "none")); code != exitFailed || !strings.Contains(stderr, "gw up") {
		t.Errorf("no gateway: exit %d: %s", code, stderr)
	}
}

func TestReload(t *testing.T) {
	for _, tt := range []struct {
		golden string
		reload status.Reload
		code   int
	}{
		{"reload.txt", status.Reload{Config: someConfig, Applied: true, Kept: 48, Moved: 1, Revoked: 2, Resumed: 3}, 0},
		{"reload-mistakes.txt", status.Reload{Config: mistaken}, exitUsage},
		{"reload-agree.txt", status.Reload{Config: slower}, exitRestart},
		{"reload-shown.txt", status.Reload{Config: shown, Applied: true, Kept: 48}, 0},
		{"reload-restart.txt", status.Reload{Config: restarting()}, exitRestart},
	} {
		t.Run(tt.golden, func(t *testing.T) {
			socket := serveReload(t, &madeUpReloader{reload: tt.reload})
			stdout, stderr, code := gw("reload", "--socket", socket)
			if code != tt.code || stderr != "" {
				t.Fatalf("exit %d, want %d: %s", code, tt.code, stderr)
			}
			checkWidth(t, stdout)
			checkGolden(t, tt.golden, stdout)
			stdout, _, code = gw("reload", "--socket", socket, "--json")
			var got status.Reload
			if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != tt.code {
				t.Fatal(code, err)
			}
			if d := cmp.Diff(tt.reload, got, cmpopts.EquateEmpty()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestOnSignal: each signal is acted on, until the gateway ends.
func TestOnSignal(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	hup, done := make(chan os.Signal), make(chan struct{})
	acts := 0
	go func() {
		onSignal(ctx, hup, func() { acts++ })
		close(done)
	}()
	hup <- syscall.SIGHUP
	hup <- syscall.SIGHUP
	cancel()
	<-done
	if acts != 2 {
		t.Errorf("acted on %d signals, want 2", acts)
	}
}
