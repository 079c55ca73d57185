package flow

import (
	"bytes"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// policy allows what is opened from the ports, each by a rule of its own.
func policy(mode Mode, ports ...uint16) judge {
	return policyNamed("rule", mode, ports...)
}

func policyNamed(name string, mode Mode, ports ...uint16) judge {
	r := &Rule{Name: name, Mode: mode}
	return func(_, _ netip.Addr, proto uint8, port uint16) *Rule {
		for _, p := range ports {
			if p == port || p == 0 && proto != wire.ProtoTCP {
				return r
			}
		}
		return nil
	}
}

func toPort(port uint16) *talk { return newTalk(redDB, netip.AddrPortFrom(grayDB.Addr(), port)) }

// errorsTold counts the ICMP errors "administratively prohibited" among packets.
func errorsTold(t *testing.T, packets ...[]byte) (n int) {
	t.Helper()
	for _, b := range packets {
		if len(b) > 21 && b[9] == wire.ProtoICMP && b[20] == 3 && b[21] == 13 {
			n++
		}
	}
	return n
}

// TestRejudgeFinished: a connection that has ended neither goes on nor ends by a reload.
func TestRejudgeFinished(t *testing.T) {
	g := newGW(t, policy(ModeRoute, 5432, 5433))
	done := toPort(5432)
	g.open(done)
	g.open(toPort(5433))
	g.close(done)
	if got := g.table.SetJudge(policyNamed("new", ModeRoute, 5432, 5433)); got != (Rejudged{Kept: 1, Moved: 1}) {
		t.Errorf("%+v", got)
	}
}

// TestRevoke: a connection that no rule allows any more is refused both ways, as what
// policy denies is; it leaves no record; another does not notice; and when the rule
// comes back in time, it goes on.
func TestRevoke(t *testing.T) {
	g := newGW(t, policy(ModeRoute, 5432, 5433))
	one, other := toPort(5432), toPort(5433)
	g.open(one)
	g.open(other)
	if got := g.table.SetJudge(policyNamed("new", ModeRoute, 5433)); got != (Rejudged{Kept: 1, Moved: 1, Revoked: 1}) {
		t.Fatalf("%+v", got)
	}
	g.host.written()
	lost, answered := *one, *one
	g.want("data", g.out(lost.call(wiretest.ACK|wiretest.PSH, 'x')), wire.Revoked)
	if w := g.host.written(); len(w) != 1 || errorsTold(t, w[0].b) != 1 {
		t.Errorf("the near end was told %d packets", len(w))
	}
	w, r := g.fromLink(answered.answer(wiretest.ACK|wiretest.PSH, 'y'))
	g.want("the far end's data", r, wire.Revoked)
	if told := g.readAll(); len(w) != 0 || errorsTold(t, told...) != 1 {
		t.Errorf("the far end was told %d packets, the near end got %d", len(told), len(w))
	}
	again := newTalk(one.src, one.dst)
	again.a += 1 << 20
	g.want("a new connection", g.out(again.call(wiretest.SYN)), wire.Denied)
	g.want("the other's data", g.out(other.call(wiretest.ACK, 'x')), wire.OK)
	g.want("the other's answer", g.in(other.answer(wiretest.ACK, 'y')), wire.OK)

	st := g.table.Stats()
	if st.Revoked != 1 || st.TCP != 2 || st.Records != 1 || len(g.book.records) != 1 || st.Drops[wire.Revoked] != 2 {
		t.Errorf("%+v, %d records kept", st, len(g.book.records))
	}
	for c := range g.table.Conns() {
		if revoked := c.Destination == one.dst; c.Revoked != revoked || (c.State == "revoked") != revoked || (c.Rule.Name == "new") == revoked {
			t.Errorf("%+v", c)
		}
	}
	if g.table.Attach(one.src, one.dst, "", nil, nil) != ErrNoFlow {
		t.Error("a relay was attached to what is revoked")
	}

	if got := g.table.SetJudge(policy(ModeRoute, 5432, 5433)); got != (Rejudged{Kept: 1, Moved: 1, Resumed: 1}) {
		t.Errorf("%+v", got)
	}
	g.want("data when the rule is back", g.out(one.call(wiretest.ACK|wiretest.PSH, 'x')), wire.OK)
	g.want("its answer", g.in(one.answer(wiretest.ACK)), wire.OK)
	if len(g.book.records) != 2 {
		t.Errorf("%d records kept, want 2", len(g.book.records))
	}

	g.table.SetJudge(judge(deny))
	g.now += timeoutRevoked + time.Second
	g.table.sweep(g.now)
	g.want("long after", g.out(one.call(wiretest.ACK)), wire.NoFlow)
	if n := g.table.count.Load(); n != 0 {
		t.Errorf("%d flows are left", n)
	}
}

// TestRevokeDatagrams: what opens a flow by each of its packets is judged as if it
// were the first.
func TestRevokeDatagrams(t *testing.T) {
	g := newGW(t, policy(ModeRoute, 0))
	ping := func() wire.Reason {
		return g.out(wiretest.Echo(redDB.Addr(), grayDB.Addr(), false, 7, 1, nil))
	}
	pong := func() wire.Reason {
		return g.in(wiretest.Echo(grayDB.Addr(), redDB.Addr(), true, 7, 1, nil))
	}
	g.want("ping", ping(), wire.OK)
	g.table.SetJudge(judge(deny))
	g.want("its answer", pong(), wire.Revoked)
	g.want("another", ping(), wire.Denied)
	g.table.SetJudge(judge(allow))
	g.want("allowed again", ping(), wire.OK)
	g.want("and its answer", pong(), wire.OK)
}

// TestRevokeDormant: a standby ends none of its sibling's flows, and judges them when
// they become its own; an active node ends those of which it has but the record.
func TestRevokeDormant(t *testing.T) {
	active := newGW(t, allow)
	talk := newTalk(redDB, grayDB)
	active.handshake(talk)
	standby := func() *gw {
		g := newGW(t, allow)
		g.table.SetStandby(true)
		for k, v := range active.table.Records("") {
			g.replace(k, v)
			g.book.Put(k, v) // as the pair does
		}
		return g
	}
	refused := func(g *gw, rule string) {
		t.Helper()
		g.want("data", g.out(talk.call(wiretest.ACK, 'x')), wire.Revoked)
		if st := g.table.Stats(); st.Revoked != 1 || st.Records != 0 || len(g.book.records) != 0 {
			t.Errorf("%+v, %d records kept", st, len(g.book.records))
		}
		for c := range g.table.Conns() {
			if c.Rule.Name != rule || !c.Revoked {
				t.Errorf("%+v", c)
			}
		}
	}
	g := standby()
	if got := g.table.SetJudge(judge(deny)); got != (Rejudged{}) {
		t.Errorf("the standby: %+v", got)
	}
	if st := g.table.Stats(); st.Records != 1 || len(g.book.records) != 1 {
		t.Errorf("the standby has %d records", st.Records)
	}
	for k, v := range active.table.Records("") {
		g.replace(k, v) // the sibling's file is older
	}
	g.table.SetStandby(false)
	refused(g, "unknown")

	g = standby()
	g.table.SetStandby(false)
	if got := g.table.SetJudge(judge(deny)); got != (Rejudged{Revoked: 1}) {
		t.Errorf("the active node: %+v", got)
	}
	refused(g, "some")

	// One that this node had as its own before it became the standby.
	g = standby()
	g.table.SetStandby(false)
	g.want("data", g.out(talk.call(wiretest.ACK, 'x')), wire.OK)
	g.table.SetStandby(true)
	g.table.SetJudge(judge(deny))
	if st := g.table.Stats(); st.Records != 1 || st.Revoked != 0 {
		t.Errorf("%+v", st)
	}
	g.table.SetJudge(judge(allow))
	g.table.SetStandby(false)
	g.want("data", g.out(talk.call(wiretest.ACK, 'x')), wire.OK)
}

// carried is a Relay that notes what it is told.
type carried struct{ said []string }

func (c *carried) FromHost(*wire.Packet, bool) (bool, time.Duration) { return false, 0 }
func (c *carried) Settle()                                           {}
func (c *carried) FromLink(*wire.Packet)                             {}
func (c *carried) TooBig(int)                                        {}
func (c *carried) Forget()                                           { c.said = append(c.said, "forget") }
func (c *carried) Revoke()                                           { c.said = append(c.said, "revoke") }
func (c *carried) HandBack()                                         { c.said = append(c.said, "hand back") }

// TestRevokeRelayed: a relay hears what becomes of its rule, and is in charge no longer
// when there is none.
func TestRevokeRelayed(t *testing.T) {
	for _, tt := range []struct {
		name  string
		judge Judge
		said  string
		after wire.Reason
		mode  bool // still relayed
	}{
		{"allowed by another", policyNamed("new", ModeAuto, 5432), "", wire.OK, true},
		{"to be raw", policy(ModeRoute, 5432), "hand back", wire.OK, true},
		{"revoked", judge(deny), "revoke", wire.Revoked, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGW(t, policy(ModeRelay, 5432))
			talk := newTalk(redDB, grayDB)
			g.open(talk)
			relay := &carried{}
			err := g.table.Attach(redDB, grayDB, "", nil, func(wire.Connection, *Handle) (Relay, error) { return relay, nil })
			if err != nil {
				t.Fatal(err)
			}
			g.table.SetJudge(tt.judge)
			if said := bytes.Join(asBytes(relay.said), []byte(", ")); string(said) != tt.said {
				t.Errorf("the relay heard %q, want %q", said, tt.said)
			}
			g.want("data", g.out(talk.call(wiretest.ACK, 'x')), tt.after)
			for c := range g.table.Conns() {
				if c.Relayed != tt.mode {
					t.Errorf("%+v", c)
				}
			}
		})
	}
}

func asBytes(list []string) (out [][]byte) {
	for _, s := range list {
		out = append(out, []byte(s))
	}
	return out
}

// TestRejudgeUnderLoad: whatever is opened or restored while the policy changes is
// judged by the new one in the end.
func TestRejudgeUnderLoad(t *testing.T) {
	g := newGW(t, allow)
	other := newGW(t, allow)
	var records [][2][]byte
	for port := range uint16(200) {
		talk := newTalk(netip.AddrPortFrom(redDB.Addr(), 20000+port), grayDB)
		other.open(talk)
	}
	for k, v := range other.table.Records("") {
		records = append(records, [2][]byte{bytes.Clone(k), bytes.Clone(v)})
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for port := range uint16(500) {
			g.out(newTalk(netip.AddrPortFrom(redDB.Addr(), 1024+port), grayDB).call(wiretest.SYN))
		}
	})
	wg.Go(func() {
		for _, r := range records {
			if _, err := g.table.Take(r[0], r[1]); err != nil {
				t.Error(err)
			}
		}
	})
	g.table.SetJudge(judge(deny))
	wg.Wait()
	for c := range g.table.Conns() {
		if !c.Revoked {
			t.Errorf("%v is not revoked", c.Source)
		}
	}
}

// TestRejudgedAllocatesNothing: neither a packet of a flow that has been judged again,
// nor one of a flow that is revoked, costs memory.
func TestRejudgedAllocatesNothing(t *testing.T) {
	g := newGW(t, policy(ModeRoute, 5432, 5433))
	kept, revoked := toPort(5432), toPort(5433)
	g.open(kept)
	g.open(revoked)
	g.table.SetJudge(policy(ModeRoute, 5432))
	for _, tt := range []struct {
		talk *talk
		want wire.Reason
	}{{kept, wire.OK}, {revoked, wire.Revoked}} {
		var p wire.Packet
		if r := wire.Parse(&p, tt.talk.call(wiretest.ACK)); r != wire.OK {
			t.Fatal(r)
		}
		var c cursor
		if n := testing.AllocsPerRun(100, func() {
			if _, r := g.table.passNext(g.now, &p, true, &c); r != tt.want {
				t.Fatal(r)
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations for a packet", tt.want, n)
		}
	}
}
