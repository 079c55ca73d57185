package gateway

import (
	"fmt"
	"time"

	"github.com/onewaylink/gw/gateway/health"
	"github.com/onewaylink/gw/gateway/hostnet/conntrack"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/sites"
	"github.com/onewaylink/gw/gateway/status"
)

// tracking tells the Keeper of changes of the role.
type tracking struct{ *conntrack.Keeper }

func (t tracking) Notice(e sites.Event) {
	switch e.Kind {
	case sites.Demoted:
		t.SetStandby(true)
	case sites.Promoted:
		t.SetStandby(false)
	}
}

// watchTracking watches the kernel's table of tracked connections.
func (g *Gateway) watchTracking() {
	if len(g.cfg.SelfSite().Nodes) > 1 {
		g.health.tracked = conntrack.New(conntrack.Config{Remote: parts.LinkedPrefixes(g.cfg), Logger: g.log.Named("conntrack")})
	}
	var w conntrack.Watch
	g.health.Watch(func() []health.Finding {
		u, dropping := w.Look(time.Now())
		if !dropping {
			return nil
		}
		return []health.Finding{{
			Fault: health.TableFull,
			What:  fmt.Sprintf("the kernel's table of tracked connections is full (%d of %d) and new connections are dropped", u.Entries, u.Limit),
			Do:    conntrack.MoreRoom(u),
		}}
	})
}

// trackingStatus is nil where the kernel tracks no connections.
func (g *Gateway) trackingStatus() *status.Tracking {
	u, err := conntrack.ReadUsage()
	if err != nil || u.Limit == 0 {
		return nil
	}
	out := &status.Tracking{Entries: u.Entries, Limit: u.Limit, Drops: u.Drops}
	if g.health.tracked != nil {
		s := g.health.tracked.Stats()
		out.Relaxed, out.Removed = s.Relaxed, s.Removed
	}
	return out
}
