package explain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/ask"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
)

// kindTrace is the question that one gateway asks another.
const kindTrace = "trace"

// dialTimeout bounds how long the other gateway may take to accept a question. One that knows no
// questions never does.
const dialTimeout = 3 * time.Second

// question asks what happens to packets that come from the link. Without packets it asks about the
// one that the probe describes, from the host.
type question struct {
	Packets [][]byte    `json:"packets,omitempty"`
	Probe   *flow.Probe `json:"probe,omitempty"`
	// FromHost is for the sibling only: the packets come from its site's hosts.
	FromHost bool `json:"from_host,omitempty"`
}

// answered is what one node does, and the packets that leave it.
type answered struct {
	Step    status.TraceStep `json:"step"`
	Packets [][]byte         `json:"packets,omitempty"`
	// Probe is the question's, completed.
	Probe flow.Probe `json:"probe"`
}

// there asks the node that carries a site. from is the side from which the packet enters that node.
func (e *Explainer) there(ctx context.Context, site int, from string, q question) (status.TraceStep, answered) {
	name := e.cfg.Network.Sites[site].Name
	node := e.cfg.Reach.Carrier(name)
	a, err := e.ask(ctx, name, node, q)
	if err != nil {
		return status.TraceStep{Node: node, Site: name, From: from, Verdict: status.TraceUnknown, Unknown: err.Error()}, a
	}
	return a.Step, a
}

func (e *Explainer) ask(ctx context.Context, site, node string, q question) (a answered, err error) {
	addr := e.cfg.Reach.Address(site, node)
	if !e.cfg.Reach.Up(node) || !addr.IsValid() {
		return a, errors.New("the link to it is down: see gw status")
	}
	body, err := json.Marshal(q)
	if err != nil {
		return a, fmt.Errorf("write the question: %w", err)
	}
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := e.cfg.Streams.Dial(dial, netip.AddrPortFrom(addr, Port))
	if err != nil {
		return a, fmt.Errorf("it does not answer: %w; see gw version there: an older gw cannot answer", err)
	}
	if body, err = ask.Ask(ctx, conn, kindTrace, body); err != nil {
		return a, err
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return a, fmt.Errorf("read its answer: %w; see whether gw version is the same on both nodes", err)
	}
	return a, nil
}

// answer answers another site's gateway, about packets between the two sites, and the sibling,
// about all packets of the own site.
func (e *Explainer) answer(_ context.Context, site, kind string, body []byte) ([]byte, error) {
	if kind != kindTrace {
		return nil, fmt.Errorf("it knows no question %q: its gw is older than the one that asks; update it", kind)
	}
	if at, err := e.carrier(); err != nil {
		return nil, err
	} else if at.sibling != "" {
		return nil, fmt.Errorf("%s is the standby: packets of its site pass %s; ask there", e.node(), at.sibling)
	}
	var q question
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("read the question: %w; update the older gw of the two", err)
	}
	a, err := e.judge(site, &q)
	if err != nil {
		return nil, err
	}
	if asker := parts.SiteIndex(e.cfg.Network, site); asker != e.cfg.Network.Self.Site {
		e.noteDenied(asker, &q, &a)
		if e.cfg.Running().Local.Answers != configs.AnswersFull {
			a.Step = verdictOnly(&a.Step)
		}
	}
	return json.Marshal(a)
}

// noteDenied counts a question as an attempt of the site that asked if policy denies the packet: a
// scan by questions is as visible as one by packets.
func (e *Explainer) noteDenied(asker int, q *question, a *answered) {
	if !prohibited(a.Step.Reason) {
		return
	}
	proto, source, destination := a.Probe.Proto, a.Probe.Source, a.Probe.Destination
	var p wire.Packet
	if len(q.Packets) > 0 && wire.Parse(&p, q.Packets[0]) == wire.OK {
		proto, source, destination = p.Proto, netip.AddrPortFrom(p.Src(), p.SrcPort), netip.AddrPortFrom(p.Dst(), p.DstPort)
	}
	e.cfg.Denied(asker, proto, source, destination)
}

// prohibited reports whether a step's reason is that policy denies the packet.
func prohibited(reason string) bool {
	return reason == wire.Denied.String() || reason == wire.Revoked.String()
}

// verdictOnly returns what another site learns of a step by default: whether the packet passes and
// whether policy denies it. No rule, no file, no state, no size.
func verdictOnly(s *status.TraceStep) status.TraceStep {
	out := status.TraceStep{Node: s.Node, Site: s.Site, From: s.From, To: s.To, Carrier: s.Carrier, Verdict: s.Verdict, VerdictOnly: true}
	if prohibited(s.Reason) {
		out.Reason = wire.Denied.String()
	}
	return out
}

var errNotYours = errors.New("it answers only about packets between the two sites: ask a node of one of them")

func (e *Explainer) judge(site string, q *question) (a answered, err error) {
	asker, self := parts.SiteIndex(e.cfg.Network, site), e.cfg.Network.Self.Site
	if asker == self {
		a.Step, a.Packets, err = e.here(q.Packets, q.FromHost)
		return a, err
	}
	if len(q.Packets) > 0 {
		var p wire.Packet
		for _, b := range q.Packets {
			if wire.Parse(&p, b) != wire.OK || e.siteOf(p.Src()) != asker || e.siteOf(p.Dst()) != self {
				return a, errNotYours
			}
		}
		a.Step, _, err = e.here(q.Packets, false) // what leaves is for this site's hosts
		return a, err
	}
	if q.Probe == nil || e.siteOf(q.Probe.Source.Addr()) != self || e.siteOf(q.Probe.Destination.Addr()) != asker {
		return a, errNotYours
	}
	a.Probe = *q.Probe
	b, err := e.cfg.Path.Packet(&a.Probe)
	if err != nil {
		return a, err
	}
	a.Step, a.Packets, err = e.here([][]byte{b}, true)
	return a, err
}
