package explain

import (
	"bytes"
	"context"
	"fmt"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
)

// asked is the node that carries this node's site: this one, or its sibling.
type asked struct {
	e       *Explainer
	sibling string // "" for this node
}

// carrier returns the node that carries this node's site.
func (e *Explainer) carrier() (asked, error) {
	if !e.cfg.Standby() {
		return asked{e: e}, nil
	}
	node := e.cfg.Active()
	if node == "" {
		return asked{}, fmt.Errorf("%s does not carry its site, and does not know which node does: see gw ha status", e.node())
	}
	return asked{e, node}, nil
}

// judge judges packets on that node, and returns those that leave it.
func (a asked) judge(ctx context.Context, packets [][]byte, fromHost bool) (s status.TraceStep, out [][]byte, err error) {
	if a.sibling == "" {
		return a.e.here(packets, fromHost)
	}
	site := a.e.site()
	from := "link"
	if fromHost {
		from = "host"
	}
	answer, err := a.e.ask(ctx, site, a.sibling, question{Packets: packets, FromHost: fromHost})
	if err != nil {
		return status.TraceStep{Node: a.sibling, Site: site, From: from, Verdict: status.TraceUnknown, Unknown: err.Error()}, nil, nil
	}
	return answer.Step, answer.Packets, nil
}

// passesOn returns what a standby does with a packet that its site's hosts send to it.
func (e *Explainer) passesOn(b []byte, sibling string) status.TraceStep {
	s := status.TraceStep{
		Node: e.node(), Site: e.site(), From: "host",
		Verdict: status.TracePasses, PassedTo: sibling, MTU: e.cfg.Network.Local.TUN.MTU, Packets: 1,
	}
	if r := e.cfg.Path.PassesOn(bytes.Clone(b)); r != wire.OK {
		s.Verdict, s.Reason, s.PassedTo, s.Packets = status.TraceDropped, r.String(), "", 0
	}
	return s
}
