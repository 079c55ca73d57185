// Package vitals watches what a node depends on: its LAN, its device, the kernel's forwarding and
// connection tracking, and the progress of its own data path. It reports to a Board of package
// health, which decides which faults stand.
package vitals

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/health"
	"github.com/onewaylink/gw/gateway/hostnet"
	"github.com/onewaylink/gw/gateway/hostnet/conntrack"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/sites"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/ha/neighbor"
)

// Host is the gateway's own host.
type Host interface {
	// Healthy reports whether the interface toward the site's hosts and the device are up.
	Healthy() (lan, device bool)
}

// Path is the data path. Its methods are called at a steady pace by one goroutine.
type Path interface {
	Stuck() bool
	Refusals() flow.Refusals
}

// Config configures a Vitals.
type Config struct {
	Network configs.Config
	Host    Host
	Path    Path
	// Hosts names hosts of this site that have flows.
	Hosts  func() []netip.Addr
	Logger hclog.Logger
}

// Vitals is what a node knows of its own ability to serve, and what it does to stay able.
type Vitals struct {
	*health.Board
	cfg     Config
	lan     *neighbor.Watcher // nil without local.lan
	tracked *conntrack.Keeper // nil without a sibling: the role does not change then
}

// New makes a Vitals. It starts nothing.
func New(c Config) *Vitals {
	v := &Vitals{Board: health.New(health.Config{Now: time.Now, Logger: c.Logger}), cfg: c}
	v.Watch(v.hostFindings)
	v.Watch(v.pathFindings)
	v.Watch(v.deviceFindings)
	v.watchLAN()
	v.watchForwarding()
	v.watchTracking()
	return v
}

// Run watches until ctx ends.
func (v *Vitals) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return v.Board.Run(ctx) })
	if v.lan != nil {
		g.Go(func() error { return v.lan.Run(ctx) })
	}
	if v.tracked != nil {
		g.Go(func() error { return v.tracked.Run(ctx) })
	}
	return g.Wait()
}

// Notice implements sites.Listener: the kernel's tracked connections follow the role.
func (v *Vitals) Notice(e sites.Event) {
	if v.tracked == nil {
		return
	}
	switch e.Kind {
	case sites.Demoted:
		v.tracked.SetStandby(true)
	case sites.Promoted:
		v.tracked.SetStandby(false)
	}
}

// pathFindings reports when packets make no progress through this process.
func (v *Vitals) pathFindings() []health.Finding {
	if !v.cfg.Path.Stuck() {
		return nil
	}
	return []health.Finding{{
		Fault: health.Stuck, What: "packets wait, and none makes progress through this process",
		Do: "journalctl -u gw -n 50; restart gw if it lasts",
	}}
}

// deviceFindings reports what the kernel refuses at the TUN device.
func (v *Vitals) deviceFindings() (out []health.Finding) {
	r, name := v.cfg.Path.Refusals(), v.cfg.Network.Local.TUN.Name
	if r.Singles {
		out = append(out, health.Finding{
			Fault: health.DeviceRefuses, What: fmt.Sprintf("the kernel refuses what gw writes to %s: %v", name, r.Err),
			Do: "ip -s link show dev " + name + "; dmesg | tail; restart gw if it lasts",
		})
	}
	if r.Segments {
		out = append(out, health.Finding{
			Fault: health.SegmentsRefused,
			What:  fmt.Sprintf("the kernel refuses super-segments at %s, and gw writes single packets: %v", name, r.Err),
			Do:    "ethtool -k " + name + "; dmesg | tail; or set local { tun { driver = \"water\" } }",
		})
	}
	return out
}

// hostFindings reports when an interface of the host is down.
func (v *Vitals) hostFindings() (out []health.Finding) {
	lan, device := v.cfg.Host.Healthy()
	if name := v.cfg.Network.Local.LAN; !lan {
		out = append(out, health.Finding{
			Fault: health.LANDown, What: "the interface " + name + " toward the hosts is down",
			Do: "ip link set " + name + " up; see its cable and its switch",
		})
	}
	if name := v.cfg.Network.Local.TUN.Name; !device {
		out = append(out, health.Finding{
			Fault: health.DeviceDown, What: "the device " + name + " is down", Do: "ip link set " + name + " up",
		})
	}
	return out
}

// watchLAN watches the LAN, if the node has one.
func (v *Vitals) watchLAN() {
	name := v.cfg.Network.Local.LAN
	if name == "" {
		return
	}
	v.lan = neighbor.New(neighbor.Config{Interface: name, Hosts: v.cfg.Hosts, Logger: v.cfg.Logger})
	v.Watch(func() []health.Finding {
		lasts, hosts, silent := v.lan.Silent()
		if !silent {
			return nil
		}
		return []health.Finding{{
			Fault: health.LANSilent,
			What:  fmt.Sprintf("%s is up, and none of %d hosts on the LAN has answered for %v", name, hosts, lasts.Round(100*time.Millisecond)),
			Do:    "see the switch, the VLAN, and filters on " + name + ": ip neigh show dev " + name,
		}}
	})
}

// watchForwarding reports when the kernel does not forward between the LAN and the device.
func (v *Vitals) watchForwarding() {
	w := hostnet.NewForwardWatch(parts.HostSpec(v.cfg.Network).Check)
	v.Watch(func() []health.Finding {
		found := w.Look(time.Now())
		if len(found) == 0 {
			return nil
		}
		return []health.Finding{{Fault: health.NotForwarding, What: found[0].What, Do: found[0].Mend}}
	})
}

// watchTracking watches the kernel's table of tracked connections.
func (v *Vitals) watchTracking() {
	if len(v.cfg.Network.SelfSite().Nodes) > 1 {
		v.tracked = conntrack.New(conntrack.Config{Remote: parts.LinkedPrefixes(v.cfg.Network), Logger: v.cfg.Logger.Named("conntrack")})
	}
	var w conntrack.Watch
	v.Watch(func() []health.Finding {
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

// Faults lists all faults for the status, those that stand with what is known of them.
func (v *Vitals) Faults() []status.Fault {
	raised := v.Raised()
	standing := map[health.Fault]health.Standing{}
	for _, s := range v.Standing() {
		standing[s.Fault] = s
	}
	var out []status.Fault
	for _, name := range health.Known() {
		f := status.Fault{Fault: string(name), Raised: raised[name]}
		if s, ok := standing[name]; ok {
			f.Stands, f.Part, f.What, f.Do, f.Since = true, s.Part.String(), s.What, s.Do, s.Since
		}
		out = append(out, f)
	}
	return out
}

// Tracking returns what the kernel tracks; nil where the kernel tracks no connections.
func (v *Vitals) Tracking() *status.Tracking {
	u, err := conntrack.ReadUsage()
	if err != nil || u.Limit == 0 {
		return nil
	}
	out := &status.Tracking{Entries: u.Entries, Limit: u.Limit, Drops: u.Drops}
	if v.tracked != nil {
		s := v.tracked.Stats()
		out.Relaxed, out.Removed = s.Relaxed, s.Removed
	}
	return out
}
