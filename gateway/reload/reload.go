// Package reload replaces the configuration of a running gateway, or says what that would do.
//
// A reload changes what configs.Changes calls reloadable: the policy and what peers learn of it,
// keepalives, and the log's level. Sockets, routes, tunnels and the election were made from
// everything else: if that differs, a reload applies nothing. So what reads the configuration that
// the gateway was started with reads what holds for the life of the process, except for rules,
// keepalives and the log's level, which are in Reloader.Running.
package reload

import (
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
)

// Flows is the flow table. Its methods may be called at any time.
type Flows interface {
	// Conns yields the flows. The table is locked meanwhile.
	Conns() iter.Seq[flow.Conn]
	// Standby reports whether this node stands by.
	Standby() bool
}

var _ Flows = (*flow.Table)(nil)

// Config configures a Reloader.
type Config struct {
	// Running is the configuration that the gateway was started with, and Load reads it again.
	Running configs.Config
	Load    func() (configs.Config, configs.Diagnostics)
	Flows   Flows
	// Carrier names the node that carries another site.
	Carrier func(site string) string
	// Apply applies a configuration that differs in reloadable settings only, and returns what
	// became of the flows. It cannot fail. Calls do not overlap.
	Apply func(next configs.Config, j *parts.Judge) flow.Rejudged
	// Describe converts a flow for people.
	Describe func(flow.Conn) status.Conn
	// Audit records a reload, and one that was refused.
	Audit  func(status.Reload)
	Logger hclog.Logger
}

// Reloader plans and reloads. It is safe for concurrent use.
type Reloader struct {
	cfg     Config
	mu      sync.Mutex // held by Reload
	running atomic.Pointer[configs.Config]
}

var _ control.Reloader = (*Reloader)(nil)

// New returns a Reloader.
func New(cfg Config) *Reloader {
	r := &Reloader{cfg: cfg}
	r.running.Store(&cfg.Running)
	return r
}

// Running returns the configuration in force. It must not be changed.
func (r *Reloader) Running() *configs.Config { return r.running.Load() }

// Plan reports what the files would do. It reads no key: the files describe the node that runs.
func (r *Reloader) Plan(files []control.File) status.Plan {
	list := make([]configs.File, 0, len(files))
	for _, f := range files {
		list = append(list, configs.File{Name: f.Name, Text: f.Text})
	}
	running := r.Running()
	next, diags := configs.LoadFiles(list, configs.Options{Node: running.SelfNode().Name})
	if next.Local.PrivateKeyFile == "" {
		next.Local.PrivateKeyFile = running.Local.PrivateKeyFile
	}
	out := status.Plan{Config: r.compare(next, diags), Follows: r.cfg.Flows.Standby()}
	if len(out.Mistakes) > 0 {
		return out
	}
	j, err := parts.NewJudge(next)
	if err != nil {
		out.Mistakes = []status.Mistake{{Summary: err.Error()}}
		return out
	}
	r.endings(next, j, &out)
	return out
}

// endings finds the flows that the next configuration would deny. It judges them after the table is
// unlocked.
func (r *Reloader) endings(next configs.Config, j flow.Judge, out *status.Plan) {
	would := flow.New(flow.Config{ // it judges only: its clock stands
		Self: next.Self.Site, Sites: parts.FlowSites(next), Judge: j, Now: func() time.Duration { return 0 },
	})
	var conns []flow.Conn
	for c := range r.cfg.Flows.Conns() {
		if !c.Over && !c.Revoked && !c.Unconfirmed {
			conns = append(conns, c)
		}
	}
	out.Conns = len(conns)
	for _, c := range conns {
		rule, reason := would.Allows(c.Proto, c.Source, c.Destination)
		switch {
		case reason != wire.OK && len(out.Ends) < status.MaxConns:
			out.Ends = append(out.Ends, status.Ending{Conn: r.cfg.Describe(c), Reason: reason.String()})
		case reason == wire.OK && rule.Name != c.Rule.Name:
			out.Moves++
		}
	}
}

// compare returns how a configuration differs from the running one, or its mistakes.
func (r *Reloader) compare(next configs.Config, diags configs.Diagnostics) status.Config {
	running := *r.Running()
	out := status.Config{Node: running.SelfNode().Name, Site: running.SelfSite().Name}
	if diags.HasErrors() {
		for _, d := range diags.List {
			if d.Severity == configs.SeverityError {
				out.Mistakes = append(out.Mistakes, status.Mistake{
					File: d.File, Line: d.Line, Column: d.Column, Summary: d.Summary, Detail: d.Detail,
				})
			}
		}
		return out
	}
	for _, c := range configs.Changes(running, next) {
		out.Changes = append(out.Changes, status.Change{
			Attribute: c.Name, Kind: string(c.Kind), Old: c.Old, New: c.New, Effect: status.Effect(c.Effect),
		})
	}
	out.Agreement = agreement(running, configs.Agreements(running, next), r.carries)
	return out
}

// Reload reads the configuration again and applies it, as a whole or not at all. It logs, audits
// and returns what it did.
func (r *Reloader) Reload() status.Reload {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.reload()
	r.cfg.Audit(out)
	return out
}

func (r *Reloader) reload() status.Reload {
	next, diags := r.cfg.Load()
	out := status.Reload{Config: r.compare(next, diags)}
	var j *parts.Judge
	if len(out.Mistakes) == 0 {
		var err error
		if j, err = parts.NewJudge(next); err != nil {
			out.Mistakes = []status.Mistake{{Summary: err.Error()}}
		}
	}
	const kept = "configuration not reloaded: the running one stays in force"
	if len(out.Mistakes) > 0 {
		r.cfg.Logger.Error(kept, "mistakes", Mistakes(out.Mistakes))
		return out
	}
	if list := out.NeedsRestart(); len(list) > 0 {
		r.cfg.Logger.Error(kept, "needs_restart", Attributes(list))
		return out
	}
	rejudged := r.cfg.Apply(next, j)
	r.running.Store(&next)
	out.Applied = true
	out.Kept, out.Moved, out.Revoked, out.Resumed = rejudged.Kept, rejudged.Moved, rejudged.Revoked, rejudged.Resumed
	r.cfg.Logger.Info("configuration reloaded", "changes", Attributes(out.Changes),
		"connections_ended", out.Revoked, "connections_resumed", out.Resumed, "connections_kept", out.Kept)
	return out
}

// Mistakes lists mistakes as texts.
func Mistakes(list []status.Mistake) []string {
	out := make([]string, 0, len(list))
	for _, m := range list {
		out = append(out, m.String())
	}
	return out
}

// Attributes lists the names of the attributes that change.
func Attributes(list []status.Change) []string {
	out := make([]string, 0, len(list))
	for _, c := range list {
		out = append(out, c.Attribute)
	}
	return out
}
