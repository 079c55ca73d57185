package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/onewaylink/gw/gateway/status"
)

// planText says what a configuration would do.
func planText(p status.Plan, colour bool) string {
	out := &printer{colour: colour}
	out.title(green, "plan", fmt.Sprintf("for node %s, site %s", p.Node, p.Site))
	if len(p.Mistakes) > 0 {
		mistakesText(out, p.Mistakes)
		return out.out.String()
	}
	changesText(out, p.Changes)
	endsText(out, p)
	restart := p.NeedsRestart()
	out.title(green, "to apply it", "")
	switch {
	case len(p.Changes) == 0:
		out.wrapped(2, 2, normal, "", "nothing to do")
	case len(restart) > 0:
		out.wrapped(2, 2, normal, "", fmt.Sprintf("restart the gateway: %s can't change while it runs. Connections live through that, but for those above.",
			plural(len(restart), "setting")))
		if p.Follows && !mustAgree(p.Config) {
			out.wrapped(2, 2, normal, "", "This node stands by: restart it first, and after gw ha drain the other one.")
		}
	default:
		out.wrapped(2, 2, normal, "", "gw reload, with this text in the files that the gateway was started with")
	}
	agreementText(out, p.Config)
	return out.out.String()
}

func mustAgree(c status.Config) bool { return c.Agreement != nil && len(c.Agreement.Refused) > 0 }

// agreementText says what comes of settings that other nodes compare, and in which order
// the nodes are best given them.
func agreementText(out *printer, c status.Config) {
	a := c.Agreement
	say := func(format string, args ...any) { out.wrapped(2, 2, normal, "", fmt.Sprintf(format, args...)) }
	if mustAgree(c) {
		settings := strings.Join(a.Refused, ", ")
		all := append(slices.Clone(a.First), a.Then...)
		slices.Sort(all)
		if a.Pair {
			say("%s must agree on %s: a pair that starts with a difference is refused. Put the text on both first.", list(all), settings)
		} else {
			say("%s must agree on %s: a link or pair that starts with a difference is refused. Put the text on all of them first.", list(all), settings)
		}
		switch {
		case a.Pair:
			say("Then restart %s, which stands by, and %s right after it. Between the two no node takes over, and gw ha drain is refused; connections continue.",
				list(a.First), list(a.Then))
		case len(a.First) > 0:
			say("Then restart %s, standing by, and after that %s, one right after the other: from the first of these to the last nothing passes the links, and connections stand still.",
				list(a.First), list(a.Then))
		default:
			say("Then restart %s, one right after the other: from the first to the last nothing passes the links, and connections stand still.", list(a.Then))
		}
	}
	if a != nil && len(a.Shown) > 0 {
		say("The order of nodes makes no difference to %s: until all have it, gw status shows what differs from %s, and nothing is refused.",
			strings.Join(a.Shown, ", "), list(a.ShownOn))
	}
}

// list is an enumeration in words.
func list(names []string) string {
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, "")
}

// changesText lists what differs, with both values.
func changesText(out *printer, list []status.Change) {
	out.title(yellow, "changes", fmt.Sprint(len(list)))
	takes := map[status.Effect]string{
		status.EffectNone: "nothing to do on this node", status.EffectReload: "by a reload", status.EffectRestart: "takes a restart",
	}
	for _, c := range list {
		line := fmt.Sprintf("%s (%s)", c.Kind, takes[c.Effect])
		if c.Effect == status.EffectRestart {
			out.alarm(c.Attribute, line)
		} else {
			out.field(c.Attribute, line)
		}
		if c.Kind != "added" {
			out.wrapped(4, 6, red, "-", valueText(c.Old))
		}
		if c.Kind != "removed" {
			out.wrapped(4, 6, green, "+", valueText(c.New))
		}
	}
}

func valueText(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// endsText names the connections that nothing would allow any more.
func endsText(out *printer, p status.Plan) {
	out.title(yellow, "connections that would end", fmt.Sprintf("%d of %d", len(p.Ends), p.Conns))
	for i := range p.Ends {
		e := &p.Ends[i]
		out.wrapped(2, 4, bold, e.Proto, fmt.Sprintf("%s to %s", addressText(e.Source, e.SourcePort), addressText(e.Destination, e.DestinationPort)))
		out.wrapped(6, 6, normal, "", fmt.Sprintf("%s, %s old, idle for %s, rule %s (%s): %s", e.State, shortSpan(e.Age.Duration()),
			shortSpan(e.Idle.Duration()), e.Rule, e.RulePos, endReason(e.Reason)))
	}
	if p.Moves > 0 {
		out.wrapped(2, 2, normal, "", fmt.Sprintf("%d would go on by another rule", p.Moves))
	}
	if p.Follows && p.Conns > 0 {
		out.wrapped(2, 2, normal, "", "This node stands by: they are its sibling's, and would end when it takes over.")
	}
}

func endReason(reason string) string {
	if reason == "denied" {
		return "no rule would allow it"
	}
	return "its packets would be dropped as " + reason
}

// mistakesText lists what keeps a configuration from being used.
func mistakesText(out *printer, list []status.Mistake) {
	out.title(red, "mistakes", fmt.Sprint(len(list)))
	for _, m := range list {
		out.wrapped(2, 4, normal, "", m.String())
		if m.Detail != "" {
			out.wrapped(4, 4, normal, "", m.Detail)
		}
	}
}

// reloadText says what a reload has done.
func reloadText(r status.Reload, colour bool) string {
	out := &printer{colour: colour}
	who := fmt.Sprintf("node %s, site %s", r.Node, r.Site)
	if !r.Applied {
		out.title(red, "not reloaded", who+": what ran before runs on")
		if len(r.Mistakes) > 0 {
			mistakesText(out, r.Mistakes)
			return out.out.String()
		}
		changesText(out, r.Changes)
		var names []string
		for _, c := range r.NeedsRestart() {
			names = append(names, c.Attribute)
		}
		out.title(green, "to apply it", "")
		out.wrapped(2, 2, normal, "", "restart the gateway, through which connections live; or take back what needs that: "+strings.Join(names, ", "))
		agreementText(out, r.Config)
		return out.out.String()
	}
	out.title(green, "reloaded", who)
	changesText(out, r.Changes)
	out.title(yellow, "connections", "")
	out.field("ended", fmt.Sprint(r.Revoked))
	if r.Resumed > 0 {
		out.field("allowed again", fmt.Sprint(r.Resumed))
	}
	out.field("not affected", fmt.Sprint(r.Kept))
	if r.Moved > 0 {
		out.field("of these by another rule", fmt.Sprint(r.Moved))
	}
	if r.Agreement != nil {
		out.title(green, "other nodes", "")
		agreementText(out, r.Config)
	}
	return out.out.String()
}
