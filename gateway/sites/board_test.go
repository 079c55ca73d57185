package sites

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/link"
)

// dataPath remembers what it was told last of each site.
type dataPath map[int]flow.SiteState

func (d dataPath) SetSite(i int, s flow.SiteState) { d[i] = s }

// rig is a Board of red, a pair, that is linked to gray, a pair, and to blue, with a clock.
type rig struct {
	*Board
	path dataPath
	now  time.Duration
}

const gray, blue = 1, 2

var addrs = map[string]netip.Addr{
	"gray-1": netip.MustParseAddr("10.77.2.1"), "gray-2": netip.MustParseAddr("10.77.2.2"), "blue-1": netip.MustParseAddr("10.77.3.1"),
}

func newRig() *rig {
	r := &rig{path: dataPath{}}
	node := func(name string) Node { return Node{Name: name, Trunk: addrs[name]} }
	r.Board = New(Config{
		Self: "red", Path: r.path, Now: func() time.Duration { return r.now },
		Sites: []Site{
			{Name: "red", Nodes: []Node{{Name: "red-1"}, {Name: "red-2"}}},
			{Name: "gray", Nodes: []Node{node("gray-1"), node("gray-2")}},
			{Name: "blue", Nodes: []Node{node("blue-1")}},
		},
	})
	return r
}

// events returns those that wait, in words.
func (r *rig) events() (out []string) {
	for e, ok := r.queue.next(); ok; e, ok = r.queue.next() {
		out = append(out, fmt.Sprintf("%v %s %s", e.Kind, e.Site, e.Node))
	}
	return out
}

// up is a node of gray's that answers hellos.
func up(node string, change ...func(*link.PeerState)) link.PeerState {
	p := link.PeerState{Site: "gray", Node: node, Up: true, GW: true, MTU: 1420, Boot: 1, Trunks: true}
	for _, c := range change {
		c(&p)
	}
	return p
}

func down(node string) link.PeerState { return link.PeerState{Site: "gray", Node: node, Boot: 1} }

// What each change of a link posts, and what the data path sees of it.
func TestSetNode(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before []link.PeerState
		state  link.PeerState
		want   []string
		path   flow.SiteState
	}{
		{
			"up for the first time", nil, up("gray-1"),
			[]string{"changed gray gray-1", "established gray gray-1", "reachable gray gray-1"}, flow.SiteState{Up: true, MTU: 1420},
		},
		{
			"stock WireGuard", nil, link.PeerState{Site: "gray", Node: "gray-1", Up: true},
			[]string{"changed gray gray-1", "established gray gray-1"}, flow.SiteState{Up: true},
		},
		{
			"another MTU", []link.PeerState{up("gray-1")}, up("gray-1", func(p *link.PeerState) { p.MTU = 1300 }),
			[]string{"changed gray gray-1", "reachable gray gray-1"}, flow.SiteState{Up: true, MTU: 1300},
		},
		{
			"down: the path stays open", []link.PeerState{up("gray-1")}, down("gray-1"),
			[]string{"lost gray gray-1"}, flow.SiteState{Up: true},
		},
		{
			"never up", nil, down("gray-1"),
			[]string{"lost gray gray-1"}, flow.SiteState{},
		},
		{
			"up again: senders are woken", []link.PeerState{up("gray-1"), down("gray-1")}, up("gray-1"),
			[]string{"changed gray gray-1", "wake gray gray-1", "reachable gray gray-1"}, flow.SiteState{Up: true, MTU: 1420},
		},
		{
			"restarted", []link.PeerState{up("gray-1")}, up("gray-1", func(p *link.PeerState) { p.Boot = 2 }),
			[]string{"restarted gray gray-1", "changed gray gray-1", "reachable gray gray-1"}, flow.SiteState{Up: true, MTU: 1420},
		},
		{
			"refused", []link.PeerState{up("gray-1")}, link.PeerState{Site: "gray", Node: "gray-1", Refused: true},
			[]string{"lost gray gray-1"}, flow.SiteState{Up: true, Refused: true},
		},
		{
			"a node that does not carry the site", []link.PeerState{up("gray-1"), up("gray-2")}, down("gray-2"),
			[]string{"lost gray gray-2"}, flow.SiteState{Up: true, MTU: 1420},
		},
		{
			"that node is up again: no sender waits for it", []link.PeerState{up("gray-2"), down("gray-2")}, up("gray-2"),
			[]string{"changed gray gray-2", "reachable gray gray-2"}, flow.SiteState{},
		},
		{
			"the sibling", nil, link.PeerState{Site: "red", Node: "red-2", Up: true, GW: true},
			[]string{"sibling agreed red red-2", "established red red-2"}, flow.SiteState{},
		},
		{
			"the sibling differs", nil, link.PeerState{Site: "red", Node: "red-2", Refused: true},
			[]string{"sibling refused red red-2"}, flow.SiteState{},
		},
		{"a node that the configuration lacks", nil, up("gray-3"), nil, flow.SiteState{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig()
			for _, p := range tt.before {
				r.SetNode(p)
			}
			r.events()
			r.SetNode(tt.state)
			if got := r.events(); !slices.Equal(got, tt.want) {
				t.Errorf("events %q, want %q", got, tt.want)
			}
			if got := r.path[gray]; got != tt.path {
				t.Errorf("the data path sees %+v, want %+v", got, tt.path)
			}
			if s, ok := r.path[0]; ok {
				t.Errorf("the data path was told of a path to its own site: %+v", s)
			}
		})
	}
}

// A takeover at the other site: the data path sees the new carrier's path at once, and what has
// been measured of it.
func TestSetCarrier(t *testing.T) {
	r := newRig()
	r.SetNode(up("gray-1", func(p *link.PeerState) { p.PartialChecksums = true }))
	r.SetNode(up("gray-2", func(p *link.PeerState) { p.MTU = 1300 }))
	r.SetMeasures([]Measure{{Site: "gray", Node: "gray-2", RTT: 20 * time.Millisecond}})
	r.events()
	if got, want := r.path[gray], (flow.SiteState{Up: true, MTU: 1420, Partial: true}); got != want {
		t.Errorf("before: %+v, want %+v", got, want)
	}
	r.SetCarrier("gray", "gray-2")
	if got := r.events(); !slices.Equal(got, []string{"moved gray gray-2"}) {
		t.Errorf("events %q", got)
	}
	if got, want := r.path[gray], (flow.SiteState{Up: true, MTU: 1300, WAN: true}); got != want {
		t.Errorf("after: %+v, want %+v", got, want)
	}
	if p := r.Path(gray); p.Node != addrs["gray-2"] || p.RTT != 20*time.Millisecond || r.Carrier("gray") != "gray-2" {
		t.Errorf("%+v, carried by %s", p, r.Carrier("gray"))
	}
	// A node of which nothing is known.
	r.SetCarrier("gray", "gray-9")
	if got := r.path[gray]; got != (flow.SiteState{}) || r.Path(gray).Node.IsValid() || r.Carrier("gray") != "gray-9" {
		t.Errorf("%+v", got)
	}
	r.SetCarrier("red", "red-2") // the election at home is not a path
	r.SetCarrier("nowhere", "x")
	if got := r.events(); !slices.Equal(got, []string{"moved gray gray-9"}) {
		t.Errorf("events %q", got)
	}
}

// When is a connection relayed, as far as the path decides?
func TestPath(t *testing.T) {
	ms := time.Millisecond
	for _, tt := range []struct {
		name    string
		node    link.PeerState
		measure Measure
		change  func(r *rig)
		want    Path
	}{
		{"short and clean", up("gray-1"), Measure{RTT: 4 * ms}, nil, Path{Node: addrs["gray-1"], RTT: 4 * ms}},
		{"long", up("gray-1"), Measure{RTT: 5 * ms}, nil, Path{
			Node: addrs["gray-1"], RTT: 5 * ms, WAN: true, Why: "the link has a round trip of 5 ms",
		}},
		{"hellos are lost", up("gray-1"), Measure{RTT: ms, Loss: 0.003}, nil, Path{
			Node: addrs["gray-1"], RTT: ms, WAN: true, Lossy: true, Why: "the link loses 0.3 %",
		}},
		{"trunks retransmit", up("gray-1"), Measure{RTT: ms, Trunks: Counters{Packets: 1000, Lost: 15, Late: 5}}, nil, Path{
			Node: addrs["gray-1"], RTT: ms, WAN: true, Lossy: true, Why: "the link loses 1.0 %",
		}},
		{"a node that takes no trunks", up("gray-1", func(p *link.PeerState) { p.Trunks = false }), Measure{RTT: 9 * ms}, nil, Path{}},
		{"down", down("gray-1"), Measure{RTT: 9 * ms}, nil, Path{}},
		{"a standby", up("gray-1"), Measure{RTT: 9 * ms}, func(r *rig) { r.SetStandby(true) }, Path{}},
		{"another node carries the site", up("gray-1"), Measure{RTT: 9 * ms}, func(r *rig) { r.SetCarrier("gray", "gray-2") }, Path{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig()
			r.SetNode(tt.node)
			tt.measure.Site, tt.measure.Node = "gray", "gray-1"
			r.SetMeasures([]Measure{tt.measure, {Site: "gray", Node: "gray-9"}, {Site: "nowhere"}})
			if tt.change != nil {
				tt.change(r)
			}
			if got := r.Path(gray); got != tt.want || r.Why("gray") != tt.want.Why {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			if got := r.path[gray]; got.WAN != tt.want.WAN || got.Lossy != tt.want.Lossy {
				t.Errorf("the data path sees %+v", got)
			}
			if got := len(r.Trunks()); got == 1 != tt.want.Node.IsValid() {
				t.Errorf("%d nodes to keep trunks to", got)
			}
		})
	}
}

// Trunks are kept to the nodes that carry their sites, with the sizes that their paths take.
func TestTrunks(t *testing.T) {
	r := newRig()
	r.SetNode(up("gray-1"))
	r.SetNode(up("gray-2"))
	r.SetNode(link.PeerState{Site: "blue", Node: "blue-1", Up: true, GW: true, MTU: 1300, Trunks: true})
	r.SetMeasures([]Measure{{Site: "blue", Node: "blue-1", RTT: time.Second}})
	want := []Trunk{{addrs["gray-1"], 1420, 0}, {addrs["blue-1"], 1300, time.Second}}
	if got := r.Trunks(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if !r.Up("blue-1") || r.Up("red-2") || r.Up("nobody") || r.Address("blue", "blue-1") != addrs["blue-1"] || r.Address("blue", "x").IsValid() {
		t.Error("what is known of single nodes is not so")
	}
}

// This node's own role: who relays, and which events it posts.
func TestRoles(t *testing.T) {
	r := newRig()
	steps := []struct {
		do     func()
		events []string
		relays bool
	}{
		{func() { r.SetStandby(true) }, []string{"demoted  "}, false},
		{func() { r.SetStandby(false) }, []string{"promoted  "}, true},
		{func() { r.SetStandby(false) }, nil, true}, // with a higher epoch
		{func() { r.SetDraining(true) }, nil, false},
		{func() { r.SetDraining(false) }, nil, true}, // the sibling refused
		{func() { r.SetDraining(true); r.SetStandby(true) }, []string{"demoted  "}, false},
		{func() { r.SetStandby(false) }, []string{"promoted  "}, true}, // the drain is over
		{func() { r.Wake("gray") }, []string{"wake gray "}, true},
	}
	for i, s := range steps {
		s.do()
		if got := r.events(); !slices.Equal(got, s.events) || r.Relays() != s.relays {
			t.Errorf("step %d: events %q, relays %v", i, got, r.Relays())
		}
	}
}

// A path without a session for as long as WireGuard keeps one is closed: its packets are dropped
// with a reason and do not wait. Whatever is lost again is judged from then on.
func TestDeadPathCloses(t *testing.T) {
	r := newRig()
	r.SetNode(up("gray-1"))
	r.now += time.Hour
	r.SetNode(down("gray-1"))
	for _, s := range []struct {
		after time.Duration
		open  bool
	}{{keepOpen - 1, true}, {keepOpen, false}, {time.Hour, false}} {
		r.now = time.Hour + s.after
		r.SetMeasures(nil)
		if got := r.path[gray].Up; got != s.open {
			t.Errorf("%v after the loss: open %v", s.after, got)
		}
	}
	r.SetNode(up("gray-1"))
	r.SetNode(down("gray-1"))
	if !r.path[gray].Up {
		t.Error("closed as soon as it is lost again")
	}
}

// locked reports what is published without the Board's lock.
type locked struct {
	t *testing.T
	b *Board
}

func (l *locked) SetSite(i int, _ flow.SiteState) {
	if l.b.mu.TryLock() {
		l.b.mu.Unlock()
		l.t.Errorf("the state of site %d is published without the lock: an update in between is lost", i)
	}
}

// Whatever changes a site publishes it with the lock held, so that no state that was read before
// can replace a newer one.
func TestPublishesUnderTheLock(t *testing.T) {
	r := newRig()
	r.cfg.Path = &locked{t, r.Board}
	r.SetNode(up("gray-1"))
	r.SetCarrier("gray", "gray-2")
	r.SetMeasures([]Measure{{Site: "gray", Node: "gray-2", RTT: time.Second}})
	r.SetStandby(true)
	r.SetNode(down("gray-2"))
}

// listener notes events, and blocks until it may go on.
type listener struct {
	got   chan Event
	block chan struct{}
}

func (l *listener) Notice(e Event) {
	l.got <- e
	<-l.block
}

// Neither the link nor the election waits for a listener: relays may take their time to end. What
// waits is bounded, and what happened last is delivered last.
func TestListenersAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		l := &listener{got: make(chan Event, 100), block: make(chan struct{})}
		r.Listen(l)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		r.SetCarrier("gray", "gray-2")
		synctest.Wait() // l blocks
		for range 100 {
			r.SetNode(down("gray-1"))
			r.SetCarrier("gray", "gray-1")
			r.SetCarrier("gray", "gray-2")
			r.Wake("gray")
		}
		close(l.block)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		close(l.got)
		var got []string
		for e := range l.got {
			got = append(got, fmt.Sprintf("%v %s", e.Kind, e.Node))
		}
		if want := []string{"moved gray-2", "lost gray-1", "moved gray-1", "moved gray-2", "wake "}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}
