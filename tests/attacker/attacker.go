package attacker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/configs"
	"github.com/onewaylink/gw/netstack"
	"github.com/onewaylink/gw/netstack/wire"
)

// Config names the node that was broken into, and its targets.
type Config struct {
	// Site is the network as the node's own file describes it. Its links must be dialed by the
	// other side.
	Site configs.Config
	// Enter calls its argument on a thread of the namespace that the node's socket belongs to.
	Enter func(func() error) error
	// Target is a database of a victim's site that the policy lets the node's site reach, and
	// Host the address of the node's site from which the attacker connects to it.
	Target netip.AddrPort
	Host   netip.Addr
	// Strangers are addresses of sites other than the attacker's, for packets and records that
	// concern them.
	Strangers []netip.Addr
	// Rate is how many hostile packets are sent in a second.
	Rate int
	// Seed makes the choice of packets repeatable, as far as the victims' answers are.
	Seed uint64
}

// victim is a node at the other end of one of the attacker's links.
type victim struct {
	name   string
	addr   netip.Addr // of the family that the attacker's own address has
	others []netip.Addr
	hello  *greeter
}

// Attacker attacks all nodes that its node has links with.
type Attacker struct {
	cfg     Config
	self    netip.Addr
	others  []netip.Addr // further addresses of its own node
	victims []*victim
	tunnel  *Tunnel
	corpus  corpus
	trunks  *trunks
	votes   *voter
	node    *netstack.Host // the node's own streams
	host    *netstack.Host // a host of its site
	relays  *relays

	sent     [protocols]atomic.Uint64
	received [protocols]atomic.Uint64
}

// Report counts the parts of an attack.
type Report struct {
	// Sent and Received count packets by protocol.
	Sent, Received map[string]uint64
	// Streams counts TCP connections to the victims' control ports that were established, and
	// Relays those to the target for which the attacker asked for a relay.
	Streams, Relays uint64
}

// String is the report in one line.
func (r Report) String() string {
	return fmt.Sprintf("sent %v, received %v, %d streams, %d relays asked for", r.Sent, r.Received, r.Streams, r.Relays)
}

// New opens the tunnel. The caller calls Run, which closes it.
func New(cfg Config) (*Attacker, error) {
	node, own := cfg.Site.SelfNode(), cfg.Site.SelfSite().Name
	a := &Attacker{cfg: cfg, self: node.Addresses[0], others: node.Addresses[1:]}
	tc := TunnelConfig{PrivateKey: cfg.Site.Local.PrivateKey, ListenPort: cfg.Site.Local.ListenPort, Received: a.receive}
	for _, l := range cfg.Site.LinksOf(own) {
		name, _ := l.Other(own)
		site, _ := cfg.Site.Site(name)
		for i, n := range site.Nodes {
			v, err := a.newVictim(site.Name, n)
			if err != nil {
				return nil, err
			}
			a.victims = append(a.victims, v)
			p := TunnelPeer{PublicKey: n.PublicKey}
			for _, addr := range n.Addresses {
				p.Allowed = append(p.Allowed, netip.PrefixFrom(addr, addr.BitLen()).String())
			}
			if i == 0 {
				for _, s := range site.Subnets {
					p.Allowed = append(p.Allowed, s.String())
				}
			}
			tc.Peers = append(tc.Peers, p)
		}
	}
	if len(a.victims) == 0 {
		return nil, errors.New("attacker: the node's configuration has no link")
	}
	var err error
	if a.node, err = netstack.New(netstack.Config{Addresses: node.Addresses, MTU: innerMTU, Output: output{a, protoStream}, Logger: hclog.NewNullLogger()}); err != nil {
		return nil, err
	}
	if a.host, err = netstack.New(netstack.Config{Addresses: []netip.Addr{cfg.Host}, MTU: innerMTU, Output: output{a, protoTraffic}, Logger: hclog.NewNullLogger()}); err != nil {
		return nil, errors.Join(err, a.node.Close())
	}
	a.trunks = newTrunks(a)
	a.relays = newRelays(a)
	if a.votes, err = newVoter(a); err == nil {
		a.tunnel, err = OpenTunnel(cfg.Enter, tc)
	}
	if err != nil {
		return nil, errors.Join(err, a.node.Close(), a.host.Close())
	}
	return a, nil
}

// innerMTU fits every link.
const innerMTU = 1280

// newVictim makes what the attacker needs for one peer.
func (a *Attacker) newVictim(site string, n configs.Node) (*victim, error) {
	v := &victim{name: n.Name}
	for _, addr := range n.Addresses {
		if addr.Is4() == a.self.Is4() && !v.addr.IsValid() {
			v.addr = addr
		} else {
			v.others = append(v.others, addr)
		}
	}
	if !v.addr.IsValid() {
		return nil, fmt.Errorf("attacker: node %s has no address in the attacker's family", n.Name)
	}
	var err error
	v.hello, err = newGreeter(a, site, v)
	return v, err
}

// Run attacks until ctx ends, and closes the tunnel.
func (a *Attacker) Run(ctx context.Context) (Report, error) {
	group, ctx := errgroup.WithContext(ctx)
	for _, v := range a.victims {
		group.Go(func() error { return v.hello.run(ctx) })
	}
	group.Go(func() error { return a.node.Run(ctx) })
	group.Go(func() error { return a.host.Run(ctx) })
	group.Go(func() error { return a.trunks.run(ctx) })
	group.Go(func() error { return a.votes.run(ctx) })
	group.Go(func() error { return a.storm(ctx) })
	group.Go(func() error { return a.relays.run(ctx) })
	group.Go(func() error { return a.serveRecords(ctx) })
	for i, v := range a.victims {
		group.Go(func() error { return a.flood(ctx, v, uint64(i)) })
	}
	err := group.Wait()
	a.tunnel.Close()
	return a.report(), errors.Join(err, a.node.Close(), a.host.Close())
}

// report counts what was sent so far.
func (a *Attacker) report() Report {
	r := Report{Sent: map[string]uint64{}, Received: map[string]uint64{}, Streams: a.relays.streams.Load(), Relays: a.relays.asked.Load()}
	for p := range protocols {
		r.Sent[p.String()], r.Received[p.String()] = a.sent[p].Load(), a.received[p].Load()
	}
	return r
}

// send sends a whole IP packet, which the tunnel keeps.
func (a *Attacker) send(p protocol, packet []byte) {
	a.sent[p].Add(1)
	a.tunnel.Send(packet)
}

// sendUDP sends a datagram from the node's own address to a victim's control port.
func (a *Attacker) sendUDP(p protocol, v *victim, payload []byte) {
	port := ports[p]
	a.send(p, wire.AppendUDP(nil, netip.AddrPortFrom(a.self, port), netip.AddrPortFrom(v.addr, port), payload))
}

// ports are those of the datagrams between nodes.
var ports = map[protocol]uint16{protoHello: wire.ControlPort, protoElection: wire.HAPort, protoStray: wire.StrayPort}

// output sends what a TCP/IP stack of the attacker's makes.
type output struct {
	a *Attacker
	p protocol
}

// SendPacket implements netstack.Output.
func (o output) SendPacket(packet []byte) {
	b := append([]byte(nil), packet...)
	var p wire.Packet
	if o.p == protoStream && wire.Parse(&p, b) == wire.OK {
		o.a.corpus.add(protoStream, p.B[p.L4:])
	}
	if o.p == protoTraffic {
		o.a.corpus.add(protoTraffic, b)
		o.a.relays.sent(b)
	}
	o.a.send(o.p, b)
}

// receive handles a packet that a victim sent.
func (a *Attacker) receive(b []byte) {
	var p wire.Packet
	if wire.Parse(&p, b) != wire.OK {
		return
	}
	src, dst := p.Src(), p.Dst()
	v := a.victimAt(src)
	if v == nil || dst != a.self {
		a.received[protoTraffic].Add(1)
		a.corpus.add(protoTraffic, b)
		if dst == a.cfg.Host {
			a.relays.received(&p)
			a.host.Inject(b)
		}
		return
	}
	payload := p.B[p.L4:]
	switch p.Proto {
	case wire.ProtoTrunk:
		a.note(protoTrunk, payload)
		a.trunks.deliver(v, payload)
	case wire.ProtoTCP:
		a.note(protoStream, payload)
		a.node.Inject(b)
	case wire.ProtoUDP:
		switch binary.BigEndian.Uint16(payload[2:]) {
		case wire.ControlPort:
			a.note(protoHello, p.Payload())
			v.hello.handle(p.Payload())
		case wire.HAPort:
			a.note(protoElection, p.Payload())
			a.votes.handle(v, p.Payload())
		case wire.StrayPort:
			a.note(protoStray, p.Payload())
		}
	}
}

func (a *Attacker) note(p protocol, payload []byte) {
	a.received[p].Add(1)
	a.corpus.add(p, payload)
}

func (a *Attacker) victimAt(addr netip.Addr) *victim {
	for _, v := range a.victims {
		if v.addr == addr {
			return v
		}
	}
	return nil
}

// tick is how often the storm sends a part of its rate.
const tick = 5 * time.Millisecond

// storm sends hostile packets of all protocols at the configured rate until ctx ends.
func (a *Attacker) storm(ctx context.Context) error {
	r := rand.New(rand.NewPCG(a.cfg.Seed, 0))
	t := time.NewTicker(tick)
	defer t.Stop()
	owed := 0.0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		for owed += float64(a.cfg.Rate) * tick.Seconds(); owed >= 1; owed-- {
			a.hostile(r, protocol(r.IntN(int(protocols))), a.victims[r.IntN(len(a.victims))])
		}
	}
}

// hostile sends one hostile packet of a protocol to a victim.
func (a *Attacker) hostile(r *rand.Rand, p protocol, v *victim) {
	payload := func() []byte {
		base := a.corpus.pick(r, p)
		switch r.IntN(10) {
		case 0: // a replay
			if base != nil {
				return base
			}
			fallthrough
		case 1: // noise
			b := make([]byte, r.IntN(200))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			return b
		default:
			return mutate(r, base, func() []byte { return a.corpus.pick(r, p) })
		}
	}
	switch p {
	case protoHello, protoElection:
		a.sendUDP(p, v, payload())
	case protoStray: // a packet of hosts, as a sibling would forward it
		inner := a.corpus.pick(r, protoTraffic)
		if r.IntN(2) == 0 {
			inner = a.traffic(r)
		}
		a.sendUDP(p, v, mutate(r, inner, func() []byte { return nil }))
	case protoTrunk, protoStream:
		b, proto := payload(), byte(wire.ProtoTrunk)
		if p == protoStream {
			proto = wire.ProtoTCP
			if r.IntN(2) == 0 {
				b = nil
				port := [2]uint16{wire.ControlPort, wire.AskPort}[r.IntN(2)]
				flags := []uint8{wire.SYN, wire.ACK, wire.FIN | wire.ACK, wire.RST, wire.SYN | wire.ACK}[r.IntN(5)]
				a.send(p, wire.AppendTCP(nil, netip.AddrPortFrom(a.self, uint16(1024+r.IntN(60000))), netip.AddrPortFrom(v.addr, port), r.Uint32(), flags))
				return
			}
		}
		a.send(p, append(wire.AppendIP(nil, a.self, v.addr, proto, len(b)), b...))
	case protoTraffic:
		a.send(p, a.traffic(r))
	}
}

// traffic makes a packet as a host of the attacker's site might send it, or as none does.
func (a *Attacker) traffic(r *rand.Rand) []byte {
	src, dst := a.cfg.Host, a.cfg.Target.Addr()
	switch r.IntN(6) {
	case 0:
		src = a.anyone(r)
	case 1:
		dst = a.anyone(r)
	case 2:
		src, dst = a.anyone(r), a.anyone(r)
	}
	if src.Is4() != dst.Is4() {
		src, dst = a.cfg.Host, a.cfg.Target.Addr()
	}
	from, to := netip.AddrPortFrom(src, uint16(r.Uint32())), netip.AddrPortFrom(dst, uint16(r.Uint32()))
	if r.IntN(3) == 0 {
		to = netip.AddrPortFrom(dst, a.cfg.Target.Port())
	}
	switch r.IntN(5) {
	case 0:
		return wire.AppendTCP(nil, from, to, r.Uint32(), wire.SYN)
	case 1:
		return wire.AppendACK(nil, from, to, r.Uint32(), r.Uint32(), uint16(r.Uint32()))
	case 2:
		return wire.AppendUDP(nil, from, to, make([]byte, r.IntN(1000)))
	case 3:
		return wire.AppendEcho(nil, src, dst, uint16(r.Uint32()), 1, r.IntN(1000))
	default:
		if b := a.corpus.pick(r, protoTraffic); b != nil {
			return mutate(r, b, func() []byte { return a.corpus.pick(r, protoTraffic) })
		}
		return wire.AppendTCP(nil, from, to, r.Uint32(), wire.SYN)
	}
}

// anyone is an address that a packet may be forged with.
func (a *Attacker) anyone(r *rand.Rand) netip.Addr {
	all := append([]netip.Addr{a.self, a.cfg.Host, a.cfg.Target.Addr()}, a.cfg.Strangers...)
	all = append(all, a.others...)
	for _, v := range a.victims {
		all = append(append(all, v.addr), v.others...)
	}
	return all[r.IntN(len(all))]
}
