package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/onewaylink/gw/gateway/status"
)

// topView is how gw top shows a snapshot.
type topView struct {
	width, height int
	order         status.Order
	colour        bool
	// trouble says why the snapshot is old; empty while it is not.
	trouble string
}

// topLine is a line of the screen.
type topLine struct {
	style style
	text  string
}

// topFrame lays a snapshot out on a screen: the node, its links, what was dropped, and as many
// flows as there is room for.
func topFrame(s status.Status, list status.ConnList, v topView) string {
	var lines []topLine
	add := func(st style, format string, args ...any) {
		lines = append(lines, topLine{st, fmt.Sprintf(format, args...)})
	}
	add(bold, "gw %s  site %s  up %s  memory %s  %s", s.Node, s.Site, spanText(s.Uptime.Duration()), shortBytes(s.Memory.Resident),
		s.Time.Format("15:04:05"))
	if v.trouble != "" {
		add(red, "%s", v.trouble)
	}
	if h := s.HA; h != nil {
		topHA(add, h)
	}
	add(normal, "flows %d of %d, %d relayed; opened %d, denied %d, restored %d", s.Flows.Total(), s.Flows.Limit, s.Relay.Relayed,
		s.Flows.Opened, s.Flows.Denied, s.Flows.Restored)
	add(normal, "dropped %s", topDrops(s.Drops))
	if len(s.Denials.Top) > 0 {
		add(yellow, "denied %s", denialText(&s.Denials.Top[0], s.Time))
	}
	add(normal, "")
	add(bold, "%-16s %-12s %9s %8s %8s %9s %9s", "LINK", "STATE", "RTT", "LOSS OUT", "LOSS IN", "OUT", "IN")
	// Flows keep a third of the screen, however many links there are.
	room := max(1, v.height*2/3-len(lines)-2)
	for i := range s.Links {
		if i == room-1 && len(s.Links) > room {
			add(yellow, "… %d more links: gw status", len(s.Links)-i)
			break
		}
		topLink(add, &s.Links[i])
	}
	add(normal, "")
	add(bold, "%-5s %-21s %-21s %-7s %5s %5s %4s %4s", "PROTO", "SOURCE", "DESTINATION", "HOW", "OUT", "IN", "AGE", "IDLE")
	for i := range list.Conns {
		if len(lines) >= v.height-1 {
			break
		}
		c := &list.Conns[i]
		add(normal, "%-5s %-21s %-21s %-7s %5s %5s %4s %4s", c.Proto, cut(addressText(c.Source, c.SourcePort), 21),
			cut(addressText(c.Destination, c.DestinationPort), 21), c.Mode, shortBytes(c.BytesOut), shortBytes(c.BytesIn),
			shortSpan(c.Age.Duration()), shortSpan(c.Idle.Duration()))
	}
	for len(lines) < v.height-1 {
		add(normal, "")
	}
	lines = lines[:max(0, min(len(lines), v.height-1))]
	add(bold, "%d flows by %s   b bytes  a age  q quit", list.Total, v.order)
	p := printer{colour: v.colour}
	for i, l := range lines {
		if i > 0 {
			p.out.WriteByte('\n')
		}
		text := strings.TrimRight(cut(printable(l.text), v.width), " ")
		if l.style == normal || text == "" {
			p.out.WriteString(text)
			continue
		}
		p.out.WriteString(p.styled(l.style, text))
	}
	return p.out.String()
}

func topHA(add func(style, string, ...any), h *status.HA) {
	st := normal
	sync := "records in sync"
	if !h.Records.InSync {
		st, sync = yellow, "records NOT in sync"
	}
	if h.Sibling.State != status.SiblingUp {
		st = red
	}
	add(st, "pair %s, active %s, sibling %s %s, %s (%d, lag %d)", h.Role, h.Active, h.Sibling.Node, h.Sibling.State, sync, h.Records.Held, h.Records.Lag)
	switch f := h.LastFailover; {
	case h.Handover != nil:
		add(yellow, "handing over to %s: %s", h.Handover.To, h.Handover.Reason)
	case f != nil:
		add(normal, "last failover %s: to %s in %s, %s", agoText(h.Time, f.At), f.To, delayText(f.Phases.Total.Duration()), f.Reason)
	}
}

func topLink(add func(style, string, ...any), l *status.Link) {
	st := normal
	if !l.State.Carries() {
		st = red
	}
	rtt, out, in := "-", "-", "-"
	if l.Measured() {
		rtt, out, in = delayText(l.RTT.Duration()), percentText(l.LossOut), percentText(l.LossIn)
	}
	add(st, "%-16s %-12s %9s %8s %8s %9s %9s", cut(l.Peer, 16), l.State, rtt, out, in, shortBytes(l.TxBytes), shortBytes(l.RxBytes))
	if l.Refused != "" {
		add(red, "  refused: %s", l.Refused)
	}
}

// topDrops names the reasons that happened, the most frequent first.
func topDrops(drops []status.Drop) string {
	var words []string
	for _, d := range drops {
		if d.Packets > 0 {
			words = append(words, fmt.Sprintf("%s %d", d.Reason, d.Packets))
		}
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// cut shortens a text to so many columns.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:max(0, width-1)]) + "…"
}
