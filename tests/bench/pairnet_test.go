package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onewaylink/gw/gateway/control"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// pairing is a contestant whose red site has one node or a pair. The lab has two
// gateways there either way, so that the LANs are alike.
type pairing struct {
	*contestant
	nodes []*pairNode // gray-1, red-1, and red-2 where there is one
}

// pairNode is one gw, with what is needed to start it again.
type pairNode struct {
	name    string
	host    *lab.Host
	dir     string
	program string
	proc    *lab.Proc // nil before up
	ask     *control.Client
}

// newPairing builds the lab and writes the configuration. up starts the nodes.
func newPairing(b *testing.B, name, program string, paired bool) *pairing {
	b.Helper()
	l := lab.Start(b, lab.Config{Red: lab.SiteConfig{Gateways: 2, FloatingRouter: paired}})
	p := &pairing{contestant: &contestant{name: name, Lab: l}}
	var text strings.Builder
	keys := map[*lab.Host]lab.Key{}
	node := func(h *lab.Host, name, more string) {
		keys[h] = lab.NewKey()
		fmt.Fprintf(&text, "  node %q {\n    public_key = %q\n    address    = [%q, %q]\n%s  }\n", name, keys[h].Public(), h.Node4, h.Node6, more)
		n := &pairNode{name: name, host: h, dir: filepath.Join(l.Dir, name), program: program}
		n.ask = control.NewClient(filepath.Join(n.dir, "gw.sock"))
		p.nodes = append(p.nodes, n)
	}
	site := func(s *lab.Site) {
		fmt.Fprintf(&text, "site %q {\n  subnets = [%q, %q]\n", s.Name, s.Subnets[0], s.Subnets[1])
	}
	site(l.Gray)
	node(l.Gray.GW(), "gray-1", fmt.Sprintf("    endpoint = \"%s:51820\"\n", l.Gray.GW().WAN4))
	text.WriteString("}\n")
	site(l.Red)
	for i, h := range l.Red.Gateways {
		if i == 0 || paired {
			more := ""
			if paired {
				more = fmt.Sprintf("    sibling_endpoint = \"%s:51820\"\n", h.LAN4)
			}
			node(h, fmt.Sprintf("red-%d", i+1), more)
		}
	}
	if paired {
		fmt.Fprintf(&text, "  pair {\n    vip = [\"%s/24\", \"%s/64\"]\n  }\n", l.Red.Routers[0], l.Red.Routers[1])
	}
	text.WriteString("}\n" + linkAndPolicy + fmt.Sprintf(localBlock, "", ""))
	for _, n := range p.nodes {
		n.write(b, "site.hcl", text.String())
		n.write(b, "private.key", keys[n.host].String()+"\n")
	}
	return p
}

const linkAndPolicy = `
link "red" "gray" {
  initiator = "red"
}
policy {
  rule "all" {
    from  = ["red", "gray"]
    to    = ["red", "gray"]
    ports = ["any"]
    mode  = "route"
  }
}
`

func (n *pairNode) write(b *testing.B, name, text string) {
	b.Helper()
	err := os.MkdirAll(n.dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// up starts the node's gw. All of them go before everything else on a busy
// machine, with a pair and without: a sibling that gets no processor for
// dead_after counts as dead.
func (n *pairNode) up(b *testing.B) {
	b.Helper()
	p, err := n.host.Start(context.Background(), lab.Spec{ // it ends with the lab
		Name: n.name, Args: []string{"nice", "-n", "-19", n.program, "up", "-c", filepath.Join(n.dir, "site.hcl")},
	})
	if err != nil {
		b.Fatal(err)
	}
	n.proc = p
}

// up starts all nodes, and returns when traffic passes and records are in sync.
func (p *pairing) up(b *testing.B) {
	b.Helper()
	for _, n := range p.nodes {
		n.up(b)
		p.gateways = append(p.gateways, n.proc)
	}
	for _, n := range p.nodes {
		n.wait(b, "its links are up and its site is settled", func(s status.Status) bool {
			for _, l := range s.Links {
				if l.State != status.LinkUp {
					return false
				}
			}
			return len(s.Links) == len(p.nodes)-1 && settled(s)
		})
	}
}

// settled reports whether a node that has a sibling has a role, and all records
// are on both nodes.
func settled(s status.Status) bool {
	return s.HA == nil || (s.HA.Role == status.RoleActive || s.HA.Role == status.RoleStandby) && s.HA.Records.InSync
}

// wait waits until the node's status is as wanted.
func (n *pairNode) wait(b *testing.B, what string, cond func(status.Status) bool) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	err := lab.Until(ctx, n.name+": "+what, func() (bool, error) {
		select {
		case <-n.proc.Done():
			return false, fmt.Errorf("gw has exited")
		default:
		}
		s, err := n.ask.Status(ctx)
		return err == nil && cond(s), nil
	})
	if err != nil {
		b.Fatalf("%v\n%s", err, n.proc.Log.Tail(20))
	}
}

// status queries the running node.
func (n *pairNode) status(b *testing.B) status.Status {
	b.Helper()
	s, err := n.ask.Status(b.Context())
	if err != nil {
		b.Fatalf("%s: %v\n%s", n.name, err, n.proc.Log.Tail(20))
	}
	return s
}

// roles are red's active node and its standby.
func (p *pairing) roles(b *testing.B) (active, standby *pairNode) {
	b.Helper()
	red := p.nodes[1:]
	for i, n := range red {
		if n.status(b).HA.Role == status.RoleActive {
			return n, red[1-i]
		}
	}
	b.Fatal("no node of red is active")
	return nil, nil
}
