package link

import (
	"fmt"
	"slices"
	"time"

	"github.com/onewaylink/gw/gateway/link/hello"
)

// Renew replaces what may change while the link runs: the sections shared with each peer, which are
// advertised at once, and the keepalive. All else stays, above all which node carries a site's
// subnets: the argument has that from a file, MoveSubnets from the election. Renew ignores peers
// that the Link lacks.
func (l *Link) Renew(peers []Peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, next := range peers {
		p := l.byName[next.Node]
		if p == nil {
			continue
		}
		if !slices.EqualFunc(p.Sections, next.Sections, sameSection) {
			p.Sections = next.Sections
			l.do(p, p.hello.SetSections(l.now(), next.Sections))
		}
		if p.Keepalive != next.Keepalive {
			p.Keepalive = next.Keepalive
			p.hello.SetKeepalive(next.Keepalive)
			l.setKeepalive(p)
		}
	}
	select {
	case l.renewed <- struct{}{}:
	default:
	}
}

func sameSection(a, b hello.Section) bool { return a.Name == b.Name && a.Digest == b.Digest }

// setKeepalive has the device use the peer's keepalive.
func (l *Link) setKeepalive(p *peer) {
	if l.dev == nil { // Run will configure it so
		for i := range l.cfg.Peers {
			if l.cfg.Peers[i].Node == p.Node {
				l.cfg.Peers[i].Keepalive = p.Keepalive
			}
		}
		return
	}
	if !p.dials() {
		return
	}
	if err := l.dev.IpcSet(fmt.Sprintf("public_key=%x\nupdate_only=true\n%s", p.PublicKey, keepaliveText(p.Keepalive))); err != nil {
		p.log.Error("keepalive", "keepalive can't be set: the former one stays until the next start", "keepalive", p.Keepalive, "error", err)
	}
}

// keepaliveText is in whole seconds, rounded up.
func keepaliveText(d time.Duration) string {
	return fmt.Sprintf("persistent_keepalive_interval=%d\n", (d+time.Second-1)/time.Second)
}
