package tcptrack

import (
	"net/netip"
	"testing"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

const (
	fin = wiretest.FIN
	syn = wiretest.SYN
	rst = wiretest.RST
	ack = wiretest.ACK
)

// window is what every segment of the tests advertises, scale how its SYN says to shift it.
const (
	window = 500
	scale  = 7
)

var ends = [2]netip.AddrPort{netip.MustParseAddrPort("10.77.1.10:40000"), netip.MustParseAddrPort("10.77.2.5:5432")}

// segment is one step of a conversation: what end from sends, the verdict and the phase after it.
type segment struct {
	name     string
	from     int
	flags    uint8
	seq, ack uint32
	n        int
	want     wire.Reason
	phase    Phase
}

func parse(t testing.TB, s segment) *wire.Packet {
	t.Helper()
	w := wiretest.TCP{
		Src: ends[s.from], Dst: ends[1-s.from], Seq: s.seq, Ack: s.ack, Flags: s.flags, Window: window, Payload: make([]byte, s.n),
	}
	if s.flags&syn != 0 {
		w.Options = []byte{2, 4, 0x05, 0xb4, 3, 3, scale, 1, 4, 2, 1, 1}
	}
	p := new(wire.Packet)
	if r := wire.Parse(p, w.Packet()); r != wire.OK {
		t.Fatalf("parse %s: %v", s.name, r)
	}
	return p
}

func play(t *testing.T, tr *Tracker, steps []segment) {
	t.Helper()
	for _, s := range steps {
		p := parse(t, s)
		got := wire.OK
		if tr.phase == None {
			tr.Open(p)
		} else {
			got = tr.Packet(s.from, p)
		}
		if got != s.want || tr.Phase() != s.phase {
			t.Errorf("%s: %v, %v, want %v, %v", s.name, got, tr.Phase(), s.want, s.phase)
		}
	}
}

// The opener's SYN has the number 999, the answer 4999.
var handshake = []segment{
	{"syn", 0, syn, 999, 0, 0, wire.OK, SynSent},
	{"syn-ack", 1, syn | ack, 4999, 1000, 0, wire.OK, SynReceived},
	{"ack", 0, ack, 1000, 5000, 0, wire.OK, Established},
}

func established(t *testing.T) *Tracker {
	tr := new(Tracker)
	play(t, tr, handshake)
	return tr
}

func TestLife(t *testing.T) {
	tr := established(t)
	if !tr.Exact() || !tr.Complete() || !tr.SACK() || tr.Scale(0) != scale || tr.MSS(1) != 1460 || tr.ISN(0) != 999 {
		t.Errorf("after the handshake: %+v", tr)
	}
	play(t, tr, []segment{
		{"data", 0, ack, 1000, 5000, 100, wire.OK, Established},
		{"fin", 0, fin | ack, 1100, 5000, 0, wire.OK, HalfClosed},
		{"data the other way", 1, ack, 5000, 1101, 700, wire.OK, HalfClosed},
		{"fin back", 1, fin | ack, 5700, 1101, 0, wire.OK, Closing},
		{"last ack", 0, ack, 1101, 5701, 0, wire.OK, TimeWait},
		{"fin again", 1, fin | ack, 5700, 1101, 0, wire.OK, TimeWait},
		{"rst after the end", 0, rst, 1101, 0, 0, wire.OK, TimeWait},
	})
	if a, ok := tr.ACK(0); a != 5701 || !ok || !tr.FINAcked(0) || tr.End(1) != 5701 {
		t.Errorf("after the end: %+v", tr)
	}
}

func TestBothOpenAtOnce(t *testing.T) {
	play(t, new(Tracker), []segment{
		{"syn", 0, syn, 999, 0, 0, wire.OK, SynSent},
		{"syn back", 1, syn, 4999, 0, 0, wire.OK, SynReceived},
		{"syn-ack", 0, syn | ack, 999, 5000, 0, wire.OK, SynReceived},
		{"data", 0, ack, 1000, 5000, 1, wire.OK, Established},
	})
}

func TestWindow(t *testing.T) {
	const edge = 1000 + window<<scale
	for _, s := range []segment{
		{"next", 0, ack, 1000, 5000, 100, wire.OK, Established},
		{"keepalive", 0, ack, 999, 5000, 0, wire.OK, Established},
		{"at the edge", 0, ack, edge, 5000, 0, wire.OK, Established},
		{"beyond the edge", 0, ack, edge + overtaken + 1, 5000, 0, wire.OutWindow, Established},
		{"long received", 0, ack, 1<<32 + 1000 - 3*Slack, 5000, 10, wire.OutWindow, Established},
		{"acknowledges what was not sent", 0, ack, 1000, 5001, 0, wire.OutWindow, Established},
		{"acknowledges what is long acknowledged", 0, ack, 1000, 1<<32 + 5000 - 3*Slack, 0, wire.OutWindow, Established},
		{"exact rst", 0, rst, 1000, 0, 0, wire.OK, Reset},
		{"rst in the window", 0, rst, 1001, 0, 0, wire.OK, Reset},
		{"rst outside", 0, rst, edge + overtaken + 1, 0, 0, wire.OutWindow, Established},
	} {
		t.Run(s.name, func(t *testing.T) {
			tr := established(t)
			play(t, tr, []segment{{"window of the other end", 1, ack, 5000, 1000, 0, wire.OK, Established}, s})
		})
	}
}

func TestResets(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		play(t, new(Tracker), []segment{
			{"syn", 0, syn, 999, 0, 0, wire.OK, SynSent},
			{"data before the answer", 0, ack, 1000, 5000, 1, wire.OutOfState, SynSent},
			{"rst that acknowledges something else", 1, rst | ack, 0, 1001, 0, wire.OutWindow, SynSent},
			{"rst", 1, rst | ack, 0, 1000, 0, wire.OK, Reset},
			{"syn again", 0, syn, 999, 0, 0, wire.OK, SynSent},
		})
	})
	t.Run("a doubted reset lasts until a segment follows", func(t *testing.T) {
		tr := established(t)
		play(t, tr, []segment{{"rst", 0, rst, 1001, 0, 0, wire.OK, Reset}})
		if p := tr.Lasting(); p != Established {
			t.Errorf("lasting phase %v, want established", p)
		}
		play(t, tr, []segment{{"challenge ack", 1, ack, 5000, 1000, 0, wire.OK, Established}})
	})
	t.Run("an exact reset is believed", func(t *testing.T) {
		tr := established(t)
		play(t, tr, []segment{
			{"rst", 0, rst, 1000, 0, 0, wire.OK, Reset},
			{"late data", 1, ack, 5000, 1000, 1, wire.OK, Reset},
		})
		if p := tr.Lasting(); p != Reset {
			t.Errorf("lasting phase %v, want reset", p)
		}
	})
}

func TestResume(t *testing.T) {
	tr := established(t)
	tr.Unsettle()
	if tr.Exact() || !tr.Trusted() || tr.Phase() != Established {
		t.Fatalf("after Unsettle: %+v", tr)
	}
	play(t, tr, []segment{
		{"far from the record", 0, ack, 1000 + uint32(RecordWindow) + 1, 5000, 0, wire.OutWindow, Established},
		{"near it", 0, ack, 90_000, 5000, 10, wire.OK, Established},
	})
	if tr.Exact() {
		t.Error("one end alone has settled the positions")
	}
	play(t, tr, []segment{{"the other end agrees", 1, ack, 5000, 90_010, 0, wire.OK, Established}})
	if !tr.Exact() {
		t.Error("both ends agree, and the positions are not settled")
	}
	play(t, tr, []segment{{"far beyond the window", 0, ack, 1 << 31, 5000, 0, wire.OutWindow, Established}})
}

func TestLearn(t *testing.T) {
	tr := established(t)
	pos := tr.Position(0)
	pos.End += 4000
	if n := tr.Learn(0, pos); n != 4000 || tr.End(0) != 5000 {
		t.Errorf("%d bytes are new, end %d, want 4000, 5000", n, tr.End(0))
	}
	if n := tr.Learn(0, pos); n != 0 {
		t.Errorf("%d bytes are new the second time", n)
	}
	pos.End, pos.Fin = pos.End+1, true
	tr.Learn(0, pos)
	if tr.Phase() != HalfClosed {
		t.Errorf("phase %v after a FIN, want half-closed", tr.Phase())
	}
}

func TestThirdACK(t *testing.T) {
	tr := new(Tracker)
	play(t, tr, handshake[:2])
	tr.ThirdACK(&wire.Position{End: 1000, Ack: 4999, Edge: 5000})
	if tr.Phase() != SynReceived {
		t.Errorf("phase %v after an ACK of something else", tr.Phase())
	}
	tr.ThirdACK(&wire.Position{End: 1000, Ack: 5000, Edge: 6000})
	if tr.Phase() != Established {
		t.Errorf("phase %v, want established", tr.Phase())
	}
}

func TestTimeoutsAreOrdered(t *testing.T) {
	for _, p := range []Phase{SynSent, SynReceived, Closing, TimeWait, Reset} {
		if p.Timeout() <= 0 || p.Timeout() >= HalfClosed.Timeout() {
			t.Errorf("%v times out after %v", p, p.Timeout())
		}
	}
	if HalfClosed.Timeout() >= Established.Timeout() {
		t.Error("a half-closed connection outlives an established one")
	}
}

func TestPacketAllocatesNothing(t *testing.T) {
	tr := established(t)
	p := parse(t, segment{"data", 0, ack, 1000, 5000, 100, 0, 0})
	if n := testing.AllocsPerRun(100, func() { tr.Packet(0, p) }); n != 0 {
		t.Errorf("%v allocations a segment", n)
	}
}

func BenchmarkPacket(b *testing.B) {
	tr := new(Tracker)
	tr.Open(parse(b, handshake[0]))
	tr.Packet(1, parse(b, handshake[1]))
	tr.Packet(0, parse(b, handshake[2]))
	p := parse(b, segment{"data", 0, ack, 1000, 5000, 100, 0, 0})
	b.ReportAllocs()
	for b.Loop() {
		tr.Packet(0, p)
	}
}
