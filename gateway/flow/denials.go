package flow

import (
	"net/netip"
	"time"

	"github.com/onewaylink/gw/gateway/denials"
	"github.com/onewaylink/gw/netstack/wire"
)

// refused notes a dropped packet in the ledger of denials where the drop is an attempt of its
// sender, and returns the reason. A reason that stands for damage, loss, load or timing is counted
// and not noted: it would bury the attempts.
func (p *Path) refused(now time.Duration, r wire.Reason, pkt *wire.Packet, fromHost bool) wire.Reason {
	if p.table.cfg.Denials == nil || !p.table.attempt(r, pkt, fromHost) {
		return r
	}
	src, dst := pkt.Src(), pkt.Dst()
	a := denials.Attempt{
		Site: p.table.cfg.Self, Reason: r.String(), Proto: pkt.Proto,
		Source: netip.AddrPortFrom(src, 0), Destination: netip.AddrPortFrom(dst, 0),
	}
	if pkt.Proto == wire.ProtoTCP || pkt.Proto == wire.ProtoUDP {
		a.Source, a.Destination = netip.AddrPortFrom(src, pkt.SrcPort), netip.AddrPortFrom(dst, pkt.DstPort)
	}
	if !fromHost {
		// A packet of the link with an address of this site comes from no site that is known.
		if a.Site = p.table.siteOf(src); a.Site == p.table.cfg.Self {
			a.Site = -1
		}
	}
	p.table.cfg.Denials.Note(now, &a)
	return r
}

// attempt reports whether a packet that was dropped for r tried something that its sender must
// not do. The packet has been parsed as far as its addresses then.
func (t *Table) attempt(r wire.Reason, pkt *wire.Packet, fromHost bool) bool {
	switch r {
	case wire.Denied, wire.Revoked, wire.Spoofed, wire.Impostor, wire.SiteFull:
		return true
	case wire.BadFlags, wire.SourceRoute:
		// Only scanners and firewall evasion send these.
		return true
	case wire.MartianAddress, wire.Loop, wire.NoRoute:
		// The gateway of the other site has judged its hosts' packets before it sent them. From
		// this site's hosts these are multicast and mistakes of routing.
		return !fromHost
	case wire.NoFlow, wire.Grace, wire.Unconfirmed:
		// A scan with ACK or FIN opens no flow and is never denied. A late packet of a connection
		// that policy allows is none.
		return !fromHost && !t.allowed(pkt)
	}
	return false
}

// allowed reports whether policy allows the flow that the packet may belong to, in either
// direction.
func (t *Table) allowed(pkt *wire.Packet) bool {
	if t.rule(pkt) != nil {
		return true
	}
	src, dst := netip.AddrPortFrom(pkt.Src(), pkt.SrcPort), netip.AddrPortFrom(pkt.Dst(), pkt.DstPort)
	return t.ask(pkt.Proto, dst, src) != nil
}
