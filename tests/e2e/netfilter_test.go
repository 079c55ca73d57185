package e2e

import (
	"testing"
	"time"
)

// statefulFirewall is what stock firewalls do with forwarded packets: firewalld, ufw and kube-proxy
// drop what the kernel's connection tracking calls invalid.
const statefulFirewall = `table inet stateful {
	chain forward {
		type filter hook forward priority 0; policy drop;
		ct state invalid counter drop
		ct state established,related accept
		iifname "lan0" oifname "gw0" accept
		iifname "gw0" oifname "lan0" accept
	}
}`

// TestNetfilterRoleReturns: the gateways of both sites have a stateful firewall, and each site's
// role goes to the other node and back under load. The kernel of the first node has old windows
// then.
func TestNetfilterRoleReturns(t *testing.T) {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, impaired: true})
	n.Box.SetBoth(slowWAN)
	for _, nd := range n.nodes() {
		nd.runs(t, "nft", statefulFirewall)
	}
	n.start()
	for _, site := range [][]*node{n.red, n.gray} {
		g := n.watch(t)
		runs := n.paced(t, 2*drainBulk, drainRate)
		for i := range 2 {
			if err := runs[0].Reached(int64(i+1) * drainBulk / 2); err != nil {
				t.Fatal(err)
			}
			n.settled(site)
			from, _ := active(t, site)
			from.drain(t)
		}
		stall := n.longest(t, runs)
		t.Logf("%s and back: stall %v", site[0].name, stall.Round(time.Millisecond))
		n.settled(site)
		changes := map[*node]int{site[0]: 2}
		g.end(t, changes[n.red[0]], changes[n.gray[0]])
	}
}
