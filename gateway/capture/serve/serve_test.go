package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/capture"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/flow/hosttest"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

var grayDB, redDB = netip.MustParseAddrPort("10.77.2.10:40000"), netip.MustParseAddrPort("10.77.1.10:5432")

// tcpOnly is a policy.
type tcpOnly struct{}

func (tcpOnly) Judge(_, _ netip.Addr, proto uint8, _ uint16) *flow.Rule {
	if proto != wire.ProtoTCP {
		return nil
	}
	return &flow.Rule{Name: "tcp"}
}

// newPath is red's data path, with a link to gray.
func newPath() *flow.Path {
	table := flow.New(flow.Config{
		Sites: []flow.Site{
			{Name: "red", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.77.1.0/24")}},
			{Name: "gray", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.77.2.0/24")}, Linked: true},
		},
		MTU: 1420, Judge: tcpOnly{}, Now: func() time.Duration { return time.Minute },
	})
	path := flow.NewPath(table, hosttest.Silent{})
	path.SetSite(1, flow.SiteState{Up: true, MTU: 1400})
	return path
}

// TestLiveWithoutMemory: where the gateway keeps no packets, a live answer shows what arrives and
// what a relay sends, and leaves no tap behind.
func TestLiveWithoutMemory(t *testing.T) {
	path := newPath()
	c := New(Config{Tap: path})
	server := httptest.NewServer(http.HandlerFunc(c.servePackets))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"?flow="+url.QueryEscape("10.77.1.10 icmp"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req) // it returns when the answer has begun
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	echo := wiretest.Echo(grayDB.Addr(), redDB.Addr(), false, 1, 1, nil)
	for _, b := range [][]byte{wiretest.TCP{Src: grayDB, Dst: redDB, Flags: wiretest.SYN}.Packet(), echo} {
		if _, err := path.Write([][]byte{append(make([]byte, 16), b...)}, 16); err != nil {
			t.Fatal(err)
		}
	}
	lines := bufio.NewReader(resp.Body)
	next := func() (line string, p status.Packet) {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatal(err)
		}
		return line, p
	}
	line, p := next()
	if p.Proto != "icmp" || p.Side != "link" || p.Direction != "in" || p.Verdict != status.TraceDropped || p.Reason != "denied" || p.Source != grayDB.Addr() {
		t.Errorf("%s", line)
	}
	// What a relay writes has come in by its trunk, and is seen only on its way out.
	path.WriteHost([][]byte{echo}, wire.Offload{})
	if line, p := next(); p.Side != "host" || p.Direction != "out" || p.Note != "from the relay" {
		t.Errorf("%s", line)
	}
	cancel()
	server.Close() // waits for the answer's end
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live != nil || c.n != 0 {
		t.Errorf("%d live answers are left", c.n)
	}
}

func TestCaptureRefusals(t *testing.T) {
	c := New(Config{})
	for query, want := range map[string]string{
		"flow=nowhere": "is no end",
		"last=soon":    "use a time such as 60s",
		"last=-1s":     "use a time such as 60s",
		"last=60s":     "capture { memory = 0 }",
	} {
		w := httptest.NewRecorder()
		c.servePcapng(w, httptest.NewRequest(http.MethodGet, "/v1/capture?"+query, nil))
		if w.Code < 400 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s, want %q", query, w.Code, w.Body, want)
		}
	}
}

// TestPast: a file of the past holds what the ring has kept of the flow, and ends.
func TestPast(t *testing.T) {
	path, kept := newPath(), capture.New(1<<20)
	path.SetTap(kept)
	syn := wiretest.TCP{Src: grayDB, Dst: redDB, Flags: wiretest.SYN}.Packet()
	echo := wiretest.Echo(grayDB.Addr(), redDB.Addr(), false, 1, 1, nil)
	for _, b := range [][]byte{syn, echo} {
		if _, err := path.Write([][]byte{append(make([]byte, 16), b...)}, 16); err != nil {
			t.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	for _, r := range New(Config{Kept: kept, Labels: capture.Labels{Node: "red-1"}}).Routes() {
		mux.Handle(r.Pattern, r.Handler)
	}
	server := httptest.NewServer(mux)
	defer server.Close()
	get := func(flow string) []byte {
		t.Helper()
		resp, err := http.Get(server.URL + "/v1/capture?last=60s&flow=" + url.QueryEscape(flow))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status, err)
		}
		return b
	}
	all, tcp := get(""), get("10.77.2.10 tcp")
	// The ports identify the SYN, and the checksum of the ICMP header the echo.
	if !bytes.Contains(all, syn[20:24]) || !bytes.Contains(all, echo[20:24]) || !bytes.Contains(all, []byte("red-1")) {
		t.Errorf("%d bytes do not hold both packets and the node", len(all))
	}
	if !bytes.Contains(tcp, syn[20:24]) || bytes.Contains(tcp, echo[20:24]) {
		t.Errorf("%d bytes of the flow do not hold the SYN, or hold the echo", len(tcp))
	}
}
