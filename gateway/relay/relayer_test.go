package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/link"
	"github.com/onewaylink/gw/gateway/sites"
	"github.com/onewaylink/gw/netstack/legs"
	"github.com/onewaylink/gw/netstack/wire"
)

var (
	near  = netip.MustParseAddrPort("10.77.1.10:5432")
	far   = netip.MustParseAddrPort("10.77.2.10:40000")
	gray1 = netip.MustParseAddr("10.77.2.1")
	gray2 = netip.MustParseAddr("10.77.2.2")
	blue1 = netip.MustParseAddr("10.77.3.1")
	red1  = netip.MustParseAddr("10.77.1.1")
)

// host is a path to hosts that read nothing.
type host struct{}

func (host) WriteHost([][]byte, wire.Offload) {}
func (host) SendLink([]byte)                  {}
func (host) Wake()                            {}

// table notes what it is asked, and refuses.
type table struct {
	why  []string
	said []*wire.Position
}

func (f *table) Attach(_, _ netip.AddrPort, why string, said *wire.Position, _ func(wire.Connection, *flow.Handle) (flow.Relay, error)) error {
	f.why, f.said = append(f.why, why), append(f.said, said)
	return flow.ErrNotNow
}

// board is what a test says of the paths.
type board struct {
	path     sites.Path
	relays   bool
	measures chan []sites.Measure

	mu     sync.Mutex // guards trunks
	trunks []sites.Trunk
}

func (b *board) Path(int) sites.Path { return b.path }
func (b *board) Relays() bool        { return b.relays }

func (b *board) Trunks() []sites.Trunk {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trunks
}

func (b *board) setTrunks(list []sites.Trunk) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trunks = list
}

func (b *board) SetMeasures(list []sites.Measure) {
	select {
	case b.measures <- list:
	default:
	}
}

type links []link.PeerStatus

func (l links) Snapshot() []link.PeerStatus { return l }

type rig struct {
	*Relayer
	table *table
	board *board
}

func newRig(t *testing.T, measured ...link.PeerStatus) *rig {
	t.Helper()
	r := &rig{table: &table{}, board: &board{
		path: sites.Path{Node: gray1, Why: "the link loses 1.0 %"}, relays: true, measures: make(chan []sites.Measure, 1),
		trunks: []sites.Trunk{{Node: gray1, MTU: 1400}},
	}}
	node := func(name string, a netip.Addr) sites.Node {
		return sites.Node{Name: name, Addresses: []netip.Addr{a}, Trunk: a}
	}
	begin := time.Now()
	var err error
	if r.Relayer, err = New(Config{
		Self: "red", Address: red1,
		Sites: []sites.Site{
			{Name: "red", Nodes: []sites.Node{node("red-1", red1)}},
			{Name: "gray", Nodes: []sites.Node{node("gray-1", gray1), node("gray-2", gray2)}},
			{Name: "blue", Nodes: []sites.Node{node("blue-1", blue1)}},
		},
		Table: r.table, Host: host{}, Board: r.board, Links: links(measured),
		Now: func() time.Duration { return time.Since(begin) }, MayWrite: func() bool { return true }, Logger: hclog.NewNullLogger(),
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	r.setPeers(netip.Addr{})
	return r
}

// peers are the nodes that trunks are kept to.
func (r *rig) peers() (out []netip.Addr) {
	for a := range r.pool.Stats().Ways {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// A connection is adopted where the Board names a node, and its reason is shown. Where the table
// refuses, no trunk is left behind.
func TestAdopt(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(r *rig)
		why    []string
		trunks uint64
	}{
		{"a lossy path", func(*rig) {}, []string{"the link loses 1.0 %"}, 1},
		{"its rule wants it", func(r *rig) { r.board.path.Why = "" }, []string{"its rule says so"}, 1},
		{"no node within reach", func(r *rig) { r.board.path.Node = netip.Addr{} }, nil, 0},
		{"a standby, or one that drains", func(r *rig) { r.board.relays = false }, nil, 0},
		{"a node without trunks", func(r *rig) { r.board.path.Node = gray2 }, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			tt.change(r)
			r.Adopt(near, far, 1)
			if s := r.pool.Stats(); !slices.Equal(r.table.why, tt.why) || s.Opened != tt.trunks || s.InUse != 0 {
				t.Errorf("asked with %q, %+v, want %q and %d trunks, which end", r.table.why, s, tt.why, tt.trunks)
			}
		})
	}
}

// What another gateway opens is joined by an active node alone, and only as what it is.
func TestJoin(t *testing.T) {
	payload := []byte{openVersion, 0, 7, 7}
	for _, a := range []netip.AddrPort{near, far} {
		var x [16]byte
		copy(x[:], a.Addr().AsSlice())
		payload = binary.BigEndian.AppendUint16(append(payload, x[:]...), a.Port())
	}
	open := wire.Frame{Kind: wire.FrameOpen, Seq: 1, Ack: 2, Edge: 3, Payload: payload}
	for _, tt := range []struct {
		name   string
		relays bool
		open   wire.Frame
		want   error
		asked  []*wire.Position
	}{
		{"a standby, or one that drains", false, open, errNotActive, nil},
		{"the table refuses", true, open, flow.ErrNotNow, []*wire.Position{{End: 1, Ack: 2, Edge: 3}}},
		{"another frame", true, wire.Frame{Kind: wire.FrameData}, legs.ErrOpen, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.board.relays = tt.relays
			c := r.pool.Take(gray1)
			defer c.Close()
			if err := r.join(&relayTrunk{c}, &tt.open); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if d := cmp.Diff(tt.asked, r.table.said); d != "" {
				t.Errorf("the table was asked (-want +got):\n%s", d)
			}
		})
	}
}

// openVersion is that of the frame that opens a relay.
const openVersion = 1

// What becomes of nodes decides which trunks live on.
func TestNotice(t *testing.T) {
	for _, tt := range []struct {
		name   string
		event  sites.Event
		trunks []sites.Trunk // as the Board names them after the event
		peers  []netip.Addr
		ended  bool // the trunk to gray-1 that was there before
	}{
		{"lost", sites.Event{Kind: sites.Lost, Site: "gray", Node: "gray-1"}, nil, nil, true},
		{"restarted", sites.Event{Kind: sites.Restarted, Site: "gray", Node: "gray-1"}, []sites.Trunk{{Node: gray1, MTU: 1400}}, []netip.Addr{gray1}, true},
		{"another is lost", sites.Event{Kind: sites.Lost, Site: "gray", Node: "gray-2"}, []sites.Trunk{{Node: gray1, MTU: 1400}}, []netip.Addr{gray1}, false},
		{"moved", sites.Event{Kind: sites.Moved, Site: "gray", Node: "gray-2"}, []sites.Trunk{{Node: gray2, MTU: 1400}}, []netip.Addr{gray2}, true},
		{"demoted", sites.Event{Kind: sites.Demoted}, nil, nil, true},
		{"nothing to it", sites.Event{Kind: sites.Established, Site: "gray", Node: "gray-1"}, nil, []netip.Addr{gray1}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			c := r.pool.Take(gray1)
			defer c.Close()
			r.board.setTrunks(tt.trunks)
			r.Notice(tt.event)
			if got := r.peers(); !slices.Equal(got, tt.peers) {
				t.Errorf("trunks lead to %v, want %v", got, tt.peers)
			}
			_, err := c.Begin(100)
			if ended := err != nil; ended != tt.ended {
				t.Errorf("the trunk to gray-1: %v", err)
			}
		})
	}
}

// Measures of other sites' nodes go to the Board, with what trunks have counted.
func TestMeasure(t *testing.T) {
	r := newRig(t,
		link.PeerStatus{Site: "red", Node: "red-2", RTT: time.Millisecond},
		link.PeerStatus{Site: "gray", Node: "gray-1", RTT: 20 * time.Millisecond, LossOut: 0.1, LossIn: 0.2},
		link.PeerStatus{Site: "gray", Node: "gray-2"},
	)
	r.Notice(sites.Event{Kind: sites.Changed, Site: "gray", Node: "gray-1"}) // not in half a second, but now
	want := []sites.Measure{
		{Site: "gray", Node: "gray-1", RTT: 20 * time.Millisecond, Loss: 0.2},
		{Site: "gray", Node: "gray-2"},
	}
	if got := <-r.board.measures; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
