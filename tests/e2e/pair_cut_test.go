package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// deaf drops all UDP that enters or leaves by an interface of the node's host, until
// the returned function is called.
func (n *node) deaf(t *testing.T, ifname string) (mend func()) {
	t.Helper()
	rules := fmt.Sprintf(`table inet deaf {
  chain in { type filter hook input priority 0; iifname %q meta l4proto udp drop; }
  chain out { type filter hook output priority 0; oifname %q meta l4proto udp drop; }
}`, ifname, ifname)
	n.nft(t, rules)
	return func() { n.nft(t, "delete table inet deaf") }
}

func (n *node) nft(t *testing.T, rules string) {
	t.Helper()
	if out, err := n.host.Command(t.Context(), "nft", rules).CombinedOutput(); err != nil {
		t.Fatalf("nft on the host of %s: %v: %s", n.name, err, out)
	}
}

// cable pulls the plug of a gateway of a site out of the LAN's switch, or puts it
// back.
func (n *pairNetwork) cable(t *testing.T, site []*node, nd *node, in bool) {
	t.Helper()
	name := "red-lan"
	if &site[0] == &n.gray[0] {
		name = "gray-lan"
	}
	i := slices.IndexFunc(n.Namespaces(), func(ns *lab.Namespace) bool { return ns.Name() == name })
	if i < 0 {
		t.Fatalf("no switch %s", name)
	}
	if err := n.Namespaces()[i].SetLink(fmt.Sprintf("port%d", slices.Index(site, nd)), in); err != nil {
		t.Fatal(err)
	}
}

// old waits until the last change of roles is long enough ago for health to change
// them again.
func (n *pairNetwork) old(t *testing.T, site []*node) (act, standby *node) {
	t.Helper()
	n.settled(site)
	act, standby = active(t, site)
	for _, nd := range site {
		nd.waitStatus("the role of "+nd.name+" is old", func(s status.Status) bool { return time.Since(s.HA.Since) > 6*time.Second })
	}
	return act, standby
}

// TestPairSiblingCut cuts the siblings off from each other for a while, in the
// middle of transfers. Both reach the other site.
func TestPairSiblingCut(t *testing.T) { cutSibling(t, modeRoute, 10*time.Second) }

func cutSibling(t *testing.T, mode string, d time.Duration) {
	n := newPairNetwork(t, pairSetup{redPair: true, impaired: true, mode: mode})
	n.Box.SetBoth(slowWAN)
	n.start()
	g := n.watch(t)
	runs := n.transfers(t, bulkFor(d+2*time.Second))
	if err := runs[0].Reached(1 << 20); err != nil {
		t.Fatal(err)
	}
	mend := n.red[0].deaf(t, "lan0")
	<-time.After(d) // the length of the cut is what is tried
	a, s := active(t, n.red)
	if h := a.ha(t); h.Sibling.State != status.SiblingSilent || h.Records.InSync {
		t.Errorf("without its sibling %s shows it as %s, and records in sync %v", a.name, h.Sibling.State, h.Records.InSync)
	}
	if h := s.ha(t); h.Sibling.State != status.SiblingSilent {
		t.Errorf("without its sibling %s shows it as %s", s.name, h.Sibling.State)
	}
	mend()
	n.settled(n.red)
	t.Logf("stall %v", n.longest(t, runs).Round(time.Millisecond))
	if got := g.changes(n.red); got > 1 {
		t.Errorf("roles changed %d times, want at most once:\n%v", got, roles(n.red))
	}
	g.end(t, g.changes(n.red), 0)
}

// TestPairUnfit: the active node lives, but can't do its work any more. The other
// one takes over.
func TestPairUnfit(t *testing.T) { unfitNodes(t, modeRoute) }

func unfitNodes(t *testing.T, mode string) {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, impaired: true, mode: mode})
	n.Box.SetBoth(slowWAN)
	n.start()
	for _, c := range []struct {
		name  string
		site  []*node
		fault func(t *testing.T, site []*node, nd *node) (mend func())
	}{
		{"WAN of red", n.red, func(t *testing.T, _ []*node, nd *node) func() { return nd.deaf(t, "wan0") }},
		{"WAN of gray", n.gray, func(t *testing.T, _ []*node, nd *node) func() { return nd.deaf(t, "wan0") }},
		{"LAN of red", n.red, func(t *testing.T, site []*node, nd *node) func() {
			n.cable(t, site, nd, false)
			return func() { n.cable(t, site, nd, true) }
		}},
		{"device of red", n.red, func(t *testing.T, _ []*node, nd *node) func() {
			if err := nd.host.SetLink("gw0", false); err != nil {
				t.Fatal(err)
			}
			return func() { nd.kill(); nd.up() }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			unfit, heir := n.old(t, c.site)
			g := n.watch(t)
			runs := n.transfers(t, bulkFor(3*time.Second))
			if err := runs[0].Reached(1 << 20); err != nil {
				t.Fatal(err)
			}
			mend := c.fault(t, c.site, unfit)
			began := time.Now()
			heir.waitStatus(heir.name+" takes over", func(s status.Status) bool { return s.HA.Role == status.RoleActive })
			t.Logf("took over after %v: %s", time.Since(began).Round(time.Millisecond), heir.ha(t).Why)
			n.answersAlone(t, heir)
			t.Logf("stall %v", n.longest(t, runs).Round(time.Millisecond))
			mend()
			n.settled(c.site)
			if now, _ := active(t, c.site); now != heir {
				t.Errorf("%s is active again after it was mended", now.name)
			}
			changes := map[*node]int{c.site[0]: 1}
			g.end(t, changes[n.red[0]], changes[n.gray[0]])
		})
	}
}
