package conntrack

import (
	"context"
	"net/netip"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// Config configures a Keeper.
type Config struct {
	// Remote holds the subnets of the other sites: an entry with an end there is one of the
	// connections that this site's gateways carry.
	Remote []netip.Prefix
	Logger hclog.Logger
}

// A Keeper keeps the entries of the site's connections fit for a change of the active node.
type Keeper struct {
	cfg     Config
	wanted  chan struct{} // capacity 1: a sweep is due
	standby atomic.Bool

	relaxed, removed atomic.Uint64
}

// Stats counts since the start.
type Stats struct {
	// Relaxed are the entries that were marked as liberal, Removed those of connections that were
	// opening when the role left this node.
	Relaxed, Removed uint64
}

// New makes a Keeper that does nothing until Run.
func New(cfg Config) *Keeper {
	return &Keeper{cfg: cfg, wanted: make(chan struct{}, 1)}
}

// SetStandby starts a sweep, since the node became active or a standby. It returns at once. It is
// safe for concurrent use.
func (k *Keeper) SetStandby(on bool) {
	k.standby.Store(on)
	select {
	case k.wanted <- struct{}{}:
	default:
	}
}

// Stats may be called at any time.
func (k *Keeper) Stats() Stats { return Stats{Relaxed: k.relaxed.Load(), Removed: k.removed.Load()} }

// Run sweeps when it starts and after each change of the role, until ctx ends. The sweep of a new
// standby prepares the return of the role, and takes its time; the sweep of a new active node finds
// what an interrupted one left.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		if err := k.sweep(ctx); err != nil && ctx.Err() == nil {
			k.cfg.Logger.Warn("cannot prepare tracked connections for a change of the active node: a firewall that drops invalid packets may block them",
				"error", err, "fix", Lenient)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.wanted:
		}
	}
}

// Lenient is a command after which no firewall of the host judges windows.
const Lenient = "sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1"

// sweep goes through the whole table once.
func (k *Keeper) sweep(ctx context.Context) error {
	if u, err := ReadUsage(); err != nil || u.Entries == 0 {
		return err // nothing is tracked: to list it would only load a kernel module
	}
	c, err := newChanger()
	if err != nil {
		return err
	}
	defer c.close()
	var failed error
	err = dump(func(e *entry) {
		if failed != nil || ctx.Err() != nil || e.proto != unix.IPPROTO_TCP || !e.touches(k.cfg.Remote) {
			return
		}
		var change func(*entry) (bool, error)
		var counter *atomic.Uint64
		switch {
		case e.halfOpen() && k.standby.Load():
			// The handshake ends elsewhere, and every later packet would be invalid for the entry.
			change, counter = c.remove, &k.removed
		case e.halfOpen(), e.liberal:
			return
		default:
			change, counter = c.relax, &k.relaxed
		}
		found, err := change(e)
		if found {
			counter.Add(1)
		}
		failed = err
	})
	if failed != nil {
		return failed
	}
	return err
}
