package hostnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/hashicorp/go-hclog"
)

// Spec lists what a node needs of its host.
type Spec struct {
	TUN   TUNConfig
	Net   Config
	Check CheckConfig
}

// A Host is a node's own host: an open TUN device, by either driver, with the addresses and routes
// that lead packets to it.
type Host struct {
	Device
	spec   Spec
	log    hclog.Logger
	missed uint64 // what the device had dropped before New
}

// New checks the host, opens the device, and applies addresses and routes, in the network namespace
// of the calling thread. It logs warnings of the check. If one of its findings is fatal, New
// changes nothing and returns an error.
func New(s Spec, log hclog.Logger) (*Host, error) {
	var fatal []error
	for _, f := range Check(s.Check) {
		if f.Level == Fatal {
			fatal = append(fatal, fmt.Errorf("%s; to fix it: %s", f.What, f.Mend))
			continue
		}
		log.Warn(f.What, "fix", f.Mend)
	}
	if len(fatal) > 0 {
		return nil, errors.Join(fatal...)
	}
	d, err := Open(s.TUN)
	if err != nil {
		return nil, err
	}
	h := &Host{Device: d, spec: s, log: log}
	if h.missed, err = missed(s.TUN.Name); err == nil {
		err = Apply(s.Net, log)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w; see what gw doctor -c DIR finds on this host", err), d.Close())
	}
	return h, nil
}

// Run restores holds that another program removes, until ctx ends.
func (h *Host) Run(ctx context.Context) error {
	prefixes := make([]netip.Prefix, 0, len(h.spec.Net.Routes))
	for _, r := range h.spec.Net.Routes {
		prefixes = append(prefixes, r.Prefix)
	}
	return keepHolds(ctx, prefixes, h.log)
}

// Healthy reports whether the interface toward the site's hosts is up, or there is none, and
// whether the device is up.
func (h *Host) Healthy() (lan, device bool) {
	return h.spec.Net.LAN == "" || linkUp(h.spec.Net.LAN), linkUp(h.spec.TUN.Name)
}

// Missed returns how many packets the kernel has dropped since New because the device's queue was
// full.
func (h *Host) Missed() (uint64, error) {
	n, err := missed(h.spec.TUN.Name)
	return n - h.missed, err
}
