package vip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/net/ipv6"
	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/ha/vip/arp"
)

// announceAfter is when, after a takeover, the address is announced. A lost
// frame must not leave a host with the dead gateway for the half minute that
// its cache lasts (RFC 4861 section 7.2.6 allows three, a second apart; switches
// and hosts that miss the first are better served sooner and once more).
var announceAfter = []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second}

// Config lists the addresses to answer for, and where.
type Config struct {
	// Interface is the LAN's.
	Interface string
	// Addresses are the next hops, at most a few, of both families.
	Addresses []netip.Addr
	// ProbeEvery is how often another owner of a held address is looked for; 30 s by
	// default.
	ProbeEvery time.Duration
	Logger     hclog.Logger
}

// Keeper answers for the addresses while it holds them. Hold and Drop may be
// called by any goroutine.
type Keeper struct {
	cfg  Config
	log  hclog.Logger
	ifi  *net.Interface
	arp  *packet.Conn
	nd   *ndp.Conn // nil without an IPv6 address
	held atomic.Bool
	tell chan struct{} // holds a token after Hold

	conflicts conflicts
	counts    counts
}

// seeIt is where to look when the kernel opens no socket.
const seeIt = "see that the interface is up and has the addresses' families: ip address"

// New opens the sockets on the LAN, in the network namespace of the calling
// thread. It starts nothing. The caller must Run the Keeper, which closes it.
func New(cfg Config) (*Keeper, error) {
	ifi, err := net.InterfaceByName(cfg.Interface)
	if err != nil {
		return nil, fmt.Errorf("find the LAN's interface %q: %w; name the one that `ip -brief link` shows with local { lan = … }", cfg.Interface, err)
	}
	if len(ifi.HardwareAddr) != 6 {
		return nil, fmt.Errorf("interface %q has no Ethernet address, and a pair's vip needs one; name another one with local { lan = … }, or have on_active move the traffic in place of a vip", cfg.Interface)
	}
	k := &Keeper{cfg: cfg, log: cfg.Logger.Named("vip"), ifi: ifi, tell: make(chan struct{}, 1)}
	if k.arp, err = packet.Listen(ifi, packet.Raw, arp.EtherType, &packet.Config{Filter: arp.Filter()}); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; run gw as root, or with CAP_NET_RAW, which a pair's vip needs", err)
		}
		return nil, fmt.Errorf("listen for ARP on %q: %w; %s", cfg.Interface, err, seeIt)
	}
	if err := k.openND(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w; %s", err, seeIt), k.arp.Close())
	}
	return k, nil
}

// openND opens the socket for neighbor discovery, if an address needs it.
func (k *Keeper) openND() error {
	for _, a := range k.cfg.Addresses {
		if !a.Is6() {
			continue
		}
		if k.nd == nil {
			c, _, err := ndp.Listen(k.ifi, ndp.Unspecified)
			if err != nil {
				return fmt.Errorf("listen for neighbor solicitations on %q: %w", k.ifi.Name, err)
			}
			var f ipv6.ICMPFilter
			f.SetAll(true)
			f.Accept(ipv6.ICMPTypeNeighborSolicitation)
			f.Accept(ipv6.ICMPTypeNeighborAdvertisement)
			if err := c.SetICMPFilter(&f); err != nil {
				return errors.Join(fmt.Errorf("filter neighbor solicitations: %w", err), c.Close())
			}
			if err := c.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagDst, true); err != nil {
				return errors.Join(fmt.Errorf("ask for hop limits: %w", err), c.Close())
			}
			k.nd = c
		}
		group, err := ndp.SolicitedNodeMulticast(a)
		if err != nil {
			return errors.Join(err, k.nd.Close())
		}
		if err := k.nd.JoinGroup(group); err != nil {
			return errors.Join(fmt.Errorf("join %v on %q: %w", group, k.ifi.Name, err), k.nd.Close())
		}
	}
	return nil
}

// Hold begins to answer for the addresses and announces them.
func (k *Keeper) Hold() {
	k.conflicts.mu.Lock()
	k.conflicts.since = time.Now()
	k.conflicts.mu.Unlock()
	if !k.held.Swap(true) {
		k.counts.announced.Store(nil)
	}
	select {
	case k.tell <- struct{}{}:
	default:
	}
}

// Drop ceases to answer. The next holder's announcements do the rest.
func (k *Keeper) Drop() { k.held.Store(false) }

// Held reports whether this node answers.
func (k *Keeper) Held() bool { return k.held.Load() }

// Run answers and announces until ctx ends, and closes the sockets.
func (k *Keeper) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	// Closing the sockets is what ends the two readers.
	stop := context.AfterFunc(ctx, func() {
		_ = k.arp.Close()
		if k.nd != nil {
			_ = k.nd.Close()
		}
	})
	defer stop()
	g.Go(func() error { return k.answerARP(ctx) })
	if k.nd != nil {
		g.Go(func() error { return k.answerND(ctx) })
	}
	g.Go(func() error { return k.announce(ctx) })
	g.Go(func() error { return k.look(ctx) })
	return g.Wait()
}

func (k *Keeper) owns(a netip.Addr) bool {
	for _, own := range k.cfg.Addresses {
		if own == a {
			return true
		}
	}
	return false
}

func (k *Keeper) answerARP(ctx context.Context) error {
	in, out := make([]byte, 128), make([]byte, 0, arp.FrameSize)
	for {
		n, _, err := k.arp.ReadFrom(in)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("listen for ARP on %q: %w", k.ifi.Name, err)
			}
			// An interface that is down gives errors until it is up again.
			if !pause(ctx) {
				return nil
			}
			continue
		}
		q, ok := arp.Parse(in[:n])
		if !ok {
			continue
		}
		k.claimed(q.Sender, q.HW, time.Now())
		if q.Op != arp.Request || !k.owns(q.Target) || !k.held.Load() || bytes.Equal(q.HW, k.ifi.HardwareAddr) {
			continue
		}
		out = arp.Append(out[:0], q.HW, arp.Reply, k.ifi.HardwareAddr, q.Target, q.HW, q.Sender)
		k.send(&k.counts.answers, out, q.HW)
		k.counts.requests.Add(1)
	}
}

// pause waits a moment before an operation that has failed is tried again.
func pause(ctx context.Context) bool {
	t := time.NewTimer(100 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// send sends an ARP message, counts it, and reports whether the kernel accepted it.
func (k *Keeper) send(count *atomic.Uint64, frame []byte, to net.HardwareAddr) bool {
	_, err := k.arp.WriteTo(frame, &packet.Addr{HardwareAddr: to})
	return k.sent(count, err)
}

var allNodes = netip.MustParseAddr("ff02::1")

func (k *Keeper) answerND(ctx context.Context) error {
	b := make([]byte, k.ifi.MTU)
	for {
		n, cm, from, err := k.nd.ReadRaw(b)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("listen for neighbor solicitations on %q: %w", k.ifi.Name, err)
			}
			if !pause(ctx) {
				return nil
			}
			continue
		}
		m, err := ndp.ParseMessage(b[:n])
		if err != nil || !validND(m, b[1], cm, from) {
			continue
		}
		switch m := m.(type) {
		case *ndp.NeighborAdvertisement:
			k.claimed(m.TargetAddress, linkAddress(m.Options, ndp.Target), time.Now())
		case *ndp.NeighborSolicitation:
			k.answerSolicitation(m, from)
		}
	}
}

func (k *Keeper) answerSolicitation(ns *ndp.NeighborSolicitation, from netip.Addr) {
	switch {
	case !k.owns(ns.TargetAddress) || !k.held.Load() || bytes.Equal(linkAddress(ns.Options, ndp.Source), k.ifi.HardwareAddr):
	case from.WithZone("").IsUnspecified(): // RFC 4861 section 7.2.4: a host probes for a duplicate
		k.advertise(&k.counts.answers, ns.TargetAddress, allNodes, false)
		k.counts.requests.Add(1)
	default:
		k.advertise(&k.counts.answers, ns.TargetAddress, from, true)
		k.counts.requests.Add(1)
	}
}

// advertise sends a neighbor advertisement, counts it, and reports whether the kernel accepted it.
func (k *Keeper) advertise(count *atomic.Uint64, a, to netip.Addr, solicited bool) bool {
	err := k.nd.WriteTo(&ndp.NeighborAdvertisement{
		Router: true, Solicited: solicited, Override: true, TargetAddress: a,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: k.ifi.HardwareAddr}},
	}, nil, to)
	return k.sent(count, err)
}

// announce announces each Hold to the LAN, several times.
func (k *Keeper) announce(ctx context.Context) error {
	timer := time.NewTimer(0)
	<-timer.C
	var start time.Time
	next := len(announceAfter) // the announcement that the timer is set for
	for {
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-k.tell:
			start, next = time.Now(), 0
		case <-timer.C:
			if k.held.Load() {
				k.announceOnce()
				next++
			} else {
				next = len(announceAfter)
			}
		}
		if next < len(announceAfter) {
			timer.Reset(time.Until(start.Add(announceAfter[next])))
		}
	}
}

// announceOnce sends gratuitous ARP both as request and as reply, since hosts
// and switches differ in which they heed (RFC 5227 section 3), and unsolicited
// neighbor advertisements (RFC 4861 section 7.2.6).
func (k *Keeper) announceOnce() {
	hw, n := k.ifi.HardwareAddr, &k.counts.announcements
	all := true
	for _, a := range k.cfg.Addresses {
		if a.Is4() {
			request := k.send(n, arp.Append(nil, arp.Broadcast, arp.Request, hw, a, make(net.HardwareAddr, 6), a), arp.Broadcast)
			reply := k.send(n, arp.Append(nil, arp.Broadcast, arp.Reply, hw, a, arp.Broadcast, a), arp.Broadcast)
			all = all && (request || reply)
			continue
		}
		all = k.advertise(n, a, allNodes, false) && all
	}
	if now := time.Now(); all {
		k.counts.announced.CompareAndSwap(nil, &now)
	}
}
