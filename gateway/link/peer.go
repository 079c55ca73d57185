package link

import (
	"net/netip"
	"time"

	"github.com/onewaylink/gw/gateway/link/hello"
	"github.com/onewaylink/gw/gateway/quiet"
	"github.com/onewaylink/gw/netstack/wire"
)

// peer is one node of another site. The loop owns it, under Link.mu.
type peer struct {
	Peer
	log      *quiet.Logger // for lines that the peer can cause, and they all are
	hello    *hello.Peer
	src, dst netip.AddrPort // of hellos inside the tunnel
	dial     dialling
	knocker  knocker // not under Link.mu

	live      bool // hello knows of a session
	handshake time.Time
	renewedAt time.Duration // when that handshake was seen
	endpoint  string        // as of the last look at the device
	reported  PeerState     // as OnChange received it last
}

func newPeer(c *Config, p Peer, boot uint64, wall func() time.Time) (*peer, error) {
	src, dst, _ := common(c.Self.Addresses, p.Addresses)
	overhead := wire.UDPHeader + wire.IPv4Header
	if src.Is6() {
		overhead = wire.UDPHeader + wire.IPv6Header
	}
	h, err := hello.New(hello.Config{
		Site: c.Self.Site, Node: c.Self.Node, Software: c.Version, Boot: boot,
		Interval: c.HelloInterval, Keepalive: p.Keepalive, Capabilities: hello.PartialChecksums,
		MTU: c.TUNMTU, Overhead: overhead, Sections: p.Sections, Wall: wall,
	})
	if err != nil {
		return nil, err
	}
	out := &peer{
		Peer: p, hello: h, dial: dialling{nextAt: never, resolveAt: never},
		log: quiet.New(quiet.Config{Logger: c.Logger.With("peer", p.Node, "site", p.Site)}),
		src: netip.AddrPortFrom(src, wire.ControlPort), dst: netip.AddrPortFrom(dst, wire.ControlPort),
	}
	if p.dials() {
		out.dial = newDialling(p.Endpoint)
	}
	out.reported = PeerState{Site: p.Site, Node: p.Node}
	return out, nil
}

// dials reports whether this side dials the peer and knows its endpoint.
func (p *Peer) dials() bool { return p.Dial && p.Endpoint != "" }

// state is the peer's present state.
func (p *peer) state(now time.Duration) PeerState {
	s := p.hello.Snapshot(now)
	gw := s.State == hello.Up
	return PeerState{
		Site: p.Site, Node: p.Node,
		Up: gw || s.State == hello.Silent, GW: gw, Refused: s.State == hello.Refused,
		MTU: s.MTUOut, Boot: s.Boot, PartialChecksums: gw && s.Capabilities&hello.PartialChecksums != 0,
		Trunks: gw && s.Capabilities&hello.Trunks != 0,
	}
}
