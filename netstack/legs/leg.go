package legs

import (
	"errors"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/onewaylink/gw/netstack/wire"
)

// makeWithin bounds the making of a leg, which takes some 60 microseconds.
const makeWithin = time.Second

// leg is the endpoint of a relay while it is made, and after that.
type leg struct {
	ep   tcpip.Endpoint
	wq   waiter.Queue
	done chan struct{} // closed when ep is there, or failed
	fail error

	iss     uint32
	scale   uint8
	started chan struct{} // closed when iss and scale are known
	opened  chan struct{} // closed when it announces its whole window
}

func newLeg() leg {
	return leg{done: make(chan struct{}), started: make(chan struct{}), opened: make(chan struct{})}
}

// make makes the endpoint, always in the same way: a synthetic SYN, with the
// database's own options and the sequence number before the first that the leg is
// to receive, an answer that goes no further than the gate, and the third packet.
func (r *Relay) make() error {
	limit := time.NewTimer(makeWithin)
	defer limit.Stop()
	wait := func(c chan struct{}) error {
		select {
		case <-c:
			return nil
		case <-r.ending.done:
			return errors.New("released in the making")
		case <-limit.C:
			return errors.New("the stack makes no endpoint")
		}
	}
	n := &r.conn.NearSaid
	var opts [40]byte
	syn := wire.Segment{
		Seq: n.End - 1, Window: 0xffff, Flags: wire.SYN,
		Options: wire.AppendSYNOptions(opts[:0], n.MSS, r.conn.SACK, int(n.Scale)),
	}
	r.inject(&syn, nil)
	if err := wait(r.leg.started); err != nil {
		return err
	}
	third := wire.Segment{Seq: n.End, Ack: r.leg.iss + 1, Window: r.nearWindow(), Flags: wire.ACK}
	r.inject(&third, nil)
	if err := wait(r.leg.done); err != nil {
		return err
	}
	if r.leg.fail != nil {
		return r.leg.fail
	}
	r.mu.Lock()
	r.gate.LegScale(r.leg.scale)
	r.mu.Unlock()
	// Nagle's algorithm is the database's business.
	r.leg.ep.SocketOptions().SetDelayOption(false)
	entry := waiter.NewFunctionEntry(waiter.ReadableEvents|waiter.WritableEvents|waiter.EventHUp|waiter.EventErr, r.notify)
	r.leg.wq.EventRegister(&entry)
	// A leg announces 20 segments at first. An empty segment out of its window makes
	// it announce all.
	beyond := wire.Segment{Seq: n.End - 1<<30, Ack: r.leg.iss + 1, Window: r.nearWindow(), Flags: wire.ACK}
	r.inject(&beyond, nil)
	return wait(r.leg.opened)
}

// nearWindow is the window field that the near database has opened.
func (r *Relay) nearWindow() uint16 {
	n := &r.conn.NearSaid
	return wire.WindowField(n.Ack, n.Edge, n.Scale)
}

// handshake is what the stack calls, in a goroutine of its own, for each SYN. It
// returns when the leg is made, which the stack itself gives up after a while.
func (l *Stack) handshake(req *tcp.ForwarderRequest) {
	id := req.ID()
	r := l.find(legID{Near: addrPort(id.RemoteAddress, id.RemotePort), Far: addrPort(id.LocalAddress, id.LocalPort)})
	if r == nil {
		req.Complete(false)
		return
	}
	ep, err := req.CreateEndpoint(&r.leg.wq)
	req.Complete(false)
	if err != nil {
		r.leg.fail = errors.New(err.String())
		l.failed.Add(1)
	} else {
		r.leg.ep = ep
		l.made.Add(1)
	}
	close(r.leg.done)
}

// answered takes the SYN-ACK of the leg.
func (r *Relay) answered(tcp header.TCP) {
	select {
	case <-r.leg.started:
		return // repeated
	default:
	}
	r.leg.iss = tcp.SequenceNumber()
	if ws := header.ParseSynOptions(tcp.Options(), true).WS; ws > 0 {
		r.leg.scale = uint8(ws)
	}
	close(r.leg.started)
}

// inject gives the leg a segment of the near database, in the leg's terms.
func (r *Relay) inject(s *wire.Segment, payload []byte) {
	var data buffer.Buffer
	if len(payload) > 0 {
		data = buffer.MakeWithView(buffer.NewViewWithData(payload))
	}
	r.deliver(s, data, len(payload))
}

// deliver is inject for a payload of size bytes that the stack has already. It takes it
// over.
func (r *Relay) deliver(s *wire.Segment, data buffer.Buffer, size int) {
	// The headers have a view of their own: the stack copies that in which they are.
	v := buffer.NewViewSize(wire.MaxTCPHeaders)
	headers := r.toLeg.Put(v.AsSlice(), s, size)
	v.CapLength(headers)
	b := buffer.MakeWithView(v)
	b.Merge(&data)
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: b})
	protocol, ip := ipv6.ProtocolNumber, wire.IPv6Header
	if r.conn.Near.Addr().Is4() {
		protocol, ip = ipv4.ProtocolNumber, wire.IPv4Header
	}
	r.legs.tap.inject(protocol, pkt, ip, headers-ip)
}

// destroy ends the endpoint and waits for it, so that the next leg of the same
// connection finds no trace of it. What the endpoint says then does not pass the
// gate.
func (r *Relay) destroy() {
	select {
	case <-r.leg.done:
	default:
		if !r.unmake() {
			return
		}
	}
	if r.leg.ep != nil {
		r.leg.ep.Abort()
	}
}

// unmake ends the making of the endpoint by a RST, which no endpoint would take before the
// stack has answered the SYN. It reports false when the stack has never heard of it.
func (r *Relay) unmake() bool {
	limit := time.NewTimer(makeWithin)
	defer limit.Stop()
	select {
	case <-r.leg.done:
		return true
	case <-r.leg.started:
	case <-limit.C:
		return false
	}
	r.inject(&wire.Segment{Seq: r.conn.NearSaid.End, Ack: r.leg.iss + 1, Flags: wire.RST | wire.ACK}, nil)
	select {
	case <-r.leg.done:
		return true
	case <-limit.C:
		return false
	}
}
