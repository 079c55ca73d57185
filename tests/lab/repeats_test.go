package lab

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// The sides of a trace. Red opens the connection.
const (
	red  = 0
	gray = 1
)

// trace makes up what two captures see.
type trace struct {
	r    *Repeats
	now  time.Time
	addr [2]netip.AddrPort
	isn  [2]uint32
	opts [2][]byte // of the SYNs
}

var (
	optMSS   = []byte{2, 4, 5, 0xb4}
	optSACK  = []byte{1, 1, 4, 2}
	optScale = []byte{1, 3, 3, 7}
)

func newTrace() *trace {
	tr := &trace{
		now:  time.Unix(1000, 0),
		addr: [2]netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1000"), netip.MustParseAddrPort("10.0.0.2:5432")},
		isn:  [2]uint32{1000, 5000},
	}
	for i := range tr.opts {
		tr.opts[i] = bytes.Join([][]byte{optMSS, optSACK, optScale}, nil)
	}
	tr.r = newRepeats([]netip.Addr{tr.addr[0].Addr()}, []netip.Addr{tr.addr[1].Addr()})
	return tr
}

// seg is a segment of side x; numbers are counted from the SYNs'.
func (tr *trace) seg(x int, flags uint8, seq, ack, window int, options ...byte) Segment {
	s := Segment{Src: tr.addr[x], Dst: tr.addr[1-x], Flags: flags, Seq: tr.isn[x] + uint32(seq), Window: uint16(window), Options: options}
	if flags&ACK != 0 {
		s.Ack = tr.isn[1-x] + uint32(ack)
	}
	return s
}

func (tr *trace) send(s Segment, payload string)    { tr.wire(s, payload, true) }
func (tr *trace) receive(s Segment, payload string) { tr.wire(s, payload, false) }

func (tr *trace) wire(s Segment, payload string, outgoing bool) {
	side := red
	if (s.Src == tr.addr[red]) != outgoing {
		side = gray
	}
	tr.r.take(side, Packet{Time: tr.now, Outgoing: outgoing, Data: TCPPacket(s, []byte(payload))})
	tr.after(100 * time.Microsecond)
}

func (tr *trace) after(d time.Duration) { tr.now = tr.now.Add(d) }

// pass is sent at one side and received at the other.
func (tr *trace) pass(s Segment, payload string) {
	tr.send(s, payload)
	tr.after(5 * time.Millisecond)
	tr.receive(s, payload)
}

// open is the handshake, and a first segment in each direction: five bytes of red
// at 1, six of gray at 1.
func (tr *trace) open() {
	tr.pass(tr.seg(red, SYN, 0, 0, 60000, tr.opts[red]...), "")
	tr.pass(tr.seg(gray, SYN|ACK, 0, 1, 60000, tr.opts[gray]...), "")
	tr.pass(tr.seg(red, ACK, 1, 1, 500), "")
	tr.pass(tr.seg(red, ACK|PSH, 1, 1, 500), "hello")
	tr.pass(tr.seg(gray, ACK|PSH, 1, 6, 400), "world!")
	tr.pass(tr.seg(red, ACK, 6, 7, 500), "")
}

// sack is a SACK option about gray's bytes; numbers as in seg.
func (tr *trace) sack(lo, hi int) []byte {
	b := []byte{1, 1, 5, 10}
	b = binary.BigEndian.AppendUint32(b, tr.isn[gray]+uint32(lo))
	return binary.BigEndian.AppendUint32(b, tr.isn[gray]+uint32(hi))
}

func stamp(v uint32) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{1, 1, 8, 10}, v), 0, 0, 0, 0)
}

// TestRepeatsFinds: each way to break the rule is found and named.
func TestRepeatsFinds(t *testing.T) {
	for _, c := range []struct {
		name, why string
		do        func(tr *trace)
	}{
		{"bytes never sent", "bytes that the other had not sent", func(tr *trace) { tr.receive(tr.seg(gray, ACK, 7, 6, 400), "x") }},
		{"one byte too many", "bytes that the other had not sent", func(tr *trace) { tr.receive(tr.seg(gray, ACK, 1, 6, 400), "world!?") }},
		{"bytes before they are sent", "bytes that the other had not sent", func(tr *trace) {
			tr.receive(tr.seg(gray, ACK, 7, 6, 400), "new")
			tr.after(2 * time.Millisecond)
			tr.send(tr.seg(gray, ACK, 7, 6, 400), "new")
		}},
		{"other bytes", "other bytes", func(tr *trace) { tr.receive(tr.seg(gray, ACK, 1, 6, 400), "worle!") }},
		{"the last byte of a long segment", "other bytes", func(tr *trace) {
			long := strings.Repeat("a", 60000)
			tr.send(tr.seg(gray, ACK, 7, 6, 400), long)
			tr.receive(tr.seg(gray, ACK, 7, 6, 400), long[1:]+"b")
		}},
		{"bytes one further", "other bytes", func(tr *trace) { tr.receive(tr.seg(gray, ACK, 2, 6, 400), "world") }},
		{"a byte in place of the SYN", "bytes that the other had not sent", func(tr *trace) { tr.receive(tr.seg(gray, ACK, 0, 6, 400), "x") }},
		{"a keepalive's garbage that was other garbage", "bytes that the other had not sent", func(tr *trace) {
			tr.send(tr.seg(gray, ACK, 0, 6, 400), "a")
			tr.receive(tr.seg(gray, ACK, 0, 6, 400), "b")
		}},
		{"a pure ACK's number", "a sequence number beyond", func(tr *trace) { tr.receive(tr.seg(gray, ACK, 8, 6, 400), "") }},
		{"an ACK too high", "acknowledges 1 bytes beyond", func(tr *trace) { tr.receive(tr.seg(gray, ACK, 7, 7, 400), "") }},
		{"an ACK too early", "acknowledges 4 bytes beyond", func(tr *trace) {
			tr.pass(tr.seg(red, ACK, 6, 7, 500), "more")
			tr.receive(tr.seg(gray, ACK, 7, 10, 300), "")
			tr.after(2 * time.Millisecond)
			tr.send(tr.seg(gray, ACK, 7, 10, 300), "")
		}},
		{"an edge beyond", "a right window edge 128 bytes beyond", func(tr *trace) {
			tr.pass(tr.seg(gray, ACK, 7, 6, 500), "")
			tr.receive(tr.seg(gray, ACK, 7, 6, 501), "")
		}},
		{"an edge in the SYN", "a window of 60001 in a SYN", func(tr *trace) { tr.receive(tr.seg(gray, SYN|ACK, 0, 1, 60001, tr.opts[gray]...), "") }},
		{"an edge reopened", "a right window edge", func(tr *trace) {
			tr.pass(tr.seg(red, ACK, 6, 7, 500), strings.Repeat("b", 400*128))
			tr.pass(tr.seg(gray, ACK, 7, 6+400*128, 100), "")
			tr.receive(tr.seg(gray, ACK, 7, 6+400*128, 101), "")
		}},
		{"a FIN", "a FIN", func(tr *trace) { tr.receive(tr.seg(gray, ACK|FIN, 7, 6, 400), "") }},
		{"a FIN too early", "a FIN", func(tr *trace) {
			tr.send(tr.seg(gray, ACK, 7, 6, 400), "end")
			tr.send(tr.seg(gray, ACK|FIN, 10, 6, 400), "")
			tr.receive(tr.seg(gray, ACK|FIN, 7, 6, 400), "en")
		}},
		{"bytes behind the FIN", "bytes that the other had not sent", func(tr *trace) {
			tr.pass(tr.seg(gray, ACK|FIN, 7, 6, 400), "")
			tr.receive(tr.seg(gray, ACK, 7, 6, 400), "x")
		}},
		{"a RST", "a RST", func(tr *trace) { tr.receive(tr.seg(gray, RST, 7, 0, 0), "") }},
		{"a RST with another number", "a RST", func(tr *trace) {
			tr.send(tr.seg(gray, RST, 7, 0, 0), "")
			tr.receive(tr.seg(gray, RST, 6, 0, 0), "")
		}},
		{"a SYN with another number", "a SYN that the other had not sent", func(tr *trace) { tr.receive(tr.seg(red, SYN, 7, 0, 60000, tr.opts[red]...), "") }},
		{"another scale", "window scale", func(tr *trace) {
			tr.receive(tr.seg(red, SYN, 0, 0, 60000, append(bytes.Clone(optMSS), 1, 3, 3, 8)...), "")
		}},
		{"a scale left out", "window scale", func(tr *trace) { tr.receive(tr.seg(red, SYN, 0, 0, 60000, optMSS...), "") }},
		{"a larger MSS", "an MSS", func(tr *trace) {
			tr.receive(tr.seg(red, SYN, 0, 0, 60000, append([]byte{2, 4, 5, 0xb5}, optScale...)...), "")
		}},
		{"timestamps from nowhere", "timestamps", func(tr *trace) {
			tr.receive(tr.seg(red, SYN, 0, 0, 60000, append(bytes.Clone(tr.opts[red]), stamp(1)...)...), "")
		}},
		{"a timestamp that runs ahead", "a timestamp 2 beyond", func(tr *trace) {
			tr.pass(tr.seg(red, ACK, 6, 7, 500, stamp(70)...), "")
			tr.receive(tr.seg(red, ACK, 6, 7, 500, stamp(72)...), "")
		}},
		{"a SACK block for what was not received", "a SACK block", func(tr *trace) { tr.receive(tr.seg(red, ACK, 6, 7, 500, tr.sack(10, 20)...), "") }},
		{"a SACK block for more than was received", "a SACK block", func(tr *trace) {
			tr.send(tr.seg(gray, ACK, 7, 6, 400), "lost")
			tr.pass(tr.seg(gray, ACK, 11, 6, 400), "arrived")
			tr.receive(tr.seg(red, ACK, 6, 7, 500, tr.sack(10, 18)...), "")
		}},
		{"a SACK block of nothing", "a SACK block", func(tr *trace) { tr.receive(tr.seg(red, ACK, 6, 7, 500, tr.sack(7, 7)...), "") }},
		{"a SACK block upside down", "a SACK block", func(tr *trace) { tr.receive(tr.seg(red, ACK, 6, 7, 500, tr.sack(7, 5)...), "") }},
		{"a SACK block after one upside down", "a SACK block", func(tr *trace) {
			tr.pass(tr.seg(red, ACK, 6, 7, 500, tr.sack(30, 8)...), "")
			tr.receive(tr.seg(red, ACK, 6, 7, 500, tr.sack(10, 20)...), "")
		}},
		{"urgent", "a URG flag", func(tr *trace) { tr.receive(tr.seg(gray, ACK|URG, 1, 6, 400), "world!") }},
		{"a SYN of a connection without a SYN", "no SYN has opened", func(tr *trace) {
			tr.addr[red] = netip.AddrPortFrom(tr.addr[red].Addr(), 1001)
			tr.receive(tr.seg(red, SYN, 0, 0, 60000, tr.opts[red]...), "")
		}},
		{"an answer before there is one", "had not sent a SYN", func(tr *trace) {
			tr.addr[red] = netip.AddrPortFrom(tr.addr[red].Addr(), 1001)
			tr.pass(tr.seg(red, SYN, 0, 0, 60000, tr.opts[red]...), "")
			tr.receive(tr.seg(gray, SYN|ACK, 0, 1, 60000, tr.opts[gray]...), "")
		}},
		{"older than anybody remembers", "behind the other's last", func(tr *trace) {
			b := strings.Repeat("c", 60000)
			at := 7
			for ; at < streamKeep+200_000; at += len(b) {
				tr.send(tr.seg(gray, ACK, at, 6, 400), b)
			}
			tr.receive(tr.seg(gray, ACK, at-len(b), 6, 400), b) // this one is not
			tr.receive(tr.seg(gray, ACK, 1, 6, 400), "world!")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTrace()
			tr.open()
			if r := tr.r.end(); r.Broken != 0 {
				t.Fatalf("before the first fault: %v", r.Err())
			}
			c.do(tr)
			r := tr.r.end()
			if r.Broken != 1 || !strings.Contains(r.Violations[0].Why, c.why) {
				t.Errorf("found %d violations, want one of %q: %v", r.Broken, c.why, r.Err())
			}
		})
	}
}

// TestRepeatsAllows: what correct ends do, and what a gateway may do, is fine.
func TestRepeatsAllows(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(tr *trace)
	}{
		{"retransmission of what was lost", func(tr *trace) {
			tr.send(tr.seg(gray, ACK, 7, 6, 400), "lost")
			tr.after(time.Second)
			tr.pass(tr.seg(gray, ACK, 7, 6, 400), "lost")
		}},
		{"retransmission of what arrived, cut and joined otherwise", func(tr *trace) {
			tr.pass(tr.seg(gray, ACK, 7, 6, 400), "abcdef")
			tr.receive(tr.seg(gray, ACK, 3, 6, 400), "rld!abc")
			tr.receive(tr.seg(gray, ACK, 9, 6, 400), "c")
		}},
		{"reordering", func(tr *trace) {
			a, b := tr.seg(gray, ACK, 7, 6, 400), tr.seg(gray, ACK, 10, 6, 400)
			tr.send(a, "abc")
			tr.send(b, "def")
			tr.receive(b, "def")
			tr.receive(a, "abc")
			tr.receive(tr.seg(red, ACK, 6, 7, 500), "")
		}},
		{"an old ACK and a smaller window", func(tr *trace) {
			tr.receive(tr.seg(gray, ACK, 7, 1, 0), "")
			tr.receive(tr.seg(gray, ACK, 7, 6, 399), "")
		}},
		{"an ACK and an edge of two moments", func(tr *trace) {
			tr.pass(tr.seg(red, ACK, 6, 7, 500), strings.Repeat("b", 1280))
			tr.send(tr.seg(gray, ACK, 7, 6+1280, 400), "")
			tr.receive(tr.seg(gray, ACK, 7, 6, 410), "") // the newer edge with the older ACK
		}},
		{"a cause within the tolerance", func(tr *trace) {
			tr.receive(tr.seg(gray, ACK, 7, 6, 400), "new")
			tr.send(tr.seg(gray, ACK, 7, 6, 400), "new")
		}},
		{"keepalive without a byte, and its answer", func(tr *trace) {
			tr.pass(tr.seg(gray, ACK, 6, 6, 400), "")
			tr.pass(tr.seg(red, ACK, 6, 7, 500), "")
		}},
		{"keepalive with a byte of garbage", func(tr *trace) {
			tr.pass(tr.seg(gray, ACK, 6, 6, 400), "\x00")
			tr.receive(tr.seg(gray, ACK, 1, 6, 400), "world!")
			tr.receive(tr.seg(gray, ACK, 1, 6, 400), "world\x00")
		}},
		{"keepalive with a byte of garbage before any other", func(tr *trace) { tr.pass(tr.seg(gray, ACK, 0, 6, 400), "\x00") }},
		{"a pure ACK with a number far beyond", func(tr *trace) {
			tr.pass(tr.seg(gray, ACK, 1_000_000, 6, 400), "")
			tr.pass(tr.seg(gray, ACK, 7, 6, 400), "on")
		}},
		{"zero window and its probes", func(tr *trace) {
			tr.pass(tr.seg(gray, ACK, 7, 6, 0), "")
			tr.pass(tr.seg(red, ACK, 5, 7, 500), "") // without a byte, as Linux does
			tr.pass(tr.seg(gray, ACK, 7, 6, 0), "")
			tr.pass(tr.seg(red, ACK, 6, 7, 500), "n") // with the next byte, as others do
			tr.pass(tr.seg(gray, ACK, 7, 7, 300), "")
		}},
		{"SACK for what arrived, and D-SACK", func(tr *trace) {
			tr.send(tr.seg(gray, ACK, 7, 6, 400), "lost")
			tr.pass(tr.seg(gray, ACK, 11, 6, 400), "arrived")
			tr.pass(tr.seg(red, ACK, 6, 7, 500, tr.sack(11, 18)...), "")
			tr.pass(tr.seg(gray, ACK, 7, 6, 400), "lost")
			tr.pass(tr.seg(red, ACK, 6, 18, 500, tr.sack(7, 11)...), "")
		}},
		{"SACK for a FIN", func(tr *trace) {
			tr.send(tr.seg(gray, ACK, 7, 6, 400), "lost")
			tr.pass(tr.seg(gray, ACK|FIN, 11, 6, 400), "end")
			tr.pass(tr.seg(red, ACK, 6, 7, 500, tr.sack(11, 15)...), "")
		}},
		{"a reset that was not believed, and a repetition when its bytes are forgotten", func(tr *trace) {
			tr.pass(tr.seg(gray, RST, 1000, 0, 0), "")
			tr.after(keepBytes + time.Second)
			addr := tr.addr[red]
			tr.addr[red] = netip.AddrPortFrom(addr.Addr(), addr.Port()+1)
			tr.open() // which is when old ones are forgotten
			tr.addr[red] = addr
			tr.pass(tr.seg(gray, ACK, 1, 6, 400), "world!")
		}},
		{"SACK of nothing and upside down, if the other has sent them", func(tr *trace) {
			tr.pass(tr.seg(red, ACK, 6, 7, 500, tr.sack(7, 7)...), "")
			tr.pass(tr.seg(red, ACK, 6, 7, 500, tr.sack(30, 8)...), "")
			tr.receive(tr.seg(red, ACK, 6, 7, 500, tr.sack(7, 7)...), "")
		}},
		{"a lower MSS, SACK and timestamps taken off", func(tr *trace) {
			tr.receive(tr.seg(red, SYN, 0, 0, 60000, append([]byte{2, 4, 5, 0xb3}, optScale...)...), "")
		}},
		{"timestamps", func(tr *trace) {
			tr.pass(tr.seg(red, ACK, 6, 7, 500, stamp(70)...), "")
			tr.pass(tr.seg(red, ACK, 6, 7, 500, stamp(80)...), "")
			tr.receive(tr.seg(red, ACK, 6, 7, 500, stamp(70)...), "")
		}},
		{"close by both", func(tr *trace) {
			tr.pass(tr.seg(gray, ACK|FIN, 7, 6, 400), "bye")
			tr.pass(tr.seg(red, ACK, 6, 11, 500), "")
			tr.pass(tr.seg(red, ACK, 6, 11, 500), "more")
			tr.pass(tr.seg(red, ACK|FIN, 10, 11, 500), "")
			tr.pass(tr.seg(gray, ACK, 11, 11, 400), "")
			tr.receive(tr.seg(red, ACK|FIN, 6, 11, 500), "more") // joined
			tr.pass(tr.seg(gray, RST, 11, 0, 0), "")             // the socket is gone
		}},
		{"a RST", func(tr *trace) {
			tr.pass(tr.seg(gray, RST, 7, 0, 0), "")
			tr.receive(tr.seg(gray, RST, 7, 0, 0), "")
		}},
		{"refused", func(tr *trace) {
			tr.addr[red] = netip.AddrPortFrom(tr.addr[red].Addr(), 1001)
			tr.pass(tr.seg(red, SYN, 0, 0, 60000, tr.opts[red]...), "")
			refusal := tr.seg(gray, RST|ACK, 0, 1, 0)
			refusal.Seq = 0
			tr.pass(refusal, "")
		}},
		{"bytes in the SYN", func(tr *trace) {
			tr.addr[red] = netip.AddrPortFrom(tr.addr[red].Addr(), 1001)
			tr.pass(tr.seg(red, SYN, 0, 0, 60000, tr.opts[red]...), "early")
			tr.receive(tr.seg(red, SYN, 0, 0, 60000, tr.opts[red]...), "")
			tr.pass(tr.seg(gray, SYN|ACK, 0, 6, 60000, tr.opts[gray]...), "")
			tr.pass(tr.seg(red, ACK, 6, 1, 500), "late")
		}},
		{"both open at once", func(tr *trace) {
			tr.addr[red] = netip.AddrPortFrom(tr.addr[red].Addr(), 1001)
			tr.send(tr.seg(red, SYN, 0, 0, 60000, tr.opts[red]...), "")
			tr.send(tr.seg(gray, SYN, 0, 0, 60000, tr.opts[gray]...), "")
			tr.receive(tr.seg(red, SYN, 0, 0, 60000, tr.opts[red]...), "")
			tr.receive(tr.seg(gray, SYN, 0, 0, 60000, tr.opts[gray]...), "")
			tr.pass(tr.seg(red, SYN|ACK, 0, 1, 60000, tr.opts[red]...), "")
			tr.pass(tr.seg(gray, SYN|ACK, 0, 1, 60000, tr.opts[gray]...), "")
			tr.pass(tr.seg(red, ACK, 1, 1, 500), "x")
		}},
		{"the tuple used again, and a late one of before", func(tr *trace) {
			old := tr.seg(gray, ACK, 1, 6, 400)
			tr.pass(tr.seg(red, RST, 6, 0, 0), "")
			tr.isn = [2]uint32{900_000, 2_000_000}
			tr.open()
			tr.receive(old, "world!")
			tr.pass(tr.seg(red, ACK, 6, 7, 500), "on")
		}},
		{"a client that came back, and a server that did not know", func(tr *trace) {
			challenge := tr.seg(gray, ACK, 7, 6, 400)
			tr.isn[red] = 900_000
			tr.pass(tr.seg(red, SYN, 0, 0, 60000, tr.opts[red]...), "")
			tr.pass(challenge, "")
			reset := tr.seg(red, RST, 0, 0, 0)
			reset.Seq = challenge.Ack
			tr.pass(reset, "")
			tr.isn[gray] = 2_000_000
			tr.open()
		}},
		{"segments that the captures see with other ends", func(tr *trace) {
			s := tr.seg(gray, RST, 9, 9, 9)
			s.Src = netip.MustParseAddrPort("10.0.0.3:5432")
			tr.receive(s, "")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, isn := range [][2]uint32{{1000, 5000}, {0xffffffff, 0xfffffffe}, {0xfffffff8, 0xfffffffa}, {0x7ffffff8, 0x7ffffffe}} {
				tr := newTrace()
				tr.isn = isn
				tr.open()
				c.do(tr)
				if err := tr.r.end().Err(); err != nil {
					t.Errorf("with first numbers %d: %v", isn, err)
				}
			}
		})
	}
}

// TestRepeatsScale: windows are scaled by the options of both SYNs, and not at
// all if one SYN has none.
func TestRepeatsScale(t *testing.T) {
	for _, c := range []struct {
		name      string
		red, gray []byte
		most      int // the edge beyond gray's ACK that a window of 400 opens
	}{
		{"7", optScale, optScale, 400 << 7},
		{"0", optScale, []byte{1, 3, 3, 0}, 400},
		{"14", []byte{1, 3, 3, 1}, []byte{1, 3, 3, 14}, 400 << 14},
		{"15 is 14", optScale, []byte{1, 3, 3, 15}, 400 << 14},
		{"red without", nil, nil, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, more := range []int{0, 1} {
				tr := newTrace()
				tr.opts = [2][]byte{append(bytes.Clone(optMSS), c.red...), append(bytes.Clone(optMSS), c.gray...)}
				tr.open()
				// Bytes that would be over the edge if all were sent unscaled.
				tr.pass(tr.seg(red, ACK, 6, 7, 500), strings.Repeat("b", 60_000))
				tr.send(tr.seg(gray, ACK, 7, 6+60_000, 400), "")
				tr.receive(tr.seg(gray, ACK, 7, 6+60_000, 400+more), "")
				if r := tr.r.end(); r.Broken != more {
					t.Errorf("a window of %d: %d violations: %v", 400+more, r.Broken, r.Err())
				}
			}
		})
	}
}

// TestRepeatsLong passes a long stream over the wrap, with random losses,
// repetitions and sizes, and then changes one byte of it.
func TestRepeatsLong(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	tr := newTrace()
	tr.isn[gray] = 0xffffffff - 20<<20
	tr.open()
	stream := make([]byte, 44<<20)
	for i := 0; i < len(stream); i += 8 {
		binary.BigEndian.PutUint64(stream[i:], rnd.Uint64())
	}
	send := func(at, n int, b []byte, sent, received bool) {
		s := tr.seg(gray, ACK, 7+at, 6, 400)
		p := string(b[at : at+n])
		if sent {
			tr.send(s, p)
		}
		if received {
			tr.receive(s, p)
		}
	}
	for at := 0; at < len(stream); {
		n := min(len(stream)-at, 1+rnd.IntN(65000))
		send(at, n, stream, true, rnd.IntN(10) > 0)
		at += n
		for rnd.IntN(3) == 0 { // something of before
			back := min(at, 1+rnd.IntN(1<<20))
			send(at-back, min(back, 1+rnd.IntN(65000)), stream, rnd.IntN(2) == 0, true)
		}
		if rnd.IntN(10) == 0 {
			tr.pass(tr.seg(red, ACK, 6, 7+at, 500), "")
		}
	}
	if err := tr.r.end().Err(); err != nil {
		t.Fatal(err)
	}
	at := len(stream) - 1<<20
	wrong := bytes.Clone(stream)
	wrong[at+30_000] ^= 1
	send(at, 60_000, wrong, false, true)
	if r := tr.r.end(); r.Broken != 1 {
		t.Errorf("%d violations for one wrong byte", r.Broken)
	}
	t.Logf("%+v", tr.r.Report().Judged)
}

// TestRepeatsOrder: whichever capture is read first, events are judged in order
// of their times.
func TestRepeatsOrder(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		tr := newTrace()
		type packet struct {
			side int
			Packet
		}
		var all [2][]packet
		real := tr.r
		tr.r = newRepeats(real.addrs[0], real.addrs[1])
		note := func(s Segment, payload string) {
			for i, outgoing := range []bool{true, false} {
				side := red
				if (s.Src == tr.addr[red]) != outgoing {
					side = gray
				}
				all[side] = append(all[side], packet{side, Packet{Time: tr.now.Add(time.Duration(i) * 50 * time.Microsecond), Outgoing: outgoing, Data: TCPPacket(s, []byte(payload))}})
			}
			tr.after(100 * time.Microsecond)
		}
		note(tr.seg(red, SYN, 0, 0, 60000, tr.opts[red]...), "")
		note(tr.seg(gray, SYN|ACK, 0, 1, 60000, tr.opts[gray]...), "")
		for i := range 100 {
			note(tr.seg(red, ACK, 1+i, 1+i, 500), string(rune('a'+i%26)))
			note(tr.seg(gray, ACK, 1+i, 2+i, 500), string(rune('A'+i%26)))
		}
		for len(all[0])+len(all[1]) > 0 {
			side := rnd.IntN(2)
			for range min(len(all[side]), 1+rnd.IntN(30)) {
				real.take(side, all[side][0].Packet)
				all[side] = all[side][1:]
			}
		}
		r := real.end()
		if err := r.Err(); err != nil || r.Judged != [2]int{101, 101} {
			t.Fatalf("seed %d: judged %v: %v", seed, r.Judged, err)
		}
	}
}

// TestRepeatsSawNothing: a checker that has seen one side only reports that.
func TestRepeatsSawNothing(t *testing.T) {
	tr := newTrace()
	if tr.r.end().Err() == nil {
		t.Error("nothing was seen, and Err reports no error")
	}
	tr.pass(tr.seg(red, SYN, 0, 0, 60000, tr.opts[red]...), "")
	if tr.r.end().Err() == nil {
		t.Error("only one side was seen, and Err reports no error")
	}
}

// TestRepeatsStops: what arrives after the end is not judged, as what had been sent
// by then is not known.
func TestRepeatsStops(t *testing.T) {
	tr := newTrace()
	tr.open()
	tr.r.until = tr.now
	tr.after(time.Millisecond)
	tr.receive(tr.seg(gray, RST, 9, 9, 9), "")
	if err := tr.r.end().Err(); err != nil {
		t.Error(err)
	}
}

// TestRepeatsForgets: ended connections don't stay for ever.
func TestRepeatsForgets(t *testing.T) {
	tr := newTrace()
	for range 10 {
		tr.open()
		tr.pass(tr.seg(red, RST, 6, 0, 0), "")
		tr.after(keepClosed)
		tr.addr[red] = netip.AddrPortFrom(tr.addr[red].Addr(), tr.addr[red].Port()+1)
	}
	r := tr.r.end()
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	if r.Connections != 10 || len(tr.r.conns) > 3 {
		t.Errorf("%d connections opened, %d still known", r.Connections, len(tr.r.conns))
	}
	if len(r.Resets) != 10 {
		t.Fatalf("%d resets noted, want 10", len(r.Resets))
	}
	for i, reset := range r.Resets {
		if reset.Connection != i+1 {
			t.Errorf("reset %d belongs to connection %d", i+1, reset.Connection)
		}
	}
}

// TestRanges compares the set with a slow one.
func TestRanges(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		var fast ranges
		var slow [64]bool
		for range 12 {
			lo := rnd.IntN(64)
			hi := lo + rnd.IntN(64-lo+1)
			fast.add(int64(lo), int64(hi))
			for i := lo; i < hi; i++ {
				slow[i] = true
			}
			lo = rnd.IntN(64)
			hi = lo + 1 + rnd.IntN(64-lo)
			want := true
			for i := lo; i < hi; i++ {
				want = want && slow[i]
			}
			if got := fast.covers(int64(lo), int64(hi)); got != want {
				t.Fatalf("%v covers %d to %d: %t, want %t", fast, lo, hi, got, want)
			}
		}
		for i := 1; i < len(fast); i++ {
			if fast[i-1].hi >= fast[i].lo {
				t.Fatalf("%v touch each other", fast)
			}
		}
	}
}
