package gateway

import (
	"github.com/onewaylink/gw/gateway/health"
	"github.com/onewaylink/gw/gateway/status"
)

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
