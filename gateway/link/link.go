package link

import (
	"context"
	"crypto/ecdh"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"golang.zx2c4.com/wireguard/device"

	"github.com/onewaylink/gw/gateway/link/bind"
	"github.com/onewaylink/gw/gateway/link/bind/udp"
	"github.com/onewaylink/gw/gateway/quiet"
)

// The packets in flight inside wireguard-go, each way. Its own queues hold a
// thousand batches of 128, each packet in a buffer of 64 KB, and its pools
// have no bound. The fewer there are, the more of them stay in the processor's
// caches from one stage to the next; these are the three batches of a segment of
// 64 KB each that keep three stages at work at once.
const (
	outboundLimit = 128
	inboundLimit  = 128
)

// A Link is this node's tunnels to the nodes of other sites. Its methods are
// safe for concurrent use.
type Link struct {
	cfg      Config
	log      hclog.Logger
	quiet    *quiet.Logger // for lines that others can cause
	udp      *udp.Carrier
	bind     *bind.Bind
	tun      *adapter
	outbound *bind.Gate
	start    time.Time
	wall     func() time.Time

	tooBig  chan struct{}
	nudges  chan netip.AddrPort
	lookups chan resolution
	renewed chan struct{} // holds a token after Renew

	byName map[string]*peer // never changes

	mu      sync.Mutex // the fields below, and each peer
	started bool       // Run has begun: registration is over
	dev     *device.Device
	peers   []*peer
	clock   clockWatch

	lookAt, lookedAt time.Duration // when the device is asked next, and was last
}

// New checks the configuration and makes a Link, which does nothing until Run.
func New(c Config) (*Link, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	c.Logger = c.Logger.Named("link")
	c.Peers = slices.Clone(c.Peers) // MoveSubnets may change them
	l := &Link{
		cfg: c, log: c.Logger, quiet: quiet.New(quiet.Config{Logger: c.Logger.Named("wireguard")}), start: time.Now(), wall: time.Now,
		outbound: bind.NewGate(outboundLimit),
		tooBig:   make(chan struct{}, 1), nudges: make(chan netip.AddrPort, 16), lookups: make(chan resolution),
		renewed: make(chan struct{}, 1),
	}
	l.udp = udp.New(udp.Config{OnTooBig: l.onTooBig})
	var boot [8]byte
	crand.Read(boot[:]) // never fails
	nodes := map[netip.Addr]*peer{}
	l.byName = map[string]*peer{}
	own, err := ecdh.X25519().NewPrivateKey(c.PrivateKey[:])
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	bc := bind.Config{PublicKey: [32]byte(own.PublicKey().Bytes()), Outbound: l.outbound, InboundLimit: inboundLimit, OnNudge: l.onNudge, Alive: c.Alive}
	for _, p := range c.Peers {
		pr, err := newPeer(&c, p, binary.BigEndian.Uint64(boot[:])|1, l.wall)
		if err != nil {
			return nil, fmt.Errorf("link to node %s: %w", p.Node, err)
		}
		l.peers = append(l.peers, pr)
		l.byName[p.Node] = pr
		for _, a := range p.Addresses {
			nodes[a] = pr
		}
		bc.Peers = append(bc.Peers, bind.Peer{PublicKey: p.PublicKey, MayDial: p.Dial, DialsIn: !p.Dial})
	}
	l.bind = bind.New(bc, l.udp)
	l.tun = newAdapter(&l.cfg, nodes, l.outbound, l.bind.Intake())
	return l, nil
}

// now is the loop's clock.
func (l *Link) now() time.Duration { return time.Since(l.start) }

// onTooBig and onNudge are called by the Bind with wireguard-go's locks held.
func (l *Link) onTooBig() {
	select {
	case l.tooBig <- struct{}{}:
	default:
	}
}

func (l *Link) onNudge(from netip.AddrPort) {
	select {
	case l.nudges <- from:
	default:
	}
}

// SendPacket sends a packet of the gateway's own, a whole IP packet from this
// node's address to another node's. It copies pkt and doesn't block; when too
// many are waiting the packet is dropped and counted.
func (l *Link) SendPacket(pkt []byte) { l.tun.send(append([]byte(nil), pkt...)) }

// Pending reports whether packets wait to be received or are on their way
// through wireguard-go.
func (l *Link) Pending() bool {
	return l.udp.Pending() || l.bind.Intake().Inside() > 0 || l.outbound.Inside() > 0
}

// ListenPort is the UDP port; 0 before Run has opened it.
func (l *Link) ListenPort() uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	port, _, _ := l.get()
	return port
}

var errNotRunning = errors.New("link is not running")

// get asks the device what it knows.
func (l *Link) get() (uint16, map[[32]byte]wgPeer, error) {
	if l.dev == nil {
		return 0, nil, errNotRunning
	}
	text, err := l.dev.IpcGet()
	if err != nil {
		return 0, nil, err
	}
	port, peers := parseGet(text)
	return port, peers, nil
}

// Run brings the tunnels up and keeps them up until ctx is done or the Path
// fails. It returns when nothing of it is left. It is called once.
func (l *Link) Run(ctx context.Context) error {
	l.mu.Lock()
	l.started = true
	l.mu.Unlock()
	dev := device.NewDevice(l.tun, l.bind, l.deviceLogger())
	// Closing, in this order: the loop and the Bind's repetition have ended,
	// so that nothing dials any more; the gates open, so that no goroutine waits in
	// one; then the device closes the adapter, which makes its reader return,
	// and the Bind, which makes its receivers return. A reader that has failed
	// closes the device by itself, in a goroutine of its own: wait for that.
	defer func() {
		l.outbound.Close()
		l.bind.Intake().Close()
		dev.Close()
		<-dev.Wait()
		for _, p := range l.peers {
			p.knocker.close()
		}
	}()
	l.mu.Lock() // MoveSubnets changes either the configuration or the device
	err := dev.IpcSet(configText(&l.cfg))
	l.dev = dev
	l.mu.Unlock()
	if err != nil {
		return l.cause(fmt.Errorf("configure wireguard: %w", err))
	}
	if err := dev.Up(); err != nil {
		return l.cause(fmt.Errorf("open udp port %d (is another gateway running?): %w", l.cfg.ListenPort, err))
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.bind.Run(ctx) })
	g.Go(func() error { return l.loop(ctx) })
	g.Go(func() error { return l.listenForRefusals(ctx) })
	return g.Wait()
}

// cause is why the device failed: the Path may have, whose reader starts with
// the device.
func (l *Link) cause(err error) error {
	select {
	case failed := <-l.tun.failed:
		return failed
	default:
		return err
	}
}

// deviceLogger passes on wireguard-go's lines. Its errors are transient and concern what the link
// watches itself, so they are for debugging. Each kind of them has a rate of its own: any host that
// reaches the socket can cause some. Level trace is not limited.
func (l *Link) deviceLogger() *device.Logger {
	log := l.log.Named("wireguard")
	out := &device.Logger{Verbosef: device.DiscardLogf, Errorf: device.DiscardLogf}
	if log.IsDebug() {
		out.Errorf = func(format string, args ...any) { l.quiet.Debug(format, "error", "text", fmt.Sprintf(format, args...)) }
	}
	if log.IsTrace() {
		out.Verbosef = func(format string, args ...any) { log.Trace("event", "text", fmt.Sprintf(format, args...)) }
	}
	return out
}
