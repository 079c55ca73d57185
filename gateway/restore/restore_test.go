package restore

import (
	"context"
	"errors"
	"iter"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/flow"
	"github.com/onewaylink/gw/gateway/records"
	"github.com/onewaylink/gw/gateway/sites"
	"github.com/onewaylink/gw/gateway/streams/streamstest"
	"github.com/onewaylink/gw/netstack/wire"
)

var (
	red1  = netip.MustParseAddr("10.77.1.1")
	gray1 = netip.MustParseAddr("10.77.2.1")
	gray2 = netip.MustParseAddr("10.77.2.2")
)

// table keeps records by key, and answers what a test wants.
type table struct {
	mu      sync.Mutex
	records map[string]string
	standby bool
	given   flow.Given // what becomes of a foreign record
	givers  []int
}

var errMalformed = errors.New("malformed")

func (f *table) Take(k, v []byte) (wire.Reason, error) {
	switch string(v) {
	case "malformed":
		return wire.OK, errMalformed
	case "denied":
		return wire.Denied, nil
	}
	f.records[string(k)] = string(v)
	return wire.OK, nil
}

func (f *table) TakeForeign(site int, k, v []byte) flow.Given {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.givers = append(f.givers, site)
	if f.given == flow.GivenTaken {
		f.records[string(k)] = string(v)
	}
	return f.given
}

func (f *table) Records(site string) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		if site != "red" {
			return
		}
		for _, k := range slices.Sorted(maps.Keys(f.records)) {
			if !yield([]byte(k), []byte(f.records[k])) {
				return
			}
		}
	}
}

func (f *table) Standby() bool { return f.standby }

func (f *table) has(k string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.records[k] != ""
}

// network connects a dialing node, red-1, to the one that listens.
type network struct {
	listener streamstest.Listener
	mu       sync.Mutex
	dialed   []netip.AddrPort
	down     bool
}

func (n *network) Listen(uint16) (net.Listener, error) { return n.listener, nil }

func (n *network) Dial(_ context.Context, to netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	n.dialed = append(n.dialed, to)
	down := n.down
	n.mu.Unlock()
	if down {
		return nil, errors.New("no route")
	}
	return n.listener.Dial(red1), nil
}

func (n *network) take() []netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := n.dialed
	n.dialed = nil
	return out
}

var all = []sites.Site{
	{Name: "red", Nodes: []sites.Node{{Name: "red-1", Addresses: []netip.Addr{red1}}}},
	{Name: "gray", Nodes: []sites.Node{
		{Name: "gray-1", Addresses: []netip.Addr{gray1}}, {Name: "gray-2", Addresses: []netip.Addr{gray2}},
	}},
}

// silent is a network in which this node reaches no other.
type silent struct{ streamstest.Listener }

func (s silent) Listen(uint16) (net.Listener, error) { return s.Listener, nil }
func (silent) Dial(context.Context, netip.AddrPort) (net.Conn, error) {
	return nil, errors.New("no route")
}

// rig is red-1, which restores, and gray-1, which serves the record "k".
type rig struct {
	*Restorer
	table *table
	net   *network
}

// newRig runs both nodes until the end of a test in a synctest bubble.
func newRig(t *testing.T) *rig {
	t.Helper()
	listener, idle := make(streamstest.Listener), make(streamstest.Listener)
	r := &rig{table: &table{records: map[string]string{}}, net: &network{listener: listener}}
	served := &table{records: map[string]string{"k": "v"}}
	gray := New(Config{Self: "gray", Sites: all, Linked: []string{"red"}, Table: served, Network: silent{listener}, Logger: hclog.NewNullLogger()})
	r.Restorer = New(Config{Self: "red", Sites: all, Linked: []string{"gray"}, Table: r.table, Network: &dialer{r.net, idle}, Logger: hclog.NewNullLogger()})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	for _, n := range []*Restorer{gray, r.Restorer} {
		go func() { ended <- n.Run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		close(listener)
		close(idle)
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return r
}

// dialer dials in a network, and listens to no node.
type dialer struct {
	*network
	idle streamstest.Listener
}

func (d *dialer) Listen(uint16) (net.Listener, error) { return d.idle, nil }

func reachable(node string) sites.Event {
	return sites.Event{Kind: sites.Reachable, Site: "gray", Node: node}
}

// A site's records are fetched once, from the node that is reachable first.
func TestFetchOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.Notice(reachable("gray-1"))
		synctest.Wait()
		if !r.table.has("k") {
			t.Error("the record was not restored")
		}
		if got := r.net.take(); !slices.Equal(got, []netip.AddrPort{netip.AddrPortFrom(gray1, wire.ControlPort)}) {
			t.Errorf("dialed %v", got)
		}
		if r.table.givers[0] != 1 {
			t.Errorf("the record counts to site %d", r.table.givers[0])
		}
		r.Notice(reachable("gray-1"))
		r.Notice(reachable("gray-2"))
		r.Notice(sites.Event{Kind: sites.Reachable, Site: "gray", Node: "gray-9"})
		synctest.Wait()
		if got := r.net.take(); got != nil {
			t.Errorf("fetched again from %v", got)
		}
		if got := r.Requests("gray"); got.Answered != 0 {
			t.Errorf("%+v of a node that was asked nothing", got)
		}
	})
}

// A standby's records come from its sibling. When it is promoted, it fetches from every site, also
// from those whose records it had.
func TestPromoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.table.standby = true
		r.Notice(reachable("gray-2"))
		synctest.Wait()
		if got := r.net.take(); got != nil {
			t.Errorf("a standby fetched from %v", got)
		}
		r.table.standby = false
		for range 2 {
			r.Notice(sites.Event{Kind: sites.Promoted})
			synctest.Wait()
			if got := r.net.take(); !slices.Equal(got, []netip.AddrPort{netip.AddrPortFrom(gray2, wire.ControlPort)}) {
				t.Errorf("dialed %v", got)
			}
			time.Sleep(time.Minute) // virtual: the served site limits the rate
		}
	})
}

// What fails is repeated a few times, and ends when it succeeds.
func TestFetchAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.net.down = true
		r.Notice(reachable("gray-1"))
		synctest.Wait()
		for range fetchTries - 1 {
			time.Sleep(fetchPause) // virtual
			synctest.Wait()
		}
		if got := len(r.net.take()); got != fetchTries {
			t.Errorf("%d attempts", got)
		}
		time.Sleep(time.Hour)
		if got := r.net.take(); got != nil {
			t.Errorf("%d more attempts without an event", len(got))
		}
		r.net.mu.Lock()
		r.net.down = false
		r.net.mu.Unlock()
		r.Notice(reachable("gray-1"))
		synctest.Wait()
		if !r.table.has("k") || len(r.net.take()) != 1 {
			t.Error("the record was not restored by the next event")
		}
	})
}

// Records over the site's share of the table are fetched again later.
func TestFetchOverQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.table.given = flow.GivenQuota
		r.Notice(reachable("gray-1"))
		synctest.Wait()
		if r.table.has("k") || len(r.net.take()) != 1 {
			t.Error("not over quota")
		}
		r.table.mu.Lock()
		r.table.given = flow.GivenTaken
		r.table.mu.Unlock()
		time.Sleep(fetchPause) // virtual
		synctest.Wait()
		if !r.table.has("k") {
			t.Error("the record was not restored by the second attempt")
		}
	})
}

// The file's records become flows, but for those that are malformed or not allowed.
func TestFromFile(t *testing.T) {
	f := &table{records: map[string]string{}}
	r := New(Config{Self: "red", Sites: all, Table: f, Logger: hclog.NewNullLogger()})
	r.FromFile([]records.Record{
		{Key: []byte("a"), Value: []byte("v")}, {Key: []byte("b"), Value: []byte("malformed")}, {Key: []byte("c"), Value: []byte("denied")},
	})
	if want := map[string]string{"a": "v"}; !maps.Equal(f.records, want) {
		t.Errorf("%v, want %v", f.records, want)
	}
}

func TestSiteAt(t *testing.T) {
	r := New(Config{Self: "red", Sites: all, Table: &table{}, Logger: hclog.NewNullLogger()})
	for a, want := range map[netip.Addr]string{gray2: "gray", red1: "red", netip.MustParseAddr("10.77.2.10"): ""} {
		if got, ok := r.SiteAt(a); got != want || ok != (want != "") {
			t.Errorf("%v is at %q", a, got)
		}
	}
}
