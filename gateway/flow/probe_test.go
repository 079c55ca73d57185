package flow

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/onewaylink/gw/netstack/wire"
	"github.com/onewaylink/gw/netstack/wire/wiretest"
)

// TestProbe: what a probe says is what then happens to the same packet, and asking
// changes nothing.
func TestProbe(t *testing.T) {
	tcp := func(src, dst netip.AddrPort) Probe { return Probe{Proto: wire.ProtoTCP, Source: src, Destination: dst} }
	udp := Probe{Proto: wire.ProtoUDP, Source: redDB, Destination: grayDB}
	echo := Probe{Proto: wire.ProtoICMP, Source: at("10.77.1.10:0"), Destination: at("10.77.2.10:0")}
	sized := func(p Probe, n int) Probe { p.Size = n; return p }
	syn := newTalk(redDB, grayDB).call(wiretest.SYN)
	for _, tt := range []struct {
		name     string
		judge    judge
		before   func(g *gw)
		probe    Probe
		fromLink bool
		// sameShard replaces the probe's source by a port whose flow is in the same shard.
		sameShard bool
		want      wire.Reason
		state     string // of a flow that is known
		out       int
		answers   int
	}{
		{name: "a new connection", probe: tcp(redDB, grayDB), out: 1},
		{name: "any source port", probe: tcp(netip.AddrPortFrom(redDB.Addr(), 0), grayDB), out: 1},
		{name: "IPv6", probe: tcp(redDB6, grayDB6), out: 1},
		{name: "denied", judge: deny, probe: tcp(redDB, grayDB), want: wire.Denied, answers: 1},
		{name: "denied, from the link", judge: deny, probe: tcp(grayDB, redDB), fromLink: true, want: wire.Denied, answers: 1},
		{name: "allowed, from the link", probe: tcp(grayDB, redDB), fromLink: true, out: 1},
		{name: "no route", probe: tcp(redDB, at("192.0.2.99:5432")), want: wire.NoRoute},
		{name: "no link", probe: tcp(redDB, at("10.77.3.10:5432")), want: wire.NoRoute},
		{name: "somebody else's address", probe: tcp(at("10.77.3.10:1"), grayDB), want: wire.Spoofed},
		{name: "to itself", probe: tcp(redDB, at("10.77.1.11:5432")), want: wire.Loop},
		{name: "link down", before: func(g *gw) { g.path.SetSite(gray, SiteState{}) }, probe: tcp(redDB, grayDB), want: wire.LinkDown},
		{name: "link refused", before: func(g *gw) { g.path.SetSite(gray, SiteState{Up: true, Refused: true}) }, probe: tcp(redDB, grayDB), want: wire.LinkRefused},
		{name: "udp", probe: udp, out: 1},
		{name: "udp, too big", probe: sized(udp, 1500), want: wire.TooBig, answers: 1},
		{name: "udp, too big for the path", before: func(g *gw) { g.path.SetSite(gray, SiteState{Up: true, MTU: 1300}) }, probe: sized(udp, 1301), want: wire.TooBig, answers: 1},
		{name: "tcp, opening with more than a SYN", probe: sized(tcp(redDB, grayDB), 4000), out: 1},
		{name: "tcp, cut up", before: func(g *gw) { g.open(newTalk(redDB, grayDB)) }, probe: sized(tcp(redDB, grayDB), 4000), state: "established", out: 3, answers: 1},
		{name: "echo", probe: echo, out: 1},
		{name: "a connection that is open", before: func(g *gw) { g.open(newTalk(redDB, grayDB)) }, probe: sized(tcp(redDB, grayDB), 1000), state: "established", out: 1},
		{name: "its other end", before: func(g *gw) { g.open(newTalk(redDB, grayDB)) }, probe: tcp(grayDB, redDB), fromLink: true, state: "established", out: 1},
		{name: "its answer", before: func(g *gw) { g.out(newTalk(redDB, grayDB).call(wiretest.SYN)) }, probe: tcp(grayDB, redDB), fromLink: true, state: "syn-sent", out: 1},
		{name: "its call again", before: func(g *gw) { g.out(newTalk(redDB, grayDB).call(wiretest.SYN)) }, probe: tcp(redDB, grayDB), state: "syn-sent", out: 1},
		{name: "one that was reset", before: func(g *gw) {
			talk := newTalk(redDB, grayDB)
			g.open(talk)
			g.out(talk.call(wiretest.RST))
		}, probe: tcp(redDB, grayDB), state: "reset", out: 1},
		{name: "one that sleeps", before: func(g *gw) {
			g.open(newTalk(redDB, grayDB))
			k, v := g.onlyRecord()
			g.table.Remove(k)
			if r, err := g.table.Replace(k, v); r != wire.OK || err != nil {
				g.Fatal(r, err)
			}
		}, probe: tcp(redDB, grayDB), state: "established", out: 1},
		{name: "no room for the site", before: func(g *gw) {
			g.table.cfg.MaxFlows = 2
			g.open(newTalk(at("10.77.1.11:1"), grayDB))
		}, probe: tcp(redDB, grayDB), want: wire.SiteFull},
		{name: "no room for the site, but for one that is spare", before: func(g *gw) {
			g.table.cfg.MaxFlows = 2
			g.out(syn)
		}, probe: tcp(redDB, grayDB), sameShard: true, out: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.judge == nil {
				tt.judge = allow
			}
			g := newGW(t, tt.judge)
			if tt.before != nil {
				tt.before(g)
				g.host.written()
				g.readAll()
			}
			if tt.sameShard {
				tt.probe.Source = g.sameShard(tt.probe.Source, tt.probe.Destination)
			}
			b, err := g.path.Packet(&tt.probe)
			if err != nil {
				t.Fatal(err)
			}
			before := g.facts()
			got, err := g.path.Probe([][]byte{b}, !tt.fromLink)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(before, g.facts()); d != "" {
				t.Errorf("asking has changed something (-before +after):\n%s", d)
			}
			if got.Reason != tt.want || got.State != tt.state || got.Known != (tt.state != "") || len(got.Out) != tt.out || len(got.Answers) != tt.answers {
				t.Errorf("%v, %q, %d packets out, %d back; want %v, %q, %d, %d", got.Reason, got.State, len(got.Out), len(got.Answers),
					tt.want, tt.state, tt.out, tt.answers)
			}
			if (got.Rule != nil) != (tt.want == wire.OK || tt.want == wire.LinkDown || tt.want == wire.LinkRefused || tt.want == wire.TooBig) {
				t.Errorf("rule %v", got.Rule)
			}
			var out, answers [][]byte
			var r wire.Reason
			if tt.fromLink {
				var w []packet
				w, r = g.fromLink(b)
				for _, p := range w {
					out = append(out, p.b)
				}
				answers = g.readAll()
			} else {
				out, r = g.fromHost(b, wire.Offload{})
				for _, p := range g.host.written() {
					answers = append(answers, p.b)
				}
			}
			if r != got.Reason {
				t.Errorf("the packet was judged %v, the probe %v", r, got.Reason)
			}
			if d := cmp.Diff(out, got.Out); d != "" {
				t.Errorf("out (-packet +probe):\n%s", d)
			}
			if d := cmp.Diff(answers, got.Answers); d != "" {
				t.Errorf("back (-packet +probe):\n%s", d)
			}
		})
	}
}

func (g *gw) onlyRecord() (k, v []byte) {
	g.Helper()
	for k, v := range g.book.records {
		return []byte(k), v
	}
	g.Fatal("no record")
	return nil, nil
}

// facts is what can be seen of the gateway from outside.
func (g *gw) facts() (out []any) {
	out = append(out, g.table.Stats(), g.book.puts, len(g.book.records), g.host.Held(), g.path.box.n.Load(), g.table.count.Load())
	for c := range g.table.Conns() {
		c.Age = 0
		out = append(out, fmt.Sprintf("%+v", c))
	}
	return out
}

func TestNoSuchProbe(t *testing.T) {
	g := newGW(t, allow)
	for name, pr := range map[string]Probe{
		"two families":   {Proto: wire.ProtoTCP, Source: redDB, Destination: grayDB6},
		"no address":     {Proto: wire.ProtoTCP, Source: redDB},
		"gre":            {Proto: 47, Source: redDB, Destination: grayDB},
		"too small":      {Proto: wire.ProtoUDP, Source: redDB, Destination: grayDB, Size: 27},
		"much too big":   {Proto: wire.ProtoUDP, Source: redDB, Destination: grayDB, Size: 65536},
		"another's icmp": {Proto: wire.ProtoICMP, Source: redDB6, Destination: grayDB},
	} {
		if _, err := g.path.Packet(&pr); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	if _, err := g.path.Probe(nil, true); err == nil {
		t.Error("no packet is judged")
	}
}

// TestCloneIsWhole: clone copies every field of a flow but relay and wants, which belong to the
// Path that carries it, and the relay of its carriage.
func TestCloneIsWhole(t *testing.T) {
	f := new(flow)
	v := reflect.ValueOf(f).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name == "relay" || name == "wants" {
			continue
		}
		if fill(v.Field(i)); v.Field(i).IsZero() {
			t.Fatalf("the test has no value for %s", name)
		}
	}
	f.carriage.relay, f.carriage.h = nil, nil
	c := f.clone()
	for i := range v.NumField() {
		a := reflect.NewAt(v.Field(i).Type(), v.Field(i).Addr().UnsafePointer()).Elem().Addr().Interface()
		w := reflect.ValueOf(c).Elem().Field(i)
		b := reflect.NewAt(w.Type(), w.Addr().UnsafePointer()).Elem().Addr().Interface()
		if !reflect.DeepEqual(a, b) {
			t.Errorf("clone leaves out %s", v.Type().Field(i).Name)
		}
	}
	if c.unconfirmed == f.unconfirmed {
		t.Error("a clone shares unconfirmed with its original")
	}
}

// fill sets every number, word and pointer in v, exported or not.
func fill(v reflect.Value) {
	v = reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Elem()
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.String:
		v.SetString("x")
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1, 0)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	}
}
