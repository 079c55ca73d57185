package journal

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/onewaylink/gw/gateway/audit"
	"github.com/onewaylink/gw/gateway/denials"
	"github.com/onewaylink/gw/gateway/status"
)

// denialsEvery is how often Run reports what is due in the ledger. The first packet of an attempt
// is reported that much later at most.
const denialsEvery = time.Second

// topDenials is how many denials a snapshot shows.
const topDenials = 8

// reasonQuestion is the reason of a denial that answers a question about a packet.
const reasonQuestion = "question"

// Run reports denied traffic to the log and the audit log until ctx ends, and then what is left.
func (j *Journal) Run(ctx context.Context) error {
	tick := time.NewTicker(denialsEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			j.reportDenials(false)
		case <-ctx.Done():
			j.reportDenials(true)
			return nil
		}
	}
}

// reportDenials reports what is due. Addresses and names are the only texts in these lines: a peer
// chooses no other part of them.
func (j *Journal) reportDenials(all bool) {
	now, wall := j.cfg.Now(), time.Now()
	for _, r := range j.cfg.Denials.Due(now, all) {
		site := j.site(r.Site)
		if r.Others() {
			j.log.Warn("denied packets to further destinations", "packets", r.Packets, "site", site, "sources", sourcesText(&r), "destinations", fmt.Sprintf("at least %d", r.Destinations))
		} else {
			j.log.Warn("denied packets", "packets", r.Packets, "site", site, "sources", sourcesText(&r), "protocol", status.ProtoName(r.Proto),
				"destination", r.Destination, "ports", portsText(&r), "reason", r.Reason)
		}
		j.cfg.Audit.AddDenial(auditDenial(&r, site, now, wall))
	}
}

// site names the site of an attempt.
func (j *Journal) site(i int) string {
	if i < 0 {
		return "unknown"
	}
	return j.cfg.Sites[i]
}

// sourcesText is like "10.77.2.9 and 3 more".
func sourcesText(r *denials.Report) string {
	switch n := len(r.Sources) - 1; {
	case n < 0:
		return "none"
	case r.MoreSources:
		return fmt.Sprintf("%v and more than %d more", r.Sources[0], n)
	case n > 0:
		return fmt.Sprintf("%v and %d more", r.Sources[0], n)
	}
	return r.Sources[0].String()
}

// portsText lists the ports, or says how many there are.
func portsText(r *denials.Report) string {
	if r.PortCount > len(r.Ports) {
		return fmt.Sprintf("%d ports", r.PortCount)
	}
	ports := make([]string, len(r.Ports))
	for i, p := range r.Ports {
		ports[i] = strconv.Itoa(int(p))
	}
	return strings.Join(ports, ",")
}

// auditDenial converts a report, whose times are those of the ledger's clock, for the audit log.
func auditDenial(r *denials.Report, site string, now time.Duration, wall time.Time) *audit.Denial {
	d := &audit.Denial{
		SourceSite: site, Sources: r.Sources, MoreSources: r.MoreSources, Packets: r.Packets,
		First: wall.Add(r.First - now).UTC(), Last: wall.Add(r.Last - now).UTC(),
	}
	if r.Others() {
		d.Destinations = r.Destinations
		return d
	}
	d.Proto, d.Destination, d.Reason = status.ProtoName(r.Proto), r.Destination, r.Reason
	d.Ports, d.PortCount = r.Ports, r.PortCount
	return d
}

// Denials returns a snapshot: the most frequent denials, and totals for metrics.
func (j *Journal) Denials() status.Denials {
	now, wall := j.cfg.Now(), time.Now()
	var out status.Denials
	for _, r := range j.cfg.Denials.Top(topDenials) {
		d := status.Denial{
			Site: j.site(r.Site), Reason: r.Reason, Packets: r.Packets,
			First: wall.Add(r.First - now), Last: wall.Add(r.Last - now),
		}
		if !r.Others() {
			d.Proto, d.Destination = status.ProtoName(r.Proto), r.Destination
		}
		if len(r.Ports) > 0 {
			d.Port = r.Ports[0]
		}
		out.Top = append(out.Top, d)
	}
	for _, c := range j.cfg.Denials.Counts() {
		out.Totals = append(out.Totals, status.DenialTotal{Site: j.site(c.Site), Reason: c.Reason, Packets: c.Packets})
	}
	return out
}

// DeniedQuestion counts a question of another site about a packet that policy denies as an attempt
// of that site: a node can scan the policy by questions, without a packet.
func (j *Journal) DeniedQuestion(site int, proto uint8, source, destination netip.AddrPort) {
	j.cfg.Denials.Note(j.cfg.Now(), &denials.Attempt{Site: site, Reason: reasonQuestion, Proto: proto, Source: source, Destination: destination})
}
