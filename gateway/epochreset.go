package gateway

import (
	"errors"
	"fmt"
	"time"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/epoch"
	"github.com/onewaylink/gw/gateway/records"
	"github.com/onewaylink/gw/ha"
)

// EpochReset is what ResetEpoch found and did.
type EpochReset struct {
	Path string
	// Old is the epoch that the file held, and Ahead how far it is ahead of the clock;
	// negative, it is behind.
	Old   uint64
	Ahead time.Duration
	// Sibling is the other node of the pair.
	Sibling string
}

// ResetEpoch makes the epoch file of a node that does not run hold none, so that its next
// claim takes the clock. Without force it only does so where other nodes would refuse the
// node's claims.
func ResetEpoch(c configs.Config, force bool) (r EpochReset, err error) {
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
