package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/status"
)

// fixed is a gateway that never changes.
type fixed struct {
	status status.Status
	conns  []status.Conn
}

func (f fixed) Status() status.Status        { return f.status }
func (f fixed) Conns() iter.Seq[status.Conn] { return slices.Values(f.conns) }

// socketPath is a short path: t.TempDir may exceed what a unix socket takes.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "run", "red-1.sock")
}

func listenAt(t *testing.T, path string, source status.Source) *Server {
	t.Helper()
	s, err := Listen(Config{Path: path, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	s.Handle(StatusRoutes(source)...)
	return s
}

// run serves until the test ends or stop is called.
func run(t *testing.T, s *Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run did not return")
		}
	}
	t.Cleanup(stop)
	return stop
}

func sampleConns(n int) []status.Conn {
	conns := make([]status.Conn, n)
	for i := range conns {
		conns[i] = status.Conn{
			Proto: "tcp", Source: netip.AddrFrom4([4]byte{10, 77, 2, 1}), SourcePort: uint16(i),
			Destination: netip.AddrFrom4([4]byte{10, 77, 1, 1}), DestinationPort: 5432,
			BytesIn: uint64(i), Age: status.Seconds(time.Duration(n-i) * time.Second), Rule: `quoted "rule"`,
		}
	}
	return conns
}

func TestStatusAndConns(t *testing.T) {
	source := fixed{
		status: status.Status{Node: "red-1", Site: "red", Uptime: status.Seconds(90 * time.Second), Links: []status.Link{{Peer: "gray-1", State: status.LinkUp}}},
		conns:  sampleConns(2000),
	}
	path := socketPath(t)
	run(t, listenAt(t, path, source))
	c := NewClient(path)

	got, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Node != "red-1" || got.Uptime != source.status.Uptime || len(got.Links) != 1 || got.Links[0].State != status.LinkUp {
		t.Errorf("got %+v", got)
	}

	for _, q := range []status.Query{{}, {Limit: 3}, {Order: status.ByAge, Limit: 3}, {Limit: 1 << 30}} {
		got, err := c.Conns(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(status.Select(slices.Values(source.conns), q), got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", q, diff)
		}
	}
}

// The hand-made frame of the list must be what the JSON package would write.
func TestWriteConns(t *testing.T) {
	for _, n := range []int{0, 1, 3} {
		list := status.ConnList{Total: 10, Conns: sampleConns(n)}
		var streamed, indented, want bytes.Buffer
		if err := writeConns(&streamed, list); err != nil {
			t.Fatal(err)
		}
		whole, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(json.Compact(&indented, streamed.Bytes()), json.Compact(&want, whole)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), indented.String()); diff != "" {
			t.Errorf("%d flows (-want +got):\n%s", n, diff)
		}
	}
}

func TestRefusals(t *testing.T) {
	path := socketPath(t)
	s := listenAt(t, path, fixed{})
	s.Handle(Route{"POST /v1/order", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
	s.Handle(Route{"GET /v1/added", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { WriteJSON(w, "here") })})
	s.Handle(Route{"GET /v1/broken", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { WriteJSON(w, func() {}) })})
	s.Handle(Route{"GET /v1/bare", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })})
	run(t, s)
	c := NewClient(path)

	var answer string
	if err := c.Get(t.Context(), "/v1/added", &answer); err != nil || answer != "here" {
		t.Errorf("an added answer: %q, %v", answer, err)
	}
	for request, want := range map[string]string{
		"/v9/status":           "this gateway knows no GET /v9/status",
		"/v1/conns?order=idle": `unknown order "idle": use bytes or age`,
		"/v1/conns?limit=-1":   `limit "-1": use a number of flows`,
		"/v1/conns?limit=x":    `limit "x": use a number of flows`,
		"/v1/broken":           "encode the answer",
		"/v1/bare":             "418 I'm a teapot",
	} {
		err := c.Get(t.Context(), request, &answer)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want the socket and %q", request, err, want)
		}
	}
}

func TestSocketBelongsToItsOwner(t *testing.T) {
	path := socketPath(t)
	s := listenAt(t, path, fixed{})
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestRunTakesTheSocketAway(t *testing.T) {
	path := socketPath(t)
	stop := run(t, listenAt(t, path, fixed{}))
	if _, err := NewClient(path).Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("asking a missing gateway: %v", err)
	}
}

func TestLiveSocketNamesItsProcess(t *testing.T) {
	path := socketPath(t)
	first := listenAt(t, path, fixed{})
	defer first.Close()
	_, err := Listen(Config{Path: path, Logger: hclog.NewNullLogger()})
	var inUse *InUseError
	if !errors.As(err, &inUse) || inUse.PID != os.Getpid() || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the first one lost its socket: %v", err)
	}
}

func TestDeadSocketIsReplaced(t *testing.T) {
	path := socketPath(t)
	leaveDead(t, path)
	if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("asking a dead gateway: %v", err)
	}
	run(t, listenAt(t, path, fixed{status: status.Status{Node: "second"}}))
	if got, err := NewClient(path).Status(t.Context()); err != nil || got.Node != "second" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// leaveDead leaves a socket as a killed process does.
func leaveDead(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// Of gateways that start at once over a dead socket, one wins and the others leave it alone.
func TestOneOfManyWins(t *testing.T) {
	path := socketPath(t)
	leaveDead(t, path)
	type result struct {
		s   *Server
		err error
	}
	const n = 16
	results := make(chan result, n)
	for range n {
		go func() {
			s, err := Listen(Config{Path: path, Logger: hclog.NewNullLogger()})
			results <- result{s, err}
		}()
	}
	var winners []*Server
	for range n {
		r := <-results
		var inUse *InUseError
		switch {
		case r.err == nil:
			winners = append(winners, r.s)
		case !errors.As(r.err, &inUse):
			t.Errorf("a loser got %v", r.err)
		}
	}
	if len(winners) != 1 {
		t.Fatalf("%d winners", len(winners))
	}
	winners[0].Handle(StatusRoutes(fixed{})...)
	run(t, winners[0])
	if _, err := NewClient(path).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSomethingElseInPlace(t *testing.T) {
	path := socketPath(t)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Listen(Config{Path: path, Logger: hclog.NewNullLogger()})
	if err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("got %v", err)
	}
}

func TestPathTooLong(t *testing.T) {
	_, err := Listen(Config{Path: "/tmp/" + strings.Repeat("x", 104), Logger: hclog.NewNullLogger()})
	if err == nil || !strings.Contains(err.Error(), "longer than 107 bytes") {
		t.Errorf("got %v", err)
	}
}

// A gateway that is stopped in its tracks answers nobody, and the one who asks must be able to give
// up.
func TestAskingASilentGateway(t *testing.T) {
	path := socketPath(t)
	s := listenAt(t, path, fixed{}) // its backlog takes the question, and nobody runs it
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := NewClient(path).Status(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestOtherUser runs itself again as nobody, since root may open everything.
func TestOtherUser(t *testing.T) {
	if path := os.Getenv("GW_TEST_ASK_AS_NOBODY"); path != "" {
		if _, err := NewClient(path).Status(t.Context()); !errors.Is(err, ErrPermission) {
			t.Errorf("another user got %v", err)
		}
		return
	}
	if os.Getuid() != 0 {
		t.Fatal("this test must run as root, to become another user")
	}
	path := socketPath(t)
	run(t, listenAt(t, path, fixed{}))
	if err := os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(filepath.Dir(path), "test")
	if err := os.WriteFile(exe, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestOtherUser$")
	cmd.Dir = filepath.Dir(path)
	cmd.Env = []string{"GW_TEST_ASK_AS_NOBODY=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
