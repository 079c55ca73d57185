package gateway

import (
	"iter"
	"time"

	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/link"
	"github.com/onewaylink/gw/gateway/quota"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack/legs"
	"github.com/onewaylink/gw/netstack/wire"
)

// source makes the snapshots that status and control show. It reads only.
type source struct {
	gw      *Gateway
	started time.Time
}

var _ status.Source = (*source)(nil)

// Status implements status.StatusSource.
func (s *source) Status() status.Status {
	g := s.gw
	self, node := g.cfg.SelfSite(), g.cfg.SelfNode()
	st := g.table.Stats()
	drops := make(map[string]uint64, wire.NumReasons)
	for r := wire.OK + 1; r < wire.NumReasons; r++ {
		drops[r.String()] = st.Drops[r]
	}
	missed, err := g.host.Missed()
	if err != nil {
		g.log.Warn("cannot read how many packets the host has dropped: the status counts none", "error", err)
	} else {
		drops[wire.HostQueue.String()] += missed
	}
	recalls := g.path.Recalls()
	out := status.Status{
		Time: time.Now(),
		Node: node.Name, Site: self.Name, Version: g.version,
		Started: s.started, Uptime: status.Seconds(time.Since(s.started)),
		ConfigFiles: g.reload.Running().Files,
		TUN: status.TUN{
			Name: g.cfg.Local.TUN.Name, MTU: g.cfg.Local.TUN.MTU,
			Driver: string(g.cfg.Local.TUN.Driver), Addresses: node.Addresses,
		},
		Flows: status.Flows{
			TCP: st.TCP, UDP: st.UDP, ICMP: st.ICMP, Other: st.Other,
			Opened: st.Opened, Denied: st.Denied, Revoked: st.Revoked, Restored: st.Restored,
			Wakes: recalls.Wakes, Retold: recalls.Retold, RecallsLeft: recalls.WakesLeft + recalls.RetoldLeft,
			Records: st.Records, RecordsRefused: g.store.Stats().Refused, Limit: st.Limit,
		},
		Relay:   g.relay.Status(st.Relayed),
		Drops:   status.NewDrops(drops),
		Denials: g.journal.Denials(),
		Sites:   g.siteStatus(st.Foreign),
		Memory:  status.ReadMemory(),
	}
	g.count(&out)
	if g.pair != nil && g.cfg.SelfSite().Pair != nil {
		h := g.pair.Status()
		out.HA = &h
	}
	if g.audit != nil {
		a := g.audit.Stats()
		out.Audit = &status.Audit{Written: a.Written, Lost: a.Lost, Size: a.Size, Limit: a.Limit, Full: a.Full}
	}
	for _, p := range g.link.Snapshot() {
		l := linkStatus(p)
		if len(p.DuplicateSelf) > 0 {
			l.Duplicates = append(l.Duplicates, status.Duplicate{Node: node.Name, Endpoints: p.DuplicateSelf})
		}
		out.Links = append(out.Links, l)
	}
	return out
}

// siteStatus is what the linked sites have given and asked.
func (g *Gateway) siteStatus(list []flow.ForeignStats) []status.Site {
	out := make([]status.Site, 0, len(list))
	for i := range list {
		f := &list[i]
		s := status.Site{
			Site: f.Site, Unconfirmed: f.Unconfirmed, RelayReason: g.board.Why(f.Site),
			RecordRequests: requests(g.restorer.Requests(f.Site)), Questions: requests(g.explain.Questions(f.Site)),
		}
		for r, n := range f.Given {
			s.Records = append(s.Records, status.RecordResult{Result: flow.Given(r).String(), Count: n})
		}
		s.Records = append(s.Records,
			status.RecordResult{Result: "confirmed", Count: f.Confirmed},
			status.RecordResult{Result: "refuted", Count: f.Refuted},
			status.RecordResult{Result: "expired", Count: f.Expired})
		out = append(out, s)
	}
	return out
}

func requests(s quota.Stats) status.Requests {
	return status.Requests{Answered: s.Answered, Refused: s.Busy + s.Frequent}
}

func linkStatus(p link.PeerStatus) status.Link {
	l := status.Link{
		Peer: p.Node, Site: p.Site, State: status.LinkState(p.State.String()), Since: p.Since,
		Endpoint: p.Endpoint, Initiator: p.Initiator, LastHandshake: p.LastHandshake,
		RTT: status.Seconds(p.RTT), RTTVar: status.Seconds(p.RTTVar),
		LossOut: p.LossOut, LossIn: p.LossIn, MTUOut: p.MTUOut, MTUIn: p.MTUIn,
		TxBytes: p.TxBytes, RxBytes: p.RxBytes, Version: p.Version, Protocol: p.Protocol, HellosSent: p.HellosSent, HellosReceived: p.HellosReceived,
		Refused: p.Refused, ClockSkew: status.Seconds(p.Skew), ClockBehind: status.Seconds(p.ClockBehind),
	}
	if len(p.Duplicate) > 0 {
		l.Duplicates = append(l.Duplicates, status.Duplicate{Node: p.Node, Endpoints: p.Duplicate})
	}
	l.DifferencesOmitted = p.Omitted
	for _, d := range p.Differences {
		l.Differences = append(l.Differences, status.Difference{
			Attribute: d.Attribute, Kind: status.DifferenceKind(d.Kind), Fatal: d.Fatal,
		})
	}
	return l
}

// Conns implements status.ConnSource.
func (s *source) Conns() iter.Seq[status.Conn] {
	return func(yield func(status.Conn) bool) {
		relays := s.gw.relay.Conns() // now: the table is locked while it gives its flows
		var replicated func([]byte) bool
		if s.gw.pair != nil {
			replicated = s.gw.pair.Replicated()
		}
		var key []byte
		for c := range s.gw.table.Conns() {
			out := connStatus(c)
			if b, kept := c.AppendRecordKey(key[:0]); kept && replicated != nil {
				key = b
				out.Standby = status.RecordWaiting
				if replicated(b) {
					out.Standby = status.RecordHeld
				}
			}
			ends := legs.Ends{Near: c.Source, Far: c.Destination}
			if !c.Local {
				ends.Near, ends.Far = ends.Far, ends.Near
			}
			if i, ok := relays[ends]; ok && c.Relayed {
				out.Relay = i
			}
			if !yield(out) {
				return
			}
		}
	}
}

func connStatus(c flow.Conn) status.Conn {
	mode := "raw"
	if c.Relayed {
		mode = "relayed"
	}
	by := status.OpenedRemote
	if c.Local {
		by = status.OpenedLocal
	}
	return status.Conn{
		Proto:  status.ProtoName(c.Proto),
		Source: c.Source.Addr(), Destination: c.Destination.Addr(),
		SourcePort: c.Source.Port(), DestinationPort: c.Destination.Port(),
		Site: c.Site, OpenedBy: by, Mode: mode, Why: c.Why, State: c.State, Rule: c.Rule.Name, RulePos: c.Rule.Pos,
		BytesOut: c.BytesOut, BytesIn: c.BytesIn, PacketsOut: c.PacketsOut, PacketsIn: c.PacketsIn,
		Age: status.Seconds(c.Age), Idle: status.Seconds(c.Idle),
	}
}
