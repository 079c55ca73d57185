package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

func TestMain(m *testing.M) { os.Exit(lab.Main(m)) }

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

// node is one gw of the test's network.
type node struct {
	t      testing.TB
	l      *lab.Lab
	host   *lab.Host
	name   string
	dir    string // site.hcl, the key, state
	bin    string
	proc   *lab.Proc
	past   []*lab.Proc // all that have run; proc is the last
	nice   bool        // runs with the highest priority
	under  []string    // a command that runs gw as its last arguments
	socket string
	key    lab.Key
}

// network is two sites with a gw at each, not yet started.
type network struct {
	*lab.Lab
	red, gray *node
}

// setup is what a test wants other than usual. Each text is put into site.hcl.
type setup struct {
	lab   lab.Config
	link  string // attributes of the link
	rules string // the whole policy
	tun   string // attributes of local.tun
	local string // more of local
}

// everything lets each site open everything toward the other.
const everything = `
  rule "out" {
    from  = ["red"]
    to    = ["gray"]
    ports = ["any"]
  }
  rule "back" {
    from  = ["gray"]
    to    = ["red"]
    ports = ["any"]
  }`

// newNetwork builds the lab and writes the configuration.
func newNetwork(t testing.TB, s setup) *network {
	t.Helper()
	bin, err := lab.Build("github.com/onewaylink/gw/cmd/gw")
	if err != nil {
		t.Fatal(err)
	}
	s.lab.Logf = t.Logf
	l := lab.Start(t, s.lab)
	n := &network{Lab: l}
	redKey, grayKey := lab.NewKey(), lab.NewKey()
	if s.rules == "" {
		s.rules = everything
	}
	n.red = newNode(t, l, l.Red.GW(), "red-1", bin, redKey)
	n.gray = newNode(t, l, l.Gray.GW(), "gray-1", bin, grayKey)
	for _, nd := range []*node{n.red, n.gray} {
		nd.configure(s, redKey, grayKey)
	}
	return n
}

func newNode(t testing.TB, l *lab.Lab, h *lab.Host, name, bin string, key lab.Key) *node {
	n := &node{t: t, l: l, host: h, name: name, bin: bin, dir: filepath.Join(l.Dir, name), key: key}
	n.socket = filepath.Join(n.dir, "gw.sock")
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "private.key"), []byte(key.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

// configure writes the node's site.hcl.
func (n *node) configure(s setup, redKey, grayKey lab.Key) {
	n.t.Helper()
	l := n.l
	red, gray := l.Red.GW(), l.Gray.GW()
	text := fmt.Sprintf(`
site "red" {
  subnets = %s
  node "red-1" {
    public_key = %q
    address    = [%q, %q]
  }
}
site "gray" {
  subnets = %s
  node "gray-1" {
    public_key = %q
    address    = [%q, %q]
    endpoint   = "%s:51820"
  }
}
link "red" "gray" {
  initiator = "red"
  %s
}
policy {%s
}
local {
  private_key_file = "private.key"
  state_dir        = "%s/state"
  socket           = %q
  lan              = "lan0"
  tun {
    name = "gw0"
    %s
  }
  log { level = "debug" }
  %s
}
`, list(l.Red.Subnets), redKey.Public(), red.Node4, red.Node6,
		list(l.Gray.Subnets), grayKey.Public(), gray.Node4, gray.Node6, gray.WAN4,
		s.link, s.rules, n.dir, n.socket, s.tun, s.local)
	if err := os.WriteFile(filepath.Join(n.dir, "site.hcl"), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// edit replaces a text in the node's site.hcl, wherever it occurs. A node that
// runs keeps the configuration that it has read.
func (n *node) edit(old, with string) {
	n.t.Helper()
	path := filepath.Join(n.dir, "site.hcl")
	b, err := os.ReadFile(path)
	if err != nil {
		n.t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		n.t.Fatalf("no %q in site.hcl of %s:\n%s", old, n.name, b)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(b), old, with)), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func list(prefixes []netip.Prefix) string {
	var out []string
	for _, p := range prefixes {
		out = append(out, fmt.Sprintf("%q", p.String()))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// up starts the node's gw. It returns at once.
func (n *node) up() {
	n.t.Helper()
	args := []string{n.bin, "up", "-c", filepath.Join(n.dir, "site.hcl")}
	if n.nice {
		args = append([]string{"nice", "-n", "-19"}, args...)
	}
	args = append(slices.Clone(n.under), args...)
	p, err := n.host.Start(context.Background(), lab.Spec{Name: n.name, Args: args})
	if err != nil {
		n.t.Fatal(err)
	}
	n.proc = p
	n.past = append(n.past, p)
	n.t.Cleanup(func() {
		if n.t.Failed() {
			n.t.Logf("%s logged:\n%s", n.name, p.Log.Tail(60))
		}
	})
}

// kill ends the node's gw by SIGKILL.
func (n *node) kill() {
	n.t.Helper()
	if err := n.proc.Kill(); err != nil {
		n.t.Fatal(err)
	}
}

// term ends the node's gw by SIGTERM and expects that it exits with status 0.
func (n *node) term() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	if err := n.proc.Term(ctx); err != nil {
		n.t.Fatalf("%s did not exit with status 0 after SIGTERM: %v", n.name, err)
	}
}

// status queries the running gw.
func (n *node) status() (s status.Status, err error) {
	out, err := n.host.Command(n.t.Context(), n.bin, "status", "--json", "--socket", n.socket).Output()
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

// conns queries the running gw for its flows.
func (n *node) conns() []status.Conn {
	n.t.Helper()
	out, err := n.host.Command(n.t.Context(), n.bin, "conns", "--json", "--socket", n.socket).Output()
	if err != nil {
		n.t.Fatal(err)
	}
	var cl status.ConnList
	if err := json.Unmarshal(out, &cl); err != nil {
		n.t.Fatal(err)
	}
	return cl.Conns
}

// drops returns how many packets the node has dropped for a reason.
func (n *node) drops(reason string) uint64 {
	n.t.Helper()
	s, err := n.status()
	if err != nil {
		n.t.Fatal(err)
	}
	for _, d := range s.Drops {
		if d.Reason == reason {
			return d.Packets
		}
	}
	n.t.Fatalf("no drop reason %q", reason)
	return 0
}

// anyDrops is drops of several reasons together.
func (n *node) anyDrops(reasons ...string) (sum uint64) {
	n.t.Helper()
	for _, r := range reasons {
		sum += n.drops(r)
	}
	return sum
}

// waitDrops waits until the node has dropped as many packets for the reasons
// together.
func (n *node) waitDrops(atLeast uint64, reasons ...string) {
	n.t.Helper()
	n.waitStatus(fmt.Sprintf("%s has dropped %d packets for %v", n.name, atLeast, reasons), func(s status.Status) bool {
		var sum uint64
		for _, d := range s.Drops {
			if slices.Contains(reasons, d.Reason) {
				sum += d.Packets
			}
		}
		return sum >= atLeast
	})
}

// link is the node's only link as it stands now.
func (n *node) link() status.Link {
	n.t.Helper()
	s, err := n.status()
	if err != nil {
		n.t.Fatal(err)
	}
	if len(s.Links) != 1 {
		n.t.Fatalf("%s has %d links, want 1", n.name, len(s.Links))
	}
	return s.Links[0]
}

// waitState waits until the node's only link is in a state.
func (n *node) waitState(want status.LinkState) {
	n.t.Helper()
	n.waitStatus("the link of "+n.name+" is "+string(want), func(s status.Status) bool {
		return len(s.Links) == 1 && s.Links[0].State == want
	})
}

func (n *node) waitStatus(what string, cond func(status.Status) bool) {
	n.t.Helper()
	n.waitStatusFor(patience, what, cond)
}

// waitStatusFor is waitStatus with another time limit.
func (n *node) waitStatusFor(d time.Duration, what string, cond func(status.Status) bool) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), d)
	defer cancel()
	err := lab.Until(ctx, what, func() (bool, error) {
		s, err := n.status()
		return err == nil && cond(s), nil
	})
	if err != nil {
		n.t.Fatalf("%v\n%s logged:\n%s", err, n.name, n.proc.Log.Tail(40))
	}
}

// start brings both gateways up and waits until the link carries.
func (n *network) start() {
	n.gray.up()
	n.red.up()
	n.red.waitState(status.LinkUp)
	n.gray.waitState(status.LinkUp)
}

// start is what most tests begin with.
func start(t testing.TB, s setup) *network {
	t.Helper()
	n := newNetwork(t, s)
	n.start()
	return n
}

// way is a direction in which a test opens connections.
type way struct {
	name     string
	from, to *lab.Host
	addr     netip.Addr
}

// source is the address that the called side must see.
func (w way) source() netip.Addr {
	if w.addr.Is6() {
		return w.from.LAN6
	}
	return w.from.LAN4
}

// ways are both directions in both families.
func (n *network) ways() []way {
	red, gray := n.Red.DB(), n.Gray.DB()
	return []way{
		{"red to gray, IPv4", red, gray, gray.LAN4},
		{"gray to red, IPv4", gray, red, red.LAN4},
		{"red to gray, IPv6", red, gray, gray.LAN6},
		{"gray to red, IPv6", gray, red, red.LAN6},
	}
}
