package link

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/onewaylink/gw/gateway/link/bind"
	"github.com/onewaylink/gw/netstack/wire"
)

var _ tun.Device = (*adapter)(nil)

const (
	// queueLen bounds the control packets that wait for the link.
	queueLen = 512
	// inboxLen bounds the hellos that wait for the loop.
	inboxLen = 256
	// lookPackets is the size of the sample by which mostlyTrunks judges.
	lookPackets = 256
	// maxPulled is how often in a row packets of trunks go before those of the host.
	maxPulled = 3
	// tunBatch is how many packets wireguard-go moves at a time.
	tunBatch = conn.IdealBatchSize
)

// adapter is the tun.Device under wireguard-go. Data goes between wireguard-go
// and the Path untouched; control packets are taken out and put in here.
type adapter struct {
	path  Path
	mtu   int
	own   map[netip.Addr]bool
	site  string               // this node's
	nodes map[netip.Addr]*peer // by the nodes' own addresses

	// Registered before Run, and constant from then on; nil and absent ones drop.
	streams   Streams
	trunks    Trunks
	datagrams map[uint16]Datagrams // by port

	outbound *bind.Gate
	inbound  *bind.Intake
	queue    chan []byte // control packets for peers
	pulled   int         // Read's: so often in a row the packets were trunks'
	inbox    chan control

	events    chan tun.Event
	closed    atomic.Bool
	closeOnce sync.Once
	failed    chan error // the Path's, at most one

	// Packets received, and those of trunks among them. The loop has judged the first ones.
	received, receivedTrunk struct {
		all    atomic.Uint64
		judged uint64
	}
	trunksPrevail bool // the loop's: most packets of the latest sample were of trunks

	drops controlDrops
}

// control is a hello that arrived.
type control struct {
	from    *peer
	payload []byte
}

// controlDrops counts control packets that went no further.
type controlDrops struct{ queueFull, inboxFull, badChecksum, unwanted atomic.Uint64 }

func newAdapter(c *Config, nodes map[netip.Addr]*peer, outbound *bind.Gate, inbound *bind.Intake) *adapter {
	a := &adapter{
		path: c.Path, mtu: c.TUNMTU, site: c.Self.Site, own: map[netip.Addr]bool{}, nodes: nodes,
		datagrams: map[uint16]Datagrams{},
		outbound:  outbound, inbound: inbound,
		queue: make(chan []byte, queueLen), inbox: make(chan control, inboxLen),
		events: make(chan tun.Event), failed: make(chan error, 1),
	}
	for _, addr := range c.Self.Addresses {
		a.own[addr] = true
	}
	return a
}

// send queues a packet of the gateway's own. It keeps pkt.
func (a *adapter) send(pkt []byte) {
	select {
	case a.queue <- pkt:
		a.path.Wake()
	default:
		a.drops.queueFull.Add(1)
	}
}

// Read returns packets for wireguard-go to send: control packets first, since they are few and keep
// the link alive.
//
// Each of them is a batch of its own. The datagrams of a batch may leave this
// host as one, for the network card to cut up, and a router on the same machine
// that passes it on uncut drops it whole if one of them exceeds the next link's
// MTU. A hello must not share the fate of the probe that goes before it, nor a
// probe that of a larger one.
func (a *adapter) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	for {
		if a.closed.Load() {
			return 0, os.ErrClosed
		}
		n := 0
		select {
		case pkt := <-a.queue:
			sizes[0] = copy(bufs[0][offset:], pkt)
			n = 1
		default:
			if n = a.pull(bufs, sizes, offset); n > 0 {
				break
			}
			var err error
			if n, err = a.path.Read(bufs, sizes, offset); err != nil {
				select {
				case a.failed <- err:
				default:
				}
				return 0, os.ErrClosed
			}
		}
		if n > 0 {
			a.outbound.Enter(n)
			return n, nil
		}
	}
}

// pull returns packets of trunks, at most maxPulled times in a row. Then it is the host's turn,
// which does not wait for packets.
func (a *adapter) pull(bufs [][]byte, sizes []int, offset int) int {
	if a.trunks == nil {
		return 0
	}
	if a.pulled == maxPulled {
		a.pulled = 0
		a.path.Wake()
		return 0
	}
	n := a.trunks.Pull(bufs, sizes, offset)
	if n == 0 {
		a.pulled = 0
		return 0
	}
	a.pulled++
	return n
}

// Write receives what wireguard-go has decrypted.
func (a *adapter) Write(bufs [][]byte, offset int) (int, error) {
	a.received.all.Add(uint64(len(bufs)))
	var last ends
	start := 0 // of the packets not passed on yet
	for i, b := range bufs {
		if !a.take(b[offset:], &last) {
			continue
		}
		if err := a.pass(bufs[start:i], offset); err != nil {
			return 0, err
		}
		start = i + 1
	}
	err := a.pass(bufs[start:], offset)
	if a.trunks != nil {
		a.trunks.Flush()
	}
	a.inbound.Leave(bufs)
	if err != nil {
		return 0, err
	}
	return len(bufs), nil
}

func (a *adapter) pass(bufs [][]byte, offset int) error {
	if len(bufs) == 0 {
		return nil
	}
	_, err := a.path.Write(bufs, offset)
	return err
}

// take removes a control packet from the stream: one from another node's own address to this
// node's, on the ports that gateways use at both ends. wireguard-go has checked that the source
// belongs to the peer that sent it. Gateways build these packets without options, extension
// headers or fragments, so fixed offsets do. The Path drops whatever looks like one and is not
// taken here. last are the ends of the packet of trunks before.
func (a *adapter) take(b []byte, last *ends) bool {
	var proto byte
	var l4 []byte
	switch {
	case len(b) >= 28 && b[0] == 0x45:
		if b[6]&0x3f|b[7] != 0 { // a fragment
			return false
		}
		proto, l4 = b[9], b[20:]
	case len(b) >= 48 && b[0]>>4 == 6:
		proto, l4 = b[6], b[40:]
	default:
		return false
	}
	switch proto {
	case wire.ProtoTrunk:
		return a.takeTrunk(b, l4, last)
	case wire.ProtoUDP, wire.ProtoTCP:
	default:
		return false
	}
	here, there := binary.BigEndian.Uint16(l4[2:]), binary.BigEndian.Uint16(l4)
	if !controlPorts(proto, here, there) {
		return false
	}
	from, _ := a.between(b)
	if from == nil || here == wire.StrayPort && proto == wire.ProtoUDP && from.Site != a.site {
		return false // no node's, or a stray of a node that is not the sibling
	}
	var p wire.Packet
	if r := wire.Parse(&p, b); r != wire.OK || !p.ChecksumOK() {
		a.drops.badChecksum.Add(1)
		return true
	}
	if proto == wire.ProtoTCP {
		if a.streams == nil {
			a.drops.unwanted.Add(1)
			return true
		}
		a.streams.Inject(b)
		return true
	}
	if here != wire.ControlPort {
		h := a.datagrams[here]
		if h == nil {
			a.drops.unwanted.Add(1)
			return true
		}
		h(from.Node, here, p.Payload())
		return true
	}
	select {
	case a.inbox <- control{from: from, payload: append([]byte(nil), p.Payload()...)}:
	default:
		a.drops.inboxFull.Add(1)
	}
	return true
}

// controlPorts reports whether gateways send such packets to each other. Their datagrams have the
// same port at both ends. A stream has a port of the service at the end that was called.
func controlPorts(proto byte, here, there uint16) bool {
	if proto == wire.ProtoTCP {
		return here == wire.ControlPort || there == wire.ControlPort || here == wire.AskPort || there == wire.AskPort
	}
	return here == there && (here == wire.ControlPort || here == wire.HAPort || here == wire.StrayPort)
}

// between is the peer that a packet comes from, and its address, if it goes from a node's
// own address to this one's.
func (a *adapter) between(b []byte) (*peer, netip.Addr) {
	var src, dst netip.Addr
	if b[0]>>4 == 4 {
		src, dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	} else {
		src, dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	}
	if !a.own[dst] {
		return nil, src
	}
	return a.nodes[src], src
}

// ends are between whom a packet goes.
type ends struct {
	addresses []byte // as they stand in it
	from      *peer  // nil where it is not from a node's own address to this one's
	src       netip.Addr
}

// takeTrunk removes a packet of trunks. They arrive in long rows between the same two nodes.
func (a *adapter) takeTrunk(b, payload []byte, last *ends) bool {
	addresses := b[12:20]
	if b[0]>>4 == 6 {
		addresses = b[8:40]
	}
	if !bytes.Equal(addresses, last.addresses) {
		last.addresses = addresses
		last.from, last.src = a.between(b)
	}
	if last.from == nil || a.trunks == nil {
		return false
	}
	a.receivedTrunk.all.Add(1)
	a.trunks.Deliver(last.src, payload)
	return true
}

// mostlyTrunks reports whether most packets received lately were of trunks. Only the loop calls it.
func (a *adapter) mostlyTrunks() bool {
	all, trunks := a.received.all.Load(), a.receivedTrunk.all.Load()
	if n := all - a.received.judged; n >= lookPackets {
		a.trunksPrevail = 8*(trunks-a.receivedTrunk.judged) >= 7*n
		a.received.judged, a.receivedTrunk.judged = all, trunks
	}
	return a.trunksPrevail
}

// Close makes Read return and ends the events. wireguard-go calls it first
// thing in its own Close.
func (a *adapter) Close() error {
	a.closeOnce.Do(func() {
		a.closed.Store(true)
		a.path.Wake()
		close(a.events)
	})
	return nil
}

// Events delivers none: Run brings wireguard-go up. An EventUp would bring it up a second time.
func (a *adapter) Events() <-chan tun.Event { return a.events }

func (a *adapter) File() *os.File        { return nil }
func (a *adapter) MTU() (int, error)     { return a.mtu, nil }
func (a *adapter) Name() (string, error) { return "gw", nil }
func (a *adapter) BatchSize() int        { return tunBatch }
