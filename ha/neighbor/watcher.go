package neighbor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/net/ipv6"
	"golang.org/x/sync/errgroup"

	"github.com/onewaylink/gw/ha/vip/arp"
)

const (
	// lookEvery is the time between two looks at the interface and at the list of hosts.
	lookEvery = time.Second
	// readSize is ample for a message of ARP or neighbor discovery that answers a question.
	readSize = 2048
)

// Config configures a Watcher.
type Config struct {
	// Interface is the LAN's.
	Interface string
	// Hosts returns hosts of the site that may be on the LAN, those with the most recent flows
	// first. The Watcher asks those that are on a prefix of the interface. It is called once a
	// second.
	Hosts  func() []netip.Addr
	Logger hclog.Logger
}

// Watcher watches one LAN. Its methods are safe for concurrent use.
type Watcher struct {
	cfg   Config
	log   hclog.Logger
	start time.Time

	mu     sync.Mutex
	prober Prober
}

// maxLinks bounds the link addresses that are remembered.
const maxLinks = 4 * maxHosts

// New makes a Watcher. It opens nothing.
func New(cfg Config) *Watcher {
	return &Watcher{cfg: cfg, log: cfg.Logger.Named("lan"), start: time.Now()}
}

func (w *Watcher) now() time.Duration { return time.Since(w.start) }

// Silent reports whether no host of the LAN answers any more, for how long, and how many were
// asked.
func (w *Watcher) Silent() (lasts time.Duration, hosts int, silent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	since, hosts, silent := w.prober.Silent()
	return w.now() - since, hosts, silent
}

// Run watches the LAN until ctx ends. An interface that is absent, or that the kernel opens no
// socket on, is tried again each second: other faults report it.
func (w *Watcher) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		l, err := open(w.cfg.Interface)
		if err != nil {
			w.log.Debug("cannot ask the LAN's hosts", "interface", w.cfg.Interface, "error", err)
		} else if err := w.watch(ctx, l); err != nil && ctx.Err() == nil {
			w.log.Debug("the LAN's interface changed", "interface", w.cfg.Interface, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
	return nil
}

// watch asks and listens until ctx ends or the interface changes. It closes l.
func (w *Watcher) watch(ctx context.Context, l *lan) error {
	g, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, l.close)() // closing the sockets ends the readers
	g.Go(func() error { return l.readARP(ctx, w.answered, w.heard) })
	g.Go(func() error { return l.readND(ctx, w.answered) })
	g.Go(func() error { return w.ask(ctx, l) })
	return g.Wait()
}

func (w *Watcher) answered(a netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.prober.Answered(w.now(), a)
}

func (w *Watcher) heard(a netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.prober.Heard(w.now(), a)
}

// ask sends the Prober's questions until ctx ends or the interface changes.
func (w *Watcher) ask(ctx context.Context, l *lan) error {
	t := time.NewTimer(0)
	defer t.Stop()
	var look time.Duration
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		if now := w.now(); now >= look {
			if err := l.unchanged(); err != nil {
				return err
			}
			hosts := l.local(w.cfg.Hosts())
			w.mu.Lock()
			w.prober.SetHosts(now, hosts)
			w.mu.Unlock()
			look = w.now() + lookEvery
		}
		w.mu.Lock()
		now := w.now()
		ask := slices.Clone(w.prober.Tick(now))
		next := min(w.prober.Next(), look)
		w.mu.Unlock()
		for _, a := range ask {
			l.ask(a, len(ask) == 1)
		}
		t.Reset(max(0, next-w.now()))
	}
}

// lan is the sockets on one interface as it was when they were opened.
type lan struct {
	ifi   *net.Interface
	addrs []netip.Prefix
	arp   *packet.Conn
	nd    *ndp.Conn // nil where the interface has no link-local IPv6 address

	mu    sync.Mutex
	links map[netip.Addr]net.HardwareAddr // of hosts that have answered ARP
}

func open(name string) (*lan, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("find the interface: %w", err)
	}
	if len(ifi.HardwareAddr) != 6 {
		return nil, errors.New("the interface has no Ethernet address")
	}
	l := &lan{ifi: ifi, addrs: prefixes(ifi), links: map[netip.Addr]net.HardwareAddr{}}
	if l.arp, err = packet.Listen(ifi, packet.Raw, arp.EtherType, &packet.Config{Filter: arp.Filter()}); err != nil {
		return nil, fmt.Errorf("listen for ARP: %w", err)
	}
	c, _, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		return l, nil
	}
	var f ipv6.ICMPFilter
	f.SetAll(true)
	f.Accept(ipv6.ICMPTypeNeighborAdvertisement)
	if err := c.SetICMPFilter(&f); err != nil {
		l.close()
		return nil, errors.Join(fmt.Errorf("filter neighbor advertisements: %w", err), c.Close())
	}
	l.nd = c
	return l, nil
}

// prefixes returns the interface's addresses with their prefix lengths.
func prefixes(ifi *net.Interface) (out []netip.Prefix) {
	addrs, _ := ifi.Addrs() // without one there is nobody to ask; the next look finds them
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func (l *lan) close() {
	_ = l.arp.Close()
	if l.nd != nil {
		_ = l.nd.Close()
	}
}

var errChanged = errors.New("it has another index, link address or address now")

// unchanged returns an error when the interface is not the one that the sockets were opened on.
func (l *lan) unchanged() error {
	now, err := net.InterfaceByName(l.ifi.Name)
	switch {
	case err != nil:
		return err
	case now.Index != l.ifi.Index || now.HardwareAddr.String() != l.ifi.HardwareAddr.String() || !slices.Equal(prefixes(now), l.addrs):
		return errChanged
	}
	return nil
}

// local returns the addresses that are on a prefix of the interface, and not its own.
func (l *lan) local(addrs []netip.Addr) (out []netip.Addr) {
	for _, a := range addrs {
		if l.from(a).IsValid() && !l.owns(a) {
			out = append(out, a)
		}
	}
	return out
}

// owns reports whether a is an address of the interface.
func (l *lan) owns(a netip.Addr) bool {
	return slices.ContainsFunc(l.addrs, func(p netip.Prefix) bool { return p.Addr() == a })
}

// from returns the interface's address on the prefix of a; invalid when a is on none.
func (l *lan) from(a netip.Addr) netip.Addr {
	for _, p := range l.addrs {
		if p.Contains(a) {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// ask asks a host for its link address: all hosts hear the question, or with unicast only the host,
// if its link address is known (RFC 1122 section 2.3.2.1). A question that cannot be sent counts as
// one without an answer.
func (l *lan) ask(a netip.Addr, unicast bool) {
	if a.Is4() {
		to := arp.Broadcast
		if unicast {
			to = l.link(a)
		}
		q := arp.Append(nil, to, arp.Request, l.ifi.HardwareAddr, l.from(a), make(net.HardwareAddr, 6), a)
		_, _ = l.arp.WriteTo(q, &packet.Addr{HardwareAddr: to})
		return
	}
	group, err := ndp.SolicitedNodeMulticast(a)
	if l.nd == nil || err != nil {
		return
	}
	_ = l.nd.WriteTo(&ndp.NeighborSolicitation{
		TargetAddress: a,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: l.ifi.HardwareAddr}},
	}, nil, group)
}

// link returns the link address of a host, or that of all hosts when it is not known.
func (l *lan) link(a netip.Addr) net.HardwareAddr {
	l.mu.Lock()
	defer l.mu.Unlock()
	if hw, ok := l.links[a]; ok {
		return hw
	}
	return arp.Broadcast
}

// learn remembers the link address of a host.
func (l *lan) learn(m arp.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.links[m.Sender]; ok || len(l.links) < maxLinks {
		l.links[m.Sender] = slices.Clone(m.HW)
	}
}

// readARP passes the senders of replies to answered, and those of requests to heard, until the
// socket fails.
func (l *lan) readARP(ctx context.Context, answered, heard func(netip.Addr)) error {
	b := make([]byte, readSize)
	for {
		n, _, err := l.arp.ReadFrom(b)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return ctx.Err()
		}
		if err != nil { // the interface is down, or gone; ask finds out which
			if !pause(ctx) {
				return ctx.Err()
			}
			continue
		}
		m, ok := arp.Parse(b[:n])
		switch {
		case !ok || !l.from(m.Sender).IsValid() || l.owns(m.Sender):
		case m.Op == arp.Reply:
			l.learn(m)
			answered(m.Sender)
		default:
			heard(m.Sender)
		}
	}
}

// readND passes the targets of advertisements to answered until the socket fails.
func (l *lan) readND(ctx context.Context, answered func(netip.Addr)) error {
	if l.nd == nil {
		return nil
	}
	b := make([]byte, readSize)
	for {
		n, cm, _, err := l.nd.ReadRaw(b)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return ctx.Err()
		}
		if err != nil {
			if !pause(ctx) {
				return ctx.Err()
			}
			continue
		}
		m, err := ndp.ParseMessage(b[:n])
		if a, ok := m.(*ndp.NeighborAdvertisement); err == nil && ok && (cm == nil || cm.HopLimit == ndp.HopLimit) {
			answered(a.TargetAddress)
		}
	}
}

// pause waits a moment after an error of a socket.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(patience):
		return true
	}
}
