package flow

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// madeUp is a record that a hostile gateway makes up: src opened an established connection to dst.
func madeUp(src, dst netip.AddrPort) (k, v []byte) {
	key, srcB := keyBetween(src, dst)
	flags := byte(recReplied | recTrusted | recKnown0 | recKnown1 | recPlain | recSACK)
	if srcB {
		flags |= recOpenerB
	}
	v = []byte{recordVersion, flags, byte(tcptrack.Established)}
	v = binary.BigEndian.AppendUint64(v, uint64(time.Now().Add(-time.Hour).UnixMilli()))
	for range 2 {
		v = append(v, 7)
		v = binary.BigEndian.AppendUint32(v, 1000)
	}
	for range 2 {
		v = binary.BigEndian.AppendUint16(v, 1460)
	}
	return key.append(nil), v
}

// databases allows tcp/5432 in every direction, as the policy of gw init does.
func databases(_, _ netip.Addr, proto uint8, port uint16) *Rule {
	if proto == wire.ProtoTCP && port == 5432 {
		return someRule
	}
	return nil
}

func linkBlue(c *Config) { c.Sites[blue].Linked = true }

// given checks the result of one more record of gray's.
func (g *gw) given(src, dst netip.AddrPort, want Given) {
	g.Helper()
	k, v := madeUp(src, dst)
	if got := g.table.TakeForeign(gray, k, v); got != want {
		g.Fatalf("a record from %v to %v: %v, want %v", src, dst, got, want)
	}
}

// gave is what the table has counted about gray's records.
func (g *gw) gave() ForeignStats { return g.table.Stats().Foreign[0] }

// wantCounts checks the counters that quotas rest on against the flows themselves.
func (g *gw) wantCounts() {
	g.Helper()
	count, opener, giver := 0, make([]int, len(g.table.opener)), make([]int, len(g.table.opener))
	g.table.eachOf(func(f *flow) bool {
		count++
		if f.unconfirmed != nil {
			giver[f.unconfirmed.giver]++
		} else {
			opener[g.table.openerSite(f)]++
		}
		return true
	}, func(_ *shard, k key, d dormant) bool {
		count++
		opener[g.table.dormantOpener(&k, &d)]++
		return true
	})
	if n := int(g.table.count.Load()); n != count {
		g.Fatalf("%d flows are counted, there are %d", n, count)
	}
	for i := range opener {
		if o, f := int(g.table.opener[i].Load()), int(g.table.foreign[i].flows.Load()); o != opener[i] || f != giver[i] {
			g.Fatalf("site %d: %d opened and %d unconfirmed flows are counted, there are %d and %d", i, o, f, opener[i], giver[i])
		}
	}
}

// questions returns what the gateway asks the local ends now.
func (g *gw) questions() []packet {
	g.Helper()
	g.path.confirmFrom(gray, nil)
	return g.host.written()
}

// reply is what a TCP answers to a question: an acknowledgement if it has the connection with these
// positions, else a RST (RFC 9293 section 3.10.7).
func reply(t *testing.T, question []byte, has bool, next, received uint32) []byte {
	t.Helper()
	var p wire.Packet
	if r := wire.Parse(&p, question); r != wire.OK || !p.ChecksumOK() {
		t.Fatalf("a bad question: %v", r)
	}
	if p.Flags != wire.ACK || len(p.Payload()) > 0 {
		t.Fatalf("a question with flags %#x and %d bytes", p.Flags, len(p.Payload()))
	}
	src, dst := netip.AddrPortFrom(p.Dst(), p.DstPort), netip.AddrPortFrom(p.Src(), p.SrcPort)
	if !has {
		return wiretest.TCP{Src: src, Dst: dst, Seq: p.Ack, Flags: wire.RST}.Packet()
	}
	if d := int32(received - p.Seq); d <= 0 {
		return nil // it may be new: no TCP answers that
	}
	return wiretest.TCP{Src: src, Dst: dst, Seq: next, Ack: received, Flags: wire.ACK, Window: 500}.Packet()
}

// TestForeignRecordsHaveAQuota: made-up records fill a quarter of the table for a minute. They
// count to their giver, the opener that they name opens as before, and nothing of them is
// remembered.
func TestForeignRecordsHaveAQuota(t *testing.T) {
	g := newGW(t, databases, linkBlue, func(c *Config) { c.MaxFlows = 4096 })
	g.path.SetSite(blue, SiteState{Up: true, Partial: true})
	for i := range 4096 {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 1, byte(10 + i%200)}), uint16(1024+i/200))
		want := GivenTaken
		if i >= 1024 {
			want = GivenQuota
		}
		g.given(src, grayDB, want)
	}
	if st := g.gave(); st.Unconfirmed != 1024 || st.Given[GivenTaken] != 1024 || st.Given[GivenQuota] != 3072 {
		t.Errorf("%+v", st)
	}
	if len(g.book.records) != 0 {
		t.Errorf("%d made-up records are in the file", len(g.book.records))
	}
	for range g.table.Records("") {
		t.Fatal("a made-up record goes to the sibling or the other site")
	}
	// Red fills its own share, three quarters, by connections to blue.
	for i := range 3072 {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 1, 250}), uint16(1024+i))
		syn := wiretest.TCP{Src: src, Dst: at("10.77.3.10:5432"), Flags: wire.SYN, Options: synOptions}.Packet()
		g.want("red opens to blue", g.out(syn), wire.OK)
	}
	g.wantCounts()
	// The table is full, and what is unconfirmed gives way to gray's own opening.
	g.want("gray opens", g.in(newTalk(at("10.77.2.10:40000"), at("10.77.1.10:5432")).call(wiretest.SYN)), wire.OK)
	g.wantCounts()
	g.now += unconfirmedFor + time.Second
	g.table.sweep(g.now)
	if st := g.gave(); st.Unconfirmed != 0 || st.Expired < 1023 {
		t.Errorf("after a minute: %+v", st)
	}
	g.wantCounts()
}

// TestForeignRecordsOfAllGivers: two sites together take half of the table at most, and none of its
// last quarter.
func TestForeignRecordsOfAllGivers(t *testing.T) {
	const limit = 64
	g := newGW(t, allow, linkBlue, func(c *Config) { c.MaxFlows = limit })
	for i := range limit {
		g.want("opens", g.out(wire.AppendUDP(nil, netip.AddrPortFrom(redDB.Addr(), uint16(1+i)), grayDB, nil)), wire.OK)
		if i == limit*3/4-3 {
			break
		}
	}
	for i := range 4 {
		k, v := madeUp(netip.AddrPortFrom(redDB.Addr(), uint16(1000+i)), at("10.77.3.10:5432"))
		want := GivenTaken
		if i >= 2 {
			want = GivenQuota
		}
		if got := g.table.TakeForeign(blue, k, v); got != want {
			t.Errorf("record %d beside %d flows: %v, want %v", i, g.table.count.Load(), got, want)
		}
	}
}

// TestForeignRecordsOfOthers: a site's records are taken only of TCP between it and this one, and
// where policy allows the connection.
func TestForeignRecordsOfOthers(t *testing.T) {
	for _, tt := range []struct {
		name     string
		src, dst string
		want     Given
	}{
		{"red to gray", "10.77.1.10:40000", "10.77.2.10:5432", GivenTaken},
		{"gray to red", "10.77.2.10:40000", "10.77.1.10:5432", GivenTaken},
		{"red to blue", "10.77.1.10:40000", "10.77.3.10:5432", GivenOtherSite},
		{"blue to red", "10.77.3.10:40000", "10.77.1.10:5432", GivenOtherSite},
		{"red to blue, denied", "10.77.1.10:40000", "10.77.3.10:22", GivenOtherSite},
		{"gray to blue", "10.77.2.10:40000", "10.77.3.10:5432", GivenOtherSite},
		{"gray to gray", "10.77.2.10:40000", "10.77.2.11:5432", GivenOtherSite},
		{"red to red", "10.77.1.10:40000", "10.77.1.11:5432", GivenOtherSite},
		{"nobody to red", "203.0.113.1:40000", "10.77.1.10:5432", GivenOtherSite},
		{"a multicast address", "10.77.1.10:40000", "224.0.0.1:5432", GivenOtherSite},
		{"gray to red, denied", "10.77.2.10:40000", "10.77.1.10:22", GivenDenied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGW(t, databases, linkBlue)
			g.given(at(tt.src), at(tt.dst), tt.want)
			if st := g.gave(); st.Site != "gray" || st.Given[tt.want] != 1 {
				t.Errorf("%+v", st)
			}
			g.wantCounts()
		})
	}
	t.Run("a datagram", func(t *testing.T) {
		g := newGW(t, allow)
		g.want("a datagram", g.out(wire.AppendUDP(nil, redDB, grayDB, []byte("x"))), wire.OK)
		g.want("its answer", g.in(wire.AppendUDP(nil, grayDB, redDB, []byte("y"))), wire.OK)
		other := newGW(t, allow)
		k, v := g.record()
		if got := other.table.TakeForeign(gray, k, v); got != GivenNotTCP {
			t.Errorf("%v", got)
		}
		if got := other.table.TakeForeign(gray, []byte("no key"), nil); got != GivenMalformed {
			t.Errorf("no key: %v", got)
		}
	})
	t.Run("known already", func(t *testing.T) {
		g := newGW(t, databases)
		talk := newTalk(redDB, grayDB)
		g.open(talk)
		g.given(redDB, grayDB, GivenKnown)
		g.want("far from the made-up positions", g.in(talk.answer(wiretest.ACK, 'x')), wire.OK)
	})
}

// TestForeignRecordLetsNoScanIn: a record that says that red opened a connection from port 22 gives
// gray no way to that port: nothing of gray reaches the host, and nothing of what the host answers
// to the gateway's question reaches gray.
func TestForeignRecordLetsNoScanIn(t *testing.T) {
	ssh := at("10.77.1.10:22")
	for _, answers := range []bool{false, true} {
		g := newGW(t, databases)
		g.given(ssh, grayDB, GivenTaken)
		asked := g.questions()
		if len(asked) != 1 {
			t.Fatalf("%d questions", len(asked))
		}
		if answers {
			g.want("the host's RST", g.out(reply(t, asked[0].b, false, 0, 0)), wire.Unconfirmed)
			if st := g.gave(); st.Refuted != 1 || st.Unconfirmed != 0 {
				t.Errorf("%+v", st)
			}
		}
		for _, flags := range []uint8{wire.ACK, wire.ACK | wire.FIN, wire.RST, wire.RST | wire.ACK, wire.SYN | wire.ACK, wire.ACK | wire.PSH} {
			out, r := g.fromLink(wiretest.TCP{Src: grayDB, Dst: ssh, Seq: 1000, Ack: 1000, Flags: flags, Window: 100}.Packet())
			if len(out) != 0 || r != wire.Unconfirmed && r != wire.NoFlow {
				t.Errorf("flags %#x: %v, the host was written %d packets", flags, r, len(out))
			}
		}
		syn := wiretest.TCP{Src: grayDB, Dst: ssh, Seq: 1, Flags: wire.SYN}.Packet()
		g.want("a SYN", g.in(syn), wire.Denied)
		if answers {
			continue
		}
		g.readAll() // the answer to the SYN
		// The error that the host, or the gateway's own kernel for an absent host, sends about the
		// question.
		var p wire.Packet
		if r := wire.Parse(&p, asked[0].b); r != wire.OK {
			t.Fatal(r)
		}
		for _, from := range []netip.Addr{redGW, ssh.Addr()} {
			out, r := g.fromHost(wire.AppendICMPError(nil, wire.HostUnreachable, &p, from, 0), wire.Offload{})
			if len(out) != 0 || r != wire.Unconfirmed {
				t.Errorf("an ICMP error from %v: %v, %d packets went to gray", from, r, len(out))
			}
		}
	}
}

// TestForeignRecordIsConfirmed: what the local end sends confirms an honest record. From then on it
// is like one that this node has seen open.
func TestForeignRecordIsConfirmed(t *testing.T) {
	for _, tt := range []struct {
		name      string
		src, dst  netip.AddrPort
		reachable bool // by the far end, before the local end has spoken
	}{
		{"opened here", redDB, grayDB, false},
		{"opened there", at("10.77.2.10:40000"), at("10.77.1.10:5432"), true},
		{"IPv6", redDB6, grayDB6, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Gray's gateway has seen it open, and sends what it knows.
			grays := newGW(t, allow)
			whole := newTalk(tt.src, tt.dst)
			here := tt.src == redDB || tt.src == redDB6
			pass := func(g *gw, call bool, b []byte) wire.Reason {
				if call == here {
					return g.out(b)
				}
				return g.in(b)
			}
			grays.want("syn", pass(grays, true, whole.call(wiretest.SYN)), wire.OK)
			grays.want("syn-ack", pass(grays, false, whole.answer(wiretest.SYN|wiretest.ACK)), wire.OK)
			grays.want("ack", pass(grays, true, whole.call(wiretest.ACK)), wire.OK)
			k, v := grays.record()

			g := newGW(t, databases)
			if got := g.table.TakeForeign(gray, k, v); got != GivenTaken {
				t.Fatal(got)
			}
			if c := g.conn(); c.State != "unconfirmed" {
				t.Errorf("state %q", c.State)
			}
			// The far end sends first.
			want := wire.Unconfirmed
			if tt.reachable {
				want = wire.OK
			}
			again := *whole // to repeat what is dropped
			first := func(c *talk) []byte {
				if here {
					return c.answer(wiretest.ACK|wiretest.PSH, 'x')
				}
				return c.call(wiretest.ACK|wiretest.PSH, 'x')
			}
			g.want("the far end first", g.in(first(whole)), want)
			g.now += handshakeFor // before that, an end that was called may lack the third packet
			g.table.sweep(g.now)
			asked := g.questions()
			next, received := again.a, again.b
			if !here {
				next, received = whole.b, whole.a
			}
			g.want("the answer", g.out(reply(t, asked[len(asked)-1].b, true, next, received)), wire.OK)
			g.want("the far end again", g.in(first(&again)), wire.OK)
			if st := g.gave(); st.Confirmed != 1 || st.Unconfirmed != 0 {
				t.Errorf("%+v", st)
			}
			if c := g.conn(); c.State != "established" || len(g.book.records) != 1 {
				t.Errorf("state %q, %d records in the file", c.State, len(g.book.records))
			}
			g.now += time.Hour
			g.table.sweep(g.now)
			g.want("an hour later", g.in(first(&again)), wire.OK)
			g.wantCounts()
		})
	}
}

// TestQuestionsAreOld: a question tells the local end nothing, however far the record is ahead of
// what that end has received and of what the far end has acknowledged: both of its numbers are far
// behind.
func TestQuestionsAreOld(t *testing.T) {
	g := newGW(t, databases)
	g.given(redDB, grayDB, GivenTaken)
	var p wire.Packet
	if r := wire.Parse(&p, g.questions()[0].b); r != wire.OK {
		t.Fatal(r)
	}
	const positions = 1000 // of both ends, in the record
	for _, c := range []struct {
		what string
		n    uint32
	}{{"sequence number", p.Seq}, {"acknowledgement", p.Ack}, {"right window edge", p.Ack + uint32(p.Window)}} {
		if behind := int32(positions - c.n); behind <= tcptrack.ResumeWindow {
			t.Errorf("the question's %s is %d bytes behind the record, which may be wrong by %d", c.what, behind, tcptrack.ResumeWindow)
		}
	}
}

// TestQuestionWaitsForTheHandshake: a connection that the far end has just opened may lack its
// third packet at the local end, which would answer a question with a RST. A RST to a question
// about a connection that policy lets the far end open goes nowhere, and the flow stays: what the
// far end sends next gets its own answer.
func TestQuestionWaitsForTheHandshake(t *testing.T) {
	g := newGW(t, databases)
	opener, called := at("10.77.2.10:40000"), at("10.77.1.10:5432")
	k, v := madeUp(opener, called)
	binary.BigEndian.PutUint64(v[3:], uint64(time.Now().UnixMilli()))
	if got := g.table.TakeForeign(gray, k, v); got != GivenTaken {
		t.Fatal(got)
	}
	if asked := g.questions(); len(asked) != 0 {
		t.Fatalf("%d questions about a connection that was opened now", len(asked))
	}
	g.now += handshakeFor
	g.table.sweep(g.now)
	asked := g.questions()
	if len(asked) != 1 {
		t.Fatalf("%d questions", len(asked))
	}
	var question wire.Packet
	if r := wire.Parse(&question, asked[0].b); r != wire.OK {
		t.Fatal(r)
	}
	g.in(wiretest.TCP{Src: opener, Dst: called, Seq: question.Ack, Flags: wire.RST}.Packet()) // no answer: it comes from the far end
	g.want("the RST", g.out(reply(t, asked[0].b, false, 0, 0)), wire.Unconfirmed)
	if st := g.gave(); st.Refuted != 0 || st.Unconfirmed != 1 {
		t.Errorf("%+v", st)
	}
	g.want("the far end", g.in(wiretest.TCP{Src: opener, Dst: called, Seq: 1000, Ack: 1000, Flags: wire.ACK, Window: 100}.Packet()), wire.OK)
}

// TestQuestionFollowsTheFarEnd: a local end that requires timestamps ignores a question without
// them. After a packet of the far end the next question repeats that packet's.
func TestQuestionFollowsTheFarEnd(t *testing.T) {
	g := newGW(t, databases)
	g.given(redDB, grayDB, GivenTaken)
	g.questions() // the local end ignores it
	stamps := []byte{1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9}
	g.want("repeated", g.in(wiretest.TCP{Src: grayDB, Dst: redDB, Seq: 900, Ack: 1000, Flags: wire.ACK, Window: 77, Options: stamps, Payload: make([]byte, 100)}.Packet()), wire.Unconfirmed)
	asked := g.questions()
	if len(asked) != 1 {
		t.Fatalf("%d questions", len(asked))
	}
	if !bytes.HasSuffix(asked[0].b, stamps) {
		t.Errorf("without the far end's timestamps: %x", asked[0].b)
	}
	g.want("the answer", g.out(reply(t, asked[0].b, true, 1000, 900)), wire.OK)
	if st := g.gave(); st.Confirmed != 1 {
		t.Errorf("%+v", st)
	}
}

// TestForeignRecordDoesNotHinderAnOpening: a SYN on the tuple of an unconfirmed flow opens a
// connection as if there were no record.
func TestForeignRecordDoesNotHinderAnOpening(t *testing.T) {
	g := newGW(t, databases)
	g.given(redDB, grayDB, GivenTaken)
	talk := newTalk(redDB, grayDB)
	talk.a, talk.b = 0xfffffff0, 77 // far from the record's
	g.open(talk)
	g.want("data", g.in(talk.answer(wiretest.ACK, make([]byte, 100)...)), wire.OK)
	g.wantState("established")
	g.wantCounts()
}

// TestQuestionsAreBounded: one giver's records cause so many questions without an answer at a time,
// and so many about one flow.
func TestQuestionsAreBounded(t *testing.T) {
	g := newGW(t, databases)
	for i := range 3 * askWindow {
		g.given(netip.AddrPortFrom(redDB.Addr(), uint16(1000+i)), grayDB, GivenTaken)
	}
	var open []asked
	questions := 0
	for range 200 {
		open = g.path.confirmFrom(gray, open)
		n := len(g.host.written())
		if questions += n; n > askWindow || len(open) > askWindow {
			t.Fatalf("%d questions at once, %d open", n, len(open))
		}
		g.now += askWait / 4
	}
	if most := 3 * askWindow * askTries; questions != most {
		t.Errorf("%d questions about %d flows, want %d", questions, 3*askWindow, most)
	}
	if n := g.table.foreign[gray].queue.len(); n != 0 {
		t.Errorf("%d flows still wait", n)
	}
}

// TestStandbyTakesNoForeignRecords: a standby has no unconfirmed flows, and asks when it takes
// over.
func TestStandbyTakesNoForeignRecords(t *testing.T) {
	g := newGW(t, databases)
	g.given(redDB, grayDB, GivenTaken)
	g.table.SetStandby(true)
	g.given(at("10.77.1.10:40001"), grayDB, GivenStandby)
	if n := g.table.count.Load(); n != 0 || g.table.foreign[gray].queue.len() != 0 {
		t.Errorf("%d flows on a standby", n)
	}
	g.table.SetStandby(false)
	g.given(redDB, grayDB, GivenTaken)
	g.wantCounts()
}

// TestPolicyEndsUnconfirmedFlows: a reload that no longer allows an unconfirmed flow removes it,
// without a tombstone.
func TestPolicyEndsUnconfirmedFlows(t *testing.T) {
	g := newGW(t, databases)
	g.given(redDB, grayDB, GivenTaken)
	if out := g.table.SetJudge(judge(databases)); out != (Rejudged{}) || g.gave().Unconfirmed != 1 {
		t.Errorf("%+v", out)
	}
	if out := g.table.SetJudge(judge(deny)); out != (Rejudged{}) || g.table.count.Load() != 0 {
		t.Errorf("%+v, %d flows left", out, g.table.count.Load())
	}
	g.wantCounts()
}

// answering is a device whose hosts have every connection, and answer at once.
type answering struct {
	*device
	t        *testing.T
	answered chan []byte
}

func (a *answering) Write(vec [][]byte, _ wire.Offload) error {
	a.answered <- reply(a.t, bytes.Join(vec, nil), true, 1000, 1000)
	return nil
}

// TestHonestRestoration: 1,000 idle connections of either direction are all confirmed, without a
// packet of theirs.
func TestHonestRestoration(t *testing.T) {
	const conns = 1000
	g := newGW(t, databases)
	for i := range conns {
		port := uint16(10000 + i)
		if i%2 == 0 {
			g.given(netip.AddrPortFrom(redDB.Addr(), port), grayDB, GivenTaken)
		} else {
			g.given(netip.AddrPortFrom(grayDB.Addr(), port), at("10.77.1.10:5432"), GivenTaken)
		}
	}
	// More than are asked at once, so that a write never waits for this test.
	host := &answering{g.host, t, make(chan []byte, 2*askWindow)}
	g.path.host = host
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.path.ConfirmFlows(ctx) }()
	for range conns {
		var pkt wire.Packet
		b := <-host.answered
		if r := wire.Parse(&pkt, b); r != wire.OK {
			t.Fatal(r)
		}
		if _, r := g.table.pass(g.now, &pkt, true); r != wire.OK {
			t.Fatalf("an answer: %v", r)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if st := g.gave(); st.Confirmed != conns || len(g.book.records) != conns {
		t.Errorf("%+v, %d records in the file", st, len(g.book.records))
	}
	g.wantCounts()
}
