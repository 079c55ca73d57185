package pair

import "time"

// The siblings send each other their link addresses on the LAN, so that the one that
// answers for the LAN's address knows the other one's announcements from a stranger's:
//
//	"gwm" | version 1 | link address 6
const (
	macMagic   = "gwm"
	macVersion = 1
	macSize    = len(macMagic) + 1 + 6
	// macEvery is how often: it costs nothing, and the sibling may have restarted.
	macEvery = 5 * time.Second
)

// tellMAC sends the address when it is due, and returns when it has to be called again at
// the latest.
func (p *Pair) tellMAC(next time.Duration) time.Duration {
	if p.cfg.Address == nil || p.sib == "" {
		return next
	}
	if p.now() >= p.macAt {
		p.macAt = p.now() + macEvery
		p.sendTo(p.sib, append([]byte{macMagic[0], macMagic[1], macMagic[2], macVersion}, p.cfg.Address.MAC()...))
	}
	return min(next, p.macAt)
}

// takeMAC learns the sibling's address.
func (p *Pair) takeMAC(d datagram) {
	if p.cfg.Address == nil || p.sib == "" || d.from != p.keys[p.sib] ||
		len(d.payload) != macSize || d.payload[len(macMagic)] != macVersion {
		return
	}
	p.cfg.Address.Expect(d.payload[len(macMagic)+1:])
}
