package e2e

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestPage asks a running gateway as a browser and a monitoring system do.
func TestPage(t *testing.T) {
	t.Parallel() // it waits most of the time
	n := start(t, setup{local: `status { listen = "127.0.0.1:9770" }`})
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return n.red.host.Dial(ctx, network, addr)
	}}}
	defer client.CloseIdleConnections()
	get := func(path string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:9770"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, r.Status)
		}
		return r
	}
	for path, says := range map[string]string{
		"/": "<title>", "/metrics": `gw_link_up{`, "/healthz": "ok", "/readyz": "ready",
	} {
		r := get(path)
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || !strings.Contains(string(b), says) {
			t.Errorf("%s: %v, without %q: %.300s", path, err, says, b)
		}
	}
	r := get("/events")
	defer r.Body.Close()
	for lines := bufio.NewScanner(r.Body); ; {
		if !lines.Scan() {
			t.Fatalf("the events end without an event of the link: %v", lines.Err())
		}
		if strings.Contains(lines.Text(), "gray-1") {
			break
		}
	}
	out, err := n.red.host.Command(t.Context(), n.red.bin, "top", "--once", "--socket", n.red.socket).Output()
	if err != nil || !strings.Contains(string(out), "gray-1") {
		t.Errorf("gw top: %v\n%s", err, out)
	}
}
