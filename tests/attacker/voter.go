package attacker

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/onewaylink/gw/ha"
)

// voter takes part in the election of its victims as a witness: honestly, so that they count on
// it. What the storm sends beside it is built from its messages and from theirs.
type voter struct {
	a     *Attacker
	began time.Time

	mu      sync.Mutex
	machine *ha.Machine
	byID    map[ha.NodeID]*victim
}

func newVoter(a *Attacker) (*voter, error) {
	own := a.cfg.Site
	v := &voter{a: a, began: time.Now(), byID: map[ha.NodeID]*victim{}}
	cfg := ha.Config{
		Self: ha.NodeID(own.SelfNode().PublicKey), Boot: rand.Uint64() | 1,
		Wall: func() int64 { return time.Now().UnixMilli() },
	}
	add := func(name string) {
		site, _ := own.Site(name)
		s := ha.Site{Name: site.Name}
		for _, n := range site.Nodes {
			s.Nodes = append(s.Nodes, ha.NodeID(n.PublicKey))
			for _, vic := range a.victims {
				if vic.name == n.Name {
					v.byID[ha.NodeID(n.PublicKey)] = vic
				}
			}
		}
		cfg.Sites = append(cfg.Sites, s)
	}
	self := own.SelfSite().Name
	add(self)
	for _, l := range own.LinksOf(self) {
		name, _ := l.Other(self)
		add(name)
	}
	var err error
	v.machine, err = ha.New(0, cfg)
	return v, err
}

func (v *voter) run(ctx context.Context) error {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			v.mu.Lock()
			v.do(v.machine.Tick(time.Since(v.began)))
			v.mu.Unlock()
		}
	}
}

func (v *voter) handle(from *victim, payload []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, vic := range v.byID {
		if vic == from {
			out, _ := v.machine.Handle(time.Since(v.began), id, payload) // records of a pair use the same port
			v.do(out)
		}
	}
}

func (v *voter) do(out []ha.Output) {
	for _, o := range out {
		if to := v.byID[o.To]; o.Kind == ha.Send && to != nil {
			b := append([]byte(nil), o.Payload...)
			v.a.corpus.add(protoElection, b)
			v.a.sendUDP(protoElection, to, b)
		}
	}
}
