package flow

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// picky is a device that refuses what refuse has an error for.
type picky struct {
	*device
	refuse func(b []byte, o wire.Offload) error
	asked  int // writes with an offload
}

func (p *picky) Write(vec [][]byte, o wire.Offload) error {
	if o != (wire.Offload{}) {
		p.asked++
	}
	if p.refuse != nil {
		if err := p.refuse(vec[0], o); err != nil {
			return fmt.Errorf("write tun: %w", err)
		}
	}
	return p.device.Write(vec, o)
}

func newPicky(t *testing.T) (*gw, *picky) {
	g := newGW(t, allow)
	p := &picky{device: g.host}
	g.path = NewPath(g.table, p)
	g.path.SetSite(gray, SiteState{Up: true, Partial: true})
	return g, p
}

// refuseOffload refuses as a kernel that does not know the virtio-net header.
func refuseOffload(errno error) func([]byte, wire.Offload) error {
	return func(_ []byte, o wire.Offload) error {
		if o.GSOSize != 0 || o.NeedsCsum {
			return errno
		}
		return nil
	}
}

// sendBulk sends three full segments from gray in one batch, and returns what the host received.
func sendBulk(g *gw, c *talk) ([]packet, []byte) {
	g.Helper()
	var batch [][]byte
	var sent []byte
	for i := range 3 {
		payload := bytes.Repeat([]byte{byte('a' + i)}, 1000)
		sent = append(sent, payload...)
		batch = append(batch, c.answer(wiretest.ACK, payload...))
	}
	got, r := g.fromLink(batch...)
	g.want("bulk", r, wire.OK)
	return got, sent
}

func establish(g *gw) *talk {
	g.Helper()
	c := newTalk(redDB, grayDB)
	g.want("SYN", g.out(c.call(wiretest.SYN)), wire.OK)
	g.want("SYN and ACK", g.in(c.answer(wiretest.SYN|wiretest.ACK)), wire.OK)
	g.want("ACK", g.out(c.call(wiretest.ACK)), wire.OK)
	return c
}

// wantSingles checks that the packets carry the bytes of want and ask nothing of the device.
func wantSingles(t *testing.T, got []packet, want []byte) {
	t.Helper()
	var b []byte
	for _, p := range got {
		var pkt wire.Packet
		if r := wire.Parse(&pkt, p.b); r != wire.OK || !pkt.ChecksumOK() || p.o != (wire.Offload{}) {
			t.Fatalf("%v, checksum %v, %+v", r, pkt.ChecksumOK(), p.o)
		}
		b = append(b, pkt.Payload()...)
	}
	if len(got) != 3 || !bytes.Equal(b, want) {
		t.Errorf("%d packets with %d bytes, want 3 with %d", len(got), len(b), len(want))
	}
}

func TestHostRefusesSuperSegments(t *testing.T) {
	g, host := newPicky(t)
	c := establish(g)
	if got, _ := sendBulk(g, c); len(got) != 1 || got[0].o.GSOSize == 0 {
		t.Fatalf("%d packets, want a super-segment", len(got))
	}
	host.refuse = refuseOffload(syscall.EINVAL)
	for pause := singlyFirst; pause <= 4*singlyFirst; pause *= 2 {
		host.asked = 0
		for range 2 { // the first is refused, the second is not tried
			got, sent := sendBulk(g, c)
			wantSingles(t, got, sent)
			g.want("acknowledgement", g.out(c.call(wiretest.ACK)), wire.OK)
		}
		if r := g.path.Refusals(); host.asked != 1 || !r.Segments || r.Singles || r.Err == nil {
			t.Errorf("asked %d times in %v: %+v", host.asked, pause, r)
		}
		g.now += pause
	}
	host.refuse = nil
	if got, _ := sendBulk(g, c); len(got) != 1 || got[0].o.GSOSize == 0 {
		t.Errorf("%d packets, want a super-segment again", len(got))
	}
	if r := g.path.Refusals(); r.Segments {
		t.Errorf("accepted again: %+v", r)
	}
}

// A burst that overflows a queue says nothing about super-segments.
func TestHostWithoutBuffers(t *testing.T) {
	g, host := newPicky(t)
	c := establish(g)
	host.refuse = refuseOffload(syscall.ENOBUFS)
	got, sent := sendBulk(g, c)
	wantSingles(t, got, sent)
	if r := g.path.Refusals(); r.Segments || r.Singles {
		t.Errorf("%+v", r)
	}
}

func TestHostRefusesAll(t *testing.T) {
	g, host := newPicky(t)
	g.out(wiretest.UDP(redDB, grayDB, nil))
	g.path.Refusals()
	all := func([]byte, wire.Offload) error { return syscall.EIO }
	for _, busy := range []bool{true, false} {
		host.refuse = all
		looks := 0
		for !g.path.Refusals().Singles {
			if looks++; looks > probeAfter+refusesAfter {
				t.Fatalf("busy %v: not found in %d looks", busy, looks)
			}
			if busy {
				g.want("refused", g.in(wiretest.UDP(grayDB, redDB, nil)), wire.HostWrite)
			}
		}
		if !busy && time.Duration(looks)*100*time.Millisecond > 1300*time.Millisecond {
			t.Errorf("idle: %d looks", looks)
		}
		host.refuse = nil
		g.path.Refusals() // it may count what was refused before
		if r := g.path.Refusals(); r.Singles {
			t.Errorf("busy %v: still refused: %+v", busy, r)
		}
	}
	for _, p := range host.written() {
		if len(p.b) == len(probePacket) && bytes.Equal(p.b, probePacket[:]) {
			return
		}
	}
	t.Error("no probe was written")
}

// Refused and accepted writes side by side are a burst.
func TestHostRefusesSome(t *testing.T) {
	g, host := newPicky(t)
	g.out(wiretest.UDP(redDB, grayDB, nil))
	for range 2 * refusesAfter {
		host.refuse = func([]byte, wire.Offload) error { return syscall.ENOBUFS }
		g.want("refused", g.in(wiretest.UDP(grayDB, redDB, nil)), wire.HostWrite)
		host.refuse = nil
		g.want("accepted", g.in(wiretest.UDP(grayDB, redDB, nil)), wire.OK)
		if r := g.path.Refusals(); r.Singles {
			t.Fatalf("%+v", r)
		}
	}
}
