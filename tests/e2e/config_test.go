package e2e

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
)

// shows waits until both nodes list a difference, and returns it as red sees it.
func (n *network) shows(attribute string) status.Difference {
	var found status.Difference
	for _, nd := range []*node{n.gray, n.red} {
		nd.waitStatus(nd.name+" shows that "+attribute+" differs", func(s status.Status) bool {
			for _, d := range s.Links[0].Differences {
				if strings.HasPrefix(d.Attribute, attribute) {
					found = d
					return true
				}
			}
			return false
		})
	}
	return found
}

// TestSubnetsDiffer: a link that starts with two opinions on who owns what is
// refused on both sides, shows why, and carries nothing until that is mended.
func TestSubnetsDiffer(t *testing.T) {
	n := newNetwork(t, setup{})
	n.red.edit(list(n.Gray.Subnets), `["10.77.2.0/24", "fd77:2::/64", "10.77.22.0/24"]`)
	n.gray.up()
	n.red.up()
	for _, nd := range []*node{n.red, n.gray} {
		nd.waitState(status.LinkRefused)
		if l := nd.link(); !strings.Contains(l.Refused, "site.gray.subnets") {
			t.Errorf("%s refuses the link for %q, want site.gray.subnets named", nd.name, l.Refused)
		}
	}
	if d := n.shows("site.gray.subnets"); !d.Fatal {
		t.Errorf("the difference is not shown as one that forbids to start: %+v", d)
	}
	reached := incoming(t, n.Gray.DB())
	for _, w := range n.ways()[:1] {
		before := n.red.drops("link-refused")
		if err := w.from.SendIP(lab.UDPPacket(netip.AddrPortFrom(w.source(), 4000), netip.AddrPortFrom(w.addr, 5432), []byte("x"))); err != nil {
			t.Fatal(err)
		}
		n.red.waitDrops(before+1, "link-refused")
	}
	if got := reached(); got != 0 {
		t.Errorf("%d packets passed a link that is refused", got)
	}

	n.gray.term()
	n.gray.edit(list(n.Gray.Subnets), `["10.77.2.0/24", "fd77:2::/64", "10.77.22.0/24"]`)
	n.gray.up()
	n.red.waitState(status.LinkUp)
	n.gray.waitState(status.LinkUp)
	for _, w := range n.ways() {
		carriesBulk(t, w, 1<<20)
	}
}

// TestHarmlessDifferences: what differs without harm is shown on both sides, by
// name only, and the link carries.
func TestHarmlessDifferences(t *testing.T) {
	n := newNetwork(t, setup{link: `keepalive = "23s"`})
	n.red.edit(`"23s"`, `"19s"`)
	n.red.edit(everything, everything+`
  rule "only-red-knows" {
    from  = ["gray"]
    to    = ["10.77.1.10"]
    ports = ["tcp/5432"]
  }`)
	n.start()
	if d := n.shows("link."); d.Fatal || d.Attribute != "link.gray.red.keepalive" || d.Kind != status.Differs {
		t.Errorf("the difference in keepalive is shown as %+v", d)
	}
	if d := n.shows("policy."); d.Fatal {
		t.Errorf("the difference in policy is shown as %+v", d)
	}
	for _, nd := range []*node{n.red, n.gray} {
		out, err := nd.host.Command(t.Context(), nd.bin, "status", "--json", "--socket", nd.socket).Output()
		if err != nil {
			t.Fatal(err)
		}
		other := "23s"
		if nd == n.gray {
			other = "19s"
		}
		if strings.Contains(string(out), `"`+other+`"`) {
			t.Errorf("%s shows the other side's value:\n%s", nd.name, out)
		}
		text, err := nd.host.Command(t.Context(), nd.bin, "status", "--socket", nd.socket).Output()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "link.gray.red.keepalive") {
			t.Errorf("gw status of %s does not name what differs:\n%s", nd.name, text)
		}
	}
	for _, w := range n.ways() {
		carriesBulk(t, w, 1<<20)
	}
}

// TestRenderedFile: what `gw render` writes for a site agrees with the whole file.
func TestRenderedFile(t *testing.T) {
	n := newNetwork(t, setup{})
	n.red.edit(everything, everything+`
  rule "narrow" {
    from  = ["10.77.2.10", "red"]
    to    = ["10.77.1.10", "gray"]
    ports = ["tcp/5432", "udp/53", "icmp"]
  }`)
	file := filepath.Join(n.red.dir, "site.hcl")
	out, err := n.Gray.GW().Command(t.Context(), n.gray.bin, "render", "--for", "gray", "-c", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(filepath.Join(n.gray.dir, "site.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	_, local, ok := strings.Cut(string(own), "\nlocal {")
	if !ok {
		t.Fatal("the node's file has no local block")
	}
	if err := os.WriteFile(filepath.Join(n.gray.dir, "site.hcl"), slices.Concat(out, []byte("\nlocal {"+local)), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	for _, nd := range []*node{n.red, n.gray} {
		// A link is up once the comparison is complete.
		if d := nd.link().Differences; len(d) != 0 {
			t.Errorf("%s shows differences: %+v", nd.name, d)
		}
	}
	carriesBulk(t, n.ways()[1], 1<<20)
}

// TestWrongKey: gray knows another key of red. The link stays down, and red's
// log names the keys as a possible cause.
func TestWrongKey(t *testing.T) {
	t.Parallel() // it waits most of the time
	n := newNetwork(t, setup{})
	n.gray.edit(n.red.key.Public().String(), lab.NewKey().Public().String())
	n.gray.up()
	n.red.up()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := n.red.proc.Saw(ctx, "peer doesn't answer"); err != nil {
		t.Fatal(err)
	}
	if log := n.red.proc.Log.String(); !strings.Contains(log, "public keys") {
		t.Errorf("red does not log that the keys may be wrong:\n%s", log)
	}
	if s := n.red.link().State; s != status.LinkEstablishing {
		t.Errorf("red shows the link as %s, want establishing", s)
	}
	if s := n.gray.link().State; s != status.LinkDown {
		t.Errorf("gray shows the link as %s, want down", s)
	}
}
