package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// modes are the policy modes of the relay's tests. What holds for
// a relayed connection holds for a raw one, except that it is relayed and what
// that is good for.
var modes = flag.String("modes", "relay", "policy modes of the relay's tests, with commas between")

const (
	modeRoute = "route"
	modeRelay = "relay"
)

// eachMode runs a test with each of the modes.
func eachMode(t *testing.T, test func(t *testing.T, mode string)) {
	t.Helper()
	for m := range strings.SplitSeq(*modes, ",") {
		t.Run(m, func(t *testing.T) { test(t, m) })
	}
}

// relayNet is a network over an impaired WAN whose rules have a mode, and on which
// the one rule is checked throughout.
type relayNet struct {
	*network
	mode  string
	rules *lab.Repeats
	// mayReset are the connections opened where they may be reset: after the first
	// number, up to the second.
	mayReset [][2]int
}

// plainPort is the first of some ports whose connections are always raw, to be
// compared with.
const (
	plainPort  = 7000
	plainPorts = 10
)

// relayPolicy is everything, in a mode.
func relayPolicy(mode string) string {
	return fmt.Sprintf(`
  rule "plain" {
    from  = ["red", "gray"]
    to    = ["red", "gray"]
    ports = ["tcp/%d-%d"]
    mode  = "route"
  }
  rule "all" {
    from  = ["red", "gray"]
    to    = ["red", "gray"]
    ports = ["any"]
    mode  = %q
  }`, plainPort, plainPort+plainPorts-1, mode)
}

// farDelay is one way. A connection over it is worth being relayed.
const farDelay = 5 * time.Millisecond

// farWAN has room for more than the machine carries with the rule checked.
var farWAN = lab.Impairment{Rate: 300e6, QueueBytes: 2 << 20, Delay: farDelay}

// startRelay starts a network in a mode.
func startRelay(t *testing.T, mode string, imp lab.Impairment) *relayNet {
	t.Helper()
	n := newRelay(t, mode, imp)
	n.start()
	return n
}

// newRelay is startRelay without the start of the gateways.
func newRelay(t *testing.T, mode string, imp lab.Impairment) *relayNet {
	t.Helper()
	n := &relayNet{mode: mode, network: newNetwork(t, setup{lab: lab.Config{Impaired: true}, rules: relayPolicy(mode)})}
	n.Box.SetBoth(imp)
	for _, h := range []*lab.Host{n.Red.DB(), n.Gray.DB()} {
		// What hosts use nearly everywhere; this machine's own default may be another.
		if err := h.SetCongestion("cubic"); err != nil {
			t.Fatal(err)
		}
	}
	n.rules = watchRepeats(t, n.Lab)
	t.Cleanup(func() {
		r := endRepeats(t, n.rules)
		t.Logf("%d connections; %v segments and %d MB keep the one rule", r.Connections, r.Judged, r.Bytes>>20)
		n.noneThrough(t)
	})
	return n
}

// watchRepeats begins to judge by the one rule what the databases of both sites receive.
// The caller calls endRepeats.
func watchRepeats(t *testing.T, l *lab.Lab) *lab.Repeats {
	t.Helper()
	rules, err := lab.WatchRepeats(l.Red.DB(), l.Gray.DB())
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// endRepeats fails the test if the rule was broken, and returns what was judged.
func endRepeats(t *testing.T, rules *lab.Repeats) lab.RepeatsReport {
	t.Helper()
	r, err := rules.Stop()
	if err := errors.Join(err, r.Err()); err != nil {
		t.Error(err)
	}
	return r
}

// relays reports whether the mode relays bulk.
func (n *relayNet) relays() bool { return n.mode != modeRoute }

// resets sets whether a scenario may cause resets.
type resets bool

const (
	noReset  resets = false
	anyReset resets = true
)

// scenario is a test on a network that others use before and after it. It fails
// if a segment broke the one rule, or a database received a reset.
func (n *relayNet) scenario(t *testing.T, name string, may resets, do func(t *testing.T)) {
	t.Helper()
	before := n.settle(t)
	ran := false
	t.Run(name, func(t *testing.T) {
		ran = true
		do(t)
	}) // what it has opened is closed by now
	if !ran {
		return // -run has left it out
	}
	after := n.settle(t)
	if after.Broken != before.Broken {
		t.Errorf("%s: a segment broke the one rule: %v", name, after.Err())
	}
	if may == anyReset {
		n.mayReset = append(n.mayReset, [2]int{before.Connections, after.Connections})
	}
	if seen := slices.DeleteFunc(slices.Clone(after.Resets[len(before.Resets):]), n.expected); len(seen) > 0 {
		t.Errorf("%s: %d resets, the first: %s", name, len(seen), seen[0])
	}
	if after.Judged == before.Judged {
		t.Errorf("%s: no segment arrived: the test has nothing to check", name)
	}
}

// expected reports whether the connection that was reset was opened where that may
// be. Its kernels may reset later: a socket that its program has closed stays
// until the other end receives the FIN, and answers late segments for a while.
func (n *relayNet) expected(r lab.Reset) bool {
	return slices.ContainsFunc(n.mayReset, func(opened [2]int) bool {
		return r.Connection > opened[0] && r.Connection <= opened[1]
	})
}

func (n *relayNet) settle(t *testing.T) lab.RepeatsReport {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := n.rules.Settle(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// eachWay is a scenario in all ways.
func (n *relayNet) eachWay(t *testing.T, name string, may resets, do func(t *testing.T, w way)) {
	t.Helper()
	for _, w := range n.ways() {
		n.scenario(t, name+", "+w.name, may, func(t *testing.T) { do(t, w) })
	}
}

// twoWays are one opened from each side and one in each family.
func (n *relayNet) twoWays() []way {
	w := n.ways()
	return []way{w[0], w[3]}
}

// shown is a connection as a gateway shows it.
type shown struct {
	status.Conn
	Why string `json:"why"`
}

// connsTo queries the node for its connections to a port.
func (n *node) connsTo(port uint16) (found []shown, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := n.host.Command(ctx, n.bin, "conns", "--json", "--socket", n.socket).Output()
	if err != nil {
		return nil, err
	}
	var all struct {
		Conns []shown `json:"conns"`
	}
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, err
	}
	for _, c := range all.Conns {
		if c.Proto == "tcp" && c.DestinationPort == port && c.State != "time-wait" && c.State != "reset" {
			found = append(found, c)
		}
	}
	return found, nil
}

// shows waits until a gateway shows all connections to a port in a way, raw or
// relayed, and that there are any.
func (n *relayNet) shows(t *testing.T, nd *node, port uint16, mode string) {
	t.Helper()
	var last []shown
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := lab.Until(ctx, fmt.Sprintf("%s shows port %d as %s", nd.name, port, mode), func() (bool, error) {
		var err error
		if last, err = nd.connsTo(port); err != nil {
			return false, err
		}
		for _, c := range last {
			if c.Mode != mode {
				return false, nil
			}
		}
		return len(last) > 0, nil
	})
	if err != nil {
		t.Fatalf("%v; it shows %+v", err, last)
	}
}

// relayed waits until the connections to a port are relayed, if the mode wants
// that. Bytes must be moving.
func (n *relayNet) relayed(t *testing.T, port uint16) {
	t.Helper()
	want := "raw"
	if n.relays() {
		want = "relayed"
	}
	for _, nd := range []*node{n.red, n.gray} {
		n.shows(t, nd, port, want)
	}
}

// awake exchanges bytes on a connection until both gateways show it as relayed, if the
// mode is to relay all. The next bytes then travel so.
func (n *relayNet) awake(t *testing.T, client, server net.Conn) {
	t.Helper()
	if n.mode != modeRelay {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	is := func(c shown) bool {
		from := netip.AddrPortFrom(c.Source, c.SourcePort).String()
		return c.Mode == "relayed" && (from == client.LocalAddr().String() || from == server.LocalAddr().String())
	}
	var last []shown
	if err := lab.Until(ctx, "a relayed connection", func() (bool, error) {
		exchange(t, client, server, 100)
		for _, nd := range []*node{n.red, n.gray} {
			var err error
			if last, err = nd.connsTo(port(client)); err != nil || !slices.ContainsFunc(last, is) {
				return false, err
			}
		}
		return true, nil
	}); err != nil {
		t.Fatalf("%v; a gateway shows %+v", err, last)
	}
}

// raw fails the test unless the connections to a port are raw now.
func (n *relayNet) raw(t *testing.T, port uint16) {
	t.Helper()
	for _, nd := range []*node{n.red, n.gray} {
		found, err := nd.connsTo(port)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range found {
			if c.Mode != "raw" {
				t.Errorf("%s shows %s:%d as %s (%s), want raw", nd.name, c.Source, c.SourcePort, c.Mode, c.Why)
			}
		}
		if len(found) == 0 {
			t.Errorf("%s shows no connection to port %d", nd.name, port)
		}
	}
}
