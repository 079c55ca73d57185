package legs

import (
	"encoding/binary"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/onewaylink/gw/netstack/wire"
)

// tap is the interface of the stack on which the legs live. What it is given to
// send is the legs', segment by segment; none of it goes out but by a leg's gate.
type tap struct {
	legs    *Stack
	offload bool

	dispatcher atomic.Pointer[stack.TransportDispatcher]
}

var (
	_ stack.LinkEndpoint = (*tap)(nil)
	_ stack.GSOEndpoint  = (*tap)(nil)
)

// tapMTU lets the MSS of the database alone decide how large segments are.
const tapMTU = math.MaxUint16

func (t *tap) MTU() uint32                             { return tapMTU }
func (t *tap) SetMTU(uint32)                           {}
func (t *tap) MaxHeaderLength() uint16                 { return 0 }
func (t *tap) LinkAddress() tcpip.LinkAddress          { return "" }
func (t *tap) SetLinkAddress(tcpip.LinkAddress)        {}
func (t *tap) Wait()                                   {}
func (t *tap) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (t *tap) AddHeader(*stack.PacketBuffer)           {}
func (t *tap) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (t *tap) Close()                                  {}
func (t *tap) SetOnCloseAction(func())                 {}
func (t *tap) IsAttached() bool                        { return t.dispatcher.Load() != nil }
func (t *tap) Capabilities() stack.LinkEndpointCapabilities {
	// What goes out gets its checksum when the gate has changed it.
	return stack.CapabilityTXChecksumOffload
}

func (t *tap) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		t.dispatcher.Store(nil)
		return
	}
	// The stack's interface is both. What its network layer would look at is known to be
	// in order, and costs a third of what a small segment does.
	transport := d.(stack.TransportDispatcher)
	t.dispatcher.Store(&transport)
}

// GSOMaxSize and SupportedGSO let the stack give whole segments of 64 KB.
func (t *tap) GSOMaxSize() uint32 { return math.MaxUint16 }

func (t *tap) SupportedGSO() stack.SupportedGSO {
	if t.offload {
		return stack.HostGSOSupported
	}
	return stack.GSONotSupported
}

// inject hands the stack a TCP segment, of whose headers so many bytes are IP's.
func (t *tap) inject(protocol tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer, ip, tcp int) {
	defer pkt.DecRef()
	d := t.dispatcher.Load()
	if d == nil {
		return
	}
	pkt.NetworkHeader().Consume(ip)
	pkt.TransportHeader().Consume(tcp)
	pkt.NICID, pkt.NetworkProtocolNumber, pkt.TransportProtocolNumber = nicID, protocol, header.TCPProtocolNumber
	pkt.RXChecksumValidated = true
	(*d).DeliverTransportPacket(header.TCPProtocolNumber, pkt)
}

// outgoing is a segment on its way to the near database: headers of our own, and
// the payload where the stack has it.
type outgoing struct {
	hdr [wire.MaxTCPHeaders]byte
	vec [][]byte
}

var outgoings = sync.Pool{New: func() any { return &outgoing{vec: make([][]byte, 0, 32)} }}

// WritePackets takes what the stack sends. It never calls into the stack again.
func (t *tap) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range list.AsSlice() {
		t.write(pkt)
	}
	return list.Len(), nil
}

func (t *tap) write(pkt *stack.PacketBuffer) {
	if pkt.TransportProtocolNumber != header.TCPProtocolNumber {
		return
	}
	tcp := header.TCP(pkt.TransportHeader().Slice())
	id, ok := idOf(pkt.NetworkHeader().Slice(), tcp)
	if !ok {
		return
	}
	r := t.legs.find(id)
	if r == nil {
		return
	}
	o := outgoings.Get().(*outgoing)
	views, skip := pkt.AsViewList()
	skip += len(pkt.NetworkHeader().Slice()) + len(tcp)
	o.vec = append(o.vec[:0], nil)
	payload := 0
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		o.vec = append(o.vec, b[skip:])
		payload += len(b) - skip
		skip = 0
	}
	r.fromLeg(tcp, payload, o)
	clear(o.vec)
	outgoings.Put(o)
}

// legID names a leg: the near database, and the far one that it stands in for.
type legID Ends

// idOf returns the leg that has sent a segment.
func idOf(network []byte, tcp header.TCP) (legID, bool) {
	var src, dst netip.Addr
	switch {
	case len(network) >= header.IPv4MinimumSize && network[0]>>4 == 4:
		src, dst = netip.AddrFrom4([4]byte(network[12:16])), netip.AddrFrom4([4]byte(network[16:20]))
	case len(network) >= header.IPv6MinimumSize && network[0]>>4 == 6:
		src, dst = netip.AddrFrom16([16]byte(network[8:24])), netip.AddrFrom16([16]byte(network[24:40]))
	default:
		return legID{}, false
	}
	return legID{
		Near: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:])),
		Far:  netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp)),
	}, true
}
