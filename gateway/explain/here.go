package explain

import (
	"github.com/onewaylink/gw/gateway/capture"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
)

// here judges packets on this node, and returns those that leave it.
func (e *Explainer) here(packets [][]byte, fromHost bool) (s status.TraceStep, out [][]byte, err error) {
	got, err := e.cfg.Path.Probe(packets, fromHost)
	if err != nil {
		return s, nil, err
	}
	s = status.TraceStep{
		Node: e.node(), Site: e.site(), From: "link", Verdict: status.TracePasses,
		MTU: e.cfg.Network.Local.TUN.MTU, Packets: len(got.Out),
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
			s.To = e.cfg.Network.Sites[got.Site].Name
			s.Carrier = e.cfg.Reach.Carrier(s.To)
		}
	}
	if got.Rule != nil {
		s.Rule, s.RulePos = got.Rule.Name, got.Rule.Pos
	}
	if got.Known {
		s.State, s.OpenedFrom = got.State, got.Opener.Addr().String()
	}
	if got.Reason == wire.Denied {
		s.LeftOut = e.leftOut(packets[0])
	}
	e.describe(&s, &got, packets[0], fromHost)
	return s, got.Out, nil
}

// leftOut returns the rule that would allow the packet's flow if a site's name covered the own
// addresses of its gateways, or "".
func (e *Explainer) leftOut(b []byte) string {
	var p wire.Packet
	if wire.Parse(&p, b) != wire.OK {
		return ""
	}
	j, err := parts.NewJudge(*e.cfg.Running())
	if err != nil {
		return ""
	}
	return j.Excepted(p.Src(), p.Dst(), p.Proto, p.DstPort)
}

// describe adds how the flow is carried, and what became of the packets.
func (e *Explainer) describe(s *status.TraceStep, got *flow.Probed, first []byte, fromHost bool) {
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
		s.Mode = "" // the opener's gateway decides
	case got.Rule.Mode == flow.ModeRoute:
		s.Why = "its rule says route"
	case got.Rule.Mode == flow.ModeRelay:
		s.Mode, s.Why = "relayed", "its rule says relay"
	case got.Way.WAN:
		s.Why = "at first; relayed when it moves bulk: " + e.cfg.Reach.Why(s.To)
	default:
		s.Why = "the link is short and loses nothing"
	}
}
