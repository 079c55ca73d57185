package link

import (
	"context"
	"math"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.zx2c4.com/wireguard/device"

	"github.com/onewaylink/gw/gateway/link/hello"
	"github.com/onewaylink/gw/netstack/wire"
)

const never = time.Duration(math.MaxInt64)

const (
	// lookSoon is how often the device is asked for a handshake while one is
	// dialled, and lookOften otherwise. wireguard-go reports handshakes in no other way.
	lookSoon = 10 * time.Millisecond
	// lookHello is how old a look may be by which a hello is attributed to an endpoint.
	lookHello = time.Millisecond
	lookOften = time.Second

	// gatherPart is the part of the round trip that a datagram may wait for others: gather,
	// which is about the shortest that a timer of the runtime takes, or nothing. Trunks',
	// whose senders are gateways, bear more: trunkGatherPart of it, trunkGather at most.
	gatherPart      = 20
	gather          = time.Millisecond
	trunkGatherPart = 12
	trunkGather     = 3 * time.Millisecond
)

// resolution is the outcome of a lookup.
type resolution struct {
	p     *peer
	addrs []netip.AddrPort
	err   error
}

// loop drives all peers until ctx is done or the Path fails.
func (l *Link) loop(ctx context.Context) error {
	var lookups errgroup.Group
	defer func() { _ = lookups.Wait() }() // they end with ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	l.mu.Lock()
	for _, p := range l.peers {
		if p.dials() {
			p.dial.start(l.now())
		}
	}
	l.mu.Unlock()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var c control
		var r resolution
		var nudge netip.AddrPort
		select {
		case <-ctx.Done():
			return nil
		case err := <-l.tun.failed:
			return err
		case <-timer.C:
		case c = <-l.tun.inbox:
		case r = <-l.lookups:
		case nudge = <-l.nudges:
		case <-l.renewed:
		case <-l.tooBig:
			l.mu.Lock()
			for _, p := range l.peers {
				l.do(p, p.hello.TooBig(l.now()))
			}
			l.mu.Unlock()
		}
		l.mu.Lock()
		switch {
		case c.from != nil:
			l.received(c)
		case r.p != nil:
			l.resolved(r)
		case nudge.IsValid():
			l.nudged(nudge)
		}
		l.look(false)
		next := l.step(ctx, &lookups)
		changes := l.changes()
		l.mu.Unlock()
		for _, s := range changes {
			l.cfg.OnChange(s)
		}
		timer.Reset(next - l.now())
	}
}

// step does what is due and returns when to come back.
func (l *Link) step(ctx context.Context, lookups *errgroup.Group) time.Duration {
	next := never
	for _, p := range l.peers {
		now := l.now()
		if p.hello.Next(now) <= now {
			l.do(p, p.hello.Tick(now))
		}
		if p.dial.lookup(now) {
			lookups.Go(func() error {
				addrs, err := resolve(ctx, l.cfg.Resolver, p.Endpoint)
				select {
				case l.lookups <- resolution{p, addrs, err}:
				case <-ctx.Done():
				}
				return nil
			})
		}
		if to, ok := p.dial.due(now); ok {
			l.dialPeer(p, to)
		}
		next = min(next, p.hello.Next(now), p.dial.next())
	}
	return min(next, l.lookAt)
}

// look asks the device for handshakes, when it is time or now.
func (l *Link) look(force bool) {
	now := l.now()
	if now < l.lookAt && !force {
		return
	}
	l.lookedAt, l.lookAt = now, now+lookOften
	l.quiet.Flush()
	for _, p := range l.peers {
		p.log.Flush()
	}
	_, known, err := l.get()
	if err != nil {
		return // the device is being closed
	}
	for _, p := range l.peers {
		wg := known[p.PublicKey]
		if p.endpoint != wg.endpoint {
			p.endpoint = wg.endpoint
			p.knocker.moved(wg.endpoint)
		}
		if !wg.handshake.IsZero() && !wg.handshake.Equal(p.handshake) {
			p.handshake = wg.handshake
			if p.dials() {
				l.clock.used(wg.handshake)
			}
			p.dial.done()
			p.live, p.renewedAt = true, now
			l.do(p, p.hello.Session(now, true))
		}
		if p.live && now-p.renewedAt > device.RejectAfterTime {
			// WireGuard sends nothing any more under keys so old. By our own
			// clock: the wall clock may be set.
			p.live = false
			l.do(p, p.hello.Session(now, false))
		}
		if p.dial.active {
			l.lookAt = now + lookSoon
		}
	}
	l.udp.Moderate(l.moment(now))
	if behind, changed := l.clock.check(l.wall()); changed && behind > 0 {
		l.log.Error("wall clock runs behind the last handshake and peers will take new ones for replays: set the clock right, or wait",
			"behind", behind)
	} else if changed {
		l.log.Info("wall clock has caught up with the last handshake")
	}
}

// moment is how long datagrams under bulk may wait for others: not at all, unless all
// other sites are so far that it makes little difference. The sibling is near and sends little.
func (l *Link) moment(now time.Duration) time.Duration {
	nearest, any := never, false
	for _, p := range l.peers {
		if p.Site == l.cfg.Self.Site || !p.live {
			continue
		}
		any = true
		nearest = min(nearest, p.hello.Snapshot(now).RTT) // 0 of a peer without gw's hello
	}
	if !any {
		return 0
	}
	return gatherWithin(nearest, l.tun.mostlyTrunks())
}

// gatherWithin is how long datagrams may wait where the shortest round trip to a peer is rtt.
func gatherWithin(rtt time.Duration, mostlyTrunks bool) time.Duration {
	most, part := gather, time.Duration(gatherPart)
	if mostlyTrunks {
		most, part = trunkGather, trunkGatherPart
	}
	if d := min(most, rtt/part); d >= gather {
		return d
	}
	return 0
}

// received hands a hello to the peer's state machine.
func (l *Link) received(c control) {
	p := c.from
	l.look(l.now()-l.lookedAt > lookHello) // where the peer is seen, for duplicates
	out, err := p.hello.Handle(l.now(), p.endpoint, c.payload)
	if err != nil {
		p.log.Debug("dropped", "hello dropped", "error", err)
	}
	l.do(p, out)
}

// resolved applies the outcome of a lookup.
func (l *Link) resolved(r resolution) {
	if r.err != nil {
		r.p.log.Warn("resolve", "peer's name can't be resolved: it will be tried again", "endpoint", r.p.Endpoint, "error", r.err)
	}
	r.p.dial.resolved(l.now(), r.addrs)
}

// nudged handles a nudge: the peer at an address claims not to know our session. A nudge is not
// authenticated, so it causes a probe and nothing more.
func (l *Link) nudged(from netip.AddrPort) {
	l.look(true)
	for _, p := range l.peers {
		if ap, err := netip.ParseAddrPort(p.endpoint); err == nil && p.dials() && ap == from {
			l.do(p, p.hello.Probe(l.now()))
		}
	}
}

// dialPeer begins a new handshake. wireguard-go sends none within 5 s of the
// last (RekeyTimeout); expiring the session, which is worthless, lifts that.
//
// Expiry comes first and then only one initiation: setting the endpoint sends
// one by itself if packets are waiting, and a second within 20 ms would be
// refused as a replay (TAI64N is coarse, and responders limit the rate) while
// its making has already forgotten the first.
func (l *Link) dialPeer(p *peer, to netip.AddrPort) {
	if p.dial.attempts == dialComplain {
		p.log.Warn("dial", "peer doesn't answer: check that the firewall lets UDP out to it, that it runs, and both public keys",
			"endpoint", to, "attempts", p.dial.attempts)
	}
	wg := l.dev.LookupPeer(p.PublicKey)
	if wg == nil {
		return // the Path has failed, and the device is closing
	}
	l.clock.used(l.wall())
	wg.ExpireCurrentKeypairs()
	if p.endpoint != to.String() {
		if err := l.dev.IpcSet(endpointText(p.PublicKey, to)); err != nil {
			p.log.Error("endpoint", "endpoint can't be set", "endpoint", to, "error", err)
			return
		}
		p.endpoint = to.String()
		p.knocker.moved(p.endpoint)
	}
	if err := wg.SendHandshakeInitiation(false); err != nil {
		p.log.Debug("initiation", "handshake initiation was not sent", "endpoint", to, "error", err)
	}
	l.lookAt = min(l.lookAt, l.now()+lookSoon)
}

// dialComplain is the attempt at which a warning is logged.
const dialComplain = 4

// do sends a hello state machine's messages, and acts on its events.
func (l *Link) do(p *peer, out hello.Output) {
	for _, payload := range out.Messages {
		l.tun.send(wire.AppendUDP(nil, p.src, p.dst, payload))
	}
	for _, e := range out.Events {
		l.event(p, e)
	}
}

func (l *Link) event(p *peer, e hello.Event) {
	now := l.now()
	s := p.hello.Snapshot(now)
	switch e {
	case hello.EventUp:
		p.log.Info("state", "peer is up", "rtt", s.RTT, "version", s.Software)
	case hello.EventLost:
		p.log.Warn("state", "peer no longer answers", "dialling", p.dials())
		if p.dials() {
			p.live = false
			l.do(p, p.hello.Session(now, false))
			p.dial.start(now)
		}
	case hello.EventRestarted:
		p.log.Info("state", "peer was restarted")
	case hello.EventSilent:
		p.log.Info("state", "link up, no gw hello from the peer: stock WireGuard, or gw is not running there")
	case hello.EventRefused:
		p.log.Error("state", "peer is refused: no data passes until the reasons are mended", "reasons", s.Reasons)
	case hello.EventMTU:
		p.log.Info("mtu", "path mtu has changed", "mtu", s.MTUOut)
	case hello.EventDifferences:
		if len(s.Differences) == 0 {
			p.log.Info("differences", "configuration agrees with the peer's")
			break
		}
		p.log.Warn("differences", "configuration differs from the peer's", "differences", names(s.Differences, s.Omitted))
	case hello.EventDuplicate:
		switch {
		case s.Duplicate:
			p.log.Error("duplicate", "two processes use the peer's private key: stop one of them", "endpoints", s.DuplicateEndpoints[:])
		case s.DuplicateSelf:
			p.log.Error("duplicate", "another process uses this node's private key: stop one of them", "endpoints", s.DuplicateSelfEndpoints[:])
		default:
			p.log.Info("duplicate", "each private key is used by one process again")
		}
	}
}

// changes collects what OnChange has not received yet.
func (l *Link) changes() (out []PeerState) {
	if l.cfg.OnChange == nil {
		return nil
	}
	for _, p := range l.peers {
		if s := p.state(l.now()); s != p.reported {
			p.reported = s
			out = append(out, s)
		}
	}
	return out
}
