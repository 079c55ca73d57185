package status

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// start runs the function until the test ends, and fails when it then returns an error or doesn't
// return.
func start(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
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
				t.Errorf("ended with %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("did not end")
		}
	}
	t.Cleanup(stop)
	return stop
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestServer(t *testing.T) {
	cut := sample()
	cut.Links = cut.Links[1:]
	none := sample()
	none.Links = nil
	unable := none
	unable.Faults = []Fault{{Fault: "lan-down", Stands: true, Part: "lan", What: "the interface lan0 is down", Do: "ip link set lan0 up"}}
	warned := none
	warned.HA = nil
	warned.Faults = []Fault{{Fault: "address-taken", Stands: true, Part: "none", What: "w", Do: "d"}}
	tests := []struct {
		name, path string
		status     Status
		code       int
		want       string
	}{
		{"metrics", "/metrics", sample(), 200, `gw_link_up{peer="gray-1",site="gray"} 1`},
		{"alive", "/healthz", cut, 200, "ok\n"},
		{"ready, in a pair that is not protected", "/readyz", sample(), 200, "ready\nnot protected: the records differ; wait for it\n"},
		{"not ready", "/readyz", cut, 503, "link to blue-1 is establishing\nlink to blue-2 is refused\n"},
		{"not fit to serve", "/readyz", unable, 503, "lan-down: the interface lan0 is down; ip link set lan0 up\n"},
		{"a fault that disables nothing", "/readyz", warned, 200, "ready\n"},
		{"nothing to wait for", "/readyz", none, 200, "ready\n"},
		{"elsewhere", "/", sample(), 404, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Listen(ServerConfig{Listen: "127.0.0.1:0", Source: fixed{tt.status}, Logger: hclog.NewNullLogger()})
			if err != nil {
				t.Fatal(err)
			}
			start(t, s.Run)
			code, body := get(t, "http://"+s.Addr().String()+tt.path)
			if code != tt.code || !strings.Contains(body, tt.want) {
				t.Errorf("got %d %q, want %d %q", code, body, tt.code, tt.want)
			}
		})
	}
}

func TestListenTellsATakenAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Listen(ServerConfig{Listen: l.Addr().String(), Source: fixed{}, Logger: hclog.NewNullLogger()})
	if err == nil || !strings.Contains(err.Error(), "status { listen") {
		t.Errorf("got %v", err)
	}
}

// A client that sends nothing and a handler that waits must not keep a gateway from ending.
func TestServeEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered, left := make(chan struct{}), make(chan struct{})
	stop := start(t, func(ctx context.Context) error {
		return Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
			close(left)
		}), hclog.NewNullLogger())
	})
	mute, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	busy, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if _, err := io.WriteString(busy, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	stop()
	select {
	case <-left:
	default:
		t.Error("Serve returned before its handler did")
	}
}

func TestServeTellsABrokenListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(t.Context(), l, http.NotFoundHandler(), hclog.NewNullLogger()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
