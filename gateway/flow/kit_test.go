package flow

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/flow/hosttest"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// Two sites that are linked, and one without a link. Tests are red unless they
// say otherwise.
const (
	red = iota
	gray
	blue
)

var sites = []Site{
	{Name: "red", Linked: false, Prefixes: prefixes("10.77.1.0/24", "fd77:1::/64", "192.0.2.1/32")},
	{Name: "gray", Linked: true, Prefixes: prefixes("10.77.2.0/24", "fd77:2::/64", "192.0.2.2/32")},
	{Name: "blue", Linked: false, Prefixes: prefixes("10.77.3.0/24")},
}

func prefixes(s ...string) (out []netip.Prefix) {
	for _, x := range s {
		out = append(out, netip.MustParsePrefix(x))
	}
	return out
}

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
func ip(s string) netip.Addr     { return netip.MustParseAddr(s) }

var (
	redDB   = at("10.77.1.10:40000")
	grayDB  = at("10.77.2.10:5432")
	redDB6  = at("[fd77:1::a]:40000")
	grayDB6 = at("[fd77:2::a]:5432")
	redGW   = ip("10.77.1.1")
)

// judge allows what a test says.
type judge func(src, dst netip.Addr, proto uint8, port uint16) *Rule

func (j judge) Judge(src, dst netip.Addr, proto uint8, port uint16) *Rule {
	return j(src, dst, proto, port)
}

var someRule = &Rule{Name: "some", Pos: "site.hcl:1"}

func allow(netip.Addr, netip.Addr, uint8, uint16) *Rule { return someRule }
func deny(netip.Addr, netip.Addr, uint8, uint16) *Rule  { return nil }

// callsRed allows what red calls, and nothing that gray does.
func callsGray(src, _ netip.Addr, _ uint8, _ uint16) *Rule {
	if sites[red].Prefixes[0].Contains(src) || sites[red].Prefixes[1].Contains(src) {
		return someRule
	}
	return nil
}

// packet is one that the host was written.
type packet struct {
	b []byte
	o wire.Offload
}

// device is the fake host, with short names.
type device struct{ *hosttest.Device }

func newDevice(offload bool) *device { return &device{hosttest.NewDevice(offload)} }

func (d *device) send(b []byte, o wire.Offload) { d.Send(b, o) }
func (d *device) setClosed(closed bool)         { d.SetClosed(closed) }

// written returns what the host was written since the last call.
func (d *device) written() (out []packet) {
	for _, p := range d.Written() {
		out = append(out, packet{p.B, p.O})
	}
	return out
}

// book is a Recorder.
type book struct {
	mu      sync.Mutex
	records map[string][]byte
	puts    int
}

func (b *book) Put(k, v []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.records == nil {
		b.records = map[string][]byte{}
	}
	b.records[string(k)] = bytes.Clone(v)
	b.puts++
}

func (b *book) Delete(k []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.records, string(k))
}

// gw is a Table and a Path between a fake host and a fake link.
type gw struct {
	testing.TB
	now   time.Duration
	host  *device
	book  *book
	table *Table
	path  *Path
	bufs  [][]byte // what readAll reads into
	sizes []int
}

// newGW makes the gateway of red with the link to gray up. change may alter its
// configuration.
func newGW(tb testing.TB, j judge, change ...func(*Config)) *gw {
	tb.Helper()
	g := &gw{TB: tb, now: time.Hour, host: newDevice(true), book: &book{}}
	c := Config{
		Self: red, Sites: slices.Clone(sites), Voice: []netip.Addr{redGW, ip("fd77:1::1")}, MTU: 1420,
		Judge: j, Recorder: g.book, Now: func() time.Duration { return g.now },
	}
	for _, f := range change {
		f(&c)
	}
	g.table = New(c)
	g.path = NewPath(g.table, g.host)
	g.path.SetSite(gray, SiteState{Up: true, Partial: true})
	return g
}

// fromHost sends a packet and returns what went to the link, and why what did
// not was dropped.
func (g *gw) fromHost(b []byte, o wire.Offload) (out [][]byte, r wire.Reason) {
	g.Helper()
	before := g.table.Stats().Drops
	g.host.send(b, o)
	return g.readAll(), g.dropped(before)
}

// readAll reads all that the path gives.
func (g *gw) readAll() (out [][]byte) {
	g.Helper()
	g.host.setClosed(true) // the end of what there is to read
	defer g.host.setClosed(false)
	if g.bufs == nil {
		g.bufs, g.sizes = make([][]byte, 128), make([]int, 128)
		for i := range g.bufs {
			g.bufs[i] = make([]byte, 16+4096)
		}
	}
	for {
		n, err := g.path.Read(g.bufs, g.sizes, 16)
		for i := range n {
			out = append(out, bytes.Clone(g.bufs[i][16:16+g.sizes[i]]))
		}
		if errors.Is(err, os.ErrClosed) {
			return out
		}
		if err != nil {
			g.Fatal(err)
		}
	}
}

// fromLink sends packets in one batch and returns what the host was written, and
// why what was not was dropped.
func (g *gw) fromLink(b ...[]byte) ([]packet, wire.Reason) {
	g.Helper()
	before := g.table.Stats().Drops
	bufs := make([][]byte, len(b))
	for i := range b {
		bufs[i] = append(make([]byte, 16), b[i]...)
	}
	if n, err := g.path.Write(bufs, 16); n != len(b) || err != nil {
		g.Fatalf("write: %d, %v", n, err)
	}
	return g.host.written(), g.dropped(before)
}

// dropped returns the one reason that was counted since before.
func (g *gw) dropped(before [wire.NumReasons]uint64) wire.Reason {
	g.Helper()
	r := wire.OK
	for i, n := range g.table.Stats().Drops {
		if n == before[i] {
			continue
		}
		if r != wire.OK {
			g.Fatalf("dropped for %v and for %v", r, wire.Reason(i))
		}
		r = wire.Reason(i)
	}
	return r
}

// out and in send one plain packet and tell whether it passed.
func (g *gw) out(b []byte) wire.Reason { _, r := g.fromHost(b, wire.Offload{}); return r }
func (g *gw) in(b []byte) wire.Reason  { _, r := g.fromLink(b); return r }

func (g *gw) want(what string, got, want wire.Reason) {
	g.Helper()
	if got != want {
		g.Errorf("%s: %v, want %v", what, got, want)
	}
}

// A talk is a TCP connection between two ends, told segment by segment.
type talk struct {
	src, dst netip.AddrPort
	a, b     uint32 // the next sequence number of each
	win      uint16
}

// sameShard returns another port of src whose connection with dst is in the same shard as
// src's own: room for a new flow is made within its shard.
func (g *gw) sameShard(src, dst netip.AddrPort) netip.AddrPort {
	k, _ := keyBetween(src, dst)
	for port := src.Port() + 1; ; port++ {
		other := netip.AddrPortFrom(src.Addr(), port)
		if o, _ := keyBetween(other, dst); g.table.shardOf(&o) == g.table.shardOf(&k) {
			return other
		}
	}
}

func newTalk(src, dst netip.AddrPort) *talk { return &talk{src, dst, 1000, 900000, 65535} }

var synOptions = []byte{2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7} // MSS 1460, SACK permitted, window scale 7

// call makes a segment from the caller, answer one from the other end.
func (t *talk) call(flags uint8, payload ...byte) []byte {
	s := wiretest.TCP{Src: t.src, Dst: t.dst, Seq: t.a, Ack: t.b, Flags: flags, Window: t.win, Payload: payload}
	if flags&wiretest.SYN != 0 {
		s.Options = synOptions
	}
	if flags&wiretest.ACK == 0 {
		s.Ack = 0
	}
	t.a += length(flags, payload)
	return s.Packet()
}

func (t *talk) answer(flags uint8, payload ...byte) []byte {
	s := wiretest.TCP{Src: t.dst, Dst: t.src, Seq: t.b, Ack: t.a, Flags: flags, Window: t.win, Payload: payload}
	if flags&wiretest.SYN != 0 {
		s.Options = synOptions
	}
	t.b += length(flags, payload)
	return s.Packet()
}

func length(flags uint8, payload []byte) uint32 {
	n := uint32(len(payload))
	if flags&wiretest.SYN != 0 {
		n++
	}
	if flags&wiretest.FIN != 0 {
		n++
	}
	return n
}

// open sends the handshake through the gateway, from the host's side.
func (g *gw) open(t *talk) {
	g.Helper()
	g.want("syn", g.out(t.call(wiretest.SYN)), wire.OK)
	g.want("syn-ack", g.in(t.answer(wiretest.SYN|wiretest.ACK)), wire.OK)
	g.want("ack", g.out(t.call(wiretest.ACK)), wire.OK)
}
