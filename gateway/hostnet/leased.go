package hostnet

import (
	"context"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"
)

// leaseTime is how long an address stays on the device after its last renewal.
const leaseTime = 2 * time.Second

// A Keeper answers on the LAN for the addresses of a pair while it holds them. Its methods do not
// wait.
type Keeper interface {
	Hold()
	Drop()
	Held() bool
}

// Leased puts the addresses that a Keeper holds on the TUN device too, so that they answer a ping.
// The device goes with the process, and the leases of one that is frozen expire.
//
// The kernel may be slow to change addresses while many programs change interfaces. So Hold and
// Drop do not wait for it: Run does.
type Leased struct {
	Keeper
	device  string
	addrs   []netip.Addr
	log     hclog.Logger
	changed chan struct{} // holds a token after Hold and Drop

	lease func(device string, a netip.Addr, d time.Duration) error
	end   func(device string, a netip.Addr) error
}

// NewLeased returns a Leased for a device by its name.
func NewLeased(k Keeper, device string, addrs []netip.Addr, log hclog.Logger) *Leased {
	return &Leased{
		Keeper: k, device: device, addrs: addrs, log: log, changed: make(chan struct{}, 1),
		lease: lease, end: endLease,
	}
}

// Hold makes the Keeper hold the addresses, and Run lease them.
func (l *Leased) Hold() {
	l.Keeper.Hold()
	l.change()
}

// Drop makes the Keeper drop the addresses, and Run end the leases.
func (l *Leased) Drop() {
	l.Keeper.Drop()
	l.change()
}

func (l *Leased) change() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// Run renews the leases while the Keeper holds the addresses, until ctx ends. It leaves them on the
// device then: they expire.
func (l *Leased) Run(ctx context.Context) error {
	t := time.NewTicker(leaseTime / 3)
	defer t.Stop()
	leased := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.changed:
		case <-t.C:
		}
		held := l.Held()
		if !held && !leased {
			continue
		}
		leased = held
		for _, a := range l.addrs {
			if held {
				if err := l.lease(l.device, a, leaseTime); err != nil {
					l.log.Warn("cannot put the address on the tun: the host does not answer pings to it", "address", a, "error", err)
				}
			} else if err := l.end(l.device, a); err != nil {
				l.log.Warn("cannot remove the address from the tun: it expires", "address", a, "error", err)
			}
		}
	}
}
