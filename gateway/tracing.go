package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/ask"
	"github.com/onewaylink/gw/gateway/capture"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/quota"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
)

// tracing says what would become of a packet, here and on the other site's node.
type tracing struct {
	gw    *Gateway
	quota *quota.Limiter // of what other sites ask
}

// kindTrace is the question that one gateway asks another.
const kindTrace = "trace"

// dialWithin is how long the other gateway may take to accept a question. An older one
// never does.
const dialWithin = 3 * time.Second

// traceQuestion asks what becomes of packets that come by the link, or, where there are
// none, of the one that the probe describes, from the host.
type traceQuestion struct {
	Packets [][]byte    `json:"packets,omitempty"`
	Probe   *flow.Probe `json:"probe,omitempty"`
	// FromHost is the sibling's only, whose packets come from its site's hosts then.
	FromHost bool `json:"from_host,omitempty"`
}

// traceAnswer is what one node does, and what goes on from it.
type traceAnswer struct {
	Step    status.TraceStep `json:"step"`
	Packets [][]byte         `json:"packets,omitempty"`
	// Probe is that of the question, with what was left open filled in.
	Probe flow.Probe `json:"probe"`
}

func newTracing(g *Gateway) *tracing { return &tracing{gw: g, quota: ask.NewQuota()} }

func (t *tracing) routes() []control.Route {
	return []control.Route{{Pattern: "GET /v1/trace", Handler: http.HandlerFunc(t.serveControl)}}
}

// serve answers other gateways until ctx ends.
func (t *tracing) serve(ctx context.Context) error {
	l, err := t.gw.streams.Listen(wire.AskPort)
	if err != nil {
		return err
	}
	s := &ask.Server{Site: t.gw.restorer.siteAt, Answer: t.answer, Quota: t.quota, Logger: t.gw.log}
	return s.Run(ctx, l)
}

func (t *tracing) serveControl(w http.ResponseWriter, r *http.Request) {
	pr, err := parseProbe(r)
	if err != nil {
		control.WriteError(w, http.StatusBadRequest, err)
		return
	}
	out, err := t.trace(r.Context(), pr)
	if err != nil {
		control.WriteError(w, http.StatusConflict, err)
		return
	}
	control.WriteJSON(w, out)
}

func parseProbe(r *http.Request) (pr flow.Probe, err error) {
	q := r.URL.Query()
	if pr.Source, err = status.ParseEnd(q.Get("source")); err != nil {
		return pr, err
	}
	if pr.Destination, err = status.ParseEnd(q.Get("destination")); err != nil {
		return pr, err
	}
	switch proto := q.Get("proto"); {
	case proto == "tcp":
		pr.Proto = wire.ProtoTCP
	case proto == "udp":
		pr.Proto = wire.ProtoUDP
	case proto == "icmp" && pr.Source.Addr().Is6():
		pr.Proto = wire.ProtoICMPv6
	case proto == "icmp":
		pr.Proto = wire.ProtoICMP
	default:
		return pr, fmt.Errorf("protocol %q: use tcp, udp or icmp", proto)
	}
	if text := q.Get("size"); text != "" {
		if pr.Size, err = strconv.Atoi(text); err != nil || pr.Size < 0 {
			return pr, fmt.Errorf("size %q: use a number of bytes", text)
		}
	}
	return pr, nil
}

// trace follows a packet from its source's node to its destination's.
func (t *tracing) trace(ctx context.Context, pr flow.Probe) (out status.Trace, err error) {
	ask, err := t.self()
	if err != nil {
		return out, err
	}
	self := t.gw.cfg.Self.Site
	from, to := parts.SiteOf(t.gw.cfg, pr.Source.Addr()), parts.SiteOf(t.gw.cfg, pr.Destination.Addr())
	if to == self && from >= 0 && from != self {
		out, err = t.inward(ctx, &pr, from, ask)
	} else {
		out, err = t.outward(ctx, &pr, to, ask)
	}
	if err != nil {
		return out, err
	}
	if ask.sibling != "" {
		out.Standby, out.Active = t.gw.cfg.SelfNode().Name, ask.sibling
	}
	out.Proto, out.Bytes = status.ProtoName(pr.Proto), pr.Size
	out.Source, out.SourcePort = pr.Source.Addr(), pr.Source.Port()
	out.Destination, out.DestinationPort = pr.Destination.Addr(), pr.Destination.Port()
	out.Verdict = status.TracePasses
	for _, s := range out.Steps {
		if s.Verdict == status.TraceDropped || s.Verdict == status.TraceUnknown && out.Verdict == status.TracePasses {
			out.Verdict = s.Verdict
		}
	}
	return out, nil
}

// outward follows a packet of this site.
func (t *tracing) outward(ctx context.Context, pr *flow.Probe, to int, site asked) (out status.Trace, err error) {
	b, err := t.gw.path.Packet(pr)
	if err != nil {
		return out, err
	}
	if site.sibling != "" {
		out.Steps = append(out.Steps, t.passesOn(b, site.sibling))
	}
	step, packets, err := site.judge(ctx, [][]byte{b}, true)
	if err != nil {
		return out, err
	}
	out.Steps = append(out.Steps, step)
	if step.Reason == wire.Denied.String() {
		packets = [][]byte{b} // the other side's opinion counts all the same
	}
	if len(packets) > 0 {
		far, _ := t.there(ctx, to, "link", traceQuestion{Packets: packets})
		out.Steps = append(out.Steps, far)
	}
	return out, nil
}

// inward follows a packet of another site.
func (t *tracing) inward(ctx context.Context, pr *flow.Probe, from int, site asked) (out status.Trace, err error) {
	far, a := t.there(ctx, from, "host", traceQuestion{Probe: pr})
	packets := a.Packets
	if far.Verdict != status.TraceUnknown {
		*pr = a.Probe
	}
	if len(packets) == 0 {
		b, err := t.gw.path.Packet(pr)
		if err != nil {
			return out, err
		}
		packets = [][]byte{b}
	}
	step, _, err := site.judge(ctx, packets, false)
	out.Steps = append(out.Steps, far, step)
	return out, err
}

// here lets packets come to this node.
func (t *tracing) here(packets [][]byte, fromHost bool) (s status.TraceStep, out [][]byte, r wire.Reason, err error) {
	g := t.gw
	got, err := g.path.Probe(packets, fromHost)
	if err != nil {
		return s, nil, 0, err
	}
	s = status.TraceStep{
		Node: g.cfg.SelfNode().Name, Site: g.cfg.SelfSite().Name, From: "link", Verdict: status.TracePasses,
		MTU: g.cfg.Local.TUN.MTU, Packets: len(got.Out),
	}
	if fromHost {
		s.From = "host"
	}
	if got.Reason != wire.OK {
		s.Verdict, s.Reason = status.TraceDropped, got.Reason.String()
	}
	if got.Site >= 0 {
		s.PathMTU = got.Way.MTU
		if fromHost {
			s.To = g.cfg.Sites[got.Site].Name
			s.Carrier = t.gw.carrier(s.To)
		}
	}
	if got.Rule != nil {
		s.Rule, s.RulePos = got.Rule.Name, got.Rule.Pos
	}
	if got.Known {
		s.State, s.OpenedFrom = got.State, got.Opener.Addr().String()
	}
	if got.Reason == wire.Denied {
		s.LeftOut = t.gw.leftOut(packets[0])
	}
	t.describe(&s, &got, packets[0], fromHost)
	return s, got.Out, got.Reason, nil
}

// leftOut returns the rule that would allow the packet's flow if a site's name covered the own
// addresses of its gateways, or "".
func (g *Gateway) leftOut(b []byte) string {
	var p wire.Packet
	if wire.Parse(&p, b) != wire.OK {
		return ""
	}
	j, err := parts.NewJudge(*g.running.Load())
	if err != nil {
		return ""
	}
	return j.Excepted(p.Src(), p.Dst(), p.Proto, p.DstPort)
}

// describe says how a flow is carried, and what has become of the packets.
func (t *tracing) describe(s *status.TraceStep, got *flow.Probed, first []byte, fromHost bool) {
	var p wire.Packet
	for _, b := range got.Out {
		s.LargestBytes = max(s.LargestBytes, len(b))
		if wire.Parse(&p, b) == wire.OK && p.Proto == wire.ProtoTCP && p.Flags&wire.SYN != 0 {
			s.MSS = int(p.MSS())
		}
	}
	for _, b := range got.Answers {
		s.Answers = append(s.Answers, capture.ICMPText(b))
	}
	if wire.Parse(&p, first) != wire.OK || p.Proto != wire.ProtoTCP || got.Rule == nil {
		return
	}
	switch s.Mode = "raw"; {
	case got.Known && got.Relayed:
		s.Mode, s.Why = "relayed", got.Why
	case got.Known:
		s.Why = got.Why
	case !fromHost:
		s.Mode = "" // the gateway of the one who opens it decides
	case got.Rule.Mode == flow.ModeRoute:
		s.Why = "its rule says route"
	case got.Rule.Mode == flow.ModeRelay:
		s.Mode, s.Why = "relayed", "its rule says relay"
	case got.Way.WAN:
		s.Why = "at first; relayed when it moves bulk: " + t.gw.way(s.To).why
	default:
		s.Why = "the link is short and loses nothing"
	}
}

// there asks the node that carries a site. from says which side the packet comes from
// there.
func (t *tracing) there(ctx context.Context, site int, from string, q traceQuestion) (status.TraceStep, traceAnswer) {
	name := t.gw.cfg.Sites[site].Name
	node := t.gw.carrier(name)
	a, err := t.ask(ctx, name, node, q)
	if err != nil {
		return status.TraceStep{Node: node, Site: name, From: from, Verdict: status.TraceUnknown, Unknown: err.Error()}, a
	}
	return a.Step, a
}

func (t *tracing) ask(ctx context.Context, site, node string, q traceQuestion) (a traceAnswer, err error) {
	g := t.gw
	g.nodesMu.Lock()
	up := g.nodes[node].Up
	g.nodesMu.Unlock()
	addr := g.addressOf(site, node)
	if !up || !addr.IsValid() {
		return a, errors.New("the link to it is down: see gw status")
	}
	body, err := json.Marshal(q)
	if err != nil {
		return a, fmt.Errorf("write the question: %w", err)
	}
	dial, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	conn, err := g.streams.Dial(dial, netip.AddrPortFrom(addr, wire.AskPort))
	if err != nil {
		return a, fmt.Errorf("it does not answer: %w; see gw version there: one older than this can't", err)
	}
	if body, err = ask.Ask(ctx, conn, kindTrace, body); err != nil {
		return a, err
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return a, fmt.Errorf("read its answer: %w; see gw version there: it may be another", err)
	}
	return a, nil
}

// answer answers another site's gateway, about packets between the two, and the sibling,
// about all that pass its site.
func (t *tracing) answer(_ context.Context, site, kind string, body []byte) ([]byte, error) {
	if kind != kindTrace {
		return nil, fmt.Errorf("it knows no question %q: its gw is older than the one that asks; update it", kind)
	}
	if ask, err := t.self(); err != nil {
		return nil, err
	} else if ask.sibling != "" {
		return nil, fmt.Errorf("%s is the standby: packets of its site pass %s; ask there", t.gw.cfg.SelfNode().Name, ask.sibling)
	}
	var q traceQuestion
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("read the question: %w; update the older gw of the two", err)
	}
	a, err := t.judge(site, &q)
	if err != nil {
		return nil, err
	}
	if asker := parts.SiteIndex(t.gw.cfg, site); asker != t.gw.cfg.Self.Site {
		t.noteDenied(asker, &q, &a)
		if t.gw.running.Load().Local.Answers != configs.AnswersFull {
			a.Step = verdictOnly(&a.Step)
		}
	}
	return json.Marshal(a)
}

// noteDenied counts an answered question as an attempt of the site that asked, where policy denies the
// packet: a scan by questions is as visible as one by packets.
func (t *tracing) noteDenied(asker int, q *traceQuestion, a *traceAnswer) {
	if !prohibited(a.Step.Reason) {
		return
	}
	proto, source, destination := a.Probe.Proto, a.Probe.Source, a.Probe.Destination
	var p wire.Packet
	if len(q.Packets) > 0 && wire.Parse(&p, q.Packets[0]) == wire.OK {
		proto, source, destination = p.Proto, netip.AddrPortFrom(p.Src(), p.SrcPort), netip.AddrPortFrom(p.Dst(), p.DstPort)
	}
	t.gw.noteDeniedQuestion(asker, proto, source, destination)
}

// prohibited reports whether a step's reason is that policy denies the packet.
func prohibited(reason string) bool {
	return reason == wire.Denied.String() || reason == wire.Revoked.String()
}

// verdictOnly is what another site learns of a step by default: whether the packet passes and whether
// policy denies it. No rule, no file, no state, no size.
func verdictOnly(s *status.TraceStep) status.TraceStep {
	out := status.TraceStep{Node: s.Node, Site: s.Site, From: s.From, To: s.To, Carrier: s.Carrier, Verdict: s.Verdict, VerdictOnly: true}
	if prohibited(s.Reason) {
		out.Reason = wire.Denied.String()
	}
	return out
}

var errNotYours = errors.New("it answers only about packets between the two sites: ask a node of one of them")

func (t *tracing) judge(site string, q *traceQuestion) (a traceAnswer, err error) {
	asker, self := parts.SiteIndex(t.gw.cfg, site), t.gw.cfg.Self.Site
	if asker == self {
		a.Step, a.Packets, _, err = t.here(q.Packets, q.FromHost)
		return a, err
	}
	if len(q.Packets) > 0 {
		var p wire.Packet
		for _, b := range q.Packets {
			if wire.Parse(&p, b) != wire.OK || parts.SiteOf(t.gw.cfg, p.Src()) != asker || parts.SiteOf(t.gw.cfg, p.Dst()) != self {
				return a, errNotYours
			}
		}
		a.Step, _, _, err = t.here(q.Packets, false) // what goes out is the host's
		return a, err
	}
	if q.Probe == nil || parts.SiteOf(t.gw.cfg, q.Probe.Source.Addr()) != self || parts.SiteOf(t.gw.cfg, q.Probe.Destination.Addr()) != asker {
		return a, errNotYours
	}
	a.Probe = *q.Probe
	b, err := t.gw.path.Packet(&a.Probe)
	if err != nil {
		return a, err
	}
	a.Step, a.Packets, _, err = t.here([][]byte{b}, true)
	return a, err
}
