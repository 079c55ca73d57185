package link

import (
	"net/netip"
	"slices"
)

// watchTrains has hello test trains to each peer while datagrams leave in trains. The count is of
// all peers: a test costs eight datagrams each five seconds.
func (l *Link) watchTrains() {
	sent := l.udp.Trains()
	if sent == l.trains {
		return
	}
	l.trains = sent
	for _, p := range l.peers {
		p.hello.TrainsUsed()
	}
}

// trainsChanged switches GSO toward a peer off when trains no longer reach it, and on again.
func (l *Link) trainsChanged(p *peer, off bool) {
	l.setSingly()
	if off {
		p.log.Warn("trains", "trains of datagrams (UDP GSO) are lost on the way to the peer and single ones pass: sending each by itself, which costs processor time; "+
			"see gw doctor for the command that may mend it", "endpoint", p.endpoint)
		return
	}
	p.log.Info("trains", "trying trains of datagrams (UDP GSO) to the peer again", "endpoint", p.endpoint)
}

// setSingly has the carrier send singly to the peers that trains don't reach.
func (l *Link) setSingly() {
	var at []netip.AddrPort
	for _, p := range l.peers {
		ap, err := netip.ParseAddrPort(p.endpoint)
		if err == nil && p.hello.Snapshot(l.now()).TrainsOff && !slices.Contains(at, ap) {
			at = append(at, ap)
		}
	}
	l.udp.Singly(at)
}
