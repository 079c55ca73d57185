package pair

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/onewaylink/gw/gateway/epoch"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/ha"
)

const limit = 10 * time.Second

// network joins nodes in memory.
type network struct {
	mu    sync.Mutex
	nodes map[string]*node
	cut   map[string]bool // nodes that nobody hears
}

// node is a Pair with what it acts on.
type node struct {
	*Pair
	name string
	net  *network

	mu      sync.Mutex
	records map[string]string
	moved   []string // "site node"
	strays  []string
	passing bool
	standby bool
	held    bool
	sibling string // its link address
	address AddressStats
	changed chan struct{} // a token after each change of the above
	cancel  context.CancelFunc
	ended   chan error
}

func (n *node) signal() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

func (n *node) set(f func()) {
	n.mu.Lock()
	f()
	n.mu.Unlock()
	n.signal()
}

func (n *node) SendDatagram(to string, port uint16, payload []byte) error {
	n.net.mu.Lock()
	other := n.net.nodes[to]
	lost := n.net.cut[to] || n.net.cut[n.name]
	n.net.mu.Unlock()
	if other != nil && !lost {
		other.Receive(n.name, port, payload)
	}
	return nil
}

// Knock has no host to ask.
func (n *node) Knock(string) bool { return false }

func (n *node) MoveSubnets(to string, prefixes []netip.Prefix) error {
	n.set(func() { n.moved = append(n.moved, to) })
	return nil
}

func (n *node) SetStandby(on bool)        { n.set(func() { n.standby = on }) }
func (n *node) SetPass(pass func([]byte)) { n.set(func() { n.passing = pass != nil }) }
func (n *node) Pause(bool)                {}
func (n *node) Suspend(bool)              {}

// board is what the other nodes' election tells a node's data path.
type board struct{ *node }

func (board) SetStandby(bool)           {}
func (board) SetCarrier(string, string) {}
func (board) Wake(string)               {}

func (n *node) Stray(b []byte) { n.set(func() { n.strays = append(n.strays, string(b)) }) }
func (n *node) Hold()          { n.set(func() { n.held = true }) }
func (n *node) Drop()          { n.set(func() { n.held = false }) }
func (n *node) MAC() net.HardwareAddr {
	return net.HardwareAddr{2, 0, 0, 0, 0, n.name[len(n.name)-1]}
}
func (n *node) Expect(mac net.HardwareAddr) { n.set(func() { n.sibling = mac.String() }) }
func (n *node) Conflict() Conflict          { return Conflict{Claims: 7, MAC: n.MAC()} }
func (n *node) Stats() AddressStats         { n.mu.Lock(); defer n.mu.Unlock(); return n.address }
func (n *node) Held() bool                  { n.mu.Lock(); defer n.mu.Unlock(); return n.held }
func (n *node) Replace(k, v []byte)         { n.set(func() { n.records[string(k)] = string(v) }) }
func (n *node) Remove(k []byte)             { n.set(func() { delete(n.records, string(k)) }) }

func (n *node) Record(b, k []byte) ([]byte, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v, ok := n.records[string(k)]
	return append(b, v...), ok
}

func (n *node) Records(yield func(k, v []byte) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k, v := range n.records {
		if !yield([]byte(k), []byte(v)) {
			return
		}
	}
}

// put changes a record as the data path does.
func (n *node) put(k, v string) {
	n.mu.Lock()
	n.records[k] = v
	n.mu.Unlock()
	n.cfg.Changes.Put([]byte(k))
}

// newNet makes red-1 and red-2, and gray-1 as the witness. They don't run yet.
func newNet(t *testing.T, change func(*Config)) *network {
	t.Helper()
	w := &network{nodes: map[string]*node{}, cut: map[string]bool{}}
	sites := []Site{
		{Name: "red", Nodes: []Node{{"red-1", ha.NodeID{1}}, {"red-2", ha.NodeID{2}}}, Subnets: []netip.Prefix{netip.MustParsePrefix("10.77.1.0/24")}},
		{Name: "gray", Nodes: []Node{{"gray-1", ha.NodeID{3}}}, Subnets: []netip.Prefix{netip.MustParsePrefix("10.77.2.0/24")}},
	}
	for _, s := range sites {
		for _, id := range s.Nodes {
			n := &node{name: id.Name, net: w, records: map[string]string{}, changed: make(chan struct{}, 1), ended: make(chan error, 1)}
			c := Config{
				Self: id, Sites: sites, StateDir: t.TempDir(), HAPort: 1, StrayPort: 2,
				Tunnels: n, Flows: n, Path: n, Address: n, Process: n, Board: board{n}, Changes: NewChanges(),
				Fit:            func() (lan, plane bool) { return true, true },
				CommandTimeout: limit, Logger: hclog.NewNullLogger(), Auth: NewAuthenticator([32]byte{1}),
			}
			if change != nil {
				change(&c)
			}
			var err error
			if n.Pair, err = New(c, uint64(id.Key[0])); err != nil {
				t.Fatal(err)
			}
			n.StandBy()
			w.nodes[id.Name] = n
		}
	}
	return w
}

// run starts a node until the test's end, or until stop.
func (w *network) run(t *testing.T, names ...string) {
	for _, name := range names {
		n := w.nodes[name]
		ctx, cancel := context.WithCancel(context.Background())
		n.cancel = cancel
		go func() { n.ended <- n.Run(ctx) }()
		t.Cleanup(func() { n.stop(t) })
	}
}

func (n *node) stop(t *testing.T) {
	n.cancel()
	err := <-n.ended
	n.ended <- nil
	if err != nil {
		t.Errorf("%s: %v", n.name, err)
	}
}

// see wraps a condition on the node's own fields.
func (n *node) see(cond func() bool) func() bool {
	return func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return cond()
	}
}

// await waits until cond holds of the node. It is called without a lock.
func (n *node) await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(5 * time.Millisecond) // roles change without a signal
	defer tick.Stop()
	for {
		if cond() {
			return
		}
		select {
		case <-n.changed:
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: %s: %+v", n.name, what, n.Status())
		}
	}
}

// both returns the active node of red and the standby, when both are ready.
func (w *network) both(t *testing.T) (active, standby *node) {
	t.Helper()
	a, b := w.nodes["red-1"], w.nodes["red-2"]
	a.await(t, "the pair is complete", func() bool {
		ra, rb := a.Status(), b.Status()
		roles := ra.Role == status.RoleActive && rb.Role == status.RoleStandby || ra.Role == status.RoleStandby && rb.Role == status.RoleActive
		return roles && ra.Records.InSync && rb.Records.InSync
	})
	if a.Status().Role != status.RoleActive {
		a, b = b, a
	}
	return a, b
}

// TestTakeover: the standby has the records, takes over in place of a node that
// is gone, and the witness moves the subnets to it.
func TestTakeover(t *testing.T) {
	w := newNet(t, nil)
	w.run(t, "red-1", "red-2", "gray-1")
	active, standby := w.both(t)
	if !active.see(func() bool { return active.held && !active.passing && !active.standby })() ||
		!standby.see(func() bool { return !standby.held && standby.passing && standby.standby })() {
		t.Fatalf("active %+v, standby %+v", active.Status(), standby.Status())
	}
	active.put("k", "v1")
	active.put("k", "v2")
	standby.await(t, "has the record", standby.see(func() bool { return standby.records["k"] == "v2" }))
	active.mu.Lock()
	delete(active.records, "k")
	active.mu.Unlock()
	active.cfg.Changes.Put([]byte("k"))
	active.put("l", "w")
	standby.await(t, "has the records", standby.see(func() bool { _, k := standby.records["k"]; return !k && standby.records["l"] == "w" }))

	w.mu.Lock()
	w.cut[active.name] = true
	w.mu.Unlock()
	standby.await(t, "takes over", standby.see(func() bool { return standby.held && !standby.passing && !standby.standby }))
	gray := w.nodes["gray-1"]
	gray.await(t, "moves the subnets", gray.see(func() bool { return len(gray.moved) > 0 && gray.moved[len(gray.moved)-1] == standby.name }))
	if s := standby.Status(); s.Unplanned != 1 || s.LastFailover == nil || s.LastFailover.From != active.name || s.LastFailover.Phases.Claimed == 0 {
		t.Errorf("%+v", s)
	}

	// Steps are shown when they were taken, and not before.
	p := standby.Status().LastFailover.Phases
	if p.Address < p.Detected || p.Announced != 0 {
		t.Errorf("before the announcement: %+v", p)
	}
	standby.set(func() { standby.address.Announced = time.Now() })
	p = standby.Status().LastFailover.Phases
	if p.Announced < p.Address || p.Total < p.Announced {
		t.Errorf("after the announcement: %+v", p)
	}
	standby.set(func() { standby.address.Announced = time.Now() }) // of a later holding
	if again := standby.Status().LastFailover.Phases; again != p {
		t.Errorf("the phases of one failover changed from %+v to %+v", p, again)
	}

	w.mu.Lock()
	w.cut[active.name] = false
	w.mu.Unlock()
	active.await(t, "is deposed", active.see(func() bool { return !active.held && active.passing && active.standby }))
	if b, err := os.ReadFile(epoch.Path(standby.cfg.StateDir)); err != nil || len(b) < 2 {
		t.Errorf("epoch file: %q, %v", b, err)
	}
}

// TestDrain: both alive, and what they are asked when they can't.
func TestDrain(t *testing.T) {
	w := newNet(t, nil)
	w.run(t, "red-1", "red-2", "gray-1")
	active, standby := w.both(t)
	if _, err := standby.Drain(t.Context(), false); !errors.Is(err, ha.ErrNotActive) || !strings.HasSuffix(err.Error(), active.name) {
		t.Errorf("drain of the standby: %v", err)
	}
	f, err := active.Drain(t.Context(), false)
	if err != nil || f.To != standby.name || !f.Planned {
		t.Fatalf("%+v, %v", f, err)
	}
	standby.await(t, "took over", standby.see(func() bool { return standby.held }))
	active, standby = w.both(t)
	if f, err = standby.Failover(t.Context()); err != nil || f.To != standby.name {
		t.Fatalf("%+v, %v", f, err)
	}
	active, standby = w.both(t)
	standby.await(t, "was compared", func() bool { h, err := standby.Test(t.Context()); return err == nil && h.OK })
	if h, err := active.Test(t.Context()); err != nil || h.Node != standby.name {
		t.Errorf("%+v, %v", h, err)
	}

	// Nor may one be relied on that reaches no other site.
	w.mu.Lock()
	w.cut["gray-1"] = true
	w.mu.Unlock()
	active.await(t, "hears that the standby reaches nobody", func() bool {
		h, err := active.Test(t.Context())
		return err == nil && !h.OK && strings.Contains(strings.Join(h.Problems, " "), standby.name+" reaches no other site")
	})

	// A standby that is silent can't take over, though it has had all records.
	w.mu.Lock()
	w.cut[standby.name] = true
	w.mu.Unlock()
	active.await(t, "misses the standby", func() bool { return active.Status().Sibling.State == status.SiblingSilent })
	if h, err := active.Test(t.Context()); err != nil || h.OK || !strings.Contains(strings.Join(h.Problems, " "), standby.name+" timed out") {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestStrays: what the standby passes on reaches the active node's path, and
// nobody else's word does.
func TestStrays(t *testing.T) {
	w := newNet(t, nil)
	red1 := w.nodes["red-1"]
	red1.Receive("red-2", 2, []byte("stray"))
	red1.Receive("gray-1", 2, []byte("forged"))
	if len(red1.strays) != 1 || red1.strays[0] != "stray" {
		t.Errorf("strays %q", red1.strays)
	}
}

// TestRefusedSibling: a sibling whose settings differ is not heard, so that both
// wait for somebody to mend them.
func TestRefusedSibling(t *testing.T) {
	w := newNet(t, nil)
	red1 := w.nodes["red-1"]
	red1.SetSibling("heartbeat differs")
	red1.Receive("red-2", 1, []byte("gwe"))
	if len(red1.inbox) != 0 {
		t.Error("a refused sibling was heard")
	}
	if s := red1.Status().Sibling; s.State != status.SiblingRefused || s.Refused != "heartbeat differs" {
		t.Errorf("%+v", s)
	}
	red1.SetSibling("")
	red1.Receive("red-2", 1, []byte("gwe"))
	if len(red1.inbox) != 1 {
		t.Error("the sibling was not heard")
	}
}

// TestCommands: on_active and on_standby run in the order of the changes, and a
// command that hangs is killed.
func TestCommands(t *testing.T) {
	file := filepath.Join(t.TempDir(), "said")
	w := newNet(t, func(c *Config) {
		c.OnActive = []string{"/bin/sh", "-c", "echo active " + c.Self.Name + " >>" + file}
		c.OnStandby = []string{"/bin/sh", "-c", "echo standby " + c.Self.Name + " >>" + file}
	})
	w.run(t, "red-1", "red-2", "gray-1")
	active, standby := w.both(t)
	if _, err := active.Drain(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	active.await(t, "all commands have run", func() bool {
		b, _ := os.ReadFile(file)
		s := string(b)
		return strings.Contains(s, "active "+active.name) && strings.Contains(s, "standby "+active.name) && strings.Contains(s, "active "+standby.name)
	})

	var log strings.Builder
	logger := hclog.New(&hclog.LoggerOptions{Output: &log})
	runCommand(t.Context(), logger, 50*time.Millisecond, command{"on_active", []string{"/bin/sleep", "60"}})
	runCommand(t.Context(), logger, limit, command{"on_standby", []string{"/bin/sh", "-c", "echo why; exit 3", "--token=canary"}})
	runCommand(t.Context(), logger, limit, command{"on_active", []string{"/nonexistent"}})
	for _, want := range []string{"command timed out and was killed: setting=on_active", "command failed: setting=on_standby", "why", "no such file"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "canary") {
		t.Errorf("the log shows an argument of a command, which may be a secret:\n%s", log.String())
	}
}

// TestEpochNotStored: a disk that takes no epoch ends nothing, and is shown.
func TestEpochNotStored(t *testing.T) {
	w := newNet(t, func(c *Config) { c.StateDir = filepath.Join(c.StateDir, "missing") })
	w.run(t, "red-1", "red-2", "gray-1")
	active, standby := w.both(t)
	if why := active.Status().EpochUnsaved; !strings.Contains(why, "make room") {
		t.Errorf("unsaved: %q", why)
	}
	active.stop(t)
	standby.await(t, "takes over without a disk", func() bool { return standby.Status().Role == status.RoleActive })
	if standby.Status().EpochUnsaved == "" {
		t.Error("the standby that took over does not show it")
	}
	if err := os.MkdirAll(standby.cfg.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	standby.Pair.mu.Lock()
	standby.unsaved.nextAt = standby.now()
	standby.Pair.mu.Unlock()
	standby.await(t, "stores it when there is room", func() bool { return standby.Status().EpochUnsaved == "" })
	if e, err := epoch.Open(standby.cfg.StateDir); err != nil || e.Epoch() != standby.Status().Epoch {
		t.Errorf("stored %v, %v", e, err)
	}
}

// TestLinkAddresses: the siblings know each other's link address, and nobody else's.
func TestLinkAddresses(t *testing.T) {
	w := newNet(t, nil)
	w.run(t, "red-1", "red-2", "gray-1")
	active, standby := w.both(t)
	mac := func(n *node) string { return n.MAC().String() }
	active.await(t, "knows the standby's", active.see(func() bool { return active.sibling == mac(standby) }))
	standby.await(t, "knows the active node's", standby.see(func() bool { return standby.sibling == mac(active) }))
	forged := append([]byte(macMagic), macVersion, 9, 9, 9, 9, 9, 9)
	active.Pair.mu.Lock()
	active.dispatch(datagram{w.nodes["gray-1"].keys["gray-1"], forged})
	active.Pair.mu.Unlock()
	if active.see(func() bool { return active.sibling != mac(standby) })() {
		t.Error("another site's node sets the sibling's link address")
	}
	if v := active.Status().VIP; v.Claims != 7 || v.Conflict == nil || v.Conflict.MAC != mac(active) {
		t.Errorf("%+v", v)
	}
}

// TestAuthenticator: tags depend on the key and on the statement.
func TestAuthenticator(t *testing.T) {
	a, same, other := NewAuthenticator([32]byte{1}), NewAuthenticator([32]byte{1}), NewAuthenticator([32]byte{2})
	x := a.Tag([]byte("x"))
	if x != same.Tag([]byte("x")) || x != a.Tag([]byte("x")) {
		t.Error("siblings make different tags")
	}
	if x == other.Tag([]byte("x")) || x == a.Tag([]byte("y")) {
		t.Error("tags of another key or statement are equal")
	}
}
