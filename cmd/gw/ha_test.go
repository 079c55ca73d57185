package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/gateway/status"
)

// madeUpPair is a pair that only says what a test wants to see.
type madeUpPair struct {
	status   status.HA
	failover status.Failover
	test     status.HATest
	err      error
	forced   bool
	tests    int // how often it was tested
	passes   int // the test that passes, if any
}

var _ control.HA = (*madeUpPair)(nil)

func (m *madeUpPair) Status() status.HA { return m.status }
func (m *madeUpPair) Drain(_ context.Context, force bool) (status.Failover, error) {
	m.forced = force
	return m.failover, m.err
}
func (m *madeUpPair) Failover(context.Context) (status.Failover, error) { return m.failover, m.err }
func (m *madeUpPair) Test(context.Context) (status.HATest, error) {
	if m.tests++; m.tests == m.passes {
		m.test.OK = true
	}
	return m.test, m.err
}

func millis(f float64) status.Millis { return status.Millis(f * float64(time.Millisecond)) }

// activeNode is a node that took over an hour ago, and whose sibling has come back since.
func activeNode() status.HA {
	now := time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
	equal, ago := true, seconds(21*time.Millisecond)
	const epoch = 1773497366123
	const dead = "the sibling timed out, and no witness sees it"
	return status.HA{
		Time: now, Node: "red-1", Site: "red", Role: status.RoleActive, Why: dead, Since: now.Add(-time.Hour), Active: "red-1", Epoch: epoch,
		Health: status.Health{LAN: true, Plane: true, Reach: 1},
		Sibling: status.Sibling{
			Node: "red-2", State: status.SiblingUp, LastHeard: now.Add(-30 * time.Millisecond), Role: status.RoleStandby,
			Health: &status.Health{LAN: true, Plane: true, Reach: 1},
		},
		Witnesses: []status.Witness{{Node: "gray-1", Site: "gray", HeardAgo: &ago, HearsUs: true}, {Node: "gray-2", Site: "gray", HeardAgo: &ago}},
		Records:   status.Records{Held: 1200, Lag: 1, Sent: 90210, SentBytes: 9 << 20, InSync: true, DigestEqual: &equal},
		VIP:       status.VIP{Addresses: []netip.Addr{netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("fd77:1::10")}, Held: true, Requests: 31, Answers: 31, Announcements: 28, Probes: 240},
		Carriers:  []status.Carrier{{Site: "blue"}, {Site: "gray", Node: "gray-1"}, {Site: "red", Node: "red-1", Epoch: epoch}},
		Planned:   1, Unplanned: 2,
		LastFailover: &status.Failover{
			At: now.Add(-time.Hour), Reason: dead, From: "red-2", To: "red-1", Epoch: epoch,
			Phases: status.Phases{
				Asked: millis(100.2), Detected: millis(150.3), Claimed: millis(150.4), Acknowledged: millis(191),
				Address: millis(152), Announced: millis(152.25), Total: millis(191),
			},
		},
	}
}

// standbyNode is the same pair as the other node sees it, while it is drained.
func standbyNode() status.HA {
	h := activeNode()
	h.Node, h.Role, h.Why = "red-2", status.RoleStandby, "another node is active"
	h.Sibling.Node, h.Sibling.Role = "red-1", status.RoleActive
	h.VIP.Held = false
	h.Records.Lag, h.Records.Sent, h.Records.SentBytes = 0, 0, 0
	h.Handover = &status.Handover{To: "red-2", Reason: "drained by an operator", Age: seconds(3 * time.Millisecond), Forced: true}
	h.LastFailover = nil
	return h
}

// brokenPair has all that may stand in the way, as far as it can be at once.
func brokenPair() status.HA {
	h := activeNode()
	differ := false
	h.Sibling.Health = &status.Health{}
	h.Records.DigestEqual = &differ
	h.Sibling.Role, h.Role, h.VIP.Held = status.RoleStandby, status.RoleSuspended, false
	h.Why = "the process was frozen"
	h.Problems = doctor.Unprotected(&h)
	return h
}

func paired() status.Status {
	s := healthy()
	h := activeNode()
	h.Sibling.State, h.Sibling.LastHeard = status.SiblingSilent, h.Time.Add(-90*time.Second)
	h.Records.InSync = false
	s.HA = &h
	return s
}

func TestHAStatusText(t *testing.T) {
	refused := activeNode()
	refused.Sibling = status.Sibling{Node: "red-2", State: status.SiblingRefused, Refused: "site.red.pair.heartbeat differs"}
	refused.Records.InSync, refused.Records.DigestEqual, refused.LastFailover = false, nil, nil
	unheard := status.HA{
		Time: refused.Time, Node: "red-1", Site: "red", Role: status.RoleWaiting, Why: "started; listening for an active node", Since: refused.Time,
		Sibling: status.Sibling{Node: "red-2", State: status.SiblingUnheard}, Witnesses: []status.Witness{{Node: "gray-1", Site: "gray"}},
	}
	for name, h := range map[string]status.HA{"active": activeNode(), "standby": standbyNode(), "broken": brokenPair(), "refused": refused, "start": unheard} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := gw("ha", "status", "--socket", serveHA(t, madeUp{}, &madeUpPair{status: h}))
			if code != 0 || stderr != "" {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			checkWidth(t, stdout)
			checkGolden(t, "ha-status-"+name+".txt", stdout)
		})
	}
}

func TestHAOrders(t *testing.T) {
	unplanned := *activeNode().LastFailover
	planned := status.Failover{
		At: unplanned.At, Reason: "drained by an operator", Planned: true, From: "red-1", To: "red-2", Epoch: unplanned.Epoch + 1,
		Phases: status.Phases{Detected: millis(0.1), Claimed: millis(1.25), Acknowledged: millis(42), Address: millis(1.5), Announced: millis(1.75), Total: millis(42)},
	}
	first := planned
	first.From, first.Reason = "", "taken over by an operator"
	equal := true
	good := status.HATest{Node: "red-2", Records: 1200, DigestEqual: &equal, OK: true}
	handed := planned
	handed.Phases = status.Phases{}
	start, failed := activeNode(), brokenPair()
	start.Records.DigestEqual = nil
	failed.Role = status.RoleActive
	unmeasured := status.HATest{Node: "red-2", Records: 1200, Problems: doctor.Unprotected(&start)}
	bad := status.HATest{Node: "red-2", Records: 1200, DigestEqual: failed.Records.DigestEqual, Problems: doctor.Unprotected(&failed)}
	cases := []struct {
		golden string
		args   []string
		pair   madeUpPair
		code   int
	}{
		{"ha-drain.txt", []string{"drain"}, madeUpPair{failover: planned}, 0},
		{"ha-drain-handed.txt", []string{"drain"}, madeUpPair{failover: handed}, 0},
		{"ha-test-failed.txt", []string{"test"}, madeUpPair{test: bad}, 1},
		{"ha-test-unmeasured.txt", []string{"test"}, madeUpPair{test: unmeasured}, 1},
		{"ha-failover.txt", []string{"failover"}, madeUpPair{failover: first}, 0},
		{"ha-test-passed.txt", []string{"test"}, madeUpPair{test: good}, 0},
	}
	for _, tc := range cases {
		t.Run(tc.golden, func(t *testing.T) {
			stdout, stderr, code := gw(append(append([]string{"ha"}, tc.args...), "--socket", serveHA(t, madeUp{}, &tc.pair))...)
			if code != tc.code || stderr != "" {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			checkWidth(t, stdout)
			checkGolden(t, tc.golden, stdout)
		})
	}
}

func TestHAJSON(t *testing.T) {
	pair := &madeUpPair{status: brokenPair(), failover: *activeNode().LastFailover, test: status.HATest{Node: "red-2", Problems: []string{"x"}}}
	socket := serveHA(t, madeUp{}, pair)
	ask := func(want any, got any, code int, args ...string) {
		t.Helper()
		stdout, stderr, c := gw(append(append([]string{"ha"}, args...), "--json", "--socket", socket)...)
		if c != code || stderr != "" {
			t.Fatalf("%v: exit %d: %s", args, c, stderr)
		}
		if err := json.Unmarshal([]byte(stdout), got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%v (-want +got):\n%s", args, diff)
		}
	}
	ask(&pair.status, new(status.HA), 0, "status")
	ask(&pair.failover, new(status.Failover), 0, "drain", "--force")
	if !pair.forced {
		t.Error("--force got lost")
	}
	ask(&pair.failover, new(status.Failover), 0, "failover")
	ask(&pair.test, new(status.HATest), 1, "test")
}

// TestHATestWaits: --wait asks again until the standby is ready, and shows only the last
// answer.
func TestHATestWaits(t *testing.T) {
	pair := &madeUpPair{test: status.HATest{Node: "red-2", Records: 7}, passes: 3}
	stdout, stderr, code := gw("ha", "test", "--wait", "1m", "--socket", serveHA(t, madeUp{}, pair))
	if code != 0 || stderr != "" || strings.Count(stdout, "test:") != 1 || !strings.Contains(stdout, "passed") || pair.tests != 3 {
		t.Errorf("exit %d after %d tests: %s%s", code, pair.tests, stdout, stderr)
	}
}

func TestHAErrors(t *testing.T) {
	alone := serve(t, madeUp{})
	refusing := serveHA(t, madeUp{}, &madeUpPair{err: errors.New("the standby's records are incomplete; wait until gw ha status says in sync, or use --force")})
	cases := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"status of a single node", []string{"status", "--socket", alone}, 1, "this node has no sibling"},
		{"drain of a single node", []string{"drain", "--socket", alone}, 1, "this node has no sibling"},
		{"refused drain", []string{"drain", "--socket", refusing}, 1, "wait until gw ha status says in sync"},
		{"refused failover", []string{"failover", "--socket", refusing}, 1, "records are incomplete"},
		{"refused test", []string{"test", "--socket", refusing}, 1, "records are incomplete"},
		{"no gateway", []string{"drain", "--socket", alone + "x"}, 1, "no gateway is running here"},
		{"unknown flag", []string{"failover", "--force", "--socket", alone}, 2, "--force"},
		{"unknown command", []string{"swap"}, 2, "swap"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			stdout, stderr, code := gw(append([]string{"ha"}, tc.args...)...)
			if code != tc.code || !strings.Contains(stderr, tc.want) || stdout != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit %d and %q", code, stdout, stderr, tc.code, tc.want)
			}
		})
	}
}
