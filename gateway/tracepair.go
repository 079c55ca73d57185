package gateway

import (
	"bytes"
	"context"
	"fmt"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
)

// asked is the node that carries this node's site: this one, or its sibling.
type asked struct {
	t       *tracing
	sibling string // "" for this node
}

// self finds it.
func (t *tracing) self() (asked, error) {
	if !t.gw.follows() {
		return asked{t: t}, nil
	}
	node := t.gw.pair.Status().Active
	if node == "" {
		return asked{}, fmt.Errorf("%s does not carry its site, and does not know who does: see gw ha status", t.gw.cfg.SelfNode().Name)
	}
	return asked{t, node}, nil
}

// judge lets packets come to the node, and returns what goes on from it.
func (a asked) judge(ctx context.Context, packets [][]byte, fromHost bool) (s status.TraceStep, out [][]byte, err error) {
	if a.sibling == "" {
		s, out, _, err = a.t.here(packets, fromHost)
		return s, out, err
	}
	site := a.t.gw.cfg.SelfSite().Name
	from := "link"
	if fromHost {
		from = "host"
	}
	answer, err := a.t.ask(ctx, site, a.sibling, traceQuestion{Packets: packets, FromHost: fromHost})
	if err != nil {
		return status.TraceStep{Node: a.sibling, Site: site, From: from, Verdict: status.TraceUnknown, Unknown: err.Error()}, nil, nil
	}
	return answer.Step, answer.Packets, nil
}

// passesOn is what a standby does with what its site's hosts send to it.
func (t *tracing) passesOn(b []byte, sibling string) status.TraceStep {
	s := status.TraceStep{
		Node: t.gw.cfg.SelfNode().Name, Site: t.gw.cfg.SelfSite().Name, From: "host",
		Verdict: status.TracePasses, PassedTo: sibling, MTU: t.gw.cfg.Local.TUN.MTU, Packets: 1,
	}
	if r := t.gw.path.PassesOn(bytes.Clone(b)); r != wire.OK {
		s.Verdict, s.Reason, s.PassedTo, s.Packets = status.TraceDropped, r.String(), "", 0
	}
	return s
}
