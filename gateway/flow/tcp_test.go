package flow

import (
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

const (
	fin = wiretest.FIN
	syn = wiretest.SYN
	rst = wiretest.RST
	psh = wiretest.PSH
	ack = wiretest.ACK
)

// raw makes any segment of the talk, from the caller or from the other end.
func (t *talk) raw(fromCaller bool, flags uint8, seq, ackn uint32, n int) []byte {
	s := wiretest.TCP{Src: t.src, Dst: t.dst, Seq: seq, Ack: ackn, Flags: flags, Window: t.win, Payload: make([]byte, n)}
	if !fromCaller {
		s.Src, s.Dst = t.dst, t.src
	}
	if flags&syn != 0 {
		s.Options = synOptions
	}
	return s.Packet()
}

func (g *gw) conn() Conn {
	g.Helper()
	n, found := 0, Conn{}
	for c := range g.table.Conns() {
		n, found = n+1, c
	}
	if n != 1 {
		g.Fatalf("%d flows, want 1", n)
	}
	return found
}

func (g *gw) wantState(want string) {
	g.Helper()
	if got := g.conn().State; got != want {
		g.Errorf("state %q, want %q", got, want)
	}
}

func TestTCPLife(t *testing.T) {
	g, c := newGW(t, callsGray), newTalk(redDB, grayDB)
	g.want("syn", g.out(c.call(syn)), wire.OK)
	g.wantState("syn-sent")
	g.want("syn-ack", g.in(c.answer(syn|ack)), wire.OK)
	g.wantState("syn-received")
	g.want("ack", g.out(c.call(ack)), wire.OK)
	g.wantState("established")
	g.want("data", g.out(c.call(ack|psh, 1, 2, 3)), wire.OK)
	g.want("data back", g.in(c.answer(ack, make([]byte, 1000)...)), wire.OK)
	g.want("fin", g.out(c.call(fin|ack)), wire.OK)
	g.wantState("half-closed")
	for range 50 { // the other direction goes on
		g.want("data after fin", g.in(c.answer(ack, make([]byte, 1000)...)), wire.OK)
		g.want("its ack", g.out(c.call(ack)), wire.OK)
	}
	g.want("fin back", g.in(c.answer(fin|ack)), wire.OK)
	g.wantState("closing")
	last := c.call(ack)
	g.want("last ack", g.out(last), wire.OK)
	g.wantState("time-wait")
	g.want("fin again", g.in(c.raw(false, fin|ack, c.b-1, c.a, 0)), wire.OK)
	g.want("last ack again", g.out(last), wire.OK)
	if n := len(g.book.records); n != 1 {
		t.Errorf("%d records, want the tombstone", n)
	}
	g.now += tcptrack.TimeWait.Timeout() + time.Second
	g.table.sweep(g.now)
	g.want("fin to nobody", g.in(c.raw(false, fin|ack, c.b-1, c.a, 0)), wire.NoFlow)
	if n := len(g.book.records); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

func TestTCPRefusesWhatIsOutsideTheWindow(t *testing.T) {
	g, c := newGW(t, callsGray), newTalk(redDB, grayDB)
	g.open(c)
	g.want("data", g.out(c.call(ack, make([]byte, 5000)...)), wire.OK)
	g.want("ack", g.in(c.answer(ack)), wire.OK)
	win := uint32(c.win) << 7
	for _, tt := range []struct {
		name  string
		flags uint8
		seq   uint32
		ack   uint32
		n     int
		want  wire.Reason
	}{
		{"next", ack, c.a, c.b, 100, wire.OK},
		{"keepalive", ack, c.a - 1, c.b, 0, wire.OK},
		{"keepalive with a byte", ack, c.a - 1, c.b, 1, wire.OK},
		{"again", ack, c.a - 5000, c.b, 5000, wire.OK},
		{"at the edge", ack, c.a + win, c.b, 0, wire.OK},
		{"beyond the edge", ack, c.a + win + 3, c.b, 0, wire.OutWindow},
		{"far beyond", ack, c.a + 1<<31, c.b, 10, wire.OutWindow},
		{"long past", ack, c.a - 3*win, c.b, 10, wire.OutWindow},
		{"acknowledges what was not sent", ack, c.a, c.b + 1, 0, wire.OutWindow},
		{"acknowledges the long past", ack, c.a, c.b - 3*win, 0, wire.OutWindow},
		{"rst outside", rst, c.a + win + 3, 0, 0, wire.OutWindow},
		{"rst with ack outside", rst | ack, c.a, c.b + 77777, 0, wire.OutWindow},
		{"fin outside", fin | ack, c.a - 3*win, c.b, 0, wire.OutWindow},
	} {
		g.want(tt.name, g.out(c.raw(true, tt.flags, tt.seq, tt.ack, tt.n)), tt.want)
	}
	g.wantState("established")
	g.want("ack scan", g.out(c.raw(true, ack, 0x12345678, 0x9abcdef0, 0)), wire.OutWindow)
}

func TestTCPRefusals(t *testing.T) {
	t.Run("connection refused", func(t *testing.T) {
		g, c := newGW(t, callsGray), newTalk(redDB, grayDB)
		s := c.call(syn)
		g.want("syn", g.out(s), wire.OK)
		g.want("rst without ack", g.in(c.raw(false, rst, 0, 0, 0)), wire.OutWindow)
		g.want("rst that acknowledges something else", g.in(c.raw(false, rst|ack, 0, c.a+1, 0)), wire.OutWindow)
		g.want("rst", g.in(c.raw(false, rst|ack, 0, c.a, 0)), wire.OK)
		g.wantState("reset")
		// It is lost, and the caller tries on; now somebody listens.
		g.want("syn again", g.out(s), wire.OK)
		g.wantState("syn-sent")
		g.want("rst again", g.in(c.raw(false, rst|ack, 0, c.a, 0)), wire.OK)
		g.want("syn again", g.out(s), wire.OK)
		g.want("syn-ack", g.in(c.answer(syn|ack)), wire.OK)
		g.want("ack", g.out(c.call(ack)), wire.OK)
		g.wantState("established")
	})
	t.Run("nothing passes before the syn-ack", func(t *testing.T) {
		g, c := newGW(t, callsGray), newTalk(redDB, grayDB)
		g.want("syn", g.out(c.call(syn)), wire.OK)
		g.want("data", g.out(c.raw(true, ack, c.a, c.b, 10)), wire.OutOfState)
		g.want("fin", g.out(c.raw(true, fin|ack, c.a, c.b, 10)), wire.OutOfState)
		g.want("a syn-ack to something else", g.in(c.raw(false, syn|ack, 7, 8, 0)), wire.OK)
		g.wantState("syn-sent")
	})
	t.Run("a rst inside the window is doubted", func(t *testing.T) {
		g, c := newGW(t, callsGray), newTalk(redDB, grayDB)
		g.open(c)
		g.want("forged rst", g.out(c.raw(true, rst, c.a+100, 0, 0)), wire.OK)
		g.wantState("reset")
		g.want("challenge ack", g.in(c.answer(ack)), wire.OK)
		g.wantState("established")
		g.now += time.Hour
		g.table.sweep(g.now)
		g.want("data", g.out(c.call(ack, 1)), wire.OK)
		g.want("forged rst", g.out(c.raw(true, rst, c.a+100, 0, 0)), wire.OK)
		g.now += tcptrack.Reset.Timeout() + time.Second
		g.table.sweep(g.now)
		g.want("believed by silence", g.out(c.call(ack, 1)), wire.NoFlow)
	})
	t.Run("an exact rst is believed", func(t *testing.T) {
		g, c := newGW(t, callsGray), newTalk(redDB, grayDB)
		g.open(c)
		g.want("rst", g.out(c.raw(true, rst|ack, c.a, c.b, 0)), wire.OK)
		g.want("what was on its way", g.in(c.answer(ack, 1, 2, 3)), wire.OK)
		g.want("rst again", g.out(c.raw(true, rst, c.a, 0, 0)), wire.OK)
		g.wantState("reset")
	})
}

// The ends lose their memory, or take up a tuple again.
func TestTCPComesBack(t *testing.T) {
	t.Run("after time-wait", func(t *testing.T) {
		g, c := newGW(t, callsGray), newTalk(redDB, grayDB)
		first := c.call(syn)
		g.want("syn", g.out(first), wire.OK)
		g.want("syn-ack", g.in(c.answer(syn|ack)), wire.OK)
		g.want("fin", g.out(c.call(fin|ack)), wire.OK)
		g.want("fin back", g.in(c.answer(fin|ack)), wire.OK)
		g.want("ack", g.out(c.call(ack)), wire.OK)
		g.wantState("time-wait")
		g.want("an old copy of the syn", g.out(first), wire.OK)
		g.wantState("time-wait")
		n := newTalk(redDB, grayDB)
		n.a, n.b = 3_000_000_000, 7
		g.open(n)
		g.wantState("established")
		if len(g.book.records) != 1 {
			t.Errorf("%d records", len(g.book.records))
		}
	})
	t.Run("the caller was restarted, the called end was not", func(t *testing.T) {
		g, c := newGW(t, callsGray), newTalk(redDB, grayDB)
		g.open(c)
		n := newTalk(redDB, grayDB)
		n.a, n.b = 3_000_000_000, 7
		s := n.call(syn)
		g.want("syn", g.out(s), wire.OK)
		g.want("challenge ack", g.in(c.answer(ack)), wire.OK)
		g.want("rst", g.out(c.raw(true, rst, c.a, 0, 0)), wire.OK)
		g.wantState("reset")
		g.want("syn again", g.out(s), wire.OK)
		g.want("syn-ack", g.in(n.answer(syn|ack)), wire.OK)
		g.want("ack", g.out(n.call(ack)), wire.OK)
		g.wantState("established")
	})
	t.Run("both were restarted", func(t *testing.T) {
		g, c := newGW(t, callsGray), newTalk(redDB, grayDB)
		g.open(c)
		n := newTalk(redDB, grayDB)
		n.a, n.b = 3_000_000_000, 7
		g.open(n)
		g.want("data", g.out(n.call(ack, 1, 2, 3)), wire.OK)
		g.want("the old connection", g.out(c.call(ack, 1)), wire.OutWindow)
	})
	t.Run("both were restarted, and nobody listens", func(t *testing.T) {
		g, c := newGW(t, callsGray), newTalk(redDB, grayDB)
		g.open(c)
		g.want("syn", g.out(c.raw(true, syn, 3_000_000_000, 0, 0)), wire.OK)
		g.want("rst", g.in(c.raw(false, rst|ack, 0, 3_000_000_001, 0)), wire.OK)
		g.wantState("reset")
	})
	t.Run("the called end was restarted", func(t *testing.T) {
		g, c := newGW(t, callsGray), newTalk(redDB, grayDB)
		g.open(c)
		g.want("data", g.out(c.call(ack, 1, 2, 3)), wire.OK)
		g.want("rst", g.in(c.raw(false, rst, c.b, 0, 0)), wire.OK)
		g.wantState("reset")
	})
	t.Run("the called end calls on the same tuple", func(t *testing.T) {
		g, c := newGW(t, callsGray), newTalk(redDB, grayDB)
		g.open(c)
		g.want("denied", g.in(c.raw(false, syn, 5, 0, 0)), wire.Denied)
		g.want("fin", g.out(c.call(fin|ack)), wire.OK)
		g.want("fin back", g.in(c.answer(fin|ack)), wire.OK)
		g.want("ack", g.out(c.call(ack)), wire.OK)
		g.want("denied after time-wait", g.in(c.raw(false, syn, 5, 0, 0)), wire.Denied)
		g.wantState("time-wait") // the tombstone is still there
	})
	t.Run("both call at once", func(t *testing.T) {
		g, c := newGW(t, allow), newTalk(redDB, grayDB)
		g.want("syn", g.out(c.raw(true, syn, 999, 0, 0)), wire.OK)
		g.want("syn back", g.in(c.raw(false, syn, 899_999, 0, 0)), wire.OK)
		g.want("syn-ack", g.out(c.raw(true, syn|ack, 999, 900_000, 0)), wire.OK)
		// The other SYN-ACK is lost before it gets here.
		g.want("data", g.in(c.answer(ack, 1, 2, 3)), wire.OK)
		g.want("data back", g.out(c.call(ack, 1)), wire.OK)
		g.wantState("established")
	})
}

func TestTCPTimeouts(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(*gw, *talk)
		life time.Duration
	}{
		{"syn", func(g *gw, c *talk) { g.out(c.call(syn)) }, tcptrack.SynSent.Timeout()},
		{"open", func(g *gw, c *talk) { g.open(c) }, tcptrack.Established.Timeout()},
		{"half", func(g *gw, c *talk) { g.open(c); g.out(c.call(fin | ack)) }, tcptrack.HalfClosed.Timeout()},
		{"closing", func(g *gw, c *talk) { g.open(c); g.out(c.call(fin | ack)); g.in(c.answer(fin | ack)) }, tcptrack.Closing.Timeout()},
		{"udp", func(g *gw, c *talk) { g.out(wiretest.UDP(redDB, grayDB, nil)) }, timeoutUDP},
		{"udp answered", func(g *gw, c *talk) {
			g.out(wiretest.UDP(redDB, grayDB, nil))
			g.in(wiretest.UDP(grayDB, redDB, nil))
		}, timeoutUDPReply},
		{"echo", func(g *gw, c *talk) {
			g.out(wiretest.Echo(redDB.Addr(), grayDB.Addr(), false, 1, 1, nil))
		}, timeoutICMP},
		{"gre", func(g *gw, c *talk) { g.out(wiretest.IP(redDB.Addr(), grayDB.Addr(), 47, make([]byte, 4))) }, timeoutOther},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGW(t, allow)
			tt.make(g, newTalk(redDB, grayDB))
			g.now += tt.life
			g.table.sweep(g.now)
			g.conn()
			g.now++
			g.table.sweep(g.now)
			for c := range g.table.Conns() {
				t.Errorf("still there: %+v", c)
			}
			if len(g.book.records) != 0 {
				t.Error("its record is still there")
			}
			if st := g.table.Stats(); st.TCP+st.UDP+st.ICMP+st.Other != 0 || g.table.count.Load() != 0 || g.table.opener[red].Load() != 0 {
				t.Errorf("still counted: %+v", st)
			}
		})
	}
}
