package web

import (
	"bufio"
	"context"
	"encoding/json"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/gateway/status"
)

// fake is a gateway that says what a test wants to see.
type fake struct {
	status atomic.Pointer[status.Status]
	conns  []status.Conn
	looks  atomic.Int64 // through the flow table
}

var _ status.Source = (*fake)(nil)

func (f *fake) Status() status.Status { return *f.status.Load() }
func (f *fake) Conns() iter.Seq[status.Conn] {
	f.looks.Add(1)
	return slices.Values(f.conns)
}

func newPage(s status.Status, conns ...status.Conn) (*Page, *fake) {
	f := &fake{conns: conns}
	f.status.Store(&s)
	return New(Config{Source: f, Judge: doctor.NewWatch(f), Now: time.Now, Logger: hclog.NewNullLogger()}), f
}

var start = time.Date(2026, 3, 14, 15, 0, 0, 0, time.UTC)

// at is a node with one link, that many seconds after the start.
func at(seconds int, l status.Link) status.Status {
	l.Peer, l.Site = "gray-1", "gray"
	return status.Status{Node: "red-1", Site: "red", Time: start.Add(time.Duration(seconds) * time.Second), Links: []status.Link{l}}
}

func up(rtt time.Duration) status.Link {
	return status.Link{State: status.LinkUp, RTT: status.Seconds(rtt)}
}

func TestHistoryKeepsTheWorstOfAStep(t *testing.T) {
	h := newHistory()
	for i, l := range []status.Link{up(time.Millisecond), up(9 * time.Millisecond), {State: status.LinkLost}, up(2 * time.Millisecond)} {
		s := at(i, l)
		h.add(&s)
	}
	s := at(25, up(3*time.Millisecond))
	h.add(&s)
	v := h.view()
	got := v.Links["gray-1"][points-3:]
	if got[0] == nil || got[0].Up || *got[0].RTT != 0.009 {
		t.Errorf("the first step is %+v, want down with 9 ms", got[0])
	}
	if got[1] != nil {
		t.Errorf("a step without a snapshot has %+v", got[1])
	}
	if got[2] == nil || !got[2].Up || *got[2].RTT != 0.003 {
		t.Errorf("the last step is %+v", got[2])
	}
	if len(v.Events) != 2 || !v.Events[0].Bad || v.Events[1].Bad {
		t.Errorf("events %+v, want lost and up again", v.Events)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	h := newHistory()
	for i := range 3 * points {
		s := at(i*10, up(time.Duration(i+1)*time.Millisecond))
		if i%2 == 1 {
			s.Links[0].State = status.LinkLost
		}
		for j := range 2 * maxLinks {
			s.Links = append(s.Links, status.Link{Peer: string(rune('a' + j)), State: status.LinkUp})
		}
		h.add(&s)
	}
	v := h.view()
	if len(v.Links) != maxLinks || len(v.Events) != maxEvents {
		t.Fatalf("%d links and %d events", len(v.Links), len(v.Events))
	}
	for i, p := range v.Links["gray-1"] {
		if want := float64(2*points+i+1) / 1000; *p.RTT != want {
			t.Fatalf("point %d is %v, want %v: the rings are out of order", i, *p.RTT, want)
		}
	}
	// A clock that is set back leaves nothing of a future that never was.
	s := at(0, up(time.Millisecond))
	h.add(&s)
	n := 0
	for _, p := range h.view().Links["gray-1"] {
		if p != nil {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d points after the clock was set back, want 1", n)
	}
}

func TestTimelineTellsAFailoverOnce(t *testing.T) {
	h := newHistory()
	failover := status.Failover{At: start, From: "red-2", To: "red-1", Epoch: 7, Reason: "the sibling fell silent"}
	for i := range 3 {
		s := at(i, up(time.Millisecond))
		f := failover
		f.Phases.Total = status.Millis(time.Duration(i) * 100 * time.Millisecond)
		s.HA = &status.HA{Role: status.RoleActive, LastFailover: &f}
		h.add(&s)
	}
	if v := h.view(); len(v.Events) != 1 || v.Events[0].Failover.Phases.Total.Duration() != 200*time.Millisecond {
		t.Errorf("events %+v, want one failover with its last phases", v.Events)
	}
}

func TestPageIsServedUnderAStrictPolicy(t *testing.T) {
	p, _ := newPage(at(0, up(time.Millisecond)))
	tests := []struct {
		method, path, host string
		code               int
		want               string
	}{
		{"GET", "/", "127.0.0.1:9770", 200, `<script src="/page.js" defer>`},
		{"GET", "/page.js", "localhost:9770", 200, "EventSource"},
		{"GET", "/page.css", "[::1]:9770", 200, "prefers-color-scheme: dark"},
		{"GET", "/assets/page.js", "127.0.0.1:9770", 404, ""},
		{"POST", "/", "127.0.0.1:9770", 405, "only shows"},
	}
	for _, tt := range tests {
		r := httptest.NewRequest(tt.method, tt.path, nil)
		r.Host = tt.host
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s as %s: %d %.60q, want %d %q", tt.method, tt.path, tt.host, w.Code, w.Body, tt.code, tt.want)
		}
		if got := w.Header().Get("Content-Security-Policy"); got != policy {
			t.Errorf("%s has the policy %q", tt.path, got)
		}
	}
	// What the policy forbids must not be in the page either, or it would be dead.
	for _, f := range files {
		b, err := assets.ReadFile(f.name)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=", "https://", "onclick="} {
			if strings.Contains(string(b), bad) {
				t.Errorf("%s has %s", f.name, bad)
			}
		}
	}
}

// serve puts the page behind the server that gateways use.
func serve(t *testing.T, p *Page) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- status.Serve(ctx, l, p, hclog.NewNullLogger()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

func TestStream(t *testing.T) {
	p, f := newPage(at(0, up(time.Millisecond)), status.Conn{Proto: "tcp", Source: netip.MustParseAddr("10.77.2.10"), Destination: netip.MustParseAddr("10.77.1.10")})
	if err := p.sample(); err != nil {
		t.Fatal(err)
	}
	if f.looks.Load() != 0 {
		t.Error("looked through the flow table for nobody")
	}
	url := serve(t, p)
	resp, err := http.Get(url + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	next := func(name string, v any) {
		t.Helper()
		var event, data string
		for lines.Scan() && lines.Text() != "" {
			if s, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				event = s
			}
			if s, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				data = s
			}
		}
		if event != name {
			t.Fatalf("got the event %q (%v), want %q", event, lines.Err(), name)
		}
		if err := json.Unmarshal([]byte(data), v); err != nil {
			t.Fatal(err)
		}
	}
	var past History
	var first, second now
	next("history", &past)
	next("now", &first)
	if len(past.Links["gray-1"]) != points || first.Flows == nil || first.Flows.Total != 1 {
		t.Errorf("the first events have %d points and the flows %v", len(past.Links["gray-1"]), first.Flows)
	}
	s := at(1, status.Link{State: status.LinkLost})
	f.status.Store(&s)
	if err := p.sample(); err != nil {
		t.Fatal(err)
	}
	next("now", &second)
	if len(first.Problems) != 0 || len(second.Problems) == 0 || second.Problems[0].Level != doctor.Failure || second.Problems[0].Do == "" {
		t.Errorf("the problems are %+v, then %+v", first.Problems, second.Problems)
	}
	for _, c := range append(first.Problems, second.Problems...) {
		if c.Level == doctor.OK {
			t.Errorf("%+v is no problem", c)
		}
	}
	if second.Status.Links[0].State != status.LinkLost || len(second.Events) != 1 {
		t.Errorf("then came %+v", second)
	}
}

func TestViewersAreBounded(t *testing.T) {
	p, _ := newPage(at(0, up(time.Millisecond)))
	here := status.Origin("192.0.2.1:1") // as httptest has it
	var first, last chan []byte
	for range MaxViewers {
		events, _, err := p.join(here)
		if err != nil || events == nil {
			t.Fatalf("refused a viewer: %v", err)
		}
		if first == nil {
			first = events
		}
		last = events
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest("GET", "/events", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("one too many got %d", w.Code)
	}
	p.leave(last)
	if events, _, _ := p.join(here); events == nil {
		t.Error("a place that was left is not given again")
	}
	// Another address gets in, in place of the oldest of the one that fills the page.
	if events, _, err := p.join(status.Origin("192.0.2.2:1")); events == nil || err != nil {
		t.Errorf("one address keeps another out: %v", err)
	}
	if _, open := <-first; open || len(p.viewers) != MaxViewers {
		t.Errorf("the oldest stream goes on, %d viewers", len(p.viewers))
	}
	// Nobody takes anything, and everyone else goes on.
	for range 3 {
		if err := p.sample(); err != nil {
			t.Fatal(err)
		}
	}
}
