package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/denials"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/flow/hosttest"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/parts/partstest"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// judged is red-1 as far as packets go, without a host and a link.
func judged(t *testing.T) *Gateway {
	t.Helper()
	c := partstest.Network()
	c.Sites[0].Pair = nil
	j, err := parts.NewJudge(c)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	g := &Gateway{cfg: c, carriers: map[string]string{"gray": "gray-1"}, ways: map[string]way{"gray": {why: "the link loses 0.3 %"}}}
	g.table = flow.New(flow.Config{
		Self: c.Self.Site, Sites: parts.FlowSites(c), Voice: c.SelfNode().Addresses, MTU: 1420, Judge: j,
		Now: func() time.Duration { return time.Since(start) },
	})
	g.started, g.denials = start, denials.New(len(c.Sites))
	c.Local.Answers = configs.AnswersFull
	g.running.Store(&c)
	g.path = flow.NewPath(g.table, hosttest.Silent{})
	g.path.SetSite(1, flow.SiteState{Up: true, MTU: 1400, WAN: true})
	return g
}

var grayDB, redDB = netip.MustParseAddrPort("10.77.2.10:40000"), netip.MustParseAddrPort("10.77.1.10:5432")

// TestTraceHere: what a node says of a packet, and that it answers another site's node
// about nothing but packets between the two.
func TestTraceHere(t *testing.T) {
	tr := &tracing{gw: judged(t)}
	out, err := tr.trace(t.Context(), flow.Probe{Proto: wire.ProtoTCP, Source: redDB, Destination: grayDB})
	if err != nil {
		t.Fatal(err)
	}
	if out.Verdict != status.TraceDropped || len(out.Steps) != 2 || out.Steps[0].Reason != "denied" || out.Steps[0].Carrier != "gray-1" ||
		len(out.Steps[0].Answers) != 1 || out.Steps[0].Answers[0] != "administratively prohibited" ||
		out.Steps[1].Verdict != status.TraceUnknown || !strings.Contains(out.Steps[1].Unknown, "the link to it is down") {
		t.Errorf("denied here, and nobody there: %+v", out)
	}
	answer := func(q traceQuestion) (a traceAnswer, err error) {
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
	a, err := answer(traceQuestion{Packets: [][]byte{syn}})
	if s := a.Step; err != nil || s.Verdict != status.TracePasses || s.Rule != "replication" || s.Node != "red-1" || s.From != "link" || s.MSS != 1360 || a.Packets != nil {
		t.Errorf("from the link: %+v, %v", a, err)
	}
	a, err = answer(traceQuestion{Probe: &flow.Probe{Proto: wire.ProtoTCP, Source: redDB, Destination: grayDB}})
	if s := a.Step; err != nil || s.Reason != "denied" || s.From != "host" || s.To != "gray" || len(a.Packets) != 0 {
		t.Errorf("from the host: %+v, %v", a, err)
	}
	blue := netip.MustParseAddrPort("10.77.3.10:1")
	for name, q := range map[string]traceQuestion{
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

// TestTraceTellsOtherSitesTheVerdictOnly: by default another site's node learns whether a packet passes
// and whether policy denies it: no rule, no file, no state, no size. What it asks about and is denied
// counts as its attempts. The sibling learns all.
func TestTraceTellsOtherSitesTheVerdictOnly(t *testing.T) {
	tr := &tracing{gw: judged(t)}
	g := tr.gw
	g.cfg.Local.Answers = configs.AnswersVerdict
	g.running.Store(&g.cfg)
	answer := func(site string, q traceQuestion) (a traceAnswer, text string) {
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
	to := func(port uint16) traceQuestion {
		dst := netip.AddrPortFrom(redDB.Addr(), port)
		return traceQuestion{Packets: [][]byte{wiretest.TCP{Src: grayDB, Dst: dst, Flags: wiretest.SYN, Options: []byte{2, 4, 5, 0xb4}}.Packet()}}
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
	seen := g.denials.Counts()
	if len(seen) != 1 || seen[0].Site != 1 || seen[0].Reason != reasonQuestion || seen[0].Packets != 2000 {
		t.Errorf("2,000 probed ports are seen as %+v", seen)
	}
	// The packets that would leave toward the other site are needed there.
	g.cfg.Rules[0].From, g.cfg.Rules[0].To = g.cfg.Rules[0].To, g.cfg.Rules[0].From
	j, err := parts.NewJudge(g.cfg)
	if err != nil {
		t.Fatal(err)
	}
	g.table.SetJudge(j)
	out := flow.Probe{Proto: wire.ProtoTCP, Source: netip.AddrPortFrom(redDB.Addr(), 40000), Destination: netip.AddrPortFrom(grayDB.Addr(), 5432)}
	if a, text = answer("gray", traceQuestion{Probe: &out}); len(a.Packets) != 1 || a.Step.Rule != "" || a.Step.Verdict != status.TracePasses {
		t.Errorf("what leaves: %s", text)
	}
	if a, text = answer("red", traceQuestion{Packets: a.Packets, FromHost: true}); a.Step.Rule != "replication" || a.Step.VerdictOnly {
		t.Errorf("the sibling: %s", text)
	}
	if n := g.denials.Counts()[0].Packets; n != 2000 {
		t.Errorf("%d attempts after questions about what passes", n)
	}
}

// FuzzTraceQuestion: another gateway may say what it likes.
func FuzzTraceQuestion(f *testing.F) {
	f.Add([]byte(`{"packets":["RQAAKA=="]}`))
	f.Add([]byte(`{"probe":{"Proto":6,"Source":"10.77.1.10:0","Destination":"10.77.2.10:5432","Size":1500}}`))
	f.Add([]byte(`{"probe":{"Proto":1,"Source":"10.77.1.10:0","Destination":"10.77.2.10:0","Size":-1}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		tr := &tracing{gw: judged(t)}
		b, err := tr.answer(t.Context(), "gray", kindTrace, body)
		if err != nil {
			return
		}
		var a traceAnswer
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
