package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/gateway/audit"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// doomed is a rule that a test removes while its connections are open, beside one that
// stays. What moves it elsewhere is an edit of its ports.
const (
	doomedPort  = 7100
	doomedPorts = `"tcp/7100-7199"`
	elsewhere   = `"tcp/7300-7399"`
	doomed      = `
  rule "doomed" {
    from  = ["red", "gray"]
    to    = ["red", "gray"]
    ports = [` + doomedPorts + `]
    mode  = "relay"
  }`
)

// current is a connection on which the client sends what it can until it has to
// stop, and the server compares all of it with what was sent.
type current struct {
	client, server *net.TCPConn
	stop           atomic.Bool
	done           chan error // of both ends
	sent, arrived  int64      // of each end, when it is done
}

func startCurrent(t *testing.T, w way, port uint16) *current {
	t.Helper()
	c := &current{done: make(chan error, 2)}
	c.client, c.server = meet(t, w, sockets{port: port})
	within(t, 2*patience, c.client, c.server)
	go func() {
		said := stream(1)
		var err error
		for err == nil && !c.stop.Load() {
			if err = send(c.client, said, 1000); err == nil {
				c.sent += 1000
			}
		}
		if err == nil {
			err = c.client.CloseWrite()
		}
		c.done <- err
	}()
	go func() {
		var err error
		c.arrived, err = compare(c.server, stream(1), math.MaxInt64)
		c.done <- err
	}()
	return c
}

// received is how many bytes the server's kernel has received.
func (c *current) received(t *testing.T) (n uint64) {
	t.Helper()
	onFD(t, c.server, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n = info.Bytes_received
		}
		return err
	})
	return n
}

// finish has the client stop, and expects that all it has sent arrives.
func (c *current) finish(t *testing.T) {
	t.Helper()
	c.stop.Store(true)
	for range 2 {
		if err := <-c.done; err != nil {
			t.Error(err)
		}
	}
	if c.arrived != c.sent || c.sent == 0 {
		t.Errorf("%d bytes arrived, %d were sent", c.arrived, c.sent)
	}
}

// TestReload: a file with a mistake changes nothing. One that removes a rule ends the
// connections that a plan has named, relayed ones too, and no other notices. Put back in
// time, they continue, and not a byte is missing. The audit log records all of that; moved away
// before a SIGHUP, it continues in a new file, and no line is missing.
func TestReload(t *testing.T) {
	n := newRelay(t, modeRelay, farWAN)
	for _, nd := range []*node{n.red, n.gray} {
		nd.edit(`["any"]`, `["tcp/20000-65535", "icmp"]`)
		nd.edit(`  rule "plain" {`, strings.TrimPrefix(doomed, "\n")+"\n"+`  rule "plain" {`)
	}
	log := n.red.audited()
	n.start()
	ways := n.twoWays()
	var lost []*current
	n.scenario(t, "a rule goes and comes back", noReset, func(t *testing.T) {
		for i, w := range ways {
			lost = append(lost, startCurrent(t, w, uint16(doomedPort+i)))
		}
		for i := range ways {
			n.relayed(t, uint16(doomedPort+i))
		}
		pools := n.openPools(t, 10)
		var runs []*lab.Transfer
		for _, w := range ways {
			runs = append(runs, n.transfer(t, w, 16<<20))
		}

		n.red.refusesMistake(t)
		n.red.edit(doomedPorts, elsewhere)
		n.red.plans(t, lost)
		n.red.reloads(t, len(lost))
		n.gone(t, lost)
		for i, w := range ways {
			denied(t, w, "tcp", uint16(doomedPort+i))
		}
		n.gray.edit(doomedPorts, elsewhere)
		n.gray.hup(t, "connections_ended=3") // with gray's dial that red has denied
		for _, nd := range []*node{n.red, n.gray} {
			nd.waitStatus(nd.name+" agrees with the other gateway", func(s status.Status) bool {
				return len(s.Links[0].Differences) == 0
			})
			nd.edit(elsewhere, doomedPorts)
		}
		n.gray.hup(t, "connections_resumed=3")
		if err := os.Rename(log, log+".1"); err != nil {
			t.Fatal(err)
		}
		n.red.hup(t, "connections_resumed=2")
		for _, c := range lost {
			c.finish(t)
		}
		n.finish(t, runs...)
		for i, p := range pools {
			if err := p.Check(patience); err != nil {
				t.Errorf("%s: %v", n.ways()[i].name, err)
			}
		}
	})
	n.red.auditRecords(t, log, lost)
}

// auditRecords expects that the audit log, which was moved away when the connections went on, has
// opening, end, opening and end of each, and that only the new file has the second half.
func (n *node) auditRecords(t *testing.T, log string, lost []*current) {
	t.Helper()
	second := []string{"flow_open resumed", "flow_end closed"}
	of := func(lines []audit.Event, c *current) (out []string) {
		for _, e := range lines {
			if e.Flow != nil && e.Source.String() == c.client.LocalAddr().String() {
				out = append(out, auditText([]audit.Event{e}, e.Destination.Port())...)
			}
		}
		return out
	}
	lines := n.auditWhole(t, func(lines []audit.Event) bool {
		return !slices.ContainsFunc(lost, func(c *current) bool { return len(of(lines, c)) < 4 })
	}, log+".1", log)
	after, err := auditLines(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range lost {
		if got, want := of(lines, c), append([]string{"flow_open", "flow_end its rule was revoked"}, second...); !slices.Equal(got, want) {
			t.Errorf("the audit log has %q, want %q", got, want)
		}
		if got := of(after, c); !slices.Equal(got, second) {
			t.Errorf("the new file has %q, want %q", got, second)
		}
		for _, e := range lines {
			if e.Kind == "flow_end" && e.Source.String() == c.client.LocalAddr().String() && (e.BytesOut == 0 || e.Carried != "relayed" || e.Rule != "doomed") {
				t.Errorf("the end of a connection: %+v %+v", e.Flow, e.End)
			}
		}
	}
	want := []string{
		"reload refused", "reload refused", "reload done policy.rule.doomed.ports 2 0", "reload done policy.rule.doomed.ports 0 2",
	}
	got := slices.DeleteFunc(auditText(lines, 0, "outcome", "changes", "connections_ended", "connections_resumed"), func(s string) bool {
		return !strings.HasPrefix(s, "reload")
	})
	if !slices.Equal(got, want) {
		t.Errorf("reloads %q, want %q", got, want)
	}
}

// hup has the node reload by a signal, and waits for what it logs then.
func (n *node) hup(t *testing.T, says string) {
	t.Helper()
	if err := n.proc.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.proc.Saw(ctx, says); err != nil {
		t.Fatal(err)
	}
}

// refusesMistake reloads a file with a mistake, by signal and by command.
func (n *node) refusesMistake(t *testing.T) {
	t.Helper()
	const mistake = `"tcp/71OO-7199"`
	n.edit(doomedPorts, mistake)
	defer n.edit(mistake, doomedPorts)
	file := filepath.Join(n.dir, "site.hcl")
	n.hup(t, "configuration not reloaded: the running one stays in force")
	for _, args := range [][]string{{"reload", "--socket", n.socket}, {"plan", "-c", file, "--socket", n.socket}} {
		if code, out := n.run(t, args...); code != 2 || !strings.Contains(out, "site.hcl:") || !strings.Contains(out, "71OO") {
			t.Errorf("gw %v of a faulty file: exit code %d:\n%s", args, code, out)
		}
	}
	if s, err := n.status(); err != nil || s.Flows.Revoked != 0 {
		t.Errorf("a reload of a faulty file ended %d connections (%v)", s.Flows.Revoked, err)
	}
}

// plans expects that the node's file, as it is now, would end exactly these connections.
func (n *node) plans(t *testing.T, lost []*current) {
	t.Helper()
	file := filepath.Join(n.dir, "site.hcl")
	out, _ := n.host.Command(t.Context(), n.bin, "plan", "--json", "-c", file, "--socket", n.socket).Output()
	var p status.Plan
	if err := json.Unmarshal(out, &p); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	var got, want []string
	for _, e := range p.Ends {
		got = append(got, fmt.Sprint(netip.AddrPortFrom(e.Source, e.SourcePort), " ", netip.AddrPortFrom(e.Destination, e.DestinationPort), " ", e.Rule))
	}
	for _, c := range lost {
		want = append(want, fmt.Sprint(c.client.LocalAddr(), " ", c.client.RemoteAddr(), " doomed"))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || p.Conns <= len(lost) || len(p.NeedsRestart()) != 0 {
		t.Errorf("the plan ends %q, want %q; %d connections, changes %+v", got, want, p.Conns, p.Changes)
	}
	if code, text := n.run(t, "plan", "-c", file, "--socket", n.socket); code != 3 || !strings.Contains(text, "policy.rule.doomed.ports") {
		t.Errorf("gw plan: exit code %d:\n%s", code, text)
	}
}

// reloads has the node reload, which is to end as many connections.
func (n *node) reloads(t *testing.T, ended int) {
	t.Helper()
	out, err := n.host.Command(t.Context(), n.bin, "reload", "--json", "--socket", n.socket).Output()
	var r status.Reload
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil || !r.Applied || r.Revoked != ended || r.Moved != 0 {
		t.Fatalf("gw reload (%v): %s", err, out)
	}
}

// gone expects that nothing passes any more on the connections, which red refuses, and
// that their relays have ended on both sides.
func (n *relayNet) gone(t *testing.T, lost []*current) {
	t.Helper()
	arrived := make([]uint64, len(lost))
	for i, c := range lost {
		for _, nd := range []*node{n.red, n.gray} {
			n.shows(t, nd, port(c.client), "raw")
		}
		found, err := n.red.connsTo(port(c.client))
		if err != nil || len(found) != 1 || found[0].State != "revoked" {
			t.Errorf("red shows %+v (%v)", found, err)
		}
		arrived[i] = c.received(t)
	}
	n.red.waitDrops(n.red.drops("revoked")+1, "revoked")
	for i, c := range lost {
		if more := c.received(t) - arrived[i]; more != 0 {
			t.Errorf("port %d: %d bytes arrived after the end", port(c.client), more)
		}
	}
}
