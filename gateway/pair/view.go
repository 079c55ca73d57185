package pair

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/ha"
)

var _ control.HA = (*Pair)(nil)

// view is what is remembered for people, under Pair.mu.
type view struct {
	carrier            map[string]string // site to node
	held               time.Duration     // when this node last began to answer for the LAN address
	address, announced time.Duration     // when it did so, and first announced it, for the last failover; 0: it has not
	planned, unplanned uint64
	former             string // the node that was active before this one
	last               *status.Failover
	spare              []byte // see sendChanges
	ended              []chan error
}

// note records an event, and notifies those who wait for it.
func (v *view) note(p *Pair, e *ha.Event) {
	switch e.Kind {
	case ha.EventRole:
		if e.Role == ha.Active {
			reason := e.Reason
			v.last = &status.Failover{
				At: time.Now(), Reason: string(reason), Planned: reason == ha.ReasonDrain || reason == ha.ReasonTakeover,
				From: v.former, To: p.cfg.Self.Name,
			}
			if v.last.Planned {
				v.planned++
			} else if v.former != "" {
				v.unplanned++
			}
		}
		if e.Role == ha.Standby || e.Role == ha.Active {
			v.end(nil)
		}
	case ha.EventClaim:
		if e.Site == p.site && e.Node != p.cfg.Self.Key {
			v.former = p.names[e.Node]
		}
	case ha.EventRefused:
		v.end(fmt.Errorf("%s refused: %s: see gw ha status there", p.sib, e.Reason))
	case ha.EventTimeout:
		v.end(fmt.Errorf("%s did not take over in time: see its log", p.sib))
	}
}

// end notifies all who wait for a change of roles how it ended.
func (v *view) end(err error) {
	for _, c := range v.ended {
		c <- err
	}
	v.ended = nil
}

// Status implements control.HA.
func (p *Pair) Status() status.HA {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status()
}

// status is Status with the lock held.
func (p *Pair) status() status.HA {
	now, wall := p.now(), time.Now()
	s := p.m.Status(now)
	r := p.r.Status(now)
	out := status.HA{
		Time: wall, Node: p.cfg.Self.Name, Site: p.site, Role: status.Role(s.Role.String()), Why: string(s.Why), Since: wall.Add(-s.Since),
		Active: p.names[s.Active], Epoch: s.Epoch, Health: health(s.Health, s.Reach),
		Records: status.Records{
			Held: r.Records, Lag: r.Lag, Repairing: r.Repair, Messages: r.Messages, Retransmits: r.Retransmits, Repairs: r.Repairs,
			Applied: r.Applied, Removed: r.Removed, Refused: r.Refused, Overflows: r.Overflows, Sessions: r.Sessions,
			Sent: r.Puts + r.Deletes, SentBytes: r.Bytes, InSync: r.InSync,
		},
		VIP:     status.VIP{Addresses: p.cfg.Addresses, Held: p.cfg.Address != nil && p.cfg.Address.Held()},
		Planned: p.seen.planned, Unplanned: p.seen.unplanned, LastFailover: p.failover(s.Failover),
	}
	if p.cfg.Address != nil {
		if c := p.cfg.Address.Conflict(); c.Claims > 0 {
			out.VIP.Claims = c.Claims
			out.VIP.Conflict = &status.VIPConflict{MAC: c.MAC.String(), Address: c.Address, At: c.At}
		}
		a := p.cfg.Address.Stats()
		out.VIP.Requests, out.VIP.Answers, out.VIP.Announcements = a.Requests, a.Answers, a.Announcements
		out.VIP.Probes, out.VIP.SendErrors = a.Probes, a.SendErrors
	}
	if err := p.unsaved.why; err != nil {
		out.EpochUnsaved = err.Error()
	}
	if r.Checked >= 0 {
		out.Records.DigestEqual = &r.Equal
	}
	for _, n := range s.Nodes {
		if n.Sibling {
			out.Sibling = p.sibling(n, wall)
			continue
		}
		w := status.Witness{Node: p.names[n.Node], Site: n.Site, HearsUs: n.HearsUs, Unauthentic: n.Unauthentic}
		if n.Heard >= 0 {
			ago := status.Seconds(n.Heard)
			w.HeardAgo = &ago
		}
		out.Witnesses = append(out.Witnesses, w)
	}
	for _, c := range s.Sites {
		out.Carriers = append(out.Carriers, status.Carrier{Site: c.Site, Node: p.names[c.Node], Epoch: c.Epoch})
	}
	if h := s.Handover; h != nil {
		out.Handover = &status.Handover{To: p.names[h.To], Reason: string(h.Reason), Age: status.Seconds(h.Age), Forced: h.Forced}
	}
	out.Problems = doctor.Unprotected(&out)
	return out
}

func health(h ha.Health, reach int) status.Health {
	return status.Health{LAN: h.LAN, Plane: h.Plane, Reach: reach}
}

func (p *Pair) sibling(n ha.NodeStatus, wall time.Time) status.Sibling {
	s := status.Sibling{Node: p.names[n.Node], State: status.SiblingUnheard}
	if n.Heard >= 0 {
		s.LastHeard, s.Role = wall.Add(-n.Heard), status.Role(n.Role.String())
		h := health(n.Health, n.Reach)
		s.Health, s.State = &h, status.SiblingSilent
		if n.Alive {
			s.State = status.SiblingUp
		}
	}
	if why := p.refused.Load(); why != nil {
		s.State, s.Refused = status.SiblingRefused, *why
	}
	return s
}

// noteAnnounced remembers when this node first announced the LAN address for the last failover.
func (p *Pair) noteAnnounced() {
	if p.cfg.Address == nil || p.seen.announced != 0 || !p.leads.Load() {
		return
	}
	if at := p.cfg.Address.Stats().Announced; !at.IsZero() {
		p.seen.announced = at.Sub(p.start)
	}
}

// failover completes the last failover with the Machine's phases. A step that was not taken, or
// lies before the failover, as of an address that was held already, is left out.
func (p *Pair) failover(f *ha.Failover) *status.Failover {
	if p.seen.last == nil || f == nil {
		return nil
	}
	last := *p.seen.last
	last.Epoch = f.Epoch
	p.noteAnnounced()
	began := f.At - f.Claimed
	address, announced := max(0, p.seen.address-began), max(0, p.seen.announced-began)
	last.Phases = status.Phases{
		Asked: status.Millis(f.Asked), Detected: status.Millis(f.Detected), Claimed: status.Millis(f.Claimed),
		Acknowledged: status.Millis(f.Acknowledged), Address: status.Millis(address), Announced: status.Millis(announced),
		Total: status.Millis(max(f.Claimed, f.Acknowledged, address, announced)),
	}
	return &last
}

// orderWait bounds how long an operator's order may take.
const orderWait = 5 * time.Second

// Drain implements control.HA.
func (p *Pair) Drain(ctx context.Context, force bool) (status.Failover, error) {
	if why := p.refused.Load(); why != nil && !force {
		return status.Failover{}, fmt.Errorf("no pair is formed with %s: %s: see `gw status`", p.sib, *why)
	}
	err := p.change(ctx, func() ([]ha.Output, error) { return p.m.Drain(p.now(), force) })
	if err != nil {
		if active := p.Status().Active; errors.Is(err, ha.ErrNotActive) && active != "" {
			err = fmt.Errorf("%w: run gw ha drain on %s", err, active)
		}
		return status.Failover{}, err
	}
	return status.Failover{At: time.Now(), Reason: string(ha.ReasonDrain), Planned: true, From: p.cfg.Self.Name, To: p.sib, Epoch: p.Status().Epoch}, nil
}

// Failover implements control.HA.
func (p *Pair) Failover(ctx context.Context) (status.Failover, error) {
	if err := p.change(ctx, func() ([]ha.Output, error) { return p.m.Takeover(p.now(), true) }); err != nil {
		return status.Failover{}, err
	}
	if f := p.Status().LastFailover; f != nil {
		return *f, nil
	}
	return status.Failover{}, errors.New("this node took over and was deposed at once: see `gw ha status`")
}

// change orders a change of roles and waits for its end.
func (p *Pair) change(ctx context.Context, do func() ([]ha.Output, error)) error {
	ctx, cancel := context.WithTimeout(ctx, orderWait)
	defer cancel()
	ended := make(chan error, 1)
	err := p.ask(ctx, func() error {
		out, err := do()
		if err != nil {
			p.act(out)
			return err
		}
		p.seen.ended = append(p.seen.ended, ended)
		p.act(out)
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return errors.New("no answer in time: see `gw ha status` on both nodes")
	}
}

// Test implements control.HA.
func (p *Pair) Test(context.Context) (status.HATest, error) {
	h := p.Status()
	standby, _ := doctor.StandbyOf(&h)
	return status.HATest{
		Node: standby, Records: h.Records.Held, DigestEqual: h.Records.DigestEqual,
		OK: len(h.Problems) == 0, Problems: h.Problems,
	}, nil
}
