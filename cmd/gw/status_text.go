package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

// statusText lays a snapshot out like wg-show(8).
func statusText(s status.Status, colour bool) string {
	p := &printer{colour: colour}
	p.title(green, "node", fmt.Sprintf("%s, site %s", s.Node, s.Site))
	p.field("version", s.Version)
	p.field("up", spanText(s.Uptime.Duration()))
	p.field("configuration", strings.Join(s.ConfigFiles, ", "))
	p.field("device", fmt.Sprintf("%s, driver %s, mtu %d", s.TUN.Name, s.TUN.Driver, s.TUN.MTU))
	addresses := make([]string, len(s.TUN.Addresses))
	for i, a := range s.TUN.Addresses {
		addresses[i] = a.String()
	}
	p.field("addresses", strings.Join(addresses, ", "))
	if s.Memory.Resident > 0 {
		p.field("memory", fmt.Sprintf("%s, at most %s", bytesText(s.Memory.Resident), bytesText(s.Memory.ResidentPeak)))
	}
	p.field("processors", fmt.Sprintf("%d in use of %d usable", s.Process.Processors, s.Process.Usable))
	faultsText(p, &s)
	if n := s.Process.Freezes; n > 0 {
		p.alarm("frozen", fmt.Sprintf("the process stood still %s for a second or more: run gw doctor", plural(n, "time")))
	}
	if s.Audit != nil {
		auditText(p, s.Audit)
	}
	if s.HA != nil {
		haText(p, s.HA)
	}
	for i := range s.Links {
		linkText(p, &s.Links[i], s.Time)
	}
	datagramsText(p, &s)
	flowsText(p, s.Flows)
	if n := s.RecordFile.WriteErrors; n > 0 {
		p.alarm("record file", plural(n, "write")+" failed: run gw doctor")
	}
	relayText(p, s.Relay)
	dropsText(p, s.Drops)
	sitesText(p, s.Sites)
	denialsText(p, s.Denials.Top, s.Time)
	return p.out.String()
}

// faultsText shows what keeps the node from serving its site, and what to do.
func faultsText(p *printer, s *status.Status) {
	for i := range s.Faults {
		if f := &s.Faults[i]; f.Stands {
			p.alarm(f.Fault, fmt.Sprintf("%s, since %s; %s", f.What, spanText(s.Time.Sub(f.Since)), f.Do))
		}
	}
}

// datagramsText shows the tunnels' datagrams, and what went wrong with them.
func datagramsText(p *printer, s *status.Status) {
	d := &s.Datagrams
	p.title(green, "datagrams", fmt.Sprintf("%d sent, %d received", d.Sent, d.Received))
	countsText(p, "dropped", d.Drops)
	countsText(p, "control packets dropped", s.Streams.Drops)
	for _, c := range []struct {
		what string
		n    uint64
	}{
		{"of unknown sessions", d.UnknownSessions},
		{"handshakes repeated", d.HandshakesRepeated},
		{"batches split", d.SplitSends},
		{"receive errors", d.ReceiveErrors},
		{"lost inside WireGuard", d.SendResets},
	} {
		if c.n > 0 {
			p.field(c.what, fmt.Sprint(c.n))
		}
	}
}

// countsText shows the reasons that occurred, in the snapshot's order.
func countsText(p *printer, what string, drops []status.Drop) {
	var parts []string
	for _, d := range drops {
		if d.Packets > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", d.Packets, d.Reason))
		}
	}
	if parts != nil {
		p.field(what, strings.Join(parts, ", "))
	}
}

// denialsText shows who tried what. A node that has denied nothing needs no section for it.
func denialsText(p *printer, top []status.Denial, now time.Time) {
	if len(top) == 0 {
		return
	}
	p.title(green, "denied", "most packets first")
	for i := range top {
		p.wrapped(2, 4, normal, "", denialText(&top[i], now))
	}
}

// denialText is like "1204 from gray to 10.77.1.10, tcp, latest port 22, denied, 3 s ago".
func denialText(d *status.Denial, now time.Time) string {
	to := "further destinations"
	if d.Destination.IsValid() {
		to = d.Destination.String() + ", " + d.Proto
	}
	if d.Port != 0 {
		to += fmt.Sprintf(", latest port %d", d.Port)
	}
	if d.Reason != "" {
		to += ", " + d.Reason
	}
	return fmt.Sprintf("%d from %s to %s, %s", d.Packets, d.Site, to, agoText(now, d.Last))
}

// auditText speaks up where the audit log has gaps.
func auditText(p *printer, a *status.Audit) {
	if a.Full {
		p.alarm("audit log", fmt.Sprintf("the file is full (%s), %d lines are missing: run gw doctor", bytesText(uint64(a.Size)), a.Lost))
		return
	}
	if a.Lost > 0 {
		p.alarm("audit log", fmt.Sprintf("%d lines are missing, %d were written: run gw doctor", a.Lost, a.Written))
		return
	}
	p.field("audit log", fmt.Sprintf("%d lines written, none lost", a.Written))
}

func linkText(p *printer, l *status.Link, now time.Time) {
	p.title(yellow, "link", fmt.Sprintf("%s, site %s", l.Peer, l.Site))
	if l.State == status.LinkRefused {
		p.alarm("state", stateText(l, now))
	} else {
		p.field("state", stateText(l, now))
	}
	if l.Endpoint != "" {
		p.field("endpoint", l.Endpoint+map[bool]string{true: " (this node dials)", false: " (the peer dials)"}[l.Initiator])
	}
	if !l.LastHandshake.IsZero() {
		p.field("latest handshake", agoText(now, l.LastHandshake))
	}
	if l.Measured() {
		p.field("round trip", fmt.Sprintf("%s, varying by %s", delayText(l.RTT.Duration()), delayText(l.RTTVar.Duration())))
		p.field("loss", fmt.Sprintf("%s out, %s in", percentText(l.LossOut), percentText(l.LossIn)))
	}
	if l.MTUOut > 0 {
		in := "not known"
		if l.MTUIn > 0 {
			in = fmt.Sprint(l.MTUIn)
		}
		p.field("path mtu", fmt.Sprintf("%d out, %s in", l.MTUOut, in))
	}
	p.field("transfer", fmt.Sprintf("%s received, %s sent", bytesText(l.RxBytes), bytesText(l.TxBytes)))
	if l.Version != "" {
		p.field("peer's version", l.Version)
	}
	clockText(p, l)
	for _, d := range l.Duplicates {
		p.alarm("key used twice", fmt.Sprintf("two processes use the private key of %s, at %s; each cuts the other off. "+
			"Stop one of them, or give it a node and a key of its own (gw genkey)", d.Node, strings.Join(d.Endpoints, " and ")))
	}
	differencesText(p, l)
}

func stateText(l *status.Link, now time.Time) string {
	since := ""
	if !l.Since.IsZero() {
		since = " for " + spanText(now.Sub(l.Since))
	}
	switch l.State {
	case status.LinkDown, status.LinkEstablishing:
		doing := "waiting for the peer to dial"
		if l.Initiator {
			doing = "dialing"
		}
		return string(l.State) + since + ", " + doing
	case status.LinkLost:
		return "lost" + since + ", renewing the session"
	case status.LinkSilent:
		return "silent" + since + ": link up, no gw hello from the peer (stock WireGuard, or gw is not running there)"
	case status.LinkRefused:
		return "refused" + since + ", nothing passes: " + l.Refused
	default:
		return string(l.State) + since
	}
}

// clockText speaks up only where a clock does harm or misleads the reader of two logs.
func clockText(p *printer, l *status.Link) {
	if behind := l.ClockBehind.Duration(); behind > 0 {
		p.alarm("clock", fmt.Sprintf("this node's clock stands %s before its own last handshake, so the peer rejects new ones as replays; "+
			"set it right (chronyc makestep)", spanText(behind)))
	}
	skew := l.ClockSkew.Duration()
	switch {
	case !l.Measured():
	case skew >= time.Second:
		p.field("clock", fmt.Sprintf("the peer's is %s ahead", spanText(skew)))
	case skew <= -time.Second:
		p.field("clock", fmt.Sprintf("the peer's is %s behind", spanText(-skew)))
	}
}

func differencesText(p *printer, l *status.Link) {
	if len(l.Differences) == 0 {
		return
	}
	fatal := false
	for _, d := range l.Differences {
		fatal = fatal || d.Fatal
	}
	p.alarm("configurations differ", fmt.Sprintf("%s here and on %s", plural(len(l.Differences)+l.DifferencesOmitted, "setting"), l.Peer))
	for _, d := range l.Differences {
		how := kindText(d.Kind, l.Peer)
		if d.Fatal {
			how += " (no new link until that is corrected)"
		}
		p.wrapped(4, 6, bold, d.Attribute+":", how)
	}
	advice := "Until then each node uses its own value."
	if fatal && l.State == status.LinkRefused {
		advice = "Until then the link carries nothing."
	}
	p.wrapped(4, 4, normal, "", "Put the same site.hcl on both nodes (gw render --for SITE makes the other site's copy), and gw reload; "+
		"gw plan shows what needs a restart. "+advice)
}

func kindText(k status.DifferenceKind, peer string) string {
	switch k {
	case status.OnlyHere:
		return "only here"
	case status.OnlyThere:
		return "only on " + peer
	case status.Differs:
		return "another value on " + peer
	default: // a newer gateway's word
		return string(k)
	}
}

func flowsText(p *printer, f status.Flows) {
	p.title(green, "flows", fmt.Sprintf("%d of at most %d", f.Total(), f.Limit))
	p.field("now", fmt.Sprintf("%d tcp, %d udp, %d icmp, %d other", f.TCP, f.UDP, f.ICMP, f.Other))
	since := fmt.Sprintf("%d opened, %d denied, %d restored", f.Opened, f.Denied, f.Restored)
	if f.Revoked > 0 {
		since += fmt.Sprintf(", %d revoked", f.Revoked)
	}
	p.field("since the start", since)
	records := fmt.Sprint(f.Records)
	if f.RecordsRefused > 0 {
		records += fmt.Sprintf("; %d not kept: raise local.limits.records", f.RecordsRefused)
	}
	p.field("records for a restart", records)
}

// wanting are the results of records that say that the peer's gateway is wrong, or that many wait.
var wanting = map[string]string{
	"other-site": "about connections of other sites", "malformed": "malformed",
	"quota": "beyond the site's share of the table", "refuted": "that the local host does not know",
}

// sitesText shows what other sites have given or asked beyond what is good.
func sitesText(p *printer, sites []status.Site) {
	for i := range sites {
		s := &sites[i]
		var lines [][2]string
		if s.Unconfirmed > 0 {
			lines = append(lines, [2]string{"unconfirmed", plural(s.Unconfirmed, "connection") + " known only from there"})
		}
		for _, r := range s.Records {
			if what := wanting[r.Result]; what != "" && r.Count > 0 {
				lines = append(lines, [2]string{"records refused", fmt.Sprintf("%d %s", r.Count, what)})
			}
		}
		if n := s.RecordRequests.Refused + s.Questions.Refused; n > 0 {
			lines = append(lines, [2]string{"requests refused", fmt.Sprintf("%d, beyond the site's rate", n)})
		}
		if len(lines) == 0 {
			continue
		}
		p.title(yellow, "site "+s.Site, "records and questions of its gateways")
		for _, l := range lines {
			p.field(l[0], l[1])
		}
	}
}

// relayText shows what is relayed, and the anomalies that ended relays.
func relayText(p *printer, r status.Relay) {
	p.title(green, "relayed", fmt.Sprintf("%d connections, %d times since the start", r.Relayed, r.Begun))
	p.field("trunks", fmt.Sprintf("%d in use, %d of %d MiB", r.TrunksInUse, r.TrunkMemory>>20, r.TrunkMemoryLimit>>20))
	if r.TrunksExhausted > 0 {
		p.field("trunks ended", fmt.Sprintf("%d since the memory was used up: raise local.limits.trunks", r.TrunksExhausted))
	}
	if r.TrunksAbandoned > 0 || r.TrunksRefused > 0 {
		p.field("trunks given up", fmt.Sprintf("%d the other gateway did not keep up, %d were too many", r.TrunksAbandoned, r.TrunksRefused))
	}
	for _, w := range r.Ways {
		if w.Sent > 0 {
			p.field("to "+w.Node, wayText(w))
		}
	}
	if r.Full > 0 {
		p.field("left raw", fmt.Sprintf("%d times, as many are relayed as may be: raise local.limits.relays", r.Full))
	}
	if r.LegsFailed > 0 {
		p.field("legs failed", fmt.Sprintf("%d of %d", r.LegsFailed, r.LegsFailed+r.LegsMade))
	}
	var ended []string
	for _, e := range r.Ends {
		if e.Count > 0 {
			ended = append(ended, fmt.Sprintf("%d %s", e.Count, e.Cause))
		}
	}
	if len(ended) > 0 {
		p.field("ended", strings.Join(ended, ", "))
	}
	for _, v := range r.Violations {
		if v.Count > 0 {
			p.field("rule broken", fmt.Sprintf("%d segments, not written: %s", v.Count, v.Kind))
		}
	}
}

// wayText shows what trunks know of the way to a node.
func wayText(w status.Way) string {
	text := "nothing acknowledged"
	if w.Measured() {
		now, least := delayText(w.RTT.Duration()), delayText(w.LeastRTT.Duration())
		_, unit, _ := strings.Cut(now, " ")
		text = fmt.Sprintf("round trip %s (least %s)", now, strings.TrimSuffix(least, " "+unit))
	}
	if w.Bandwidth > 0 {
		text += ", carries " + rateText(w.Bandwidth)
	}
	return text + ", " + percentText(w.LossRatio()) + " lost"
}

// dropsText shows the reasons that happened, in the snapshot's order.
func dropsText(p *printer, drops []status.Drop) {
	var total uint64
	width := 0
	for _, d := range drops {
		if d.Packets > 0 {
			total += d.Packets
			width = max(width, len(fmt.Sprint(d.Packets)))
		}
	}
	if total == 0 {
		p.title(green, "dropped packets", "none")
		return
	}
	p.title(green, "dropped packets", fmt.Sprint(total))
	for _, d := range drops {
		if d.Packets > 0 {
			p.line(fmt.Sprintf("  %*d %s", width, d.Packets, d.Reason))
		}
	}
}
