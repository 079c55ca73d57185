package main

import (
	"fmt"
	"strings"

	"github.com/onewaylink/gw/gateway/status"
)

// mends say what to do about a reason for which a packet is dropped.
var mends = map[string]string{
	"denied":          "no rule allows it: add one to the policy block of site.hcl, on the nodes of both sites",
	"revoked":         "no rule allows the connection any more: add one to the policy block of site.hcl",
	"no-route":        "no site that this one has a link to owns the destination: see subnets and link in site.hcl",
	"spoofed":         "its source does not belong to the side from which it arrived: see subnets in site.hcl, and the sender's address",
	"impostor":        "only a gateway may send it: between nodes' own addresses, ports 9771-9775 and protocol 253 are the gateways'",
	"loop":            "both ends are on one side: their packets need not come here; see the host's routes",
	"martian-address": "no host can have such an address",
	"link-down":       "the link is down: see gw status",
	"link-refused":    "the two configurations have to agree first: see gw status",
	"too-big":         "the sender receives an ICMP error with the path MTU; see gw status, and whether the host accepts ICMP",
	"no-flow":         "this node does not know the connection: the client has to open a new one",
	"grace":           "this node has just started and waits for the records of connections: try again in half a minute",
	"unconfirmed":     "this node has the connection from the other site only, and its host has not confirmed it yet: try again in a few seconds",
	"out-of-window":   "it does not fit the connection as this node knows it: see gw conns",
	"out-of-state":    "the connection has not got that far: see gw conns",
	"table-full":      "the flow table is full: see gw conns for who fills it",
	"site-full":       "the site has as many flows as it may: see gw conns",
	"standby":         "this node stands by, and passes no such packet on, for its size: have the hosts send to the pair's vip, which the active one answers for",
	"frozen":          "this process stood still: see its log",
}

// traceText lays a trace out: what becomes of the packet, then node by node.
func traceText(p *printer, t *status.Trace) {
	p.title(verdictStyle(t.Verdict), string(t.Verdict), fmt.Sprintf("%s %s > %s, %d bytes", t.Proto,
		addressText(t.Source, t.SourcePort), addressText(t.Destination, t.DestinationPort), t.Bytes))
	if t.Standby != "" {
		p.field("asked", fmt.Sprintf("%s, which stands by; %s is active and carries its site", t.Standby, t.Active))
	}
	dropped := false
	for i := range t.Steps {
		traceStepText(p, &t.Steps[i], dropped)
		dropped = dropped || t.Steps[i].Verdict == status.TraceDropped
	}
}

func verdictStyle(v status.TraceVerdict) style {
	switch v {
	case status.TracePasses:
		return green
	case status.TraceDropped:
		return red
	}
	return yellow
}

func traceStepText(p *printer, s *status.TraceStep, dropped bool) {
	verdict := string(s.Verdict)
	switch {
	case s.Verdict == status.TraceDropped && s.Reason != "":
		verdict += ": " + s.Reason
	case s.Verdict == status.TraceUnknown:
		verdict += ": " + s.Unknown
	}
	if dropped {
		verdict += " (if it got there)"
	}
	p.title(verdictStyle(s.Verdict), s.Node, verdict)
	way := "from the " + s.From + " of site " + s.Site
	if s.From == "link" {
		way = "from the link to the host"
	}
	switch {
	case s.PassedTo != "":
		way += ", passed on to its sibling " + s.PassedTo + " as it is"
	case s.To != "":
		way += " to site " + s.To + ", by " + s.Carrier
	}
	p.field("way", way)
	if s.State != "" {
		p.field("known", fmt.Sprintf("%s, opened from %s", s.State, s.OpenedFrom))
	}
	if s.Rule != "" {
		rule := s.Rule
		if s.RulePos != "" {
			rule += " (" + s.RulePos + ")"
		}
		p.field("rule", rule)
	}
	if s.Mode != "" {
		p.field("carried", joinNotEmpty(": ", s.Mode, s.Why))
	}
	if s.Verdict != status.TraceUnknown && s.PassedTo == "" && !s.VerdictOnly {
		p.field("size", sizeText(s))
	}
	for _, a := range s.Answers {
		p.field("answer to the sender", a)
	}
	switch mend := mends[s.Reason]; {
	case s.VerdictOnly && s.Verdict == status.TraceDropped:
		what := "dropped"
		if s.Reason != "" {
			what = "denied by policy"
		}
		p.alarm("what to do", fmt.Sprintf("%s at %s: ask %s's operator, or run gw trace on %s", what, s.Site, s.Site, s.Node))
	case s.VerdictOnly:
		p.field("details", fmt.Sprintf("only %s's operator sees them, by gw trace on %s", s.Site, s.Node))
	case s.LeftOut != "":
		p.alarm("what to do", fmt.Sprintf("rule %s names the site, which does not cover its gateways' own addresses: name the node in the rule, too, on the nodes of both sites", s.LeftOut))
	case mend != "" && s.Verdict == status.TraceDropped:
		p.alarm("what to do", mend)
	}
}

// sizeText says what fits, and what becomes of a packet that does not.
func sizeText(s *status.TraceStep) string {
	mtu := fmt.Sprintf("at most %d bytes", s.MTU)
	if s.PathMTU != 0 && s.PathMTU < s.MTU {
		mtu = fmt.Sprintf("at most %d bytes, of %d that the device takes", s.PathMTU, s.MTU)
	}
	if s.Packets > 1 {
		mtu += fmt.Sprintf("; leaves as %d packets of up to %d", s.Packets, s.LargestBytes)
	}
	if s.MSS != 0 {
		mtu += fmt.Sprintf("; MSS %d", s.MSS)
	}
	return mtu
}

func joinNotEmpty(sep string, parts ...string) string {
	var out []string
	for _, s := range parts {
		if s != "" {
			out = append(out, s)
		}
	}
	return strings.Join(out, sep)
}

// packetText lays a real packet out in a line or two.
func packetText(p *printer, pkt *status.Packet) {
	s := verdictStyle(pkt.Verdict)
	what := "from the " + pkt.Side
	if pkt.Direction == "out" {
		what = "to the " + pkt.Side
	}
	if pkt.Proto != "" {
		what += fmt.Sprintf(" %s %s > %s", pkt.Proto, addressText(pkt.Source, pkt.SourcePort), addressText(pkt.Destination, pkt.DestinationPort))
	}
	if pkt.Info != "" {
		what += " " + pkt.Info
	}
	rule := ""
	if pkt.Rule != "" {
		rule = "rule " + joinNotEmpty(" ", pkt.Rule, parenthesized(pkt.RulePos))
	}
	verdict := joinNotEmpty(": ", string(pkt.Verdict), pkt.Reason)
	p.wrapped(0, 13, s, pkt.Time.Local().Format("15:04:05.000"), joinNotEmpty(", ", what, fmt.Sprintf("%d bytes", pkt.Bytes), verdict, rule, pkt.Note))
}

func parenthesized(text string) string {
	if text == "" {
		return ""
	}
	return "(" + text + ")"
}
