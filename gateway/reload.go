package gateway

import (
	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/wire"
)

// A reload replaces what configs.Changes calls reloadable: the policy, what peers are
// told of it, keepalives and the log's level. All else is what sockets, routes, tunnels
// and the election were made from; where it differs, nothing is applied. So whatever
// reads Gateway.cfg reads what is true for the life of the process, rules, keepalives
// and the log's level excepted: these are in Gateway.running.

// reloader lets commands plan and reload.
type reloader struct{ gw *Gateway }

var _ control.Reloader = reloader{}

func (r reloader) Reload() status.Reload { return r.gw.Reload() }

// Plan says what the files would do. Which node this is, is known: no key is read.
func (r reloader) Plan(files []control.File) status.Plan {
	g := r.gw
	list := make([]configs.File, 0, len(files))
	for _, f := range files {
		list = append(list, configs.File{Name: f.Name, Text: f.Text})
	}
	running := *g.running.Load()
	next, diags := configs.LoadFiles(list, configs.Options{Node: running.SelfNode().Name})
	if next.Local.PrivateKeyFile == "" {
		next.Local.PrivateKeyFile = running.Local.PrivateKeyFile
	}
	out := status.Plan{Config: g.compared(next, diags), Follows: g.follows()}
	if len(out.Mistakes) > 0 {
		return out
	}
	j, err := parts.NewJudge(next)
	if err != nil {
		out.Mistakes = []status.Mistake{{Summary: err.Error()}}
		return out
	}
	g.endings(next, j, &out)
	return out
}

// endings finds the flows that the next configuration would not allow. They are looked
// at when the table is no longer locked.
func (g *Gateway) endings(next configs.Config, j flow.Judge, out *status.Plan) {
	would := flow.New(flow.Config{Self: next.Self.Site, Sites: parts.FlowSites(next), Judge: j, Now: g.now})
	var conns []flow.Conn
	for c := range g.table.Conns() {
		if !c.Over && !c.Revoked && !c.Unconfirmed {
			conns = append(conns, c)
		}
	}
	out.Conns = len(conns)
	for _, c := range conns {
		rule, reason := would.Allows(c.Proto, c.Source, c.Destination)
		switch {
		case reason != wire.OK && len(out.Ends) < status.MaxConns:
			out.Ends = append(out.Ends, status.Ending{Conn: connStatus(c), Reason: reason.String()})
		case reason == wire.OK && rule.Name != c.Rule.Name:
			out.Moves++
		}
	}
}

// compared says how a configuration differs from the running one, or what is wrong
// with it.
func (g *Gateway) compared(next configs.Config, diags configs.Diagnostics) status.Config {
	running := *g.running.Load()
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
	out.Agreement = agreement(running, configs.Agreements(running, next), g.carries)
	return out
}

// Reload reads the configuration again and applies it, as a whole or not at all. What
// it did is logged, and returned. It may be called by any goroutine while Run runs.
func (g *Gateway) Reload() status.Reload {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	next, diags := g.load()
	out := status.Reload{Config: g.compared(next, diags)}
	var j *parts.Judge
	if len(out.Mistakes) == 0 {
		var err error
		if j, err = parts.NewJudge(next); err != nil {
			out.Mistakes = []status.Mistake{{Summary: err.Error()}}
		}
	}
	const kept = "configuration not reloaded: what runs is kept"
	if len(out.Mistakes) > 0 {
		g.log.Error(kept, "mistakes", mistakes(out.Mistakes))
		g.auditReload(out)
		return out
	}
	if list := out.NeedsRestart(); len(list) > 0 {
		g.log.Error(kept, "needs_restart", attributes(list))
		g.auditReload(out)
		return out
	}
	rejudged := g.apply(next, j)
	out.Applied = true
	out.Kept, out.Moved, out.Revoked, out.Resumed = rejudged.Kept, rejudged.Moved, rejudged.Revoked, rejudged.Resumed
	g.auditReload(out)
	g.log.Info("configuration reloaded", "changes", attributes(out.Changes),
		"connections_ended", out.Revoked, "connections_resumed", out.Resumed, "connections_kept", out.Kept)
	return out
}

// apply can't fail: what could has been done. The policy comes first, so that what
// peers hear of it is true.
func (g *Gateway) apply(next configs.Config, j *parts.Judge) flow.Rejudged {
	out := g.table.SetJudge(j)
	g.link.Renew(parts.LinkPeers(next))
	g.log.SetLevel(hclog.LevelFromString(next.Local.Log.Level))
	g.running.Store(&next)
	return out
}

func mistakes(list []status.Mistake) []string {
	out := make([]string, 0, len(list))
	for _, m := range list {
		out = append(out, m.String())
	}
	return out
}

func attributes(list []status.Change) []string {
	out := make([]string, 0, len(list))
	for _, c := range list {
		out = append(out, c.Attribute)
	}
	return out
}
