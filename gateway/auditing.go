package gateway

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/audit"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/reload"
	"github.com/onewaylink/gw/gateway/status"
)

// auditor turns what the parts say into lines of the audit log.
type auditor struct {
	log  *audit.Log
	self string // this node's site
}

var _ flow.Observer = (*auditor)(nil)

// openAudit opens the log that the configuration asks for; nil without one.
func (g *Gateway) openAudit() (err error) {
	if to := g.cfg.Local.Audit.To; to != "" {
		g.audit, err = audit.Open(audit.Config{To: to, Limit: g.cfg.Local.Limits.Audit, Node: g.cfg.SelfNode().Name, Logger: g.log})
	}
	return err
}

// observer is nil when nothing is audited.
func (g *Gateway) observer(c configs.Config) flow.Observer {
	if g.audit == nil {
		return nil
	}
	return &auditor{log: g.audit, self: c.SelfSite().Name}
}

// ReopenAudit has the audit log opened anew, after its file was moved away.
func (g *Gateway) ReopenAudit() { g.audit.Reopen() }

// auditReload records a reload and what it changed, or why it was refused.
func (g *Gateway) auditReload(r status.Reload) {
	attrs := map[string]string{"outcome": "refused"}
	switch {
	case r.Applied:
		attrs["outcome"], attrs["changes"] = "done", strings.Join(reload.Attributes(r.Changes), ", ")
		attrs["connections_ended"], attrs["connections_resumed"] = strconv.Itoa(r.Revoked), strconv.Itoa(r.Resumed)
	case len(r.Mistakes) > 0:
		attrs["mistakes"] = strings.Join(reload.Mistakes(r.Mistakes), "; ")
	default:
		attrs["needs_restart"] = strings.Join(reload.Attributes(r.NeedsRestart()), ", ")
	}
	g.audit.Add("reload", nil, attrs)
}

// auditPair notes what an election says: pairs of a word and a value.
func (g *Gateway) auditPair(kind string, args []any) {
	attrs := make(map[string]string, len(args)/2)
	for i := 0; i+1 < len(args); i += 2 {
		attrs[fmt.Sprint(args[i])] = fmt.Sprint(args[i+1])
	}
	g.audit.Add(kind, nil, attrs)
}

// Opened implements flow.Observer.
func (a *auditor) Opened(c flow.Conn, how flow.Coming) {
	f := a.flow(c)
	if how != flow.CameNew {
		f.Reason, f.Opened = how.String(), c.Opened.UTC()
	}
	a.log.Add("flow_open", f, nil)
}

// Ended implements flow.Observer.
func (a *auditor) Ended(c flow.Conn, reason string) {
	f := a.flow(c)
	f.Reason = reason
	f.End = &audit.End{BytesOut: c.BytesOut, BytesIn: c.BytesIn, Duration: c.Age.Seconds(), Carried: "raw"}
	if c.WasRelayed {
		f.Carried = "relayed"
	}
	a.log.Add("flow_end", f, nil)
}

func (a *auditor) flow(c flow.Conn) *audit.Flow {
	from, to := c.Site, a.self
	if c.Local {
		from, to = to, from
	}
	return &audit.Flow{
		Proto: status.ProtoName(c.Proto), Source: c.Source, Destination: c.Destination,
		SourceSite: from, DestinationSite: to, Rule: c.Rule.Name, RulePos: c.Rule.Pos,
	}
}
