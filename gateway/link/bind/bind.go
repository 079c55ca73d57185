package bind

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

var _ conn.Bind = (*Bind)(nil)

// A Peer is one that this node may send to.
type Peer struct {
	// PublicKey is the peer's WireGuard public key.
	PublicKey [32]byte
	// MayDial allows this node to send handshake initiations to the peer.
	MayDial bool
	// DialsIn allows the peer to send handshake initiations to this node. Whose
	// initiation one is, only its decryption shows: the Bind lets it pass to
	// wireguard-go and drops the response to a peer that may not dial.
	DialsIn bool
}

// Config is what a Bind is made from.
type Config struct {
	// PublicKey is this node's own. Handshake messages that arrive without a MAC
	// keyed by it are dropped.
	PublicKey [32]byte

	// Peers are all peers of the device. An initiation or a response to a peer that
	// is not among them is dropped. Where no peer dials in, all initiations that
	// arrive are dropped.
	Peers []Peer

	// Outbound bounds the packets inside wireguard-go on their way out; nil for no
	// bound. The device's tun.Device enters it with what it returns from Read.
	Outbound *Gate

	// InboundLimit bounds the datagrams inside wireguard-go on their way in; 0 for
	// no bound. See Bind.Intake.
	InboundLimit int

	// Alive reports whether the process has been running. While it says no,
	// data packets are dropped both ways: they may be of a past that another
	// node has carried on without this one. nil is always.
	Alive func() bool

	// OnTooBig is called when the kernel has refused a datagram as longer than
	// the interface's MTU. Path MTU probes end here, too. May be nil.
	OnTooBig func()

	// OnNudge is called when the peer at an address has said that it doesn't
	// know the session that this node sends to: dial it anew. At most once a
	// second for each address. May be nil.
	//
	// OnTooBig and OnNudge are called from within Send and the ReceiveFuncs,
	// while wireguard-go may hold its locks: they must not block, nor call the
	// device or the Bind.
	OnNudge func(peer netip.AddrPort)
}

// A Bind is wireguard-go's way to the network: one UDP socket for IPv4 and one
// for IPv6 on the same port. It also holds the line on who dials whom, repeats
// handshake messages that got lost (initiations while Run is running), and
// tells a dialler of a lost session at once.
//
// All methods are safe for concurrent use. A ReceiveFunc is for one goroutine.
type Bind struct {
	config    Config
	counters  counters
	dialler   *dialler
	responder *responder
	own       ownIndices
	nudger    *nudger
	nudged    nudged
	intake    *Intake       // nil without InboundLimit
	dialsIn   bool          // a peer does
	kick      chan struct{} // a new initiation for Run to watch

	moment atomic.Int64 // what Moderate has set; a time.Duration

	v4, v6 atomic.Pointer[socket]

	mu     sync.Mutex    // Open and Close
	closed chan struct{} // closed by Close; nil while not open
}

// New makes a Bind, which is closed until wireguard-go opens it.
func New(config Config) *Bind {
	b := &Bind{
		config:    config,
		dialler:   newDialler(config.Peers, rand.Float64),
		responder: newResponder(len(config.Peers)),
		nudger:    newNudger(),
		kick:      make(chan struct{}, 1),
		dialsIn:   slices.ContainsFunc(config.Peers, func(p Peer) bool { return p.DialsIn }),
	}
	if config.InboundLimit > 0 {
		b.intake = newIntake(config.InboundLimit, b.lanes())
	}
	return b
}

// Intake returns the bound on datagrams on their way in. The device's tun.Device calls its
// Leave with what it is given in Write. It is nil without InboundLimit.
func (b *Bind) Intake() *Intake { return b.intake }

// lanes is the number of lanes: one for each peer and socket.
func (b *Bind) lanes() int { return 2 * max(1, len(b.config.Peers)) }

// Moderate has datagrams that come in great numbers wait up to a moment for more to
// be received with them, which takes less of the processor for each; 0 is none. What
// comes now and then never waits.
func (b *Bind) Moderate(moment time.Duration) { b.moment.Store(int64(moment)) }

// Open opens the sockets on a port, any free one if 0, and returns a
// ReceiveFunc for each and the port. It may be called again after Close.
func (b *Bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	v4, v6, err := openSockets(port)
	if err != nil {
		return nil, 0, err
	}
	b.closed = make(chan struct{})
	var fns []conn.ReceiveFunc
	if v4 != nil {
		b.v4.Store(v4)
		fns = append(fns, newReceiver(b, v4, b.closed).receiveIPv4)
		port = v4.port
	}
	if v6 != nil {
		b.v6.Store(v6)
		fns = append(fns, newReceiver(b, v6, b.closed).receiveIPv6)
		port = v6.port
	}
	return fns, port, nil
}

// Close closes the sockets: every ReceiveFunc returns net.ErrClosed, and
// initiations without answer are forgotten. The gates stay as they are; they
// hold a caller for 32 ms at most without progress. Close of a closed Bind
// does nothing.
func (b *Bind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed == nil {
		return nil
	}
	close(b.closed)
	b.closed = nil
	b.dialler.forget()
	var errs []error
	for _, at := range []*atomic.Pointer[socket]{&b.v4, &b.v6} {
		if s := at.Swap(nil); s != nil {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}

// SetMark does nothing: gw's datagrams carry no firewall mark.
func (b *Bind) SetMark(uint32) error { return nil }

// BatchSize is the number of buffers that a ReceiveFunc wants.
func (b *Bind) BatchSize() int { return maxBatchSize }

// ParseEndpoint makes an endpoint from IP:port. It resolves no names.
func (b *Bind) ParseEndpoint(s string) (conn.Endpoint, error) {
	dst, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q is not IP:port: %w", s, err)
	}
	return newEndpoint(dst, netip.Addr{})
}

// Send sends WireGuard messages to an endpoint. A datagram that the kernel
// refuses counts as dropped (see Reason) and is no error, nor is an initiation
// that may not be sent; errors are a closed Bind, an endpoint of another Bind's
// making, and an address family that the host lacks.
func (b *Bind) Send(bufs [][]byte, to conn.Endpoint) error {
	ep, ok := to.(*Endpoint)
	if !ok {
		b.leave(bufs)
		return conn.ErrWrongEndpointType
	}
	err := b.sendAll(bufs, ep)
	b.leave(bufs)
	return err
}

// leave counts packets out of wireguard-go, sent or not.
func (b *Bind) leave(bufs [][]byte) {
	if b.config.Outbound == nil {
		return
	}
	packets := 0
	for _, m := range bufs {
		if carriesPacket(m) {
			packets++
		}
	}
	b.config.Outbound.Leave(packets)
}

func (b *Bind) sendAll(bufs [][]byte, to *Endpoint) error {
	s, err := b.socketFor(to)
	if err != nil {
		return err
	}
	segment := s.segment.Load()
	o := newOutgoing(to)
	defer o.free()
	frozen := b.frozen()
	for _, m := range bufs {
		if frozen && carriesPacket(m) {
			b.counters.drop(Frozen)
			continue
		}
		if !b.mayGo(m, to) {
			continue
		}
		if o.full() {
			if err := b.send(s, o); err != nil {
				return err
			}
			o.reset()
		}
		o.add(m, segment)
	}
	return b.send(s, o)
}

// mayGo says whether a message may be sent, and takes note of what it tells
// about sessions.
func (b *Bind) mayGo(m []byte, to *Endpoint) bool {
	if len(m) < sizeKeepalive {
		return true
	}
	switch messageType(m) {
	case typeTransport:
		index := receiverIndex(m)
		if to.session.Load() != uint64(index)+1 {
			b.nudged.sent(to.dst, index, time.Now())
			b.dialler.established(index)
			to.session.Store(uint64(index) + 1)
		}
	case typeInitiation:
		if len(m) != sizeInitiation {
			b.counters.drop(SendMayNotDial)
			return false
		}
		peer, ok := b.dialler.initiate(m, to, time.Now())
		if !ok {
			b.counters.drop(SendMayNotDial)
			return false
		}
		b.own.add(senderIndex(m), peer)
		select {
		case b.kick <- struct{}{}:
		default:
		}
	case typeResponse:
		if len(m) != sizeResponse {
			b.counters.drop(SendMayNotAnswer)
			return false
		}
		peer, ok := b.dialler.respond(m)
		if !ok {
			b.counters.drop(SendMayNotAnswer)
			return false
		}
		b.own.add(senderIndex(m), peer)
		b.responder.responds(m, peer, to.dst)
	}
	return true
}

// Run repeats handshake initiations that stay without answer, until ctx is
// done; then it returns nil. Without it all else works.
func (b *Bind) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var due []repetition
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.kick:
		case <-timer.C:
		}
		now := time.Now()
		var wake time.Time
		due, wake = b.dialler.next(now, due[:0])
		for i := range due {
			b.counters.repeats.Add(1)
			b.sendOne(due[i].message[:], due[i].to)
		}
		if wake.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(wake.Sub(now))
		}
	}
}

// sendOne sends a datagram of the Bind's own, past all checks.
func (b *Bind) sendOne(m []byte, to *Endpoint) {
	s, err := b.socketFor(to)
	if err != nil {
		return // closed since
	}
	o := newOutgoing(to)
	defer o.free()
	o.add(m, false)
	_ = b.send(s, o) // its only error is that the socket was closed
}

// sendNudge tells a dialler that its session is unknown here, within limits.
func (b *Bind) sendNudge(index uint32, to *Endpoint) {
	// A node that is not dialled dials: it will come by itself.
	if !b.dialsIn || !b.nudger.allow(to.dst, index, time.Now()) {
		return
	}
	b.counters.nudgesSent.Add(1)
	b.sendOne(appendNudge(make([]byte, 0, nudgeSize), index), to)
}

// receiveNudge judges a nudge and passes it on.
func (b *Bind) receiveNudge(m []byte, from *Endpoint) {
	index, ok := parseNudge(m)
	if !ok || !b.nudged.accept(from.dst, index, time.Now()) {
		b.counters.drop(ReceiveNudgeRefused)
		return
	}
	b.counters.nudgesReceived.Add(1)
	if b.config.OnNudge != nil {
		b.config.OnNudge(from.dst)
	}
}
