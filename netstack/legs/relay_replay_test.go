package legs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/onewaylink/gw/netstack/wire"
)

// traced is a packet that a site's database has sent.
type traced struct {
	site   int
	packet []byte
}

// scripted stands in for a database: it says what a trace has of it, and collects
// what it hears. While it waits for more to hear it acknowledges what it has got: a
// leg is another sender than the one in the trace, and may need that to go on.
type scripted struct {
	mu    sync.Mutex
	begun bool
	next  uint32 // the number that it waits for
	early map[uint32][]byte
	got   []byte
	fin   bool
	finAt uint32
	scale uint8 // of the other database
	given bool  // it has been given a window, up to edge
	edge  uint32

	last  wire.Packet // that it has said, and the window in it
	acked uint32
}

func (s *scripted) hear(d *duo, b []byte) {
	var p wire.Packet
	wire.Parse(&p, b)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer d.Ring()
	data := p.Payload()
	if p.Flags&wire.SYN != 0 {
		s.begun, s.next, s.early = true, p.Seq+1, map[uint32][]byte{}
		s.scale, _ = p.WindowScale()
		return
	}
	if !s.given {
		s.given, s.edge = true, p.Ack
	}
	s.edge = wire.SeqMax(s.edge, p.Ack+uint32(p.Window)<<s.scale)
	if p.Flags&wire.FIN != 0 {
		s.fin, s.finAt = true, p.Seq+uint32(len(data))
	}
	if old := s.early[p.Seq]; len(data) > len(old) {
		s.early[p.Seq] = data
	}
	for more := true; more; {
		more = false
		for seq, data := range s.early {
			end := seq + uint32(len(data))
			if wire.SeqLess(s.next, seq) {
				continue
			}
			if wire.SeqLess(s.next, end) {
				s.got = append(s.got, data[s.next-seq:]...)
				s.next, more = end, true
			}
			delete(s.early, seq)
		}
	}
	if s.fin && s.next == s.finAt {
		s.next++
	}
}

// may reports whether a database could say this by now: it has heard what it
// acknowledges, and been given the window.
func (s *scripted) may(p *wire.Packet) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case p.Flags&wire.ACK == 0:
		return true // the first SYN
	case !s.begun || wire.SeqLess(s.next, p.Ack):
		return false
	}
	n := uint32(len(p.Payload()))
	return n == 0 || !s.given || !wire.SeqLess(s.edge, p.Seq+n)
}

// says notes what goes out.
func (s *scripted) says(p *wire.Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.acked = *p, wire.SeqMax(s.acked, p.Ack)
	if p.Flags&wire.SYN != 0 {
		s.acked = p.Ack
	}
}

// ack is an acknowledgement of what has been heard since the last one, nil if there
// is nothing, or no connection yet.
func (s *scripted) ack() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.last
	if !s.begun || p.Flags&(wire.SYN|wire.ACK) != wire.ACK || s.next == s.acked {
		return nil
	}
	s.acked = s.next
	src, dst := netip.AddrPortFrom(p.Src(), p.SrcPort), netip.AddrPortFrom(p.Dst(), p.DstPort)
	return wire.AppendACK(nil, src, dst, p.Seq+p.SegLen(), s.next, p.Window)
}

// lacks reports whether it waits for numbers below end.
func (s *scripted) lacks(end uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun && wire.SeqLess(s.next, end)
}

// heardAll reports whether the other database has said its last.
func (s *scripted) heardAll() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fin && s.next == s.finAt+1
}

// replayBytes is what each database says: some hundred packets.
const replayBytes = 128 << 10

// record lets two real databases talk over a link that loses one packet in lose, and
// returns what they have sent.
func record(t *testing.T, mtu int, addr netip.Addr, lose int64) (trace []traced, said [2][]byte) {
	t.Helper()
	d := newDuo(t, mtu, false)
	caller, called := d.connect(addr, replayBytes, replayBytes)
	var seen atomic.Int64
	drop := func(int, *wire.Packet) bool { return seen.Add(1)%lose == 0 }
	d.lose.Store(&drop)
	d.talk(caller, called, true).wait()
	d.stop()
	return d.trace, [2][]byte{d.site[0].said, d.site[1].said}
}

// replay has two scripted databases say it all again, relayed from one or more moments
// on, or never, and returns what each has heard.
func replay(t *testing.T, mtu int, trace []traced, said [2][]byte, relay bool, rng *rand.Rand) (got [2][]byte) {
	t.Helper()
	d := newDuo(t, mtu, false)
	for i, s := range d.site {
		s.script, s.said = &scripted{}, said[i]
	}
	sent := 0 // of trace
	wait := func(what string, cond func() bool) {
		looks := 0
		d.Await(t, what, func() bool {
			for _, s := range d.site {
				if b := s.script.ack(); b != nil {
					s.fromDB.put(b)
				}
			}
			if looks++; looks%200 == 0 { // as a timer would, for what a relay's end has lost
				d.sayAgain(trace[:sent])
			}
			return cond()
		})
	}
	for i, step := range trace {
		s := d.site[step.site]
		var p wire.Packet
		wire.Parse(&p, step.packet)
		wait(fmt.Sprintf("the moment for packet %d of %d", i, len(trace)), func() bool { return s.script.may(&p) })
		s.script.says(&p)
		s.fromDB.put(bytes.Clone(step.packet))
		sent++
		if !relay || i < 3 {
			continue
		}
		switch rng.IntN(len(trace) / 8) {
		case 0:
			asks := rng.IntN(2)
			wait("a relay", func() bool {
				if d.relayed() {
					return true
				}
				_ = d.adopt(asks) // it fails while the last one's leg is not gone yet
				return false
			})
		case 1:
			d.site[rng.IntN(2)].legs.HandBack(t.Context(), &EndDrained)
		}
	}
	for _, s := range d.site {
		wait("the last byte", s.script.heardAll)
	}
	if n := d.site[0].count() + d.site[1].count(); relay && n == 0 {
		t.Error("no segment came from a leg")
	}
	d.stop()
	for i, s := range d.site {
		got[i] = s.script.got
	}
	return got
}

// sayAgain repeats what has been said and not been heard.
func (d *duo) sayAgain(trace []traced) {
	for _, step := range trace {
		var p wire.Packet
		wire.Parse(&p, step.packet)
		if other := d.site[1-step.site].script; p.SegLen() > 0 && other.lacks(p.Seq+p.SegLen()) {
			d.site[step.site].fromDB.put(bytes.Clone(step.packet))
		}
	}
}

// TestReplay has the same packets pass raw, and relayed by turns: the databases get
// the same bytes. What is relayed is held against the rule by the duo.
func TestReplay(t *testing.T) {
	for _, c := range []struct {
		name string
		addr netip.Addr
		mtu  int
		lose int64
	}{
		{"v4", gray4, 1400, 1 << 62}, {"v6, with what was said again", gray6, 1400, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			trace, said := record(t, c.mtu, c.addr, c.lose)
			raw := replay(t, c.mtu, trace, said, false, nil)
			for seed := range uint64(2) {
				relayed := replay(t, c.mtu, trace, said, true, rand.New(rand.NewPCG(seed, 1)))
				for i := range raw {
					if !bytes.Equal(raw[i], said[1-i]) || !bytes.Equal(relayed[i], raw[i]) {
						t.Errorf("seed %d, site %d: %d bytes raw, %d relayed, %d said", seed, i, len(raw[i]), len(relayed[i]), len(said[1-i]))
					}
				}
			}
			t.Logf("%d packets", len(trace))
		})
	}
}
