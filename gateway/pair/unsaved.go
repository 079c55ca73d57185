package pair

import "time"

const (
	// storeEvery spaces the attempts to store an epoch after one has failed.
	storeEvery = 10 * time.Second
	// unsavedEvery spaces the log lines about it.
	unsavedEvery = time.Minute
)

// unsaved is an epoch that could not be stored. The gateway goes on without: after a
// restart the clock makes up for it, and so do the claims that other nodes carry. The
// moment of a takeover is the worst one to stop.
type unsaved struct {
	epoch  uint64 // 0: all is stored
	why    error
	nextAt time.Duration // of the next attempt
	toldAt time.Duration // of the last log line; 0: none
}

func (p *Pair) storeEpoch(epoch uint64) {
	u := &p.unsaved
	err := p.epochs.Store(epoch)
	if err == nil {
		if u.epoch != 0 {
			p.log.Info("epoch stored", "epoch", epoch)
		}
		*u = unsaved{}
		return
	}
	u.epoch, u.why, u.nextAt = epoch, err, p.now()+storeEvery
	if u.toldAt == 0 || p.now()-u.toldAt >= unsavedEvery {
		u.toldAt = max(p.now(), 1)
		p.log.Error("epoch not stored: after a restart this node claims by its clock", "epoch", epoch, "error", err)
	}
}

// storeAgain stores an epoch that could not be stored before, and returns when it has to
// be called again at the latest.
func (p *Pair) storeAgain(next time.Duration) time.Duration {
	if p.unsaved.epoch == 0 {
		return next
	}
	if p.now() >= p.unsaved.nextAt {
		p.storeEpoch(p.unsaved.epoch)
	}
	if p.unsaved.epoch == 0 {
		return next
	}
	return min(next, p.unsaved.nextAt)
}
