package e2e

import (
	"testing"

	"github.com/onewaylink/gw/gateway/status"
)

// TestPairReload edits the file of a running pair's nodes one after the other, the active
// one first. What is opened by the new rule meanwhile outlives a takeover by the node
// that had the old file when it was opened; and a reload afterwards leaves the site where
// the takeover has put it.
func TestPairReload(t *testing.T) {
	n := newPairNetwork(t, pairSetup{redPair: true})
	const narrow, wider = `"tcp/20000-65535"`, `"tcp/20000-65535", ` + doomedPorts
	for _, nd := range n.nodes() {
		nd.edit(`"any"`, narrow)
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
	g.end(t, 1, 0)
}
