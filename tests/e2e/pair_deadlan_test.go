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

// TestPairDeadLAN: the LAN of the active node passes nothing in one direction or in both, while its
// carrier stays. The other node takes over, once; the transfers go on.
func TestPairDeadLAN(t *testing.T) {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, impaired: true})
	n.Box.SetBoth(slowWAN)
	n.start()
	for _, c := range []struct {
		name  string
		hooks []string
		site  []*node
	}{
		{"in", []string{"ingress"}, n.red},
		{"out", []string{"egress"}, n.red},
		{"both", []string{"ingress", "egress"}, n.gray},
	} {
		t.Run(c.name, func(t *testing.T) {
			dead, heir := n.old(t, c.site)
			g := n.watch(t)
			runs := n.transfers(t, bulkFor(4*time.Second))
			if err := runs[0].Reached(1 << 20); err != nil {
				t.Fatal(err)
			}
			rules := "table netdev deadlan {\n"
			for _, hook := range c.hooks {
				rules += fmt.Sprintf("  chain %s { type filter hook %s device \"lan0\" priority 0; policy drop; }\n", hook, hook)
			}
			dead.nft(t, rules+"}")
			began := time.Now()
			heir.waitStatus(heir.name+" takes over", func(s status.Status) bool { return s.HA.Role == status.RoleActive })
			took := time.Since(began)
			dead.waitStatus(dead.name+" names the fault", func(s status.Status) bool {
				return slices.Contains(faults(&s), string(health.LANSilent))
			})
			t.Logf("took over after %v; stall %v", took.Round(time.Millisecond), n.longest(t, runs).Round(time.Millisecond))
			dead.nft(t, "delete table netdev deadlan")
			dead.waitStatus("the fault of "+dead.name+" is cleared", func(s status.Status) bool { return faults(&s) == nil })
			n.settled(c.site)
			if now, _ := active(t, c.site); now != heir {
				t.Errorf("%s is active again after its LAN was mended", now.name)
			}
			changes := map[*node]int{c.site[0]: 1}
			g.end(t, changes[n.red[0]], changes[n.gray[0]])
		})
	}
}
