package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"iter"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/status"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// madeUp is a gateway that only says what a test wants to see.
type madeUp struct {
	status status.Status
	conns  []status.Conn
}

func (m madeUp) Status() status.Status        { return m.status }
func (m madeUp) Conns() iter.Seq[status.Conn] { return slices.Values(m.conns) }

// serve puts a gateway behind a control socket, until the test ends.
func serve(t *testing.T, source status.Source) (socket string) {
	t.Helper()
	return serveHA(t, source, nil)
}

// serveHA does the same for a node of a pair.
func serveHA(t *testing.T, source status.Source, ha control.HA) (socket string) {
	t.Helper()
	return serveWith(t, source, control.HARoutes(ha, hclog.NewNullLogger())...)
}

// serveWith serves more routes.
func serveWith(t *testing.T, source status.Source, more ...control.Route) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "gw") // t.TempDir may be longer than what a socket takes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	server, err := control.Listen(control.Config{Path: socket, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	server.Handle(control.StatusRoutes(source)...)
	server.Handle(more...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return socket
}

// gw runs the command line.
func gw(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	code = run(args, strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), code
}

// checkWidth fails when a line is wider than a terminal.
func checkWidth(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func seconds(d time.Duration) status.Seconds { return status.Seconds(d) }

func healthy() status.Status {
	now := time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)
	return status.Status{
		Node: "red-1", Site: "red", Version: "v0.2.0", Time: now,
		Started: now.Add(-26*time.Hour - 5*time.Minute), Uptime: seconds(26*time.Hour + 5*time.Minute),
		ConfigFiles: []string{"/etc/gw/site.hcl"},
		TUN:         status.TUN{Name: "gw0", MTU: 1420, Driver: "offload", Addresses: []netip.Addr{netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("fd77:1::1")}},
		Links: []status.Link{{
			Peer: "gray-1", Site: "gray", State: status.LinkUp, Since: now.Add(-26 * time.Hour), Endpoint: "203.0.113.10:51820", Initiator: true,
			LastHandshake: now.Add(-12 * time.Second), RTT: seconds(40200 * time.Microsecond), RTTVar: seconds(310 * time.Microsecond),
			LossOut: 0.0125, MTUOut: 1420, MTUIn: 1420, TxBytes: 123456789, RxBytes: 987654321, Version: "v0.2.0",
		}},
		Relay: status.Relay{
			Relayed: 3, Begun: 42, TrunksInUse: 3, TrunkMemory: 5 << 20, TrunkMemoryLimit: 64 << 20,
			Ends: status.NewRelayEnds(map[string]uint64{"idle": 37, "stall": 2, "refused": 0}),
			Ways: []status.Way{{
				Site: "gray", Node: "gray-1", RTT: seconds(41200 * time.Microsecond), LeastRTT: seconds(40100 * time.Microsecond),
				Bandwidth: 35125000, InFlight: 1448000, Sent: 1234567, Lost: 3704,
			}},
		},
		Flows:     status.Flows{TCP: 12, UDP: 3, ICMP: 1, Opened: 4711, Denied: 7, Restored: 2, Records: 12, Limit: 262144},
		Drops:     status.NewDrops(map[string]uint64{"denied": 1207, "spoofed": 0, "bad-checksum": 9, "no-flow": 9}),
		Memory:    status.Memory{Resident: 31 << 20, ResidentPeak: 64 << 20, Heap: 9 << 20, Goroutines: 31},
		Process:   status.Process{Processors: 1, Usable: 4},
		Datagrams: status.Datagrams{Sent: 1234567, Received: 7654321, SendWaits: 12, Drops: status.NewDrops(map[string]uint64{"send-forbidden": 0})},
		Audit:     &status.Audit{Written: 9411},
		Denials: status.Denials{Top: []status.Denial{
			{Site: "gray", Reason: "denied", Proto: "tcp", Destination: netip.MustParseAddr("10.77.1.10"), Port: 22, Packets: 1204, Last: now.Add(-3 * time.Second)},
			{Site: "unknown", Reason: "spoofed", Proto: "icmp", Destination: netip.MustParseAddr("10.77.1.10"), Packets: 1, Last: now.Add(-time.Hour)},
		}},
	}
}

// troubled has everything that wants somebody to do something, and a peer that tries to steer the
// terminal.
func troubled() status.Status {
	s := healthy()
	now := s.Time
	s.ConfigFiles = []string{"/etc/gw/local.hcl", "/etc/gw/policy.hcl", "/etc/gw/sites-of-the-whole-network.hcl"}
	s.Drops = nil
	s.Memory = status.Memory{}
	s.Process = status.Process{Processors: 1, Usable: 1, Freezes: 2}
	s.RecordFile.WriteErrors = 3
	s.Fragments.Evicted, s.Flows.RecordsRefused, s.Relay.Full, s.Relay.TrunksExhausted = 5, 6, 7, 8
	s.Datagrams = status.Datagrams{
		Sent: 1 << 40, Received: 4711, UnknownSessions: 41, HandshakesRepeated: 9, SplitSends: 2, ReceiveErrors: 1, SendResets: 5,
		Drops: status.NewDrops(map[string]uint64{"send-forbidden": 1204, "receive-bad-mac": 3, "receive-initiation": 12345678, "send-no-buffer": 7, "frozen": 0}),
	}
	s.Streams.Drops = status.NewDrops(map[string]uint64{"queue-full": 1, "damaged": 2, "unwanted": 0})
	s.Relay.Violations = []status.Violation{{Kind: "bytes", Count: 1}}
	s.Relay.LegsMade, s.Relay.LegsFailed = 40, 2
	s.Audit = &status.Audit{Written: 9411, Lost: 12, Size: 939524096, Limit: 1 << 30, Full: true}
	s.Sites = []status.Site{
		{Site: "gray", Unconfirmed: 1, Records: []status.RecordResult{
			{Result: "taken", Count: 32768}, {Result: "other-site", Count: 3}, {Result: "quota", Count: 65536}, {Result: "refuted", Count: 12},
		}, Questions: status.Requests{Answered: 20, Refused: 1980}},
		{Site: "quiet"},
	}
	s.Denials.Top = []status.Denial{
		{Site: "gray", Packets: 18446744073709551615, Last: now.Add(-time.Second)},
		{
			Site: "a-site-with-the-longest-name", Reason: "martian-address", Proto: "udp",
			Destination: netip.MustParseAddr("2001:db8:1234:5678:9abc:def0:1234:5678"), Port: 65535, Packets: 1 << 40, Last: now.Add(-26 * time.Hour),
		},
	}
	s.Links = []status.Link{
		{
			Peer: "gray-1", Site: "gray", State: status.LinkUp, Since: now.Add(-time.Second), Endpoint: "[2001:db8:1234:5678:9abc:def0:1234:5678]:51820", Initiator: true,
			LastHandshake: now.Add(time.Minute), RTT: seconds(87 * time.Microsecond), RTTVar: seconds(9 * time.Microsecond),
			MTUOut: 1280, Version: "v0.1.0\x1b[2J\n",
			Differences: []status.Difference{
				{Attribute: "link.red.gray.keepalive", Kind: status.Differs},
				{Attribute: "policy.rule.replication-of-the-accounts-from-gray-to-red.ports", Kind: status.OnlyThere},
				{Attribute: "site.gray.subnets", Kind: status.Differs, Fatal: true},
			},
			ClockSkew: seconds(-90 * time.Second), ClockBehind: seconds(time.Minute),
		},
		{Peer: "blue-1", Site: "blue", State: status.LinkEstablishing, Since: now.Add(-40 * 24 * time.Hour), Endpoint: "198.51.100.1:51820", Initiator: true, TxBytes: 148},
		{Peer: "blue-2", Site: "blue", State: status.LinkDown},
		{
			Peer: "blue-3", Site: "blue", State: status.LinkRefused, Since: now.Add(-3 * time.Minute), Endpoint: "198.51.100.3:51820",
			Refused:     "site.blue.pair.heartbeat differs",
			Differences: []status.Difference{{Attribute: "site.blue.pair.heartbeat", Kind: status.OnlyHere, Fatal: true}},
			Duplicates: []status.Duplicate{
				{Node: "blue-3", Endpoints: []string{"198.51.100.3:51820", "198.51.100.7:40000"}},
				{Node: "red-1", Endpoints: []string{"192.0.2.1:51820", "192.0.2.2:51820"}},
			},
		},
		{Peer: "green-1", Site: "green", State: status.LinkSilent, Since: now.Add(-2 * time.Hour), Endpoint: "198.51.100.9:51820", LastHandshake: now.Add(-100 * time.Second), TxBytes: 1 << 40, RxBytes: 1023},
		{Peer: "green-2", Site: "green", State: status.LinkLost, Since: now.Add(-4 * time.Second), Endpoint: "198.51.100.10:51820", Initiator: true},
	}
	s.Relay.Ways = []status.Way{
		{Site: "blue", Node: "blue-1", InFlight: 1448, Sent: 4, Lost: 3},
		{Site: "blue", Node: "blue-2"},
		{Site: "gray", Node: "gray-1", RTT: seconds(1234 * time.Millisecond), LeastRTT: seconds(87 * time.Microsecond), Sent: 100000, Lost: 1},
		{
			Site: "green", Node: "green-1-behind-the-satellite", RTT: seconds(987600 * time.Microsecond), LeastRTT: seconds(600 * time.Millisecond),
			Bandwidth: 123456, Sent: 1000, Lost: 127,
		},
	}
	return s
}

func TestStatusText(t *testing.T) {
	for name, s := range map[string]status.Status{"healthy": healthy(), "troubled": troubled(), "pair": paired()} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := gw("status", "--socket", serve(t, madeUp{status: s}))
			if code != 0 || stderr != "" {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			checkWidth(t, stdout)
			checkGolden(t, "status-"+name+".txt", stdout)
		})
	}
}

func TestStatusColour(t *testing.T) {
	coloured := statusText(troubled(), true)
	if !strings.Contains(coloured, string(green)+"node:"+string(normal)) || !strings.Contains(coloured, string(red)+"key used twice:") {
		t.Error("no colour")
	}
	plain := coloured
	for _, s := range []style{bold, green, yellow, red, normal} {
		plain = strings.ReplaceAll(plain, string(s), "")
	}
	if diff := cmp.Diff(statusText(troubled(), false), plain); diff != "" {
		t.Errorf("colour changes more than colour:\n%s", diff)
	}
}

func TestStatusJSON(t *testing.T) {
	stdout, stderr, code := gw("status", "--json", "--socket", serve(t, madeUp{status: troubled()}))
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var got status.Status
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(troubled(), got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAskingFails(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.sock")
	dead := filepath.Join(dir, "dead.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	live := serve(t, madeUp{})
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"status without a gateway", []string{"status", "--socket", missing}, 1, "no gateway is running here (" + missing + "); start it with systemctl start gw, or gw up -c /etc/gw"},
		{"watching without a gateway", []string{"status", "--watch", "--socket", missing}, 1, "no gateway is running here"},
		{"conns without a gateway", []string{"conns", "--socket", missing}, 1, "no gateway is running here"},
		{"status of a killed gateway", []string{"status", "--socket", dead}, 1, "no gateway is running here"},
		{"a negative limit", []string{"conns", "--limit=-1", "--socket", live}, 2, "use a number of flows"},
		{"an unknown order", []string{"conns", "--sort", "idle", "--socket", live}, 2, "bytes"},
		{"an unknown flag", []string{"status", "--jsno", "--socket", live}, 2, "--jsno"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr, code := gw(tt.args...)
			if code != tt.code || !strings.Contains(stderr, tt.want) || stdout != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit %d and %q", code, stdout, stderr, tt.code, tt.want)
			}
		})
	}
}

// looks hands over what each repaint wrote.
type looks chan string

func (l looks) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

var _ io.Writer = looks(nil)

func TestWatch(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tick, seen, done := make(chan time.Time), make(looks), make(chan error, 1)
	dir, err := os.MkdirTemp("", "gw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	up := func(node string) (down func()) {
		t.Helper()
		server, err := control.Listen(control.Config{Path: path, Logger: hclog.NewNullLogger()})
		if err != nil {
			t.Fatal(err)
		}
		server.Handle(control.StatusRoutes(madeUp{status: status.Status{Node: node}})...)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- server.Run(ctx) }()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}

	down := up("before")
	go func() { done <- new(statusCmd).watch(ctx, control.NewClient(path), seen, tick) }()
	if text := <-seen; !strings.Contains(text, "node: before") {
		t.Errorf("first look: %s", text)
	}
	down()
	tick <- time.Time{}
	if text := <-seen; !strings.Contains(text, "no gateway is running here") {
		t.Errorf("during the restart: %s", text)
	}
	down = up("after")
	defer down()
	tick <- time.Time{}
	if text := <-seen; !strings.Contains(text, "node: after") {
		t.Errorf("after the restart: %s", text)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("an interrupted watch ended with %v", err)
	}
}
