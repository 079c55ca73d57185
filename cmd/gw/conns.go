package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/status"
)

type connsCmd struct {
	socketFlags
	JSON  bool   `name:"json" help:"Print JSON; its names are stable."`
	Sort  string `enum:"bytes,age" default:"bytes" help:"Order: the most bytes first (bytes), or the oldest first (age)."`
	Limit int    `placeholder:"N" help:"Show the first N flows; default: all, up to 65536."`
}

// Validate refuses what kong's types can't.
func (c *connsCmd) Validate() error {
	if c.Limit < 0 {
		return fmt.Errorf("--limit %d: use a number of flows, or leave it out for all", c.Limit)
	}
	return nil
}

// Run shows the running gateway's flows.
func (c *connsCmd) Run(env *env) error {
	path, err := c.resolve()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(env.ctx, askTimeout)
	defer cancel()
	list, err := control.NewClient(path).Conns(ctx, status.Query{Order: status.Order(c.Sort), Limit: c.Limit})
	if err != nil {
		return askError(err)
	}
	return env.show(c.JSON, list, func(colour bool) string { return connsText(list, colour) })
}

// The columns of the table. An IPv4 address with a port always fits into its own, and 80 columns
// hold them all.
const (
	protoWidth   = 5
	addressWidth = 21
	countWidth   = 6
	spanWidth    = 5
	// bothWidth is the room of the two addresses together, for those that don't fit into their
	// columns.
	bothWidth = addressWidth + 2 + addressWidth
)

// connsText lays flows out in two lines each: who and how much, and below it how and why. Long IPv6
// addresses take a line each.
func connsText(list status.ConnList, colour bool) string {
	p := &printer{colour: colour}
	if list.Total == 0 {
		p.line("no flows")
		return p.out.String()
	}
	header := fmt.Sprintf("%-*s  %-*s  %-*s  %*s %*s %*s %*s", protoWidth, "PROTO", addressWidth, "SOURCE", addressWidth, "DESTINATION",
		countWidth, "OUT", countWidth, "IN", spanWidth, "AGE", spanWidth, "IDLE")
	p.out.WriteString(p.styled(bold, header) + "\n")
	for i := range list.Conns {
		connText(p, &list.Conns[i])
	}
	if n := len(list.Conns); n < list.Total {
		p.line("")
		p.line(fmt.Sprintf("%d of %d flows", n, list.Total))
	}
	return p.out.String()
}

func connText(p *printer, c *status.Conn) {
	src, dst := addressText(c.Source, c.SourcePort), addressText(c.Destination, c.DestinationPort)
	numbers := fmt.Sprintf("  %*s %*s %*s %*s", countWidth, shortBytes(c.BytesOut), countWidth, shortBytes(c.BytesIn),
		spanWidth, shortSpan(c.Age.Duration()), spanWidth, shortSpan(c.Idle.Duration()))
	margin := strings.Repeat(" ", protoWidth+2)
	proto := fmt.Sprintf("%-*s  ", protoWidth, c.Proto)
	fits := func(text string, width int) bool { return utf8.RuneCountInString(text) <= width }
	switch {
	case fits(src, addressWidth) && fits(dst, addressWidth):
		p.line(fmt.Sprintf("%s%-*s  %-*s%s", proto, addressWidth, src, addressWidth, dst, numbers))
	case fits(dst, bothWidth):
		p.line(proto + src)
		p.line(fmt.Sprintf("%s%-*s%s", margin, bothWidth, dst, numbers))
	default:
		p.line(proto + src)
		p.line(margin + dst)
		p.line(fmt.Sprintf("%s%-*s%s", margin, bothWidth, "", numbers))
	}
	opener := "from here"
	if c.OpenedBy == status.OpenedRemote {
		opener = "from " + c.Site
	}
	mode := c.Mode
	if c.Why != "" {
		mode += ": " + c.Why
	}
	p.wrapped(len(margin), len(margin), normal, "",
		fmt.Sprintf("%s, %s, opened %s, rule %s (%s)%s", mode, c.State, opener, c.Rule, c.RulePos, standbyText(c.Standby)))
	if r := c.Relay; r != nil {
		p.wrapped(len(margin), len(margin), normal, "",
			fmt.Sprintf("here: round trip %s, %d resent, %s unacknowledged; over the link: %s, %d, %s",
				delayText(r.NearRTT.Duration()), r.NearRetransmits, shortBytes(r.WaitingIn),
				delayText(r.LinkRTT.Duration()), r.LinkRetransmits, shortBytes(r.WaitingOut)))
	}
}

// standbyText tells where a flow would end with this node, or might.
func standbyText(r status.Record) string {
	switch r {
	case status.RecordHeld:
		return ", the standby has it"
	case status.RecordWaiting:
		return ", NOT YET ON THE STANDBY"
	}
	return ""
}

// addressText writes the port only where the protocol has one.
func addressText(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}
