// Package journal records what an operator may have to prove later: who was connected to whom,
// which packets were denied, reloads, and events of the pair. It writes lines of the audit log, and
// of the log where it reports denials.
package journal

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/audit"
	"github.com/onewaylink/gw/gateway/denials"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/reload"
	"github.com/onewaylink/gw/gateway/status"
)

// Config configures a Journal.
type Config struct {
	// Audit is the audit log; nil without one.
	Audit *audit.Log
	// Denials is the ledger that the data path fills.
	Denials *denials.Ledger
	// Sites are the names of all sites, and Self is the index of this node's own.
	Sites []string
	Self  int
	// Now is the clock of the ledger.
	Now    func() time.Duration
	Logger hclog.Logger
}

// Journal is safe for concurrent use.
type Journal struct {
	cfg Config
	log hclog.Logger
}

var _ flow.Observer = (*Journal)(nil)

// New returns a Journal.
func New(cfg Config) *Journal { return &Journal{cfg: cfg, log: cfg.Logger.Named("denials")} }

// Observer returns what the flow table reports flows to: nil without an audit log.
func (j *Journal) Observer() flow.Observer {
	if j.cfg.Audit == nil {
		return nil
	}
	return j
}

// Reload records a reload and what it changed, or why it was refused.
func (j *Journal) Reload(r status.Reload) {
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
	j.cfg.Audit.Add("reload", nil, attrs)
}

// Pair records an event of an election. args are key/value pairs.
func (j *Journal) Pair(kind string, args []any) {
	attrs := make(map[string]string, len(args)/2)
	for i := 0; i+1 < len(args); i += 2 {
		attrs[fmt.Sprint(args[i])] = fmt.Sprint(args[i+1])
	}
	j.cfg.Audit.Add(kind, nil, attrs)
}

// Opened implements flow.Observer.
func (j *Journal) Opened(c flow.Conn, how flow.Coming) {
	f := j.flow(c)
	if how != flow.CameNew {
		f.Reason, f.Opened = how.String(), c.Opened.UTC()
	}
	j.cfg.Audit.Add("flow_open", f, nil)
}

// Ended implements flow.Observer.
func (j *Journal) Ended(c flow.Conn, reason string) {
	f := j.flow(c)
	f.Reason = reason
	f.End = &audit.End{BytesOut: c.BytesOut, BytesIn: c.BytesIn, Duration: c.Age.Seconds(), Carried: "raw"}
	if c.WasRelayed {
		f.Carried = "relayed"
	}
	j.cfg.Audit.Add("flow_end", f, nil)
}

func (j *Journal) flow(c flow.Conn) *audit.Flow {
	from, to := c.Site, j.cfg.Sites[j.cfg.Self]
	if c.Local {
		from, to = to, from
	}
	return &audit.Flow{
		Proto: status.ProtoName(c.Proto), Source: c.Source, Destination: c.Destination,
		SourceSite: from, DestinationSite: to, Rule: c.Rule.Name, RulePos: c.Rule.Pos,
	}
}
