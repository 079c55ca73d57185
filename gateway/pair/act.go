package pair

import (
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/ha"
)

// act carries out the Machine's outputs, in their order. docs/design.md ("Is this node active?")
// lists which variables change, in which order.
func (p *Pair) act(out []ha.Output) {
	for i := range out {
		o := &out[i]
		switch o.Kind {
		case ha.Send:
			p.sendTo(p.names[o.To], o.Payload)
		case ha.Knock:
			p.gone = p.cfg.Tunnels.Knock(p.names[o.Node]) || p.gone
		case ha.Persist:
			p.storeEpoch(o.Epoch)
		case ha.Prepare:
			p.prepare()
		case ha.Activate:
			p.activate(o.Epoch)
		case ha.Deactivate:
			p.deactivate()
		case ha.Suspend:
			p.cfg.Process.Suspend(true)
		case ha.Resume:
			p.cfg.Process.Suspend(false)
		case ha.Assign:
			p.assign(o)
		case ha.Report:
			p.report(o.Event)
		}
	}
}

const (
	// prepareWait bounds how long the claim after a Prepare may take, and settleWait
	// how long after it packets wait for the other sites, which refuse this node's
	// packets until they accept the claim.
	prepareWait = 100 * time.Millisecond
	settleWait  = 10 * time.Millisecond
)

// prepare attracts the LAN's packets to this node, and holds them. Until the claim the other sites
// accept none from it, so the sibling forwards what it has received.
func (p *Pair) prepare() {
	p.pausedUntil = p.now() + prepareWait
	p.cfg.Path.Pause(true)
	p.cfg.Path.SetPass(nil)
	p.hold()
}

// hold answers for the LAN address from now on, if there is one.
func (p *Pair) hold() {
	if p.cfg.Address == nil {
		return
	}
	before := p.cfg.Address.Held()
	p.cfg.Address.Hold()
	if !before {
		p.seen.held = p.now()
	}
}

// resume ends the pause of prepare.
func (p *Pair) resume() {
	p.pausedUntil = 0
	p.cfg.Path.Pause(false)
}

// activate makes this node carry the site: first its state, then the address,
// then the announcement on the LAN. The claim to the other sites left before.
func (p *Pair) activate(epoch uint64) {
	p.cfg.Process.Suspend(false)
	if p.sib == "" {
		return
	}
	if p.pausedUntil != 0 {
		p.pausedUntil = p.now() + settleWait
	}
	p.send(p.r.Lead(p.now(), epoch))
	p.cfg.Flows.SetStandby(false)
	p.cfg.Board.SetStandby(false)
	if p.leads.Swap(true) {
		return // with a higher epoch than before
	}
	p.cfg.Path.SetPass(nil)
	p.hold()
	p.seen.address, p.seen.announced = p.seen.held, 0
	p.run("on_active", p.cfg.OnActive)
	for _, s := range p.cfg.Sites {
		if s.Name != p.site {
			p.cfg.Board.Wake(s.Name)
		}
	}
}

// deactivate makes this node a standby. The other sites accept nothing from it any more, so it
// first passes the LAN's packets on to the sibling.
func (p *Pair) deactivate() {
	if p.sib == "" {
		return
	}
	p.passStrays()
	if p.pausedUntil != 0 {
		p.resume()
	}
	p.noteAnnounced()
	led := p.leads.Swap(false)
	if p.cfg.Address != nil {
		p.cfg.Address.Drop()
	}
	p.cfg.Flows.SetStandby(true)
	p.cfg.Board.SetStandby(true)
	p.send(p.r.Follow(p.now()))
	p.cfg.Process.Suspend(false)
	if led {
		p.run("on_standby", p.cfg.OnStandby)
	}
}

// passStrays sends the LAN's packets on to the sibling.
func (p *Pair) passStrays() {
	p.cfg.Path.SetPass(func(pkt []byte) {
		_ = p.cfg.Tunnels.SendDatagram(p.sib, p.cfg.StrayPort, pkt) // the sibling is a peer
	})
}

func (p *Pair) run(name string, args []string) {
	if len(args) == 0 {
		return
	}
	select {
	case p.commands <- command{name, args}:
	default:
		p.log.Error("command not run: too many are waiting", "setting", name)
	}
}

// assign moves a site's subnets to the node that carries them now.
func (p *Pair) assign(o *ha.Output) {
	i := slices.IndexFunc(p.cfg.Sites, func(s Site) bool { return s.Name == o.Site })
	name, ok := p.names[o.Node]
	if i < 0 || !ok {
		return
	}
	if o.Site != p.site {
		if err := p.cfg.Tunnels.MoveSubnets(name, p.cfg.Sites[i].Subnets); err != nil {
			p.log.Error("subnets not moved: packets go to the former node", "site", o.Site, "node", name, "error", err)
		}
		moved := p.seen.carrier[o.Site] != "" && p.seen.carrier[o.Site] != name
		p.cfg.Board.SetCarrier(o.Site, name)
		if moved {
			p.cfg.Board.Wake(o.Site)
		}
	}
	if p.seen.carrier == nil {
		p.seen.carrier = map[string]string{}
	}
	p.seen.carrier[o.Site] = name
}

// report logs an event and remembers what view.go shows.
func (p *Pair) report(e *ha.Event) {
	level := hclog.Info
	args := []any{}
	add := func(k string, v any, set bool) {
		if set {
			args = append(args, k, v)
		}
	}
	add("role", e.Role, e.Kind == ha.EventRole)
	add("site", e.Site, e.Site != "")
	add("node", p.names[e.Node], p.names[e.Node] != "")
	add("epoch", e.Epoch, e.Epoch != 0)
	add("reason", e.Reason, e.Reason != "")
	add("count", e.Count, e.Count != 0)
	switch e.Kind {
	case ha.EventSuspect, ha.EventRefused, ha.EventTimeout, ha.EventUnauthentic:
		level = hclog.Warn
	case ha.EventImplausible:
		level = hclog.Error
	case ha.EventFailover:
		f := e.Failover
		args = append(args, "detected", f.Detected.Round(time.Microsecond),
			"claimed", f.Claimed.Round(time.Microsecond), "acknowledged", f.Acknowledged.Round(time.Microsecond))
	}
	if e.Kind == ha.EventFailover && p.pausedUntil != 0 {
		p.resume()
	}
	switch e.Kind {
	case ha.EventRole, ha.EventFailover: // every one counts
		p.log.Log(level, e.Kind.String(), args...)
	default: // another node may cause as many as it likes
		p.quiet.Log(level, e.Kind.String()+e.Site+p.names[e.Node], e.Kind.String(), args...)
	}
	if p.cfg.OnEvent != nil {
		p.cfg.OnEvent(e.Kind.String(), args)
	}
	p.seen.note(p, e)
}
