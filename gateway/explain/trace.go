package explain

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
)

func (e *Explainer) serveTrace(w http.ResponseWriter, r *http.Request) {
	pr, err := parseProbe(r)
	if err != nil {
		control.WriteError(w, http.StatusBadRequest, err)
		return
	}
	out, err := e.trace(r.Context(), pr)
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
func (e *Explainer) trace(ctx context.Context, pr flow.Probe) (out status.Trace, err error) {
	at, err := e.carrier()
	if err != nil {
		return out, err
	}
	self := e.cfg.Network.Self.Site
	from, to := e.siteOf(pr.Source.Addr()), e.siteOf(pr.Destination.Addr())
	if to == self && from >= 0 && from != self {
		out, err = e.inward(ctx, &pr, from, at)
	} else {
		out, err = e.outward(ctx, &pr, to, at)
	}
	if err != nil {
		return out, err
	}
	if at.sibling != "" {
		out.Standby, out.Active = e.node(), at.sibling
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
func (e *Explainer) outward(ctx context.Context, pr *flow.Probe, to int, at asked) (out status.Trace, err error) {
	b, err := e.cfg.Path.Packet(pr)
	if err != nil {
		return out, err
	}
	if at.sibling != "" {
		out.Steps = append(out.Steps, e.passesOn(b, at.sibling))
	}
	step, packets, err := at.judge(ctx, [][]byte{b}, true)
	if err != nil {
		return out, err
	}
	out.Steps = append(out.Steps, step)
	if step.Reason == wire.Denied.String() {
		packets = [][]byte{b} // the other side may deny it, too: ask
	}
	if len(packets) > 0 {
		far, _ := e.there(ctx, to, "link", question{Packets: packets})
		out.Steps = append(out.Steps, far)
	}
	return out, nil
}

// inward follows a packet of another site.
func (e *Explainer) inward(ctx context.Context, pr *flow.Probe, from int, at asked) (out status.Trace, err error) {
	far, a := e.there(ctx, from, "host", question{Probe: pr})
	packets := a.Packets
	if far.Verdict != status.TraceUnknown {
		*pr = a.Probe
	}
	if len(packets) == 0 {
		b, err := e.cfg.Path.Packet(pr)
		if err != nil {
			return out, err
		}
		packets = [][]byte{b}
	}
	step, _, err := at.judge(ctx, packets, false)
	out.Steps = append(out.Steps, far, step)
	return out, err
}
