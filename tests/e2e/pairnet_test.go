package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// pairNetwork is two sites of which one or both have two gateways.
type pairNetwork struct {
	*lab.Lab
	red, gray []*node
}

// pairSetup sets which sites have pairs, and what else is unusual.
type pairSetup struct {
	redPair, grayPair           bool
	redDatabases, grayDatabases int
	impaired                    bool
	pair                        string // attributes of each pair block
	mode                        string // of the policy; route if empty
	// third describes a site beside the two, whose node runs on gray's second gateway: blocks
	// of site.hcl, and rules.
	third func(*lab.Lab) (blocks, rules string)
}

// newPairNetwork builds the lab and writes one site.hcl for all nodes.
func newPairNetwork(t testing.TB, s pairSetup) *pairNetwork {
	t.Helper()
	bin, err := lab.Build("github.com/onewaylink/gw/cmd/gw")
	if err != nil {
		t.Fatal(err)
	}
	lc := lab.Config{Logf: t.Logf, Impaired: s.impaired}
	if s.redPair {
		lc.Red = lab.SiteConfig{Gateways: 2, FloatingRouter: true}
	}
	if s.grayPair {
		lc.Gray = lab.SiteConfig{Gateways: 2, FloatingRouter: true}
	}
	lc.Red.Databases, lc.Gray.Databases = s.redDatabases, s.grayDatabases
	grayNodes := lc.Gray.Gateways
	if s.third != nil {
		grayNodes, lc.Gray.Gateways = 1, 2
	}
	n := &pairNetwork{Lab: lab.Start(t, lc)}
	for i, h := range n.Red.Gateways {
		n.red = append(n.red, newNode(t, n.Lab, h, fmt.Sprintf("red-%d", i+1), bin, lab.NewKey()))
	}
	for i, h := range n.Gray.Gateways[:max(1, grayNodes)] {
		n.gray = append(n.gray, newNode(t, n.Lab, h, fmt.Sprintf("gray-%d", i+1), bin, lab.NewKey()))
	}
	var text strings.Builder
	site := func(s *lab.Site, nodes []*node, dialled bool, pair string) {
		fmt.Fprintf(&text, "site %q {\n  subnets = %s\n", s.Name, list(s.Subnets))
		for _, nd := range nodes {
			fmt.Fprintf(&text, "  node %q {\n    public_key = %q\n    address = [%q, %q]\n", nd.name, nd.key.Public(), nd.host.Node4, nd.host.Node6)
			if dialled {
				fmt.Fprintf(&text, "    endpoint = \"%s:51820\"\n", nd.host.WAN4)
			}
			if len(nodes) > 1 {
				fmt.Fprintf(&text, "    sibling_endpoint = \"%s:51820\"\n", nd.host.LAN4)
			}
			fmt.Fprintln(&text, "  }")
		}
		if len(nodes) > 1 {
			fmt.Fprintf(&text, "  pair {\n    vip = [\"%s/24\", \"%s/64\"]\n    %s\n  }\n", s.Routers[0], s.Routers[1], pair)
		}
		fmt.Fprintln(&text, "}")
	}
	site(n.Red, n.red, false, s.pair)
	site(n.Gray, n.gray, true, s.pair)
	blocks, rules := "", ""
	if s.third != nil {
		blocks, rules = s.third(n.Lab)
	}
	fmt.Fprintf(&text, "link \"red\" \"gray\" {\n  initiator = \"red\"\n}\n%s\npolicy {%s\n%s\n}\n", blocks, relayPolicy(cmp.Or(s.mode, modeRoute)), rules)
	for _, nd := range n.nodes() {
		// Four gateways and the load share a few cores, and a sibling that gets none
		// for dead_after counts as dead.
		nd.nice = true
		local := fmt.Sprintf(`
local {
  private_key_file = "private.key"
  state_dir        = "%s/state"
  socket           = %q
  lan              = "lan0"
  log { level = "debug" }
}
`, nd.dir, nd.socket)
		if err := os.WriteFile(filepath.Join(nd.dir, "site.hcl"), []byte(text.String()+local), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func (n *pairNetwork) nodes() []*node {
	return append(append([]*node{}, n.red...), n.gray...)
}

// start brings all nodes up and waits until each pair has an active node and a
// standby with all records, and every link carries.
func (n *pairNetwork) start() {
	for _, nd := range n.nodes() {
		nd.up()
	}
	for _, nd := range n.nodes() {
		nd.waitStatus("all links of "+nd.name+" are up", func(s status.Status) bool {
			for _, l := range s.Links {
				if l.State != status.LinkUp {
					return false
				}
			}
			return len(s.Links) > 0
		})
	}
	n.settled(n.red)
	n.settled(n.gray)
}

// settled waits until a site has one active node, and a standby that is in sync.
func (n *pairNetwork) settled(site []*node) {
	if len(site) < 2 {
		return
	}
	for _, nd := range site {
		nd.waitStatus("the pair of "+nd.name+" is complete", func(s status.Status) bool {
			return s.HA != nil && (s.HA.Role == status.RoleActive || s.HA.Role == status.RoleStandby) && s.HA.Records.InSync
		})
	}
}

// active returns the active node of a site and the other one. While the role
// passes from one to the other both may report that they are active.
func active(t testing.TB, site []*node) (active, standby *node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := lab.Until(ctx, "one node is active", func() (bool, error) {
		n := 0
		for i, nd := range site {
			if s, err := nd.status(); err == nil && s.HA.Role == status.RoleActive {
				active, standby = nd, site[1-i]
				n++
			}
		}
		return n == 1, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return active, standby
}

// ha queries the node for its view of the pair, by the command.
func (n *node) ha(t testing.TB) status.HA {
	t.Helper()
	out, err := n.host.Command(t.Context(), n.bin, "ha", "status", "--json", "--socket", n.socket).Output()
	if err != nil {
		t.Fatal(err)
	}
	var h status.HA
	if err := json.Unmarshal(out, &h); err != nil {
		t.Fatal(err)
	}
	return h
}
