package flow

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
)

// What would become of a packet is found out by letting it come: to a Path and a
// Table of its own, which have what the real ones know of its flow, and in front of
// a host and a link that only keep what they are given. So it is judged by the code
// that judges all packets, and nothing that it does reaches anybody.

// Probe describes a packet: that of a connection that the table knows, or one that
// would open it.
type Probe struct {
	Proto uint8 // TCP, UDP, ICMP or ICMPv6
	// Source and Destination are of one family; those of ICMP have no ports. A source
	// port of 0 is any that is not in use.
	Source, Destination netip.AddrPort
	// Size is that of the IP packet in bytes; 0 is as small as it gets. A SYN carries no
	// payload, whatever the size.
	Size int
}

// Probed is what became of a probe.
type Probed struct {
	Reason wire.Reason
	// Rule is that by which the flow is allowed; nil where there is none.
	Rule *Rule
	// Known says that the table has the flow. State is where it stands, Opened the end
	// that opened it, Relayed and Why how it is carried.
	Known   bool
	State   string
	Opener  netip.AddrPort
	Relayed bool
	Why     string
	// Site is the index of the other site, -1 where there is none, and Way what is
	// known of the way there.
	Site int
	Way  SiteState
	// Out is what would leave on the other side, Answers what would go back.
	Out, Answers [][]byte
}

// maxTries bounds the search for a source port that is not in use.
const maxTries = 256

// ErrProbe is wrapped by what is wrong with a Probe.
var ErrProbe = errors.New("no such packet")

// Packet makes the packet that a probe describes, and sets the source port where that
// was left open.
func (p *Path) Packet(pr *Probe) ([]byte, error) {
	if !pr.Source.Addr().IsValid() || !pr.Destination.Addr().IsValid() || pr.Source.Addr().Is4() != pr.Destination.Addr().Is4() {
		return nil, fmt.Errorf("%w: from %v to %v; give two addresses of one family", ErrProbe, pr.Source, pr.Destination)
	}
	b, size := p.least(pr)
	if b == nil {
		return nil, fmt.Errorf("%w: protocol %d", ErrProbe, pr.Proto)
	}
	switch {
	case pr.Size > 65535:
		return nil, fmt.Errorf("%w: %d bytes are more than 65535; give a smaller size", ErrProbe, pr.Size)
	case pr.Size != 0 && pr.Size < size:
		return nil, fmt.Errorf("%w: %d bytes are less than its headers, which take %d; give a larger size", ErrProbe, pr.Size, size)
	case pr.Size == 0 || pr.Proto == wire.ProtoTCP && p.table.next(pr.Source, pr.Destination).flags&wire.SYN != 0:
		pr.Size = size
	}
	return b(pr.Size - size), nil
}

// least returns what makes a packet with so many bytes of payload, and its size
// without any.
func (p *Path) least(pr *Probe) (with func(n int) []byte, size int) {
	src, dst := pr.Source, pr.Destination
	switch pr.Proto {
	case wire.ProtoTCP:
		pr.Source = p.table.free(pr.Proto, src, dst)
		seg := p.table.next(pr.Source, dst)
		with = func(n int) []byte {
			return wire.AppendSegment(nil, pr.Source, dst, seg.seq, seg.ack, seg.flags, seg.window, seg.options, n)
		}
	case wire.ProtoUDP:
		pr.Source = p.table.free(pr.Proto, src, dst)
		with = func(n int) []byte { return wire.AppendUDP(nil, pr.Source, dst, make([]byte, n)) }
	case wire.ProtoICMP, wire.ProtoICMPv6:
		with = func(n int) []byte { return wire.AppendEcho(nil, src.Addr(), dst.Addr(), 0, 1, n) }
	default:
		return nil, 0
	}
	return with, len(with(0))
}

// free chooses a source port, where none is given, of which the table knows no flow.
func (t *Table) free(proto uint8, src, dst netip.AddrPort) netip.AddrPort {
	if src.Port() != 0 {
		return src
	}
	const first = 49152 // RFC 6335 section 6: the dynamic ports
	for i := range uint16(maxTries) {
		src = netip.AddrPortFrom(src.Addr(), first+i)
		k, _ := keyBetween(src, dst)
		k.proto = proto
		s := t.shardOf(&k)
		s.mu.Lock()
		taken := s.has(k)
		s.mu.Unlock()
		if !taken {
			break
		}
	}
	return src
}

// saying is what the source of a TCP connection may say next.
type saying struct {
	seq, ack uint32
	flags    uint8
	window   uint16
	options  []byte
}

// next returns one that fits what the table knows of the connection; a SYN where it
// knows of none, or of one that has ended.
func (t *Table) next(src, dst netip.AddrPort) saying {
	const anywhere, window = 0x20000000, 65535
	// As Linux opens a connection: MSS 1460, SACK, timestamps, window scale.
	syn := saying{seq: anywhere, flags: wire.SYN, window: window, options: []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}}
	k, srcB := keyBetween(src, dst)
	s := t.shardOf(&k)
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.flows[k], true
	if d, dormant := s.dormant[k]; dormant {
		f = &flow{key: k}
		ok = f.parse(d.value[:]) == nil
	}
	if f == nil || !ok {
		return syn
	}
	i := f.end(srcB)
	switch {
	case f.tcp.Phase().Over():
		syn.seq = f.tcp.End(i) + anywhere // none that it has said before
	case f.tcp.Phase() == tcptrack.SynSent && i == 0:
		syn.seq = f.tcp.ISN(i)
	case f.tcp.Phase() == tcptrack.SynSent || f.tcp.Phase() == tcptrack.SynReceived && i == 1:
		syn.flags |= wire.ACK
		syn.ack = f.tcp.End(1 - i)
		if f.tcp.Phase() == tcptrack.SynReceived {
			syn.seq = f.tcp.ISN(i)
		}
	default:
		return saying{seq: f.tcp.End(i), ack: f.tcp.End(1 - i), flags: wire.ACK | wire.PSH, window: window}
	}
	return syn
}

// Probe says what would become of packets that come now, one after the other: from the
// host, or from the link. They are all of one flow.
func (p *Path) Probe(packets [][]byte, fromHost bool) (out Probed, err error) {
	var pkt wire.Packet
	if len(packets) == 0 {
		return out, fmt.Errorf("%w: none", ErrProbe)
	}
	if out.Reason = wire.Parse(&pkt, packets[0]); out.Reason != wire.OK {
		return out, nil
	}
	k, _ := keyOf(&pkt)
	host := &nowhere{offload: p.host.Offload()}
	sh := p.shadow(k, host, &out)
	for _, b := range packets {
		b = bytes.Clone(b) // it is edited
		if fromHost {
			var o [][]byte
			o, out.Reason = sh.leave(b)
			out.Out = append(out.Out, o...)
		} else {
			out.Reason = sh.arrive(b)
		}
		if out.Reason != wire.OK {
			break
		}
	}
	if fromHost {
		out.Answers = host.written
	} else {
		out.Out = host.written
		for b := sh.box.next(); b != nil; b = sh.box.next() {
			out.Answers = append(out.Answers, b)
		}
	}
	out.Site = -1
	if near, far, r := sh.table.ends(pkt.Src(), pkt.Dst(), fromHost); r == wire.OK {
		if out.Site = far; !fromHost {
			out.Site = near
		}
		out.Way = *sh.sites[out.Site].Load()
	}
	if f := sh.table.shardOf(&k).flows[k]; f != nil {
		out.Rule = f.rule
	}
	return out, nil
}

// leave sends a packet from the host, and returns what goes to the link.
func (p *Path) leave(b []byte) (out [][]byte, r wire.Reason) {
	const most = 128
	bufs, sizes := make([][]byte, most), make([]int, most)
	for i := range bufs {
		bufs[i] = make([]byte, max(p.table.cfg.MTU, 2048))
	}
	n, r := p.outbound(b, wire.Offload{}, bufs, sizes, 0)
	for {
		for i := range n {
			out = append(out, bytes.Clone(bufs[i][:sizes[i]]))
		}
		if !p.cut.Busy() {
			break
		}
		n = p.drain(bufs, sizes, 0)
	}
	for b := p.box.next(); b != nil; b = p.box.next() {
		out = append(out, b)
	}
	return out, r
}

// arrive takes a packet from the link.
func (p *Path) arrive(b []byte) wire.Reason {
	j := new(joiner)
	r := p.inbound(j, p.table.cfg.Now(), b)
	for i := range j.n {
		p.flush(j, i)
	}
	return r
}

// shadow makes a Path like this one, with what it knows of the flow k, and says in out
// what that is.
func (p *Path) shadow(k key, host Host, out *Probed) *Path {
	t := p.table
	c := t.cfg
	c.Judge, c.Recorder, c.Observer, c.Denials = *t.judge.Load(), nil, nil, nil
	st := New(c)
	st.start = t.start
	st.since.Store(t.since.Load())
	s, into := t.shardOf(&k), st.shardOf(&k)
	s.mu.Lock()
	// Others of its part of the table may make room for it.
	for _, f := range s.flows {
		if len(into.flows) == maxRoom {
			break
		}
		into.flows[f.key] = f.clone()
	}
	f := s.flows[k]
	if d, ok := s.dormant[k]; ok {
		into.dormant = map[key]dormant{k: d}
		f = st.find(into, k)
	} else if f != nil {
		into.flows[k] = f.clone()
	}
	if f != nil {
		out.Known, out.State = true, f.state()
		out.Opener, _ = k.ends(f.openerB)
		out.Relayed, out.Why = f.how()
	}
	s.mu.Unlock()
	st.count.Store(t.count.Load())
	for i := range t.opener {
		st.opener[i].Store(t.opener[i].Load())
		st.foreign[i].flows.Store(t.foreign[i].flows.Load())
	}
	sp := NewPath(st, host)
	for i := range p.sites {
		sp.sites[i].Store(p.sites[i].Load())
	}
	return sp
}

// maxRoom is how many flows a shadow takes from the table beside the one in question: as
// many as room looks at.
const maxRoom = 16

// clone copies the flow, but not the relay that carries it.
func (f *flow) clone() *flow {
	c := &flow{
		key: f.key, site: f.site, localB: f.localB, openerB: f.openerB, rule: f.rule, gone: f.gone, revoked: f.revoked, account: f.account, tcp: f.tcp,
		carriage: f.carriage, restored: f.restored, began: f.began, replied: f.replied,
		opened: f.opened, openedW: f.openedW, last: f.last, out: f.out, in: f.in, noted: f.noted,
	}
	c.carriage.relay, c.carriage.h = nil, nil
	if f.unconfirmed != nil {
		u := *f.unconfirmed
		c.unconfirmed = &u
	}
	return c
}

// nowhere is a Host that keeps what it is given.
type nowhere struct {
	offload bool
	written [][]byte
}

var _ Host = (*nowhere)(nil)

func (h *nowhere) Write(vec [][]byte, _ wire.Offload) error {
	h.written = append(h.written, bytes.Join(vec, nil))
	return nil
}

func (*nowhere) Read([]byte) (int, wire.Offload, error)    { return 0, wire.Offload{}, os.ErrClosed }
func (*nowhere) TryRead([]byte) (int, wire.Offload, error) { return 0, wire.Offload{}, nil }
func (*nowhere) SetReadDeadline(time.Time) error           { return nil }
func (*nowhere) Pending() bool                             { return false }
func (h *nowhere) Offload() bool                           { return h.offload }
