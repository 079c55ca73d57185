package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/gateway/status"
)

// haText is the section about the pair in `gw status`; `gw ha status` tells the rest.
func haText(p *printer, h *status.HA) {
	p.title(green, "ha", fmt.Sprintf("%s, sibling %s %s", h.Role, h.Sibling.Node, siblingText(&h.Sibling)))
	verdictText(p, h)
	p.field("since", fmt.Sprintf("%s: %s", agoText(h.Time, h.Since), h.Why))
	p.field("records", recordsText(h))
	if f := h.LastFailover; f != nil {
		p.field("last failover", fmt.Sprintf("%s%s: %s", agoText(h.Time, f.At), tookText(f), f.Reason))
	}
}

// haStatusText is what somebody sees who was called out of bed: first whether another failure would
// be survived, then why not.
func haStatusText(p *printer, h *status.HA) {
	p.title(green, "node", fmt.Sprintf("%s, site %s: %s", h.Node, h.Site, h.Role))
	verdictText(p, h)
	p.field("since", fmt.Sprintf("%s (%s)", agoText(h.Time, h.Since), h.Since.UTC().Format(time.DateTime+" UTC")))
	p.field("why", h.Why)
	p.field("epoch", epochText(h.Epoch))
	if h.EpochUnsaved != "" {
		p.alarm("not stored", h.EpochUnsaved)
	}
	p.field("health", healthText(&h.Health))
	vipText(p, h)
	if o := h.Handover; o != nil {
		forced := ""
		if o.Forced {
			forced = ", forced"
		}
		p.field("handover", fmt.Sprintf("to %s for %s%s: %s", o.To, millisText(status.Millis(o.Age)), forced, o.Reason))
	}

	s := &h.Sibling
	p.title(green, "sibling", fmt.Sprintf("%s: %s", s.Node, siblingText(s)))
	if !s.LastHeard.IsZero() {
		p.field("heard", agoText(h.Time, s.LastHeard))
	}
	if s.Health != nil {
		p.field("health", healthText(s.Health))
	}

	p.title(green, "records", recordsText(h))
	p.field("sent", fmt.Sprintf("%s in %s", plural(h.Records.Sent, "update"), bytesText(h.Records.SentBytes)))

	p.title(green, "witnesses", fmt.Sprint(len(h.Witnesses)))
	for _, w := range h.Witnesses {
		p.field(w.Node, fmt.Sprintf("site %s, %s", w.Site, heardText(w)))
		if w.Unauthentic > 0 {
			p.alarm(w.Node, fmt.Sprintf("%s in the sibling's name that it did not make; see gw doctor", plural(w.Unauthentic, "statement")))
		}
	}

	if len(h.Carriers) > 0 {
		p.title(green, "packets go", "")
	}
	for _, c := range h.Carriers {
		p.field("to site "+c.Site, carrierText(c))
	}
	lastFailoverText(p, h)
}

// verdictText shows whether the site would survive the loss of its active node.
func verdictText(p *printer, h *status.HA) {
	problems := doctor.Unprotected(h)
	for _, problem := range problems {
		p.alarm("not protected", problem)
	}
	if len(problems) == 0 {
		standby, _ := doctor.StandbyOf(h)
		p.field("protected", standby+" takes over if "+h.Active+" fails")
	}
}

func siblingText(s *status.Sibling) string {
	switch s.State {
	case status.SiblingUp:
		return string(s.Role)
	case status.SiblingUnheard:
		return "no heartbeat"
	case status.SiblingSilent:
		return "silent, last " + string(s.Role)
	default:
		return string(s.State)
	}
}

func healthText(h *status.Health) string {
	lan, plane := "lan up", "packets pass"
	if !h.LAN {
		lan = "LAN DOWN"
	}
	if !h.Plane {
		plane = "PACKETS STUCK"
	}
	return fmt.Sprintf("%s, %s, %s reached", lan, plane, plural(h.Reach, "other site"))
}

// epochText is the number by which logs of all nodes name a claim.
func epochText(epoch uint64) string {
	if epoch == 0 {
		return "none known"
	}
	return fmt.Sprint(epoch)
}

func vipText(p *printer, h *status.HA) {
	if len(h.VIP.Addresses) == 0 {
		return
	}
	list := make([]string, len(h.VIP.Addresses))
	for i, a := range h.VIP.Addresses {
		list[i] = a.String()
	}
	addresses := strings.Join(list, ", ")
	if c := h.VIP.Conflict; c != nil && h.Time.Sub(c.At) < status.ConflictLasts {
		p.alarm("conflict", fmt.Sprintf("%s is claimed by another host, %s, %s; see gw doctor", c.Address, c.MAC, agoText(h.Time, c.At)))
	}
	if n := h.VIP.SendErrors; n > 0 {
		p.alarm("not sent", fmt.Sprintf("%s about the address; see gw doctor", plural(n, "message")))
	}
	switch active := h.Role == status.RoleActive; {
	case active && !h.VIP.Held:
		p.alarm("address", addresses+": this node is active and does not answer for it; see its log")
	case !active && h.VIP.Held:
		p.alarm("address", addresses+": this node is not active and still answers for it; see its log")
	case active:
		p.field("address", addresses+", answered for by this node")
		p.field("requests", fmt.Sprintf("%d, %d answered; %s", h.VIP.Requests, h.VIP.Answers, plural(h.VIP.Announcements, "announcement")))
	default:
		p.field("address", addresses+", left to the active node")
	}
}

func recordsText(h *status.HA) string {
	r := &h.Records
	parts := []string{fmt.Sprintf("%d held", r.Held)}
	if r.InSync {
		parts = append(parts, "in sync")
	} else {
		parts = append(parts, "not in sync")
	}
	if h.Role == status.RoleActive {
		parts = append(parts, plural(r.Lag, "update")+" behind")
	}
	return strings.Join(append(parts, digestText(r.DigestEqual)), ", ")
}

// digestText shows the last comparison of the records of both nodes; nil means that there was none.
func digestText(equal *bool) string {
	switch {
	case equal == nil:
		return "not compared yet"
	case *equal:
		return "digest equal"
	default:
		return "digest not equal"
	}
}

func heardText(w status.Witness) string {
	switch {
	case w.HeardAgo == nil:
		return "no answer"
	case !w.HearsUs:
		return fmt.Sprintf("heard %s ago, does not hear this node", millisText(status.Millis(*w.HeardAgo)))
	default:
		return fmt.Sprintf("heard %s ago", millisText(status.Millis(*w.HeardAgo)))
	}
}

func carrierText(c status.Carrier) string {
	switch {
	case c.Node == "":
		return "not known yet"
	case c.Epoch == 0:
		return "by " + c.Node + ", as configured"
	default:
		return fmt.Sprintf("by %s, epoch %d", c.Node, c.Epoch)
	}
}

func lastFailoverText(p *printer, h *status.HA) {
	f := h.LastFailover
	if f == nil {
		p.title(green, "last failover", "none known")
		return
	}
	p.title(green, "last failover", fmt.Sprintf("%s, %s", agoText(h.Time, f.At), f.At.UTC().Format(time.DateTime+" UTC")))
	failoverFields(p, f)
	p.field("by this node", fmt.Sprintf("%d planned, %d unplanned since its start", h.Planned, h.Unplanned))
}

// failoverText tells how an order was carried out.
func failoverText(p *printer, what string, f *status.Failover) {
	p.title(green, what, fmt.Sprintf("%s is active%s", f.To, tookText(f)))
	failoverFields(p, f)
}

// tookText is empty on a node that handed over: the other one knows how long it took.
func tookText(f *status.Failover) string {
	if f.Phases.Total == 0 {
		return ""
	}
	return ", after " + millisText(f.Phases.Total)
}

func failoverFields(p *printer, f *status.Failover) {
	from := f.From
	if from == "" {
		from = "no node"
	}
	p.field("nodes", fmt.Sprintf("from %s to %s, epoch %d", from, f.To, f.Epoch))
	p.field("why", f.Reason)
	type step struct {
		at   status.Millis
		what string
	}
	steps := []step{
		{f.Phases.Asked, "the other site asked"},
		{f.Phases.Detected, "decided"},
		{f.Phases.Claimed, "claimed"},
		{f.Phases.Acknowledged, "claim acknowledged"},
		{f.Phases.Address, "address taken"},
		{f.Phases.Announced, "address announced"},
		{f.Phases.Total, "done"},
	}
	// In the order in which they happened: the other site's word comes while the address is being
	// taken.
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	for _, s := range steps {
		if s.at > 0 {
			p.line(fmt.Sprintf("  %10s  %s", millisText(s.at), s.what))
		}
	}
}

func haTestText(p *printer, t *status.HATest) {
	if t.OK {
		p.title(green, "test", fmt.Sprintf("passed, %s has the records of all connections", t.Node))
	} else {
		p.title(red, "test", fmt.Sprintf("FAILED: a takeover by %s would break connections", t.Node))
	}
	p.field("records", fmt.Sprintf("%d on this node, %s", t.Records, digestText(t.DigestEqual)))
	for _, problem := range t.Problems {
		p.alarm("problem", problem)
	}
}

// millisText writes the time that a step took in milliseconds, whatever its size, so that steps
// compare at a glance.
func millisText(m status.Millis) string {
	return fmt.Sprintf("%.1f ms", float64(m)/float64(time.Millisecond))
}
