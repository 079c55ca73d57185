package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/health"
	"github.com/onewaylink/gw/gateway/status"
)

// faults names the faults of a node that stand.
func faults(s *status.Status) (out []string) {
	for _, f := range s.Faults {
		if f.Stands {
			out = append(out, f.Fault)
		}
	}
	return out
}

// unfit is a fault that a test causes on the host of an active node.
type unfit struct {
	name  string
	site  func(n *pairNetwork) []*node
	fault health.Fault
	// cause and mend are commands that cause the fault and end it.
	cause, mend []string
}

func ofRed(n *pairNetwork) []*node  { return n.red }
func ofGray(n *pairNetwork) []*node { return n.gray }

// deadLAN are the rules for a LAN that passes nothing by some hooks of its interface.
func deadLAN(hooks ...string) []string {
	rules := "table netdev dead {\n"
	for _, hook := range hooks {
		rules += fmt.Sprintf("  chain %s { type filter hook %s device \"lan0\" priority 0; policy drop; }\n", hook, hook)
	}
	return []string{"nft", rules + "}"}
}

// TestPairHostFails: the host of the active node fails in a way that its interfaces do not show.
// The other node takes over, once, and the transfers go on; the fault has a name.
func TestPairHostFails(t *testing.T) {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, impaired: true})
	n.Box.SetBoth(slowWAN)
	n.start()
	alive := []string{"nft", "delete table netdev dead"}
	for _, c := range []unfit{
		{"LAN in", ofRed, health.LANSilent, deadLAN("ingress"), alive},
		{"LAN out", ofRed, health.LANSilent, deadLAN("egress"), alive},
		{"LAN both", ofGray, health.LANSilent, deadLAN("ingress", "egress"), alive},
		{
			"forwarding off", ofRed, health.NotForwarding,
			[]string{"sysctl", "-w", "net.ipv4.conf.lan0.forwarding=0"}, []string{"sysctl", "-w", "net.ipv4.conf.lan0.forwarding=1"},
		},
		{
			"forwarding closed", ofGray, health.NotForwarding,
			[]string{"nft", "table inet closed { chain forward { type filter hook forward priority 0; policy drop; }; }"},
			[]string{"nft", "delete table inet closed"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			site := c.site(n)
			dead, heir := n.old(t, site)
			g := n.watch(t)
			runs := n.transfers(t, bulkFor(4*time.Second))
			if err := runs[0].Reached(1 << 20); err != nil {
				t.Fatal(err)
			}
			dead.runs(t, c.cause...)
			began := time.Now()
			heir.waitStatus(heir.name+" takes over", func(s status.Status) bool { return s.HA.Role == status.RoleActive })
			took := time.Since(began)
			dead.waitStatus(dead.name+" names the fault", func(s status.Status) bool {
				return slices.Contains(faults(&s), string(c.fault))
			})
			t.Logf("took over after %v; stall %v", took.Round(time.Millisecond), n.longest(t, runs).Round(time.Millisecond))
			dead.runs(t, c.mend...)
			dead.waitStatus("the fault of "+dead.name+" is cleared", func(s status.Status) bool { return faults(&s) == nil })
			n.settled(site)
			if now, _ := active(t, site); now != heir {
				t.Errorf("%s is active again after its host was mended", now.name)
			}
			changes := map[*node]int{site[0]: 1}
			g.end(t, changes[n.red[0]], changes[n.gray[0]])
		})
	}
}

// runs runs a command on the node's host.
func (n *node) runs(t *testing.T, args ...string) {
	t.Helper()
	if out, err := n.host.Command(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v on the host of %s: %v: %s", args, n.name, err, out)
	}
}
