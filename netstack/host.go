package netstack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	nicID = 1

	// Packets that may wait on their way in and out. The outgoing queue takes a
	// whole window at the largest buffer: channel.Endpoint drops what is more
	// without a word, and a sender with cubic pays dearly for it.
	inQueue  = 512
	outQueue = 1024

	defaultBuffer = 256 << 10
	maxBuffer     = 1 << 20

	// A link that returns after an outage should be noticed soon, and the
	// default grows to 120 s.
	maxRTO = 2 * time.Second

	// How long a closed connection may stay in memory (TIME_WAIT, FIN_WAIT_2),
	// so that a peer that comes again and again can't fill it. Duplicates that
	// TIME_WAIT is there for don't live longer inside a tunnel.
	closedFor = 2 * time.Second

	minMTU = 576
)

// Output takes the packets that a Host sends.
type Output interface {
	// SendPacket sends a whole IP packet, which is valid until it returns. It is
	// called by one goroutine at a time, one that holds no lock of the stack.
	SendPacket(pkt []byte)
}

// Config is what a Host needs.
type Config struct {
	// Addresses are the node's own, of one family or both.
	Addresses []netip.Addr
	// MTU bounds the packets that are sent, in bytes; at least 576, with IPv6
	// 1280.
	MTU    int
	Output Output
	Logger hclog.Logger
}

// Stats is a snapshot of a Host.
type Stats struct {
	Received uint64 // packets given to Inject
	Dropped  uint64 // of these, for want of room or because they are no IP
	Limited  uint64 // of these, and connections closed, because their node exceeded its share
	Sent     uint64
}

// Host is an IP host with TCP in user space. Its methods may be called
// concurrently.
type Host struct {
	cfg   Config
	log   hclog.Logger
	stack *stack.Stack
	link  *channel.Endpoint
	v6    bool

	shares *shares

	mu   sync.Mutex // holds off Inject's sending while Close begins
	in   chan inbound
	done chan struct{} // closed by Close

	received, dropped, limited, sent atomic.Uint64
}

// inbound is a packet on its way in, and the node that sent it.
type inbound struct {
	pkt  *stack.PacketBuffer
	from netip.Addr
}

// New returns a Host. gVisor starts its workers, one for each CPU, here already;
// they end with Close.
func New(cfg Config) (*Host, error) {
	v4, v6 := false, false
	for _, a := range cfg.Addresses {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() {
			return nil, fmt.Errorf("control host: %q is not an address for a node", a)
		}
		v4, v6 = v4 || a.Is4(), v6 || a.Is6()
	}
	switch {
	case len(cfg.Addresses) == 0:
		return nil, errors.New("control host: no address")
	case cfg.MTU < minMTU, v6 && cfg.MTU < header.IPv6MinimumMTU:
		return nil, fmt.Errorf("control host: mtu %d is below what the address family needs", cfg.MTU)
	}
	var protocols []stack.NetworkProtocolFactory
	if v4 {
		protocols = append(protocols, ipv4.NewProtocol)
	}
	if v6 {
		protocols = append(protocols, ipv6.NewProtocol)
	}
	h := &Host{
		cfg: cfg,
		log: cfg.Logger.Named("netstack"),
		stack: stack.New(stack.Options{
			NetworkProtocols:   protocols,
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
		}),
		link: channel.New(outQueue, uint32(cfg.MTU), ""),
		v6:   v6, shares: newShares(time.Now),
		in:   make(chan inbound, inQueue),
		done: make(chan struct{}),
	}
	if err := h.configure(); err != nil {
		h.Close()
		return nil, fmt.Errorf("control host: %w", err)
	}
	return h, nil
}

func (h *Host) configure() error {
	// RACK is broken after an RTO with a lost flight: two segments per doubling
	// timer from then on.
	recovery := tcpip.TCPRecovery(0)
	rto := tcpip.TCPMaxRTOOption(maxRTO)
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: defaultBuffer, Max: maxBuffer}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: defaultBuffer, Max: maxBuffer}
	timeWait, linger := tcpip.TCPTimeWaitTimeoutOption(closedFor), tcpip.TCPLingerTimeoutOption(closedFor)
	for _, o := range []tcpip.SettableTransportProtocolOption{&recovery, &rto, &send, &receive, &timeWait, &linger} {
		if err := h.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("set %T: %s", o, err)
		}
	}
	if err := h.stack.CreateNIC(nicID, h.link); err != nil {
		return fmt.Errorf("create interface: %s", err)
	}
	for _, a := range h.cfg.Addresses {
		pa := tcpip.ProtocolAddress{
			Protocol:          protocolOf(a),
			AddressWithPrefix: tcpip.AddrFromSlice(a.AsSlice()).WithPrefix(),
		}
		if err := h.stack.AddProtocolAddress(nicID, pa, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("add address %s: %s", a, err)
		}
	}
	h.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID},
		{Destination: header.IPv6EmptySubnet, NIC: nicID},
	})
	return nil
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// Inject hands the host a packet that arrived for it. It copies pkt and never
// waits: what there is no room for is dropped and counted, as on any network.
func (h *Host) Inject(pkt []byte) {
	h.received.Add(1)
	from, syn, ok := sourceOf(pkt)
	if !ok {
		h.dropped.Add(1)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isClosed() || len(h.in) == cap(h.in) {
		h.dropped.Add(1)
		return
	}
	if !h.shares.enqueue(from, syn) {
		h.limited.Add(1)
		return
	}
	h.in <- inbound{stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(pkt)}), from}
}

// Run carries packets in and out until ctx ends.
func (h *Host) Run(ctx context.Context) error {
	h.log.Debug("control host runs", "addresses", h.cfg.Addresses, "mtu", h.cfg.MTU)
	var wg sync.WaitGroup
	// Two tasks, so that what the stack sends on receiving something finds
	// somebody who takes it, and so that SendPacket may call the Inject of
	// another host.
	wg.Go(func() { h.runIn(ctx) })
	wg.Go(func() { h.runOut(ctx) })
	wg.Wait()
	st := h.Stats()
	h.log.Debug("control host stopped", "received", st.Received, "dropped", st.Dropped, "sent", st.Sent)
	return nil
}

func (h *Host) runIn(ctx context.Context) {
	for {
		select {
		case in := <-h.in:
			pkt := in.pkt
			h.shares.dequeue(in.from)
			protocol := ipv4.ProtocolNumber
			if b, _ := pkt.Data().PullUp(1); b[0]>>4 == 6 {
				protocol = ipv6.ProtocolNumber
			}
			h.link.InjectInbound(protocol, pkt)
			pkt.DecRef()
		case <-ctx.Done():
			return
		}
	}
}

func (h *Host) runOut(ctx context.Context) {
	var b []byte
	for {
		pkt := h.link.ReadContext(ctx)
		if pkt == nil {
			return
		}
		b = b[:0]
		for _, part := range pkt.AsSlices() {
			b = append(b, part...)
		}
		pkt.DecRef()
		h.sent.Add(1)
		h.cfg.Output.SendPacket(b)
	}
}

func (h *Host) isClosed() bool {
	select {
	case <-h.done:
		return true
	default:
		return false
	}
}

// Stats returns a snapshot.
func (h *Host) Stats() Stats {
	return Stats{Received: h.received.Load(), Dropped: h.dropped.Load(), Limited: h.limited.Load(), Sent: h.sent.Load()}
}

// Close ends every connection and listener and waits for the stack's workers.
// Run must have returned: nobody hears of the connections' end, as nobody would
// if the process had been killed.
func (h *Host) Close() error {
	h.mu.Lock()
	closed := h.isClosed()
	if !closed {
		close(h.done)
	}
	h.mu.Unlock()
	if closed {
		return nil
	}
	// First the connections, which wake those who wait for them; then the
	// interface, which they still write to; then what was left in the queues.
	h.stack.Destroy()
	h.link.Close()
	for len(h.in) > 0 {
		(<-h.in).pkt.DecRef()
	}
	return nil
}
