package gateway

import (
	"fmt"
	"time"

	"github.com/onewaylink/gw/gateway/health"
	"github.com/onewaylink/gw/gateway/hostnet"
	"github.com/onewaylink/gw/gateway/parts"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/ha/neighbor"
)

// fitness is what this node knows of its own ability to serve, and the probe that it needs for
// that.
type fitness struct {
	*health.Board
	lan *neighbor.Watcher // nil without local.lan
}

// pathFindings reports when packets make no progress through this process.
func (g *Gateway) pathFindings() []health.Finding {
	if !g.path.Stuck() {
		return nil
	}
	return []health.Finding{{
		Fault: health.Stuck, What: "packets wait, and none makes progress through this process",
		Do: "journalctl -u gw -n 50; restart gw if it lasts",
	}}
}

// hostFindings reports when an interface of the host is down.
func (g *Gateway) hostFindings() (out []health.Finding) {
	lan, device := g.host.Healthy()
	if name := g.cfg.Local.LAN; !lan {
		out = append(out, health.Finding{
			Fault: health.LANDown, What: "the interface " + name + " toward the hosts is down",
			Do: "ip link set " + name + " up; see its cable and its switch",
		})
	}
	if name := g.cfg.Local.TUN.Name; !device {
		out = append(out, health.Finding{
			Fault: health.DeviceDown, What: "the device " + name + " is down", Do: "ip link set " + name + " up",
		})
	}
	return out
}

// newLAN watches the LAN, if the node has one.
func (g *Gateway) newLAN() {
	name := g.cfg.Local.LAN
	if name == "" {
		return
	}
	g.health.lan = neighbor.New(neighbor.Config{Interface: name, Hosts: g.table.LocalHosts, Logger: g.log})
	g.health.Watch(func() []health.Finding {
		lasts, hosts, silent := g.health.lan.Silent()
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
func (g *Gateway) watchForwarding() {
	w := hostnet.NewForwardWatch(parts.HostSpec(g.cfg).Check)
	g.health.Watch(func() []health.Finding {
		found := w.Look(time.Now())
		if len(found) == 0 {
			return nil
		}
		return []health.Finding{{Fault: health.NotForwarding, What: found[0].What, Do: found[0].Mend}}
	})
}

// faults lists all faults for the status, those that stand with what is known of them.
func (g *Gateway) faults() []status.Fault {
	raised := g.health.Raised()
	standing := map[health.Fault]health.Standing{}
	for _, s := range g.health.Standing() {
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
