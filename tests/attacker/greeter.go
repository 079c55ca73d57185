package attacker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/onewaylink/gw/gateway/link/hello"
	"github.com/onewaylink/gw/netstack/wire"
)

// greeter keeps the link to a victim up by honest hellos, so that the victim carries packets.
type greeter struct {
	a     *Attacker
	v     *victim
	began time.Time

	mu      sync.Mutex
	peer    *hello.Peer
	session bool
}

// helloEvery is how often the state machine's Tick is called.
const helloEvery = 50 * time.Millisecond

func newGreeter(a *Attacker, site string, v *victim) (*greeter, error) {
	own := a.cfg.Site
	overhead := wire.UDPHeader + wire.IPv4Header
	if v.addr.Is6() {
		overhead = wire.UDPHeader + wire.IPv6Header
	}
	var sections []hello.Section
	for _, s := range own.Sections(site) {
		hs := hello.Section{Name: s.Name, Digest: s.Digest}
		for _, at := range s.Attrs {
			hs.Attrs = append(hs.Attrs, hello.Attr{Name: at.Name, Digest: at.Digest, Fatal: at.Fatal})
		}
		sections = append(sections, hs)
	}
	p, err := hello.New(hello.Config{
		Site: own.SelfSite().Name, Node: own.SelfNode().Name, Software: "attacker", Boot: rand.Uint64() | 1,
		Capabilities: hello.PartialChecksums | hello.Trunks, MTU: innerMTU, Overhead: overhead, Sections: sections, Wall: time.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("attacker: send hello to %s: %w", v.name, err)
	}
	return &greeter{a: a, v: v, peer: p, began: time.Now()}, nil
}

// run sends hellos from the first packet of the victim's on, until ctx ends.
func (g *greeter) run(ctx context.Context) error {
	t := time.NewTicker(helloEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			g.do(func(now time.Duration) hello.Output { return g.peer.Tick(now) })
		}
	}
}

// handle processes a hello of the victim.
func (g *greeter) handle(payload []byte) {
	g.do(func(now time.Duration) hello.Output {
		var out hello.Output
		if !g.session {
			g.session = true
			out = g.peer.Session(now, true)
		}
		answer, _ := g.peer.Handle(now, "", payload) // a victim's hello is good; if not, it is lost
		out.Messages = append(out.Messages, answer.Messages...)
		return out
	})
}

func (g *greeter) do(step func(now time.Duration) hello.Output) {
	g.mu.Lock()
	out := step(time.Since(g.began))
	g.mu.Unlock()
	for _, m := range out.Messages {
		g.a.corpus.add(protoHello, m)
		g.a.sendUDP(protoHello, g.v, m)
	}
}
