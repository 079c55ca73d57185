package explain

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/denials"
	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/flow/hosttest"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/parts/partstest"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// node is an Explainer with what a test looks at.
type node struct {
	*Explainer
	cfg     configs.Config
	running configs.Config
	table   *flow.Table
	path    *flow.Path
	reach   reach
	denials *denials.Ledger
}

// reach is what a node knows of others.
type reach struct {
	carrier map[string]string // by site
	address map[string]netip.Addr
	up      map[string]bool
}

func (r reach) Carrier(site string) string        { return r.carrier[site] }
func (r reach) Up(node string) bool               { return r.up[node] }
func (r reach) Address(_, node string) netip.Addr { return r.address[node] }
func (r reach) Why(string) string                 { return "the link loses 0.3 %" }

// streams dials nothing, or the listener at an address.
type streams map[netip.AddrPort]func() (net.Conn, error)

func (s streams) Dial(_ context.Context, to netip.AddrPort) (net.Conn, error) {
	if dial := s[to]; dial != nil {
		return dial()
	}
	return nil, syscall.ECONNREFUSED
}

// newNode is a node of red, by its index, without a host and a link; change edits what it is made
// of.
func newNode(t *testing.T, index int, change func(*Config)) *node {
	t.Helper()
	n := &node{cfg: partstest.Network()}
	n.cfg.Self.Node = index
	n.cfg.Local.Answers = configs.AnswersFull
	n.running = n.cfg
	j, err := parts.NewJudge(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Duration { return time.Minute }
	n.table = flow.New(flow.Config{
		Self: n.cfg.Self.Site, Sites: parts.FlowSites(n.cfg), Voice: n.cfg.SelfNode().Addresses, MTU: 1420, Judge: j, Now: now,
	})
	n.path = flow.NewPath(n.table, hosttest.Silent{})
	n.path.SetSite(1, flow.SiteState{Up: true, MTU: 1400, WAN: true})
	n.denials = denials.New(len(n.cfg.Sites))
	n.reach = reach{carrier: map[string]string{"gray": "gray-1"}, address: map[string]netip.Addr{}, up: map[string]bool{}}
	c := Config{
		Network: n.cfg, Running: func() *configs.Config { return &n.running }, Path: n.path, Reach: n.reach, Streams: streams{},
		Standby: func() bool { return false },
		Denied: func(site int, proto uint8, source, destination netip.AddrPort) {
			n.denials.Note(now(), &denials.Attempt{Site: site, Reason: "question", Proto: proto, Source: source, Destination: destination})
		},
		Logger: hclog.NewNullLogger(),
	}
	if change != nil {
		change(&c)
	}
	n.Explainer = New(c)
	return n
}

var grayDB, redDB = netip.MustParseAddrPort("10.77.2.10:40000"), netip.MustParseAddrPort("10.77.1.10:5432")

// TestTraceHere: what a node reports of a packet, and that it answers another site's node about
// nothing but packets between the two sites.
func TestTraceHere(t *testing.T) {
	tr := newNode(t, 0, nil)
	out, err := tr.trace(t.Context(), flow.Probe{Proto: wire.ProtoTCP, Source: redDB, Destination: grayDB})
	if err != nil {
		t.Fatal(err)
	}
	if out.Verdict != status.TraceDropped || len(out.Steps) != 2 || out.Steps[0].Reason != "denied" || out.Steps[0].Carrier != "gray-1" ||
		len(out.Steps[0].Answers) != 1 || out.Steps[0].Answers[0] != "administratively prohibited" ||
		out.Steps[1].Verdict != status.TraceUnknown || !strings.Contains(out.Steps[1].Unknown, "the link to it is down") {
		t.Errorf("denied here, and no answer there: %+v", out)
	}
	answer := func(q question) (a answered, err error) {
		t.Helper()
		body, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		if body, err = tr.answer(t.Context(), "gray", kindTrace, body); err != nil {
			return a, err
		}
		return a, json.Unmarshal(body, &a)
	}
	syn := wiretest.TCP{Src: grayDB, Dst: redDB, Flags: wiretest.SYN, Options: []byte{2, 4, 5, 0xb4}}.Packet()
	a, err := answer(question{Packets: [][]byte{syn}})
	if s := a.Step; err != nil || s.Verdict != status.TracePasses || s.Rule != "replication" || s.Node != "red-1" || s.From != "link" || s.MSS != 1360 || a.Packets != nil {
		t.Errorf("from the link: %+v, %v", a, err)
	}
	a, err = answer(question{Probe: &flow.Probe{Proto: wire.ProtoTCP, Source: redDB, Destination: grayDB}})
	if s := a.Step; err != nil || s.Reason != "denied" || s.From != "host" || s.To != "gray" || len(a.Packets) != 0 {
		t.Errorf("from the host: %+v, %v", a, err)
	}
	blue := netip.MustParseAddrPort("10.77.3.10:1")
	for name, q := range map[string]question{
		"nothing":               {},
		"no packet":             {Packets: [][]byte{{0x45}}},
		"another site's packet": {Packets: [][]byte{wiretest.UDP(blue, redDB, nil)}},
		"one of several":        {Packets: [][]byte{syn, wiretest.UDP(blue, redDB, nil)}},
		"another site's host":   {Probe: &flow.Probe{Proto: wire.ProtoUDP, Source: redDB, Destination: blue}},
		"its own host":          {Probe: &flow.Probe{Proto: wire.ProtoUDP, Source: grayDB, Destination: redDB}},
	} {
		if _, err := answer(q); err == nil || !strings.Contains(err.Error(), "between the two sites") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tr.answer(t.Context(), "gray", "other", nil); err == nil || !strings.Contains(err.Error(), `knows no question "other"`) {
		t.Errorf("another question: %v", err)
	}
	if _, err := tr.answer(t.Context(), "gray", kindTrace, []byte("{")); err == nil {
		t.Error("half a question is answered")
	}
}

// TestTraceTellsOtherSitesTheVerdictOnly: by default another site's node learns whether a packet
// passes and whether policy denies it: no rule, no file, no state, no size. What it asks about and
// is denied counts as its attempts. The sibling learns all.
func TestTraceTellsOtherSitesTheVerdictOnly(t *testing.T) {
	tr := newNode(t, 0, nil)
	tr.running.Local.Answers = configs.AnswersVerdict
	answer := func(site string, q question) (a answered, text string) {
		t.Helper()
		body, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		if body, err = tr.answer(t.Context(), site, kindTrace, body); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(body, &a); err != nil {
			t.Fatal(err)
		}
		return a, string(body)
	}
	to := func(port uint16) question {
		dst := netip.AddrPortFrom(redDB.Addr(), port)
		return question{Packets: [][]byte{wiretest.TCP{Src: grayDB, Dst: dst, Flags: wiretest.SYN, Options: []byte{2, 4, 5, 0xb4}}.Packet()}}
	}
	want := status.TraceStep{Node: "red-1", Site: "red", From: "link", Verdict: status.TracePasses, VerdictOnly: true, Answers: []string{}}
	a, text := answer("gray", to(redDB.Port()))
	if !reflect.DeepEqual(a.Step, want) || strings.Contains(text, "replication") || strings.Contains(text, ".hcl") {
		t.Errorf("what passes: %s", text)
	}
	want.Verdict, want.Reason = status.TraceDropped, "denied"
	for port := range uint16(2000) {
		if a, text = answer("gray", to(6000+port)); !reflect.DeepEqual(a.Step, want) {
			t.Fatalf("what is denied: %s", text)
		}
	}
	seen := tr.denials.Counts()
	if len(seen) != 1 || seen[0].Site != 1 || seen[0].Reason != "question" || seen[0].Packets != 2000 {
		t.Errorf("2,000 probed ports are seen as %+v", seen)
	}
	// The packets that would leave toward the other site are needed there.
	tr.cfg.Rules[0].From, tr.cfg.Rules[0].To = tr.cfg.Rules[0].To, tr.cfg.Rules[0].From
	j, err := parts.NewJudge(tr.cfg)
	if err != nil {
		t.Fatal(err)
	}
	tr.table.SetJudge(j)
	out := flow.Probe{Proto: wire.ProtoTCP, Source: netip.AddrPortFrom(redDB.Addr(), 40000), Destination: netip.AddrPortFrom(grayDB.Addr(), 5432)}
	if a, text = answer("gray", question{Probe: &out}); len(a.Packets) != 1 || a.Step.Rule != "" || a.Step.Verdict != status.TracePasses {
		t.Errorf("what leaves: %s", text)
	}
	if a, text = answer("red", question{Packets: a.Packets, FromHost: true}); a.Step.Rule != "replication" || a.Step.VerdictOnly {
		t.Errorf("the sibling: %s", text)
	}
	if n := tr.denials.Counts()[0].Packets; n != 2000 {
		t.Errorf("%d attempts after questions about what passes", n)
	}
}

// FuzzTraceQuestion: another gateway may send anything.
func FuzzTraceQuestion(f *testing.F) {
	f.Add([]byte(`{"packets":["RQAAKA=="]}`))
	f.Add([]byte(`{"probe":{"Proto":6,"Source":"10.77.1.10:0","Destination":"10.77.2.10:5432","Size":1500}}`))
	f.Add([]byte(`{"probe":{"Proto":1,"Source":"10.77.1.10:0","Destination":"10.77.2.10:0","Size":-1}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		tr := newNode(t, 0, nil)
		b, err := tr.answer(t.Context(), "gray", kindTrace, body)
		if err != nil {
			return
		}
		var a answered
		if err := json.Unmarshal(b, &a); err != nil || a.Step.Node != "red-1" || a.Step.Verdict == status.TraceUnknown {
			t.Fatalf("%s: %v: %s", body, err, b)
		}
	})
}

func TestParseProbe(t *testing.T) {
	for query, want := range map[string]string{
		"source=10.77.1.10&destination=10.77.2.10:5432&proto=tcp&size=100": "",
		"source=fd77:1::a&destination=fd77:2::a&proto=icmp":                "",
		"source=x&destination=10.77.2.10:5432&proto=tcp":                   `"x" is no end`,
		"source=10.77.1.10&destination=&proto=tcp":                         "is no end",
		"source=10.77.1.10&destination=10.77.2.10&proto=gre":               "use tcp, udp or icmp",
		"source=10.77.1.10&destination=10.77.2.10&proto=udp&size=-1":       "use a number of bytes",
	} {
		pr, err := parseProbe(httptest.NewRequest(http.MethodGet, "/v1/trace?"+query, nil))
		if want == "" && (err != nil || pr.Proto == 0) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %+v, %v, want %q", query, pr, err, want)
		}
	}
}

// serve answers questions to a node of red at a TCP port of this machine, until the test ends, and
// returns what dials it from an address of red-1.
func serve(t *testing.T, e *Explainer) func() (net.Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }
}

// TestStandbyAsksSibling: a standby reports that it passes the packet on, and asks the active node
// what happens then. A question of another site it answers by naming the active node.
func TestStandbyAsksSibling(t *testing.T) {
	red2 := netip.MustParseAddr("10.77.1.2")
	active := newNode(t, 1, func(c *Config) {
		// The test's connections come from this machine: let it be red-1.
		c.Network.Sites[0].Nodes[0].Addresses = append(c.Network.Sites[0].Nodes[0].Addresses, netip.MustParseAddr("127.0.0.1"))
	})
	dial := serve(t, active.Explainer)
	standby := newNode(t, 0, func(c *Config) {
		c.Standby, c.Active = func() bool { return true }, func() string { return "red-2" }
		c.Streams = streams{netip.AddrPortFrom(red2, Port): dial}
	})
	standby.reach.address["red-2"] = red2
	standby.table.SetStandby(true)
	standby.path.SetPass(func([]byte) {})
	probe := flow.Probe{Proto: wire.ProtoTCP, Source: redDB, Destination: grayDB}
	out, err := standby.trace(t.Context(), probe)
	if err != nil || len(out.Steps) != 2 || out.Steps[1].Verdict != status.TraceUnknown || out.Steps[1].Node != "red-2" || out.Verdict != status.TraceUnknown {
		t.Errorf("the link to the sibling is down: %+v, %v", out, err)
	}
	standby.reach.up["red-2"] = true
	out, err = standby.trace(t.Context(), probe)
	if err != nil || out.Standby != "red-1" || out.Active != "red-2" || len(out.Steps) != 3 ||
		out.Steps[0].PassedTo != "red-2" || out.Steps[0].Verdict != status.TracePasses ||
		out.Steps[1].Node != "red-2" || out.Steps[1].From != "host" || out.Steps[1].Reason != "denied" {
		t.Errorf("%+v, %v", out, err)
	}
	if s := active.Questions("red"); s.Answered != 1 {
		t.Errorf("the active node's questions: %+v", s)
	}
	if _, err := standby.answer(t.Context(), "gray", kindTrace, []byte("{}")); err == nil || !strings.Contains(err.Error(), "red-1 is the standby") {
		t.Errorf("another site asks the standby: %v", err)
	}
	undecided := newNode(t, 0, func(c *Config) {
		c.Standby, c.Active = func() bool { return true }, func() string { return "" }
	})
	if _, err := undecided.trace(t.Context(), probe); err == nil || !strings.Contains(err.Error(), "gw ha status") {
		t.Errorf("no node is known to be active: %v", err)
	}
}

// TestPing: the levels of a path, of a node by its name, and of an address by the node that carries
// it.
func TestPing(t *testing.T) {
	gray1 := netip.AddrPortFrom(netip.MustParseAddr("10.77.2.1"), wire.ControlPort)
	dials := 0
	dial := func() (net.Conn, error) {
		dials++
		a, b := net.Pipe()
		b.Close()
		return a, nil
	}
	n := newNode(t, 0, func(c *Config) {
		c.Streams = streams{gray1: dial}
		c.Links = func() []status.Link {
			return []status.Link{{Peer: "gray-1", State: status.LinkUp}, {Peer: "red-2", State: status.LinkUp}}
		}
	})
	for _, target := range []string{"gray-1", "10.77.2.10"} {
		dials = 0
		got, err := n.ping(t.Context(), target, 0, 3)
		if err != nil || got.Node != "gray-1" || len(got.Pings) != 2 || got.Pings[0].Level != "link" || !got.Pings[0].OK ||
			got.Pings[1].Level != "gateway" || !got.Pings[1].OK || got.Pings[1].Received != 3 || dials != 3 {
			t.Errorf("%s: %+v, %v after %d dials", target, got, err, dials)
		}
	}
	got, err := n.ping(t.Context(), "gray-2", 0, 3)
	if err != nil || len(got.Pings) != 1 || got.Pings[0].OK || got.Pings[0].Sent != 1 || !strings.Contains(got.Pings[0].Means, "refused") {
		t.Errorf("a gateway that refuses: %+v, %v", got, err)
	}
	for _, target := range []string{"red-1", "10.77.1.10", "nowhere", "192.0.2.1", ""} {
		if _, err := n.ping(t.Context(), target, 0, 1); err == nil || !strings.Contains(err.Error(), "see gw status for the nodes") {
			t.Errorf("%q: %v", target, err)
		}
	}
	for query, want := range map[string]int{
		"target=gray-1&count=1&port=0":     http.StatusOK,
		"target=gray-1&count=0&port=0":     http.StatusBadRequest,
		"target=gray-1&count=11&port=0":    http.StatusBadRequest,
		"target=gray-1&count=1&port=65536": http.StatusBadRequest,
		"target=red-1&count=1&port=0":      http.StatusBadRequest,
	} {
		w := httptest.NewRecorder()
		n.servePing(w, httptest.NewRequest(http.MethodGet, "/v1/ping?"+query, nil))
		if w.Code != want {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

// TestPingPort: the port of a host is dialed from this host's kernel.
func TestPingPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	n := newNode(t, 0, func(c *Config) {
		c.Network.Sites[1].Subnets = partstest.Prefixes("127.0.0.0/8")
		c.Network.Sites[0].Nodes[0].Addresses = partstest.Addrs("127.0.0.2")
		c.Links = func() []status.Link { return nil }
	})
	port := func() doctor.Ping {
		t.Helper()
		got, err := n.ping(t.Context(), at.Addr().String(), at.Port(), 2)
		if err != nil || len(got.Pings) != 2 {
			t.Fatalf("%+v, %v", got, err)
		}
		return got.Pings[1]
	}
	if p := port(); !p.OK || p.Received != 2 || p.Target != at.String() {
		t.Errorf("open: %+v", p)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if p := port(); p.OK || !strings.Contains(p.Means, "refused") {
		t.Errorf("closed: %+v", p)
	}
}
