package flow

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onewaylink/gw/gateway/flow/tcptrack"
	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// notes is an Observer that keeps what it hears since it was last asked.
type notes struct{ lines []string }

func (n *notes) Opened(c Conn, how Coming) {
	n.lines = append(n.lines, fmt.Sprintf("%v by %s", how, c.Rule.Name))
}

func (n *notes) Ended(c Conn, reason string) {
	n.lines = append(n.lines, fmt.Sprintf("ended, %s: %d out, %d in, %v", reason, c.BytesOut, c.BytesIn, c.Age))
}

func (n *notes) want(t *testing.T, what string, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, n.lines); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
	n.lines = nil
}

func newObserved(t *testing.T, j judge) (*gw, *notes) {
	n := &notes{}
	return newGW(t, j, func(c *Config) { c.Observer = n }), n
}

// close ends the connection from both sides.
func (g *gw) close(talk *talk) {
	g.Helper()
	g.want("fin", g.out(talk.call(wiretest.FIN|wiretest.ACK)), wire.OK)
	g.want("its answer", g.in(talk.answer(wiretest.FIN|wiretest.ACK)), wire.OK)
	g.want("the last ack", g.out(talk.call(wiretest.ACK)), wire.OK)
}

const (
	syns = 40 // bytes of a segment without payload; synOptions make it longer
	opts = 12
)

// TestObserveResumed: a flow that a reload revoked and another permits again is told as opened
// again, and its end with what passed since then. So is one that goes on after a RST that was not
// believed.
func TestObserveResumed(t *testing.T) {
	g, heard := newObserved(t, policy(ModeRoute, 5432))
	talk := newTalk(redDB, grayDB)
	g.open(talk)
	heard.want(t, "opened", "opened by rule")
	g.now += time.Minute
	g.want("data", g.out(talk.call(wiretest.ACK, 'x')), wire.OK)
	for range 2 { // the second changes nothing
		g.table.SetJudge(judge(deny))
	}
	heard.want(t, "revoked", fmt.Sprintf("ended, its rule was revoked: %d out, %d in, 1m0s", syns+opts+syns+syns+1, syns+opts))
	g.now += time.Minute
	lost := *talk
	g.want("refused", g.out(lost.call(wiretest.ACK, 'y')), wire.Revoked)
	g.table.SetJudge(policyNamed("new", ModeRoute, 5432))
	heard.want(t, "resumed", "resumed by new")
	g.now += time.Second
	g.close(talk)
	heard.want(t, "its end", fmt.Sprintf("ended, closed: %d out, %d in, 1s", 2*syns, syns))
	g.now += time.Hour
	g.table.sweep(g.now)
	heard.want(t, "long after")

	again := newTalk(redDB, grayDB)
	g.open(again)
	forged := *again
	forged.b += 100
	g.want("a doubtful RST", g.in(forged.answer(wiretest.RST)), wire.OK)
	g.want("data", g.out(again.call(wiretest.ACK, 'x')), wire.OK)
	g.want("its answer", g.in(again.answer(wiretest.ACK)), wire.OK)
	g.close(again)
	if n := len(heard.lines); n != 4 {
		t.Fatalf("%d lines, want 4: %q", n, heard.lines)
	}
	heard.lines[1], heard.lines[3] = heard.lines[1][:12], heard.lines[3][:13]
	heard.want(t, "a RST", "opened by new", "ended, reset", "resumed by new", "ended, closed")
}

// TestObserveRevokedMany: where a reload ends more flows than can be told of at once, the others
// are told by the sweep, or when they go on, as if they had been told in time.
func TestObserveRevokedMany(t *testing.T) {
	const more = 10
	g, heard := newObserved(t, allow)
	var talks []*talk
	for port := range uint16(tellAtOnce + more) {
		talks = append(talks, newTalk(netip.AddrPortFrom(redDB.Addr(), 1024+port), grayDB))
		g.want("syn", g.out(talks[port].call(wiretest.SYN)), wire.OK)
	}
	heard.lines = nil
	ended := fmt.Sprintf("ended, its rule was revoked: %d out, 0 in, 0s", syns+opts)
	counts := func(what string, want map[string]int) {
		t.Helper()
		got := map[string]int{}
		for _, line := range heard.lines {
			got[line]++
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
		heard.lines = nil
	}
	g.now += time.Second
	g.table.SetJudge(judge(deny))
	counts("revoked", map[string]int{ended: tellAtOnce})
	g.now += time.Second
	for _, talk := range talks {
		g.want("refused", g.out(talk.call(wiretest.ACK, 'x')), wire.Revoked)
	}
	g.table.sweep(g.now)
	counts("by the sweep", map[string]int{ended: more})
	g.table.SetJudge(judge(allow))
	g.table.sweep(g.now)
	g.table.sweep(g.now)
	counts("resumed", map[string]int{"resumed by some": tellAtOnce + more})
	ended = "ended, its rule was revoked: 0 out, 0 in, 0s"
	g.table.SetJudge(judge(deny))
	heard.lines = nil
	g.table.SetJudge(judge(allow))
	counts("at once", map[string]int{ended: more, "resumed by some": tellAtOnce})
}

// TestObserveRelayed: the end of a connection is told when it comes, also when a trunk brings it.
func TestObserveRelayed(t *testing.T) {
	g, heard := newObserved(t, policy(ModeRelay, 5432))
	talk := newTalk(redDB, grayDB)
	g.open(talk)
	var h *Handle
	err := g.table.Attach(redDB, grayDB, "", nil, func(_ wire.Connection, given *Handle) (Relay, error) { h = given; return &carried{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	talk.b++
	h.Heard(wire.Position{End: talk.b, Ack: talk.a, Edge: talk.a + 1000, Fin: true})
	g.want("fin", g.out(talk.call(wiretest.FIN|wiretest.ACK)), wire.OK)
	heard.want(t, "before its end", "opened by rule")
	h.Heard(wire.Position{End: talk.b, Ack: talk.a, Edge: talk.a + 1000, Fin: true})
	heard.want(t, "its end", fmt.Sprintf("ended, closed: %d out, %d in, 0s", syns+opts+2*syns, syns+opts+1))
}

// record gives the record of the gateway's only flow.
func (g *gw) record() (k, v []byte) {
	for key, value := range g.table.Records("") {
		k, v = bytes.Clone(key), bytes.Clone(value)
	}
	return k, v
}

// TestObserveRestored: what comes from a record is told as opened, once, whichever of file, sibling
// and other site had it first, before its end, and without a packet. What had ended is not.
func TestObserveRestored(t *testing.T) {
	before := newGW(t, allow)
	first := newTalk(redDB, grayDB)
	before.open(first)
	k, v := before.record()
	took := func(g *gw, take func(k, v []byte) (wire.Reason, error)) {
		t.Helper()
		if r, err := take(k, v); r != wire.OK || err != nil {
			t.Fatal(r, err)
		}
	}
	file := func(g *gw) { took(g, g.table.Take) }
	fetch := func(g *gw) { g.table.TakeForeign(gray, k, v) }
	sibling := func(g *gw) { took(g, g.table.Replace) }
	standby := func(g *gw) { g.table.SetStandby(true) }
	takeOver := func(g *gw) { g.now += time.Minute; g.table.SetStandby(false) }
	look := func(g *gw) { g.table.sweep(g.now) }
	for _, tt := range []struct {
		name string
		do   []func(*gw)
		want string
	}{
		{"from the file, then fetched", []func(*gw){file, fetch, look, fetch, look}, "restored"},
		{"fetched", []func(*gw){fetch, look}, "fetched"},
		{"told by its end", []func(*gw){file}, "restored"},
		{"from the file before the election", []func(*gw){standby, file, look, takeOver, look, fetch, look}, "restored"},
		{"from the file, then the sibling's", []func(*gw){standby, file, sibling, look, takeOver, fetch, look}, "taken over"},
		{"taken over, told by its end", []func(*gw){standby, sibling, takeOver}, "taken over"},
		{"fetched after the takeover", []func(*gw){standby, takeOver, fetch, look}, "fetched"},
		{"claimed again with a higher epoch", []func(*gw){standby, sibling, takeOver, look, takeOver, look}, "taken over"},
		{"the sibling's again while active", []func(*gw){standby, sibling, takeOver, look, sibling, look}, "taken over"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, heard := newObserved(t, allow)
			talk := *first
			for _, f := range tt.do {
				f(g)
			}
			g.want("data", g.out(talk.call(wiretest.ACK, 'x')), wire.OK)
			g.now += time.Second
			g.close(&talk)
			end := fmt.Sprintf("ended, closed: %d out, %d in, ", 3*syns+1, syns)
			if len(heard.lines) != 2 || heard.lines[0] != tt.want+" by some" || !strings.HasPrefix(heard.lines[1], end) {
				t.Errorf("heard %q, want %q, %q", heard.lines, tt.want, end)
			}
			heard.lines = nil
			g.now += time.Hour
			look(g)
			heard.want(t, "after its end")
		})
	}

	t.Run("silent", func(t *testing.T) {
		g, heard := newObserved(t, allow)
		standby(g)
		sibling(g)
		takeOver(g)
		look(g)
		heard.want(t, "taken over", "taken over by some")
		g.now += 2 * tcptrack.Established.Timeout()
		look(g)
		heard.want(t, "forgotten", "ended, silent for too long: 0 out, 0 in, 0s")
	})
	t.Run("revoked asleep", func(t *testing.T) {
		g, heard := newObserved(t, allow)
		standby(g)
		sibling(g)
		takeOver(g)
		g.table.SetJudge(judge(deny))
		heard.want(t, "revoked", "taken over by some", "ended, its rule was revoked: 0 out, 0 in, 0s")
	})
	t.Run("active, deposed and active again", func(t *testing.T) {
		g, heard := newObserved(t, allow)
		g.open(newTalk(redDB, grayDB))
		standby(g)
		takeOver(g)
		look(g)
		heard.want(t, "the second time", "opened by some", "taken over by some")
	})
	t.Run("over", func(t *testing.T) {
		talk := *first
		before.close(&talk)
		k, v = before.record()
		for _, way := range [][]func(*gw){{file}, {standby, sibling, takeOver}} {
			g, heard := newObserved(t, allow)
			for _, f := range way {
				f(g)
			}
			look(g)
			g.want("a straggler", g.out(talk.call(wiretest.ACK)), wire.OK)
			look(g)
			g.now += time.Hour
			look(g)
			heard.want(t, "a tombstone")
		}
	})
}
