package legs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/onewaylink/gw/netstack/legs/rule"
	"github.com/onewaylink/gw/netstack/wire"
)

const (
	// legBuffer is what a leg may hold each way, in bytes. Half of it is the largest
	// window that it takes part in; the far database's own window is mostly smaller.
	legBuffer = 8 << 20
	// legMaxRTO bounds the pause between two retransmissions to the near database.
	legMaxRTO = time.Second
	// legMaxRetries leaves it to the far database to give up: a leg that did so would
	// end the relay after some 12 s. That counts a closed window's probes, too, which
	// the gate keeps back, so that none is ever answered.
	legMaxRetries = 1 << 30
	// maxMaking is how many legs may be in the making at once.
	maxMaking = 1024
	// watchEvery is how often the relays are looked at.
	watchEvery = 100 * time.Millisecond

	nicID = 1 // of the stack's only interface
)

// Near is the way to the near databases.
type Near interface {
	// WriteHost writes a packet to the host, of which vec are the parts. It may be
	// called by several goroutines.
	WriteHost(vec [][]byte, o wire.Offload)
	// SendLink sends a packet of a near database to the other site, as it is.
	SendLink(pkt []byte)
}

// Tracker is the flow table's view of a relayed connection. None of its methods
// calls back.
type Tracker interface {
	// Heard is told what the far database has said, so far as the trunk has brought
	// it.
	Heard(said wire.Position)
	// Detach says that the connection goes on raw, and why.
	Detach(End)
}

// Trunk carries one connection between two gateways.
type Trunk interface {
	// Send sends a frame, and waits for room.
	Send(*wire.Frame) error
	// Serve says what is called from now on, when there may be room for a frame, after
	// Ready and when there was none before, and when there may be a frame to receive:
	// perhaps by several goroutines at a time, which must not be kept waiting. ended is
	// called when the trunk has, with locks held.
	Serve(source, sink, ended func())
	// Ready has source called. It does not call it itself.
	Ready()
	// Begin, Write and Commit send a frame without its payload being copied once more.
	// Begin says how long that is at most, and if it reports that there is room Commit has
	// to follow, which sends the frame, or nothing if it is nil. Write takes what fits, and
	// otherwise returns io.ErrShortWrite.
	Begin(payload int) (room bool, err error)
	Write(payload []byte) (int, error)
	Commit(*wire.Frame) error
	// TryReceive reads the next frame, if there is one. Its payload is valid until the next
	// call. There is one caller at a time.
	TryReceive(*wire.Frame) (ok bool, err error)
	// Close ends the trunk at once and discards what is under way; Finish delivers
	// it first. Neither waits.
	Close()
	Finish()
	// Quality is what the trunk knows of its way.
	Quality() Quality
}

// Quality is what a trunk knows of its way; what it does not know is zero.
type Quality struct {
	// RTT is the round trip without a queue, Delay what it takes now.
	RTT, Delay time.Duration
	// Rate is how much it can deliver, in bytes per second.
	Rate uint64
	// Paced says that it is held to the rate: what it is given beyond that only waits.
	Paced bool
	// Backlog is how much may wait in a sender of the trunk before a frame, in bytes.
	Backlog int
}

// Config is what a Stack needs.
type Config struct {
	Near Near
	// Offload says that WriteHost takes super-segments and unfinished checksums.
	Offload bool
	// Now is a monotonic clock; Alive reports whether the process has been running
	// (see package pulse): nothing is written while it says no.
	Now    func() time.Duration
	Alive  func() bool
	Logger hclog.Logger
	// Check verifies of each segment for a near database that the far one has said what
	// is in it (see rule.Checker). One that breaks the rule is not written, and the
	// connection is raw from then on.
	Check bool
	// MaxRelays bounds the connections that are relayed at a time, and with them
	// memory; 0 is 4096.
	MaxRelays int
}

// Legs makes the endpoints that stand in for the far databases toward the near
// ones, and relays between them and the trunks. Its methods may be called
// concurrently.
type Stack struct {
	cfg   Config
	log   hclog.Logger
	stack *stack.Stack
	tap   *tap

	mu     sync.RWMutex
	relays map[legID]*Relay
	closed bool
	wg     sync.WaitGroup
	due    chan *Relay // to be told what waits; Run does it, whose stack is large enough by now

	made, failed atomic.Uint64
	full         atomic.Uint64 // refused by MaxRelays
	ended        [len(ends)]atomic.Uint64
	violations   [rule.NumViolations]atomic.Uint64
}

// New makes a stack for legs. gVisor starts its workers here already; they end
// with Run.
func New(cfg Config) (*Stack, error) {
	if cfg.MaxRelays <= 0 {
		cfg.MaxRelays = defaultRelays
	}
	l := &Stack{cfg: cfg, log: cfg.Logger.Named("relay"), relays: make(map[legID]*Relay), due: make(chan *Relay)}
	l.tap = &tap{legs: l, offload: cfg.Offload}
	l.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	if err := l.configure(); err != nil {
		l.stack.Destroy()
		return nil, fmt.Errorf("stack for legs: %w", err)
	}
	return l, nil
}

func (l *Stack) configure() error {
	// RACK is broken after an RTO with a lost flight: two segments per doubling
	// timer from then on.
	recovery := tcpip.TCPRecovery(0)
	rto := tcpip.TCPMaxRTOOption(legMaxRTO)
	retries := tcpip.TCPMaxRetriesOption(legMaxRetries)
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: legBuffer, Max: legBuffer}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: legBuffer, Max: legBuffer}
	moderate := tcpip.TCPModerateReceiveBufferOption(false)
	sack := tcpip.TCPSACKEnabled(true)
	for _, o := range []tcpip.SettableTransportProtocolOption{&recovery, &rto, &retries, &send, &receive, &moderate, &sack} {
		if err := l.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("set %T: %s", o, err)
		}
	}
	if err := l.stack.CreateNIC(nicID, l.tap); err != nil {
		return fmt.Errorf("create interface: %s", err)
	}
	if err := l.stack.SetPromiscuousMode(nicID, true); err != nil {
		return fmt.Errorf("set promiscuous: %s", err)
	}
	if err := l.stack.SetSpoofing(nicID, true); err != nil {
		return fmt.Errorf("set spoofing: %s", err)
	}
	l.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID},
		{Destination: header.IPv6EmptySubnet, NIC: nicID},
	})
	f := tcp.NewForwarder(l.stack, legBuffer, maxMaking, l.handshake)
	l.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, f.HandlePacket)
	return nil
}

// find returns the relay of a leg, or nil.
func (l *Stack) find(id legID) *Relay {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.relays[id]
}

var (
	errClosed = errors.New("the gateway is being closed")
	errFull   = errors.New("as many connections are relayed as may be")
	errTaken  = errors.New("the connection's last leg is not gone yet")
)

// enter takes a relay in and starts its task.
func (l *Stack) enter(r *Relay, task func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return errClosed
	case l.relays[r.id] != nil:
		return errTaken
	case len(l.relays) >= l.cfg.MaxRelays:
		l.full.Add(1)
		return errFull
	}
	l.relays[r.id] = r
	l.wg.Go(task)
	return nil
}

const defaultRelays = 4096

// Full reports whether MaxRelays connections are relayed. CountRefused counts one that is left raw
// for that reason.
func (l *Stack) Full() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.relays) >= l.cfg.MaxRelays
}

// CountRefused counts a connection that the caller leaves raw because the stack is full. Offer and
// Accept count what they refuse themselves.
func (l *Stack) CountRefused() { l.full.Add(1) }

func (l *Stack) leave(r *Relay) {
	l.mu.Lock()
	delete(l.relays, r.id)
	l.mu.Unlock()
}

// Run watches over the relays until ctx ends, and tells the near databases what waits for
// its time; then it ends them all.
func (l *Stack) Run(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case r := <-l.due:
			r.tell()
		case <-tick.C:
			now := l.cfg.Now()
			for _, r := range l.all() {
				r.watch(now)
			}
		}
	}
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.ReleaseAll(EndClosing)
	l.wg.Wait()
	// The stack goes last: nothing of it is left that could send.
	l.stack.Destroy()
	return nil
}

func (l *Stack) all() []*Relay {
	l.mu.RLock()
	defer l.mu.RUnlock()
	list := make([]*Relay, 0, len(l.relays))
	for _, r := range l.relays {
		list = append(list, r)
	}
	return list
}

// ReleaseAll makes every relayed connection raw at once: what the legs hold is
// discarded before it returns, and nothing of it is written any more.
func (l *Stack) ReleaseAll(e End) { l.Release(e, func(Trunk) bool { return true }) }

// Release does that for the connections whose trunks are chosen.
func (l *Stack) Release(e End, chosen func(Trunk) bool) {
	all := l.all()
	for _, r := range all {
		if chosen(r.trunk) {
			r.release(e)
		}
	}
	for _, r := range all {
		if chosen(r.trunk) {
			r.silence()
		}
	}
}

// Stats is a snapshot.
type Stats struct {
	// Relayed is how many connections are relayed now.
	Relayed int
	// Made is how many legs were made since the start, Failed how many could not be.
	Made, Failed uint64
	// Full is how many were refused by Config.MaxRelays.
	Full uint64
	// Ends counts the relays that have ended, by End.Cause.
	Ends map[string]uint64
	// Violations counts the segments that would have broken the rule, by
	// rule.Violation; nil without Config.Check.
	Violations map[string]uint64
}

// Stats returns a snapshot.
func (l *Stack) Stats() Stats {
	s := Stats{Made: l.made.Load(), Failed: l.failed.Load(), Full: l.full.Load(), Ends: make(map[string]uint64, len(ends))}
	for i, e := range ends {
		s.Ends[e.Cause] = l.ended[i].Load()
	}
	if l.cfg.Check {
		s.Violations = make(map[string]uint64, rule.NumViolations)
		for v := rule.NoViolation + 1; v < rule.NumViolations; v++ {
			s.Violations[v.String()] = l.violations[v].Load()
		}
	}
	l.mu.RLock()
	s.Relayed = len(l.relays)
	l.mu.RUnlock()
	return s
}

// count counts an end.
func (l *Stack) count(e *End) {
	for i := range ends {
		if ends[i].Cause == e.Cause {
			l.ended[i].Add(1)
			return
		}
	}
}
