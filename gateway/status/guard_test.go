package status

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// TestHostIsChecked: whatever this server has, it gives to no request under a name that is not its
// own, as one of a web site whose name was made to lead here.
func TestHostIsChecked(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "page") })
	for _, path := range []string{"/", "/events", "/page.js", "/metrics", "/healthz", "/readyz", "/elsewhere"} {
		for _, c := range []struct {
			listen, host string
			allowed      bool
		}{
			{"127.0.0.1:9770", "127.0.0.1:9770", true},
			{"127.0.0.1:9770", "localhost:9770", true},
			{"127.0.0.1:9770", "LOCALHOST", true},
			{"127.0.0.1:9770", "[::1]:9770", true},
			{"127.0.0.1:9770", "[::1]", true},
			{"127.0.0.1:9770", "", true}, // of HTTP/1.0
			{"10.0.0.1:9770", "192.0.2.7:9770", true},
			{":9770", "192.0.2.7:9770", true},
			{"red-1.mgmt.example:9770", "red-1.mgmt.example:9770", true},
			{"red-1.mgmt.example:9770", "Red-1.Mgmt.Example", true},

			{"127.0.0.1:9770", "evil.example:9770", false},
			{"127.0.0.1:9770", "evil.example", false},
			{"10.0.0.1:9770", "evil.example:9770", false},
			{":9770", "evil.example:9770", false},
			{"0.0.0.0:9770", "evil.example:9770", false},
			{"red-1.mgmt.example:9770", "evil.example:9770", false},
			{"red-1.mgmt.example:9770", "x.red-1.mgmt.example", false},
			{"127.0.0.1:9770", "127.0.0.1.evil.example", false},
			{"127.0.0.1:9770", "localhost.evil.example:9770", false},
			{"127.0.0.1:9770", "evil.localhost", false},
			{"127.0.0.1:9770", "2130706433", false},
		} {
			h := handler(ServerConfig{Listen: c.listen, Source: fixed{sample()}, Page: page, Logger: hclog.NewNullLogger()})
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = c.host
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if refused := w.Code == http.StatusMisdirectedRequest; refused == c.allowed {
				t.Errorf("%s of a server at %s as %q: %d", path, c.listen, c.host, w.Code)
			} else if refused && !strings.HasPrefix(w.Body.String(), "ask by address") {
				t.Errorf("%s as %q is told %q", path, c.host, w.Body)
			}
		}
	}
}

// counting is a source that counts how often it is asked, and waits while it is held.
type counting struct {
	asked   atomic.Int64
	entered chan struct{} // gets a token for each time
	hold    chan struct{}
}

func (c *counting) Status() Status {
	c.asked.Add(1)
	c.entered <- struct{}{}
	<-c.hold
	return sample()
}

// TestRequestsShareASnapshot: a crowd of requests costs one snapshot, and the next second another.
func TestRequestsShareASnapshot(t *testing.T) {
	source := &counting{entered: make(chan struct{}, 1000), hold: make(chan struct{})}
	h := handler(ServerConfig{Listen: "127.0.0.1:0", Source: source, Logger: hclog.NewNullLogger()})
	var wg sync.WaitGroup
	for i := range 300 {
		path := []string{"/metrics", "/healthz", "/readyz"}[i%3]
		wg.Go(func() {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1"+path, nil))
			if w.Code != http.StatusOK {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		})
	}
	<-source.entered
	close(source.hold)
	wg.Wait()
	// A machine that stands still for a second in between makes it two.
	if n := source.asked.Load(); n > 2 {
		t.Errorf("300 requests cost %d snapshots", n)
	}

	clock := time.Unix(0, 0)
	s := newSnapshots(source)
	s.now = func() time.Time { return clock }
	before := source.asked.Load()
	for _, step := range []time.Duration{0, snapshotAge - 1, 1, snapshotAge, -time.Hour} {
		clock = clock.Add(step)
		s.Status()
	}
	if n := source.asked.Load() - before; n != 4 {
		t.Errorf("%d snapshots, want one at first, one for each second that passed, and one after the clock was set back", n)
	}
}

// TestSnapshotThatHangs: while the gateway takes no snapshot of itself, requests end with an error,
// and one goroutine waits, not one for each.
func TestSnapshotThatHangs(t *testing.T) {
	source := &counting{entered: make(chan struct{}, 1000), hold: make(chan struct{})}
	s := newSnapshots(source)
	first := make(chan struct{})
	go func() { defer close(first); s.Status() }()
	<-source.entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if _, err := s.get(ctx); !errors.Is(err, errNoSnapshot) {
			t.Fatal(err)
		}
	}
	if n := source.asked.Load(); n != 1 {
		t.Errorf("%d snapshots are being taken", n)
	}
	close(source.hold)
	<-first
}

// stuck is a client that reads nothing.
type stuck struct {
	*httptest.ResponseRecorder
	writing chan<- struct{}
	hold    <-chan struct{}
}

func (s stuck) Write(b []byte) (int, error) {
	s.writing <- struct{}{}
	<-s.hold
	return len(b), nil
}

// TestSlowScrapersKeepNobodyOut: clients that ask for metrics and read nothing cost others no
// answer.
func TestSlowScrapersKeepNobodyOut(t *testing.T) {
	h := handler(ServerConfig{Listen: "127.0.0.1:0", Source: fixed{sample()}, Logger: hclog.NewNullLogger()})
	const slow = 3 * maxScrapes
	writing, hold := make(chan struct{}, slow), make(chan struct{})
	var wg sync.WaitGroup
	for range slow {
		wg.Go(func() {
			h.ServeHTTP(stuck{httptest.NewRecorder(), writing, hold}, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/metrics", nil))
		})
	}
	for range slow {
		<-writing
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/metrics", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "gw_link_up") {
		t.Errorf("%d %.80s", w.Code, w.Body)
	}
	close(hold)
	wg.Wait()
}

// from is a connection of a remote address.
type from struct {
	net.Conn
	remote string
	closed *[]string
}

func (f from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.remote))
}

func (f from) Close() error {
	*f.closed = append(*f.closed, f.remote)
	return nil
}

// arrivals is a listener to which connections come in a given order.
type arrivals struct {
	net.Listener
	remotes []string
	closed  *[]string
}

func (a *arrivals) Accept() (net.Conn, error) {
	f := from{remote: a.remotes[0], closed: a.closed}
	a.remotes = a.remotes[1:]
	return f, nil
}

// TestCrowd: the address with the most connections gives up its oldest one when there are too many.
func TestCrowd(t *testing.T) {
	var closed []string
	remotes := []string{"10.0.0.7:1", "127.0.0.1:2", "127.0.0.2:3", "[2001:db8::1]:4", "[2001:db8::2]:5", "127.0.0.3:6", "[::ffff:10.0.0.7]:7", "10.0.0.8:8"}
	c := newCrowd(&arrivals{remotes: remotes, closed: &closed}, 4)
	var conns []net.Conn
	for range remotes {
		conn, err := c.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	// Of the first five two are of this machine and two of one network: the oldest goes.
	want := "[127.0.0.1:2 127.0.0.2:3 10.0.0.7:1 [2001:db8::1]:4]"
	if got := fmt.Sprint(closed); got != want {
		t.Errorf("closed %s, want %s", got, want)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	if len(c.conns) != 0 {
		t.Errorf("%d connections are kept", len(c.conns))
	}
}

// TestIdleConnectionsKeepNobodyOut: the real server answers while a client holds as many
// connections as one client may have.
func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	s, err := Listen(ServerConfig{Listen: "127.0.0.1:0", Source: fixed{sample()}, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	start(t, s.Run)
	for range maxConns + 20 {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if code, body := get(t, "http://"+s.Addr().String()+"/healthz"); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
}

// TestClientsCannotFloodTheLog: requests about which net/http complains make a bounded number of
// lines.
func TestClientsCannotFloodTheLog(t *testing.T) {
	var out bytes.Buffer
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, func(ctx context.Context) error {
		return Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			w.WriteHeader(http.StatusOK) // about which net/http writes a line
		}), hclog.New(&hclog.LoggerOptions{Output: &out}))
	})
	for range 200 {
		get(t, "http://"+l.Addr().String()+"/")
	}
	stop()
	if n := strings.Count(out.String(), "\n"); n == 0 || n > 10 {
		t.Errorf("%d lines:\n%.1000s", n, out.String())
	}
}
