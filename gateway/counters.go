package gateway

import (
	"github.com/onewaylink/gw/gateway/link"
	"github.com/onewaylink/gw/gateway/records"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/netstack"
	"github.com/onewaylink/gw/netstack/wire"
)

// count adds to a snapshot what the parts have counted. tests/house fails for a counter that is
// left out.
func (g *Gateway) count(out *status.Status) {
	l := g.link.Stats()
	out.Datagrams = datagrams(&l)
	out.Streams = streams(g.streams.Stats(), &l)
	out.RecordFile = recordFile(g.store.Stats())
	out.Fragments = fragments(g.path.Fragments())
	out.Faults = g.faults()
	out.Process = status.ReadProcess(g.pulse.Gaps())
}

func datagrams(s *link.Stats) status.Datagrams {
	b := &s.Bind
	return status.Datagrams{
		Sent: b.SentDatagrams, SentBytes: b.SentBytes, Received: b.ReceivedDatagrams, ReceivedBytes: b.ReceivedBytes,
		SplitSends: b.SplitSends, ReceiveErrors: b.ReceiveErrors, HandshakesRepeated: b.Repeats,
		NudgesSent: b.NudgesSent, NudgesReceived: b.NudgesReceived,
		Undelivered: s.Undelivered, UnknownSessions: b.UnknownSessions,
		SendWaits: s.OutboundWaits, ReceiveWaits: s.InboundWaits, SendResets: s.OutboundResets,
		Drops: status.NewDrops(b.DropsByName()),
	}
}

func streams(s netstack.Stats, l *link.Stats) status.Streams {
	return status.Streams{
		Received: s.Received, Sent: s.Sent, Dropped: s.Dropped, Limited: s.Limited,
		Drops: status.NewDrops(l.ControlDropsByName()),
	}
}

func recordFile(s records.Stats) status.RecordFile {
	return status.RecordFile{
		Records: s.Records, Bytes: s.Bytes, WriteErrors: s.WriteErrors, Rewrites: s.Rewrites, Overflows: s.Overflows,
	}
}

func fragments(s wire.ReassemblerStats) status.Fragments {
	return status.Fragments{Held: s.Datagrams, Bytes: s.Bytes, Reassembled: s.Whole, Expired: s.Expired, Evicted: s.Evicted}
}
