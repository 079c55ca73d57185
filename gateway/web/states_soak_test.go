//go:build soak

package web

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/onewaylink/gw/gateway/status"
)

// state fills a page with an hour of a pair's life, and returns the last snapshot: healthy,
// degraded or failing over.
func state(name string) *Page {
	end := time.Now().UTC()
	p, f := newPage(snapshot(name, end, 0), madeUpFlows()...)
	for left := time.Hour; left >= 0; left -= step {
		s := snapshot(name, end, left)
		p.history.add(&s)
		f.status.Store(&s)
	}
	return p
}

// snapshot is the node that long before the end.
func snapshot(name string, end time.Time, left time.Duration) status.Status {
	minute := 60 - left.Minutes()
	rtt := 0.0402 + 0.001*math.Sin(minute) + 0.0005*math.Sin(minute*7)
	loss := 0.0
	up1 := status.LinkUp
	if name == "degraded" {
		if minute > 30 {
			loss = 0.012 + 0.008*math.Sin(minute*2)
			rtt += 0.03
		}
	}
	moved := minute > 25 // an earlier failover
	now := end.Add(-left)
	link := func(peer, site string, state status.LinkState, rtt float64, share uint64) status.Link {
		l := status.Link{
			Peer: peer, Site: site, State: state, Since: end.Add(-26 * time.Hour), Endpoint: "203.0.113.10:51820", Initiator: true,
			LastHandshake: now.Add(-12 * time.Second), TxBytes: share * uint64(minute*60e6), RxBytes: share * uint64(minute*9e6+2e6*math.Sin(minute)+4e6), Version: "v0.5.0",
		}
		if state.Carries() {
			l.RTT, l.RTTVar = status.Seconds(rtt*1e9), status.Seconds(3e5)
			l.LossOut, l.LossIn, l.MTUOut, l.MTUIn = loss, loss/3, 1420, 1420
		}
		return l
	}
	s := status.Status{
		Node: "red-1", Site: "red", Version: "v0.5.0", Time: now, Started: end.Add(-26 * time.Hour), Uptime: status.Seconds(26 * time.Hour),
		ConfigFiles: []string{"/etc/gw/site.hcl", "/etc/gw/local.hcl"},
		TUN:         status.TUN{Name: "gw0", MTU: 1420, Driver: "offload", Addresses: []netip.Addr{netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("fd77:1::1")}},
		Flows:       status.Flows{TCP: 42, UDP: 3, ICMP: 1, Opened: 4711, Denied: 7, Limit: 262144, Records: 42},
		Relay:       status.Relay{Relayed: 3, Begun: 42, TrunksInUse: 3},
		Drops:       status.NewDrops(map[string]uint64{"denied": 707, "spoofed": 0, "bad-checksum": 9, "fragment-bad": 51}),
		Memory:      status.Memory{Resident: 61 << 20, ResidentPeak: 64 << 20, Heap: 9 << 20, Goroutines: 31},
		Links: []status.Link{
			link("gray-1", "gray", up1, rtt, 2), link("gray-2", "gray", status.LinkUp, rtt+0.004, 0), link("red-2", "red", status.LinkUp, 0.0003, 1),
		},
	}
	equal := true
	h := &status.HA{
		Time: now, Node: "red-1", Site: "red", Role: status.RoleActive, Since: now.Add(-time.Hour), Active: "red-1", Epoch: 1773500000123, Why: "elected",
		Health:  status.Health{LAN: true, Plane: true, Reach: 1},
		Sibling: status.Sibling{Node: "red-2", State: status.SiblingUp, LastHeard: now, Role: status.RoleStandby, Health: &status.Health{LAN: true, Plane: true, Reach: 1}},
		Records: status.Records{Held: 42, InSync: true, DigestEqual: &equal}, Carriers: []status.Carrier{{Site: "gray", Node: "gray-1"}, {Site: "red", Node: "red-1"}},
	}
	s.HA = h
	ms := func(f float64) status.Millis { return status.Millis(f * 1e6) }
	if moved {
		h.LastFailover = &status.Failover{
			At: end.Add(-35 * time.Minute), From: "red-2", To: "red-1", Epoch: 1, Reason: "the sibling timed out, and no witness sees it",
			Phases: status.Phases{Asked: ms(100.2), Detected: ms(150.3), Claimed: ms(150.4), Acknowledged: ms(191), Address: ms(152), Announced: ms(152.2), Total: ms(191)},
		}
	}
	switch {
	case name == "degraded":
		if minute > 40 {
			h.Sibling.State, h.Records.InSync, h.Sibling.Role = status.SiblingSilent, false, ""
			s.Links[2] = link("red-2", "red", status.LinkLost, 0, 1)
		}
		if minute > 50 {
			s.Links[0].Differences = []status.Difference{{Attribute: "link.red.gray.keepalive", Kind: status.Differs}}
		}
	case name == "failing-over" && minute > 59.5:
		s.Links[0] = link("gray-1", "gray", status.LinkLost, 0, 2)
		h.Carriers[0].Node = "gray-2"
		h.Role, h.Active, h.Sibling.Role = status.RoleStandby, "red-2", status.RoleActive
		h.Carriers[1].Node = "red-2"
		h.Handover = &status.Handover{To: "red-2", Reason: "drained by an operator", Age: status.Seconds(5 * time.Millisecond)}
		h.LastFailover = &status.Failover{
			At: now, From: "red-1", To: "red-2", Epoch: 2, Planned: true, Reason: "drained by an operator",
			Phases: status.Phases{Detected: ms(0.4), Claimed: ms(1.2), Acknowledged: ms(41.9), Address: ms(3.4), Announced: ms(3.9), Total: ms(41.9)},
		}
	}
	return s
}

// madeUpFlows has one whose rule would be markup if anybody took it for that.
func madeUpFlows() []status.Conn {
	var list []status.Conn
	for i := range 46 {
		c := status.Conn{
			Proto: "tcp", Source: netip.MustParseAddr(fmt.Sprintf("10.77.2.%d", 10+i%7)), SourcePort: uint16(40112 + 97*i),
			Destination: netip.MustParseAddr("10.77.1.10"), DestinationPort: 5432, OpenedBy: status.OpenedRemote, Site: "gray", Mode: "raw", Why: "small or chatty",
			State: "established", Rule: "replication", RulePos: "site.hcl:31", BytesOut: uint64(1+i*i) << 14, BytesIn: uint64(46-i) << 18,
			Age: status.Seconds(time.Duration(i*i) * time.Minute), Idle: status.Seconds(time.Duration(i) * 300 * time.Millisecond),
		}
		switch {
		case i%9 == 0:
			c.Mode, c.Why = "relayed", "the link loses 0.3 %"
		case i == 4:
			c.Source, c.Destination, c.Rule = netip.MustParseAddr("fd77:2::10"), netip.MustParseAddr("fd77:1::10"), `<img src=x onerror="document.title='broken'">`
		}
		list = append(list, c)
	}
	return list
}
