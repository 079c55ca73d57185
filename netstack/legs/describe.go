package legs

import (
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Info tells how a relayed connection fares, so that people see which of near
// database, link and far database is slow.
type Info struct {
	// NearRTT is the round trip between this node and the near database, and
	// NearRetransmits how many segments either of them has sent the other again.
	NearRTT         time.Duration
	NearRetransmits uint64
	// Out are bytes of the near database that the far one has not acknowledged, In
	// those of the far one that have come here and the near one has not.
	Out, In uint32
	Trunk   Trunk
}

// Ends are the two ends of a relayed connection.
type Ends struct{ Near, Far netip.AddrPort }

// Describe tells of all connections that are relayed now.
func (l *Stack) Describe() map[Ends]Info {
	list := l.all()
	out := make(map[Ends]Info, len(list))
	for _, r := range list {
		if i, ok := r.describe(); ok {
			out[Ends(r.id)] = i
		}
	}
	return out
}

// describe reports false while there is no leg.
func (r *Relay) describe() (Info, bool) {
	select {
	case <-r.leg.done:
	default:
		return Info{}, false
	}
	if r.leg.ep == nil {
		return Info{}, false
	}
	i := Info{Trunk: r.trunk}
	var o tcpip.TCPInfoOption
	if err := r.leg.ep.GetSockOpt(&o); err == nil {
		i.NearRTT = o.RTT
	}
	if s, ok := r.leg.ep.Stats().(*tcp.Stats); ok {
		i.NearRetransmits = s.SendErrors.Retransmits.Value()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i.NearRetransmits += r.near.resent
	i.Out = uint32(max(int32(r.gate.Received()-r.gate.FarAck()), 0))
	i.In = uint32(max(int32(r.gate.Fed()-r.gate.NearAck()), 0))
	return i, true
}
