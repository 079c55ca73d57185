package bind

import (
	"context"
	"math/rand/v2"
	"net"
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

	// OnNudge is called when the peer at an address does not know the session
	// that this node sends to: dial it again. At most once a
	// second for each address. It is called from within the ReceiveFuncs: it must
	// not block, nor call the device or the Bind. May be nil.
	OnNudge func(peer netip.AddrPort)
}

// A Bind is the conn.Bind of wireguard-go's device. It applies the rules about
// WireGuard messages to what a Carrier sends and receives: it decides who may dial
// whom, repeats handshake messages that got lost (initiations while Run is running),
// nudges a dialler whose session is unknown, and bounds what is inside wireguard-go.
//
// All methods are safe for concurrent use. A ReceiveFunc is for one goroutine.
type Bind struct {
	// Constant.
	config  Config
	carrier Carrier
	dialsIn bool // a peer does

	// Each of these has its own lock, or none.
	counters  counters
	dialler   *dialler
	responder *responder
	own       ownIndices
	nudger    *nudger
	nudged    nudged
	intake    *Intake       // nil without InboundLimit
	kick      chan struct{} // a new initiation for Run to watch

	mu   sync.Mutex  // Open and Close
	open atomic.Bool // written with mu held
}

// New makes a Bind over a carrier, which is closed until wireguard-go opens it.
func New(config Config, carrier Carrier) *Bind {
	b := &Bind{
		config:    config,
		carrier:   carrier,
		dialler:   newDialler(config.Peers, rand.Float64),
		responder: newResponder(len(config.Peers)),
		nudger:    newNudger(),
		kick:      make(chan struct{}, 1),
		dialsIn:   slices.ContainsFunc(config.Peers, func(p Peer) bool { return p.DialsIn }),
	}
	if config.InboundLimit > 0 {
		b.intake = newIntake(config.InboundLimit)
	}
	return b
}

// Intake returns the bound on datagrams on their way in. The device's tun.Device calls its
// Leave with what it is given in Write. It is nil without InboundLimit.
func (b *Bind) Intake() *Intake { return b.intake }

// Open opens the carrier on a port, any free one if 0, and returns its ReceiveFuncs and the
// port. It may be called again after Close.
func (b *Bind) Open(port uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fns, port, err := b.carrier.Open(port)
	if err != nil {
		return nil, 0, err
	}
	lanes := len(fns) * max(1, len(b.config.Peers))
	b.intake.open(lanes)
	for i, receive := range fns {
		fns[i] = newReceiver(b, receive, i, len(fns)).receive
	}
	b.open.Store(true)
	return fns, port, nil
}

// Close closes the carrier: every ReceiveFunc returns net.ErrClosed, and
// initiations without answer are forgotten. The gates stay as they are; they
// hold a caller for 32 ms at most without progress. Close of a closed Bind
// does nothing.
func (b *Bind) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open.Swap(false) {
		b.dialler.forget()
	}
	return b.carrier.Close()
}

// SetMark sets the carrier's firewall mark.
func (b *Bind) SetMark(mark uint32) error { return b.carrier.SetMark(mark) }

// BatchSize is the number of buffers that a ReceiveFunc expects.
func (b *Bind) BatchSize() int { return b.carrier.BatchSize() }

// ParseEndpoint makes one of the carrier's endpoints. It resolves no names.
func (b *Bind) ParseEndpoint(s string) (conn.Endpoint, error) { return b.carrier.ParseEndpoint(s) }

// Send sends WireGuard messages to an endpoint. A datagram that the carrier
// drops is no error (see Reason), nor is a handshake message that may not be
// sent; errors are a closed Bind, an endpoint of another Bind's making, and
// what the carrier returns.
func (b *Bind) Send(bufs [][]byte, to conn.Endpoint) error {
	err := b.sendAll(bufs, to)
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

// sendAll passes what may be sent to the carrier, in as few batches as it can.
func (b *Bind) sendAll(bufs [][]byte, to conn.Endpoint) error {
	ep, ok := to.(Endpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	if !b.open.Load() {
		return net.ErrClosed
	}
	frozen := b.frozen()
	from := 0
	for i, m := range bufs {
		if frozen && carriesPacket(m) {
			b.counters.drop(Frozen)
		} else if b.mayGo(m, ep) {
			continue
		}
		if err := b.send(bufs[from:i], ep); err != nil {
			return err
		}
		from = i + 1
	}
	return b.send(bufs[from:], ep)
}

// send passes messages to the carrier. What it cannot send is not repeated.
func (b *Bind) send(bufs [][]byte, to Endpoint) error {
	if len(bufs) == 0 {
		return nil
	}
	err := b.carrier.Send(bufs, to)
	if err != nil {
		b.dialler.unsent(to)
	}
	return err
}

// mayGo reports whether a message may be sent, and notes what it shows about
// sessions.
func (b *Bind) mayGo(m []byte, to Endpoint) bool {
	if len(m) < sizeKeepalive {
		return true
	}
	switch messageType(m) {
	case typeTransport:
		index := receiverIndex(m)
		if session := to.Session(); !session.Is(index) {
			b.nudged.sent(to.AddrPort(), index, time.Now())
			b.dialler.established(index)
			session.Set(index)
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
		b.responder.responds(m, peer, to.AddrPort())
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

// sendOne sends a datagram of the Bind's own, past all rules.
func (b *Bind) sendOne(m []byte, to Endpoint) {
	_ = b.carrier.Send([][]byte{m}, to) // closed since, or without a path: it is repeated
}

// sendNudge tells a dialler that its session is unknown here, within limits.
func (b *Bind) sendNudge(index uint32, to Endpoint) {
	// A node that is not dialled dials: it will come by itself.
	if !b.dialsIn || !b.nudger.allow(to.AddrPort(), index, time.Now()) {
		return
	}
	b.counters.nudgesSent.Add(1)
	b.sendOne(appendNudge(make([]byte, 0, nudgeSize), index), to)
}

// receiveNudge judges a nudge and passes it on.
func (b *Bind) receiveNudge(m []byte, from Endpoint) {
	index, ok := parseNudge(m)
	if !ok || !b.nudged.accept(from.AddrPort(), index, time.Now()) {
		b.counters.drop(ReceiveNudgeRefused)
		return
	}
	b.counters.nudgesReceived.Add(1)
	if b.config.OnNudge != nil {
		b.config.OnNudge(from.AddrPort())
	}
}

// frozen reports that the process has just woken up from standing still.
func (b *Bind) frozen() bool { return b.config.Alive != nil && !b.config.Alive() }
