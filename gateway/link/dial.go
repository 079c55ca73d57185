package link

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

const (
	// dialFirst and dialMost bound the wait between two handshakes to a peer
	// that doesn't answer. A new handshake makes an answer to the former
	// worthless, so the wait must grow past any round trip; between two of
	// them the Bind repeats the first, which costs nothing.
	dialFirst = time.Second
	dialMost  = 15 * time.Second
	// dialJitter spreads the dialling of many nodes after an outage.
	dialJitter = 0.2
	// resolveEvery is how often a name is looked up while the peer doesn't answer.
	resolveEvery = 5 * time.Second
)

// dialling is the policy of dialling one peer. It does no I/O. Times are the
// loop's clock.
type dialling struct {
	name   string // host:port, when it must be resolved
	addrs  []netip.AddrPort
	index  int // of the address to dial
	random func() float64

	active    bool // there is no session, or hello doesn't trust it
	attempts  int
	nextAt    time.Duration
	resolveAt time.Duration
	resolving bool
}

func newDialling(endpoint string) dialling {
	d := dialling{random: rand.Float64, nextAt: never, resolveAt: never}
	if ap, err := netip.ParseAddrPort(endpoint); err == nil {
		d.addrs = []netip.AddrPort{netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())}
	} else {
		d.name = endpoint
	}
	return d
}

// start begins to dial, at once.
func (d *dialling) start(now time.Duration) {
	d.active, d.attempts, d.nextAt = true, 0, now
	if d.name != "" && !d.resolving {
		d.resolveAt = now
	}
}

// done ends dialling: the peer answered.
func (d *dialling) done() { d.active, d.nextAt, d.resolveAt = false, never, never }

// next is when due or lookup has something to do.
func (d *dialling) next() time.Duration {
	at := d.nextAt
	if len(d.addrs) == 0 {
		at = never
	}
	if !d.resolving {
		at = min(at, d.resolveAt)
	}
	return at
}

// due returns the address to dial now, if it is time. After each full wait
// without an answer the next of the peer's addresses gets its turn.
func (d *dialling) due(now time.Duration) (netip.AddrPort, bool) {
	if !d.active || len(d.addrs) == 0 || now < d.nextAt {
		return netip.AddrPort{}, false
	}
	if d.attempts > 0 {
		d.index = (d.index + 1) % len(d.addrs)
	}
	wait := min(dialFirst<<min(d.attempts, 10), dialMost)
	d.attempts++
	d.nextAt = now + time.Duration(float64(wait)*(1+dialJitter*(2*d.random()-1)))
	return d.addrs[d.index], true
}

// lookup reports whether to look the name up now.
func (d *dialling) lookup(now time.Duration) bool {
	if !d.active || d.name == "" || d.resolving || now < d.resolveAt {
		return false
	}
	d.resolving, d.resolveAt = true, never
	return true
}

// resolved replaces the addresses by those found, unless the lookup failed and found none. If the
// current address is not among them, the first is dialed at once.
func (d *dialling) resolved(now time.Duration, addrs []netip.AddrPort) {
	d.resolving = false
	if d.active {
		d.resolveAt = now + resolveEvery
	}
	if len(addrs) == 0 {
		return // what was known may still be right
	}
	var current netip.AddrPort
	if len(d.addrs) > 0 {
		current = d.addrs[d.index]
	}
	d.addrs, d.index = addrs, 0
	for i, a := range addrs {
		if a == current {
			d.index = i
			return
		}
	}
	if d.active {
		d.attempts, d.nextAt = 0, now
	}
}
