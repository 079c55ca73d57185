package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

// manyWaits is how many waits a second for room inside WireGuard mean that the processors can't
// keep up. A short burst waits, too.
const manyWaits = 100

// sendFailures are the reasons for which a datagram does not leave this host, with what to do about
// each.
var sendFailures = []struct{ reason, do string }{
	{"send-forbidden", "find the rule of the local firewall that drops it: nft list ruleset"},
	{"send-no-route", "see the route to the endpoint that gw status shows: ip route get ADDRESS"},
	{"send-no-buffer", "see whether the interface is overloaded: ip -s link; raise net.core.wmem_max"},
	{"send-failed", "see the interface: ip -s link, and the kernel's log: journalctl -k -n 50"},
}

// counters judges what was counted between two snapshots of one process.
func counters(s, before *status.Status) []Check {
	c := comparison{now: s, before: before, span: s.Time.Sub(before.Time).Round(time.Second)}
	c.sends()
	c.processor()
	c.storage()
	c.relay()
	if s.HA != nil {
		c.pair()
	}
	return c.checks
}

// comparison collects checks about the time between two snapshots.
type comparison struct {
	now, before *status.Status
	span        time.Duration
	checks      []Check
}

func (c *comparison) add(area, name string, level Level, do, format string, args ...any) {
	c.checks = append(c.checks, Check{area, name, level, fmt.Sprintf(format, args...), do})
}

// drops is how many packets were dropped for a reason. The reason's words may be joined by either
// sign.
func drops(list []status.Drop, reason string) (n uint64) {
	for _, d := range list {
		if strings.ReplaceAll(d.Reason, "_", "-") == reason {
			n += d.Packets
		}
	}
	return n
}

// sends judges whether UDP leaves this host.
func (c *comparison) sends() {
	now, before := &c.now.Datagrams, &c.before.Datagrams
	var failed, most uint64
	var worst, do string
	for _, f := range sendFailures {
		n := drops(now.Drops, f.reason) - drops(before.Drops, f.reason)
		failed += n
		if n > most {
			most, worst, do = n, f.reason, f.do
		}
	}
	sent := now.Sent - before.Sent
	switch {
	case failed == 0:
		c.add("gateway", "udp", OK, "", "all datagrams left this host: %d in %v", sent, c.span)
	case sent == 0:
		c.add("gateway", "udp", Failure, do, "UDP does not leave this host: %d sends failed in %v, most with %s", failed, c.span, worst)
	default:
		c.add("gateway", "udp", Warning, do, "%d of %d datagrams did not leave this host in %v, most with %s", failed, failed+sent, c.span, worst)
	}
}

// processor judges whether the process gets the time that it needs.
func (c *comparison) processor() {
	p := &c.now.Process
	if n := p.Freezes - c.before.Process.Freezes; n > 0 {
		c.add("gateway", "freezes", Warning, "see whether the virtual machine was paused or moved, and whether memory is short: vmstat 1; journalctl -k",
			"the process stood still %d times for a second or more in %v", n, c.span)
	}
	now, before := &c.now.Datagrams, &c.before.Datagrams
	lost := now.SendResets - before.SendResets
	waits := now.SendWaits + now.ReceiveWaits - before.SendWaits - before.ReceiveWaits
	const more = "see what else runs here: top; give gw more processors: CPUQuota and AllowedCPUs of gw.service"
	switch busy := c.span > 0 && float64(waits) > manyWaits*c.span.Seconds(); {
	case lost > 0:
		c.add("gateway", "processors", Warning, more, "packets inside WireGuard stood still %d times in %v (usable processors: %d)", lost, c.span, p.Usable)
	case busy:
		c.add("gateway", "processors", Warning, more, "packets waited %d times in %v: the processors can't keep up (usable: %d)", waits, c.span, p.Usable)
	case p.Usable == 1:
		c.add("gateway", "processors", OK, "", "one usable, which keeps up; bulk traffic delays everything else on it")
	default:
		c.add("gateway", "processors", OK, "", "%d in use of %d usable", p.Processors, p.Usable)
	}
}

// storage judges whether a restart would find the records of all flows, and whether memory for
// fragments suffices.
func (c *comparison) storage() {
	if n := c.now.RecordFile.WriteErrors - c.before.RecordFile.WriteErrors; n > 0 {
		c.add("gateway", "record file", Failure, "make room on the disk of local.state_dir: df -h; see why: journalctl -u gw -g record",
			"%d writes failed in %v: connections would break when gw restarts", n, c.span)
	}
	if n := c.now.Flows.RecordsRefused - c.before.Flows.RecordsRefused; n > 0 {
		c.add("gateway", "record file", Warning, "raise local.limits.records", "full: %d records were not stored in %v", n, c.span)
	}
	if n := c.now.Fragments.Evicted - c.before.Fragments.Evicted; n > 0 {
		c.add("gateway", "fragments", Warning, "raise local.limits.fragments, or have the senders keep to the path MTU",
			"%d incomplete datagrams were dropped in %v to make room", n, c.span)
	}
}

// relay judges the limits of relaying, and its one rule.
func (c *comparison) relay() {
	now, before := &c.now.Relay, &c.before.Relay
	if n := now.Full - before.Full; n > 0 {
		c.add("gateway", "relays", Warning, "raise local.limits.relays", "%d connections stayed raw in %v: as many are relayed as may be", n, c.span)
	}
	if n := now.TrunksExhausted - before.TrunksExhausted; n > 0 {
		c.add("gateway", "trunks", Warning, "raise local.limits.trunks", "%d trunks ended in %v: their memory is used up", n, c.span)
	}
	if n := now.LegsFailed - before.LegsFailed; n > 0 {
		c.add("gateway", "legs", Warning, "see why: journalctl -u gw -g relay", "%d connections could not be relayed in %v", n, c.span)
	}
	for _, v := range now.Violations {
		if v.Count > 0 {
			c.add("gateway", "rule", Warning, "nothing wrong was sent; report it, with gw bundle",
				"segments not written, which would have broken the rule that a gateway only repeats: %d (%s)", v.Count, v.Kind)
		}
	}
}

// pair judges the LAN address and the replication of records.
func (c *comparison) pair() {
	now := c.now.HA
	before := c.before.HA
	if before == nil {
		before = &status.HA{}
	}
	if asked, answered := now.VIP.Requests-before.VIP.Requests, now.VIP.Answers-before.VIP.Answers; asked > answered {
		c.add("address", "vip", Failure, "see the interface of local.lan: ip -s link; see what filters ARP there: nft list ruleset; ebtables -L",
			"%d of %d requests for the LAN address were not answered in %v", asked-answered, asked, c.span)
	}
	if n := now.Records.Refused - before.Records.Refused; n > 0 {
		c.add("pair", "replication", Warning, "see gw conns for what opens so many connections", "%d records beyond the limits were not replicated in %v", n, c.span)
	}
}
