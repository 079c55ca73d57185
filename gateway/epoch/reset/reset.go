// Package reset makes a node whose epoch is ahead of its clock acceptable to the other nodes, while
// the node does not run.
package reset

import (
	"errors"
	"fmt"
	"time"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/epoch"
	"github.com/onewaylink/gw/gateway/records"
	"github.com/onewaylink/gw/ha"
)

// Result is what Reset has found and done.
type Result struct {
	Path string
	// Old is the epoch that the file held, and Ahead how far it is ahead of the clock; it is
	// negative if it is behind.
	Old   uint64
	Ahead time.Duration
	// Sibling is the other node of the pair.
	Sibling string
}

// Reset clears the epoch file of a node that does not run: its next claim uses the clock. Without
// force it does so only if other nodes would refuse the node's claims.
func Reset(c configs.Config, force bool) (r Result, err error) {
	dir := c.Local.StateDir
	for _, n := range c.SelfSite().Nodes {
		if n.Name != c.SelfNode().Name {
			r.Sibling = n.Name
		}
	}
	lock, err := records.Lock(dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	f, err := epoch.Open(dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r.Path, r.Old = epoch.Path(dir), f.Epoch()
	r.Ahead = aheadOf(r.Old, time.Now())
	if r.Ahead <= ha.MaxAhead && !force {
		return r, fmt.Errorf("%s holds %d, which is not too far ahead of the clock: leave it, or use --force", r.Path, r.Old)
	}
	return r, f.Reset()
}

// aheadOf returns how far an epoch is ahead of the clock, within what a Duration holds.
func aheadOf(epoch uint64, now time.Time) time.Duration {
	const most = uint64(1<<63-1) / uint64(time.Millisecond)
	if wall := uint64(now.UnixMilli()); epoch < wall {
		return -time.Duration(wall-epoch) * time.Millisecond
	} else {
		return time.Duration(min(epoch-wall, most)) * time.Millisecond
	}
}
