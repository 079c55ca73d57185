package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// TestSecondHostWithTheSameKey: a second host runs a copy of a gateway with its key. All
// three see it and name the node.
func TestSecondHostWithTheSameKey(t *testing.T) {
	n := newNetwork(t, setup{lab: lab.Config{Red: lab.SiteConfig{Gateways: 2}}})
	n.start()
	twin := newNode(t, n.Lab, n.Red.Gateways[1], "red-1-twin", n.red.bin, n.red.key)
	twin.configure(setup{rules: everything}, n.red.key, n.gray.key)
	twin.up()
	for _, nd := range []*node{n.gray, n.red, twin} {
		nd.waitStatus(nd.name+" reports that red's key is used twice, and from where", func(s status.Status) bool {
			if len(s.Links) != 1 || len(s.Links[0].Duplicates) != 1 || s.Links[0].Duplicates[0].Node != "red-1" {
				return false
			}
			endpoints := strings.Join(s.Links[0].Duplicates[0].Endpoints, " ")
			for _, h := range n.Red.Gateways {
				if !strings.Contains(endpoints, h.WAN4.String()+":") {
					return false
				}
			}
			return len(s.Links[0].Duplicates[0].Endpoints) == 2
		})
	}
}

// TestSecondProcess: another process for the same node on the same host refuses
// to start, names the running gw, and does not disturb it.
func TestSecondProcess(t *testing.T) {
	n := start(t, setup{})
	code, out := n.red.run(t, "up", "-c", n.red.dir+"/site.hcl")
	if code != 1 || !strings.Contains(out, fmt.Sprintf("process %d", n.red.proc.PID)) {
		t.Errorf("exit code %d, want 1, and the pid %d in:\n%s", code, n.red.proc.PID, out)
	}
	n.red.waitState(status.LinkUp)
	for _, w := range n.ways() {
		carriesBulk(t, w, 1<<20)
	}
}

// run runs gw on the node's host until it ends, and returns its exit code and
// its output.
func (n *node) run(t *testing.T, args ...string) (int, string) {
	t.Helper()
	return n.runAs(t, lab.Spec{Args: append([]string{n.bin}, args...)})
}

func (n *node) runAs(t *testing.T, s lab.Spec) (int, string) {
	t.Helper()
	s.Name = n.name + "-once"
	p, err := n.host.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case <-p.Done():
	case <-ctx.Done():
		t.Fatalf("%v is still running, and printed:\n%s", s.Args[1:], p.Log.Tail(20))
	}
	return p.ExitCode(), p.Log.String()
}
