package legs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/netstack"
	"github.com/onewaylink/gw/netstack/stacktest"
	"github.com/onewaylink/gw/netstack/wire"
)

// A duo is two sites with a database and a node each, and what is between them in
// memory: a link that carries raw packets and may lose some, and trunks. The
// databases are hosts with TCPs of their own; the nodes are Stacks with what a flow
// table and a path do for them.
type duo struct {
	*testing.T
	stacktest.Bell
	clock *clock
	site  [2]*duoSite // 0: red, whose database calls
	stop  func()

	mu     sync.Mutex
	trunks []*memTrunk // red's ends, all that there ever were
	trace  []traced    // all that the databases have sent, in order
	// lose says of a raw packet that crosses the link whether it gets lost.
	lose atomic.Pointer[func(from int, p *wire.Packet) bool]
}

// duoSite is a site. Its three goroutines carry what comes from the database, from
// the link, and to the database.
type duoSite struct {
	d     *duo
	i     int
	db    *netstack.Host
	legs  *Stack
	alive atomic.Bool

	fromDB, fromLink, toDB *pipe
	script                 *scripted // stands in for the database, if there is one

	// mu is the flow table's lock.
	mu    sync.Mutex
	flow  *duoFlow
	ended []End

	// What the databases have said on their own wires, for the rule.
	witness sync.Mutex
	heard   *wire.Position // of the database here
	first   uint32         // the number of its first byte
	said    []byte         // all that it is going to say
	finAt   uint32         // the number of its FIN
	resets  int            // RSTs that it has said
	fins    int            // FINs of it that the other site's node has written
	written int            // all segments that one has written
}

// duoFlow is what a flow table knows of the connection.
type duoFlow struct {
	near, far         netip.AddrPort
	nearSaid, farSaid wire.Position
	sack              [2]bool
	acked             [2]bool
	relay             *Relay
	epoch             int
}

// pipe is a queue of packets without an end.
type pipe struct {
	mu   sync.Mutex
	cond sync.Cond
	q    [][]byte
	done bool
}

func newPipe() *pipe {
	p := new(pipe)
	p.cond.L = &p.mu
	return p
}

func (p *pipe) put(b []byte) {
	p.mu.Lock()
	p.q = append(p.q, b)
	p.mu.Unlock()
	p.cond.Signal()
}

func (p *pipe) take() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.q) == 0 && !p.done {
		p.cond.Wait()
	}
	if p.done {
		return nil
	}
	b := p.q[0]
	p.q = p.q[1:]
	return b
}

func (p *pipe) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.q) == 0
}

func (p *pipe) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

func (p *pipe) end() {
	p.mu.Lock()
	p.done = true
	p.mu.Unlock()
	p.cond.Broadcast()
}

// newDuo makes both sites. What the databases send is bounded by mtu.
func newDuo(t *testing.T, mtu int, offload bool) *duo {
	t.Helper()
	d := &duo{T: t, Bell: stacktest.NewBell(), clock: newClock()}
	addrs := [2][]netip.Addr{{red4, red6}, {gray4, gray6}}
	for i := range d.site {
		s := &duoSite{d: d, i: i, fromDB: newPipe(), fromLink: newPipe(), toDB: newPipe()}
		d.site[i] = s
		s.alive.Store(true)
		var err error
		if s.db, err = netstack.New(netstack.Config{Addresses: addrs[i], MTU: mtu, Output: s, Logger: hclog.NewNullLogger()}); err != nil {
			t.Fatal(err)
		}
		if s.legs, err = New(Config{
			Near: s, Offload: offload, Now: d.clock.now, Alive: s.alive.Load, Logger: hclog.NewNullLogger(), Check: true,
		}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg, legs sync.WaitGroup
	for _, s := range d.site {
		wg.Go(func() { s.db.Run(ctx) })
		wg.Go(s.runFromDB)
		wg.Go(s.runFromLink)
		wg.Go(s.runToDB)
		legs.Go(func() { s.legs.Run(ctx) })
	}
	d.stop = sync.OnceFunc(func() {
		for _, s := range d.site {
			for v, n := range s.legs.Stats().Violations {
				if n > 0 {
					t.Errorf("site %d: %d segments would have broken the rule: %s", s.i, n, v)
				}
			}
		}
		cancel()
		legs.Wait() // each ends its relays, while there is somebody to write to
		for _, s := range d.site {
			s.fromDB.end()
			s.fromLink.end()
			s.toDB.end()
		}
		wg.Wait()
		for _, s := range d.site {
			s.db.Close()
		}
		stacktest.CheckLeaks(t)
	})
	t.Cleanup(d.stop)
	return d
}

// SendPacket implements Output: the database sends.
func (s *duoSite) SendPacket(pkt []byte) {
	b := bytes.Clone(pkt)
	s.d.mu.Lock()
	s.d.trace = append(s.d.trace, traced{s.i, b})
	s.d.mu.Unlock()
	s.fromDB.put(bytes.Clone(b)) // what passes a node may be changed there
}

// runFromDB does what Path.Read does.
func (s *duoSite) runFromDB() {
	var held []*Relay
	for b := s.fromDB.take(); b != nil; b = s.fromDB.take() {
		var p wire.Packet
		if wire.Parse(&p, b) != wire.OK || p.Proto != wire.ProtoTCP {
			s.d.Errorf("a database sends %x", b)
			continue
		}
		if p.Flags&wire.SYN != 0 {
			p.Plain(false)
		}
		s.hear(&p)
		r := s.pass(&p, true)
		if r != nil {
			raw, hold := r.FromHost(&p, false)
			if hold > 0 {
				held = append(held, r)
			}
			if s.fromDB.empty() {
				for _, r := range held {
					r.Settle()
				}
				held = held[:0]
			}
			if !raw {
				continue
			}
		}
		s.SendLink(bytes.Clone(b))
	}
}

// runFromLink does what Path.Write does.
func (s *duoSite) runFromLink() {
	for b := s.fromLink.take(); b != nil; b = s.fromLink.take() {
		var p wire.Packet
		wire.Parse(&p, b)
		if r := s.pass(&p, false); r != nil {
			r.FromLink(&p)
		}
		s.toDB.put(b)
	}
}

func (s *duoSite) runToDB() {
	for b := s.toDB.take(); b != nil; b = s.toDB.take() {
		if s.script != nil {
			s.script.hear(s.d, b)
			continue
		}
		s.toHost(b)
	}
}

// toHost gives the database's host a packet. A device's queue makes its writer wait: what the host
// has no room for is offered again, until the site ends.
func (s *duoSite) toHost(b []byte) {
	again := time.NewTicker(100 * time.Microsecond)
	defer again.Stop()
	for {
		before := s.db.Stats()
		s.db.Inject(b)
		after := s.db.Stats()
		if after.Dropped+after.Limited == before.Dropped+before.Limited || s.toDB.ended() {
			return
		}
		<-again.C
	}
}

// SendLink implements Near.
func (s *duoSite) SendLink(b []byte) {
	if lose := s.d.lose.Load(); lose != nil {
		var p wire.Packet
		wire.Parse(&p, b)
		if (*lose)(s.i, &p) {
			return
		}
	}
	s.d.site[1-s.i].fromLink.put(b)
}

// WriteHost implements Near. It is where the rule is checked, by what the databases
// themselves have said on their wires.
func (s *duoSite) WriteHost(vec [][]byte, o wire.Offload) {
	p := parsed(s.d, slices.Concat(vec...), o)
	s.d.site[1-s.i].judge(s, p)
	s.toDB.put(p.B)
}

// hear notes what the database here says.
func (s *duoSite) hear(p *wire.Packet) {
	s.witness.Lock()
	defer s.witness.Unlock()
	if p.Flags&wire.SYN != 0 {
		s.first = p.Seq + 1
		s.heard = &wire.Position{End: p.Seq + 1, Ack: p.Ack}
		s.heard.Scale, _ = p.WindowScale()
		return
	}
	h := s.heard
	h.End = wire.SeqMax(h.End, p.Seq+uint32(len(p.Payload())))
	if p.Flags&wire.RST != 0 {
		s.resets++
		return
	}
	if p.Flags&wire.FIN != 0 {
		h.Fin, s.finAt = true, p.Seq+uint32(len(p.Payload()))
	}
	if h.Ack == 0 {
		h.Ack = p.Ack
	}
	edge := p.Ack + uint32(p.Window)<<h.Scale
	if h.Edge == 0 {
		h.Edge = edge
	}
	h.Ack, h.Edge = wire.SeqMax(h.Ack, p.Ack), wire.SeqMax(h.Edge, edge)
}

// judge holds what a node writes to the other database against what the one here has
// said.
func (s *duoSite) judge(to *duoSite, p *wire.Packet) {
	s.witness.Lock()
	defer s.witness.Unlock()
	h, end := s.heard, p.Seq+uint32(len(p.Payload()))
	at := int(p.Seq - s.first)
	fail := func(what string) {
		s.d.Errorf("to site %d: %s: seq %d+%d, ack %d, window %d, flags %#x; heard of the other database: %+v, from %d on",
			to.i, what, p.Seq, len(p.Payload()), p.Ack, p.Window, p.Flags, *h, s.first)
	}
	switch {
	case p.Flags&wire.ACK == 0 || p.Flags&^(wire.ACK|wire.PSH|wire.FIN) != 0:
		fail("flags")
	case wire.SeqLess(h.Ack, p.Ack):
		fail("ack")
	case wire.SeqLess(h.Edge, p.Ack+uint32(p.Window)<<h.Scale):
		fail("edge")
	case p.Flags&wire.FIN != 0 && !(h.Fin && end == s.finAt):
		fail("fin")
	case len(p.Payload()) > 0 && (at < 0 || wire.SeqLess(h.End, end) || !bytes.Equal(p.Payload(), s.said[at:at+len(p.Payload())])):
		fail("payload")
	}
	s.written++
	if p.Flags&wire.FIN != 0 {
		s.fins++
	}
}

// count is how many segments of the database here the other site's node has written.
func (s *duoSite) count() int {
	s.witness.Lock()
	defer s.witness.Unlock()
	return s.written
}

// pass takes a packet into account, and returns the relay.
func (s *duoSite) pass(p *wire.Packet, fromHost bool) *Relay {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flow == nil {
		src, dst := netip.AddrPortFrom(p.Src(), p.SrcPort), netip.AddrPortFrom(p.Dst(), p.DstPort)
		if !fromHost {
			src, dst = dst, src
		}
		s.flow = &duoFlow{near: src, far: dst}
	}
	f := s.flow
	said, k := &f.nearSaid, 0
	if !fromHost {
		said, k = &f.farSaid, 1
	}
	end := p.Seq + p.SegLen()
	switch {
	case p.Flags&wire.SYN != 0:
		*said = wire.Position{End: end, MSS: p.MSS()}
		said.Scale, _ = p.WindowScale()
		f.sack[k] = p.SACKPermitted()
		if p.Flags&wire.ACK != 0 {
			f.acked[k], said.Ack, said.Edge = true, p.Ack, p.Ack+uint32(p.Window)
		}
		return f.relay
	case p.Flags&wire.RST != 0:
		return f.relay
	}
	if !f.acked[k] {
		f.acked[k], said.Ack, said.Edge = true, p.Ack, p.Ack
	}
	f.advance(said, wire.Position{End: end, Fin: p.Flags&wire.FIN != 0, Ack: p.Ack, Edge: p.Ack + uint32(p.Window)<<said.Scale})
	return f.relay
}

func (f *duoFlow) advance(said *wire.Position, to wire.Position) {
	if to.Fin {
		said.Fin = true
	}
	said.End = wire.SeqMax(said.End, to.End)
	said.Ack, said.Edge = wire.SeqMax(said.Ack, to.Ack), wire.SeqMax(said.Edge, to.Edge)
}

// duoTracker is the flow table as a relay sees it.
type duoTracker struct {
	s     *duoSite
	epoch int
}

func (t duoTracker) Heard(said wire.Position) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if f := t.s.flow; f.epoch == t.epoch && f.relay != nil {
		f.advance(&f.farSaid, said)
		f.advance(&f.nearSaid, wire.Position{End: said.Ack, Ack: f.nearSaid.Ack, Edge: f.nearSaid.Edge})
	}
}

func (t duoTracker) Detach(e End) {
	t.s.mu.Lock()
	if f := t.s.flow; f.epoch == t.epoch {
		f.relay = nil
	}
	t.s.ended = append(t.s.ended, e)
	t.s.mu.Unlock()
	t.s.d.Ring()
}

var errNotNow = errors.New("in no state to be relayed")

// attach does what Table.Attach does.
func (s *duoSite) attach(said *wire.Position, make func(wire.Connection, Tracker) (*Relay, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flow
	if f != nil && said != nil && f.acked[0] && !f.acked[1] {
		f.acked[1], f.farSaid.Ack, f.farSaid.Edge = true, said.Ack, said.Edge // the third packet is on its way
	}
	if f == nil || f.relay != nil || !f.acked[0] || !f.acked[1] {
		return errNotNow
	}
	c := wire.Connection{Near: f.near, Far: f.far, NearSaid: f.nearSaid, FarSaid: f.farSaid, SACK: f.sack[0] && f.sack[1]}
	f.epoch++
	r, err := make(c, duoTracker{s, f.epoch})
	if err != nil {
		return err
	}
	f.relay = r
	return nil
}

// adopt makes the site i ask for a relay.
func (d *duo) adopt(i int) error {
	mine, theirs := newTrunks(d.Bell)
	mine.inPieces, theirs.inPieces = true, true
	s, other := d.site[i], d.site[1-i]
	err := s.attach(nil, func(c wire.Connection, t Tracker) (*Relay, error) { return s.legs.Offer(c, t, mine, 0) })
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.trunks = append(d.trunks, mine)
	d.mu.Unlock()
	go other.accept(theirs)
	return nil
}

// accept does what the gateway does with a trunk.
func (s *duoSite) accept(t *memTrunk) {
	var open wire.Frame
	if t.receive(&open) != nil {
		return
	}
	o, err := ParseOpening(&open)
	if err == nil {
		said := wire.Position{End: open.Seq, Ack: open.Ack, Edge: open.Edge}
		err = s.attach(&said, func(c wire.Connection, tr Tracker) (*Relay, error) { return s.legs.Accept(c, tr, t, &open, &o) })
	}
	if err != nil {
		Refuse(t, err.Error())
	}
}

// relayed reports whether both sites relay.
func (d *duo) relayed() bool {
	for _, s := range d.site {
		s.mu.Lock()
		r := s.flow != nil && s.flow.relay != nil
		if r {
			s.flow.relay.mu.Lock()
			r = s.flow.relay.opening.begun && s.flow.relay.opening.live
			s.flow.relay.mu.Unlock()
		}
		s.mu.Unlock()
		if !r {
			return false
		}
	}
	return true
}

// raw reports whether no site relays, and the legs are gone.
func (d *duo) isRaw() bool {
	for _, s := range d.site {
		s.mu.Lock()
		r := s.flow != nil && s.flow.relay != nil
		s.mu.Unlock()
		if r || s.legs.Stats().Relayed > 0 {
			return false
		}
	}
	return true
}

// mustAdopt asks until both sites relay.
func (d *duo) mustAdopt(i int) {
	d.Helper()
	d.Await(d.T, "relay", func() bool {
		if d.relayed() {
			return true
		}
		_ = d.adopt(i) // it fails while the last one's leg is not gone yet
		return false
	})
}

// connect opens the connection of the databases, each of which is going to say so many
// bytes.
func (d *duo) connect(addr netip.Addr, red, gray int) (caller, called net.Conn) {
	d.Helper()
	d.site[0].said, d.site[1].said = stacktest.Noise(11, red), stacktest.Noise(12, gray)
	l, err := d.site[1].db.Listen(5432)
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() { l.Close() })
	ctx, cancel := context.WithTimeout(d.Context(), stacktest.Deadline)
	defer cancel()
	caller, err = d.site[0].db.Dial(ctx, netip.AddrPortFrom(addr, 5432))
	if err != nil {
		d.Fatal(err)
	}
	called, err = l.Accept()
	if err != nil {
		d.Fatal(err)
	}
	for _, c := range []net.Conn{caller, called} {
		c.SetDeadline(time.Now().Add(stacktest.Deadline))
		d.Cleanup(func() { c.Close() })
	}
	return caller, called
}

// transfer is both databases talking at once until each has heard all that the other
// was going to say, and has seen its end.
type transfer struct {
	d    *duo
	wg   sync.WaitGroup
	got  [2]atomic.Int64 // bytes that the database of the site has heard
	done atomic.Int32
}

// talk begins. Each database closes its side when it has said all, at once or, with
// last, when it has heard all.
func (d *duo) talk(caller, called net.Conn, last bool) *transfer {
	t := &transfer{d: d}
	for i, c := range []net.Conn{caller, called} {
		heard := make(chan struct{})
		all := sync.OnceFunc(func() { close(heard) })
		t.wg.Go(func() {
			defer t.done.Add(1)
			said := d.site[i].said
			rng := rand.New(rand.NewPCG(uint64(i), 9))
			for at := 0; at < len(said); {
				n := min(1+rng.IntN(100<<10), len(said)-at)
				if _, err := c.Write(said[at : at+n]); err != nil {
					d.Errorf("site %d: write: %v", i, err)
					return
				}
				at += n
			}
			if last {
				<-heard
			}
			if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				d.Errorf("site %d: close: %v", i, err)
			}
		})
		t.wg.Go(func() {
			defer t.done.Add(1)
			defer all()
			said := d.site[1-i].said
			buf := make([]byte, 64<<10)
			for at := 0; ; {
				n, err := c.Read(buf)
				if at+n > len(said) || !bytes.Equal(buf[:n], said[at:at+n]) {
					d.Errorf("site %d: something else than was said arrived, at %d", i, at)
					return
				}
				at += n
				t.got[i].Store(int64(at))
				d.Ring()
				switch {
				case err == io.EOF && at == len(said):
					return
				case err != nil:
					d.Errorf("site %d: read %d of %d: %v", i, at, len(said), err)
					return
				case at == len(said):
					all() // but for its end
				}
			}
		})
	}
	return t
}

// wait waits until all has been said and heard.
func (t *transfer) wait() {
	t.d.Helper()
	t.d.Await(t.d.T, "end of the transfer", func() bool { return t.done.Load() == 4 })
	t.wg.Wait()
}
