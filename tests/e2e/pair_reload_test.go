package e2e

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onewaylink/gw/gateway/audit"
	"github.com/onewaylink/gw/gateway/status"
)

// TestPairReload edits the file of a running pair's nodes one after the other, the active
// one first. What the new rule opens before that outlives a takeover by the node
// that had the old file when it was opened; and a reload afterwards leaves the site where
// the takeover has put it. The audit logs of all nodes record it.
func TestPairReload(t *testing.T) {
	n := newPairNetwork(t, pairSetup{redPair: true})
	const narrow, wider = `"tcp/20000-65535"`, `"tcp/20000-65535", ` + doomedPorts
	for _, nd := range n.nodes() {
		nd.edit(`"any"`, narrow)
		nd.audited()
	}
	n.start()
	g := n.watch(t)
	from, to := active(t, n.red)
	runs := n.transfers(t, 32<<20)
	for _, nd := range []*node{from, n.gray[0]} {
		nd.edit(narrow, wider)
		nd.reloads(t, 0)
	}
	client, server := meet(t, n.ways()[0], sockets{port: doomedPort})
	within(t, patience, client, server)
	exchange(t, client, server, some)
	to.edit(narrow, wider)
	to.reloads(t, 0)
	for _, nd := range n.nodes() {
		nd.waitStatus(nd.name+" agrees with all others", func(s status.Status) bool {
			for _, l := range s.Links {
				if len(l.Differences) > 0 {
					return false
				}
			}
			return true
		})
	}
	n.proven(t, n.red)
	from.drain(t)
	exchange(t, client, server, some)
	for _, nd := range n.nodes() {
		nd.reloads(t, 0)
	}
	exchange(t, client, server, some)
	n.answersAlone(t, to)
	n.longest(t, runs)
	for _, c := range []net.Conn{client, server} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	n.auditRecords(t, from, to)
	g.end(t, 1, 0)
}

// auditRecords expects that the audit logs of both of red's nodes, and of gray's, record two
// reloads with a handover by from to to in between, and a connection that was opened before it and
// closed after the second reload.
func (n *pairNetwork) auditRecords(t *testing.T, from, to *node) {
	t.Helper()
	const opened, closed, reloaded, handed = "flow_open", "flow_end closed", "reload done", "drained by an operator"
	heard := "claim received red " + to.name
	for _, c := range []struct {
		nd   *node
		want []string // in this order, with others in between
	}{
		{from, []string{"role changed active red " + from.name, reloaded, opened, "handover requested " + to.name + " " + handed, "role changed standby red " + from.name, heard, reloaded}},
		{to, []string{"role changed standby red " + to.name, reloaded, "role changed active red " + to.name + " " + handed, reloaded, closed}},
		{to, []string{"role changed active red " + to.name + " " + handed, "failover acknowledged gray-1 " + handed, reloaded}},
		{to, []string{"role changed active red " + to.name + " " + handed, "flow_open taken over", closed}},
		{n.gray[0], []string{"claim received red " + from.name, reloaded, opened, heard, reloaded, closed}},
	} {
		var missing []string
		c.nd.auditWhole(t, func(lines []audit.Event) bool {
			missing = c.want
			for _, line := range auditText(lines, doomedPort, "role", "outcome", "site", "node", "reason") {
				if len(missing) > 0 && strings.HasPrefix(line, missing[0]) {
					missing = missing[1:]
				}
			}
			return len(missing) == 0
		}, filepath.Join(c.nd.dir, "audit.log"))
	}
}
