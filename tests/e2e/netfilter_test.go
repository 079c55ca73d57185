package e2e

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onewaylink/gw/gateway/doctor"
	"github.com/onewaylink/gw/gateway/status"
	"github.com/onewaylink/gw/tests/lab"
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
// role goes to the other node and back under load, by a drain or by a kill and a restart. The
// kernel of the first node has old windows then.
func TestNetfilterRoleReturns(t *testing.T) {
	n := newPairNetwork(t, pairSetup{redPair: true, grayPair: true, impaired: true})
	n.Box.SetBoth(slowWAN)
	for _, nd := range n.nodes() {
		nd.runs(t, "nft", statefulFirewall)
	}
	n.start()
	drain := func(from, _ *node) { from.drain(t) }
	kill := func(from, to *node) {
		from.kill()
		to.waitStatus(to.name+" takes over", func(s status.Status) bool { return s.HA.Role == status.RoleActive })
		from.up()
	}
	for _, c := range []struct {
		name  string
		site  []*node
		leave func(from, to *node)
	}{{"drain red", n.red, drain}, {"kill red", n.red, kill}, {"drain gray", n.gray, drain}, {"kill gray", n.gray, kill}} {
		t.Run(c.name, func(t *testing.T) {
			g := n.watch(t)
			runs := n.paced(t, 2*drainBulk, drainRate)
			for i, leave := range []func(from, to *node){c.leave, drain} {
				if err := runs[0].Reached(int64(i+1) * drainBulk / 2); err != nil {
					t.Fatal(err)
				}
				n.settled(c.site)
				leave(active(t, c.site))
			}
			stall := n.longest(t, runs)
			t.Logf("stall %v", stall.Round(time.Millisecond))
			n.settled(c.site)
			changes := map[*node]int{c.site[0]: 2}
			g.end(t, changes[n.red[0]], changes[n.gray[0]])
		})
	}
}

// failures are what gw doctor calls failures of the node's host. It exits with 1 if there are some,
// or other failures: a fault of the node stands for a while after its end.
func (n *node) failures(t *testing.T) (found []doctor.Check) {
	t.Helper()
	out, err := n.host.Command(t.Context(), n.bin, "doctor", "--json", "--socket", n.socket).Output()
	var r doctor.Report
	if jerr := json.Unmarshal(out, &r); jerr != nil {
		t.Fatalf("gw doctor: %v, %v", err, jerr)
	}
	failed := false
	for _, c := range r.Checks {
		if c.Level != doctor.Failure {
			continue
		}
		failed = true
		if c.Area == "host" {
			found = append(found, c)
		}
	}
	if failed != (err != nil) {
		t.Errorf("gw doctor finds %v and exits with %v", r.Checks, err)
	}
	return found
}

// TestNetfilterFound: what others put on a gateway's host and what stops or changes the sites'
// traffic there is a failure of gw doctor, whose command mends it.
func TestNetfilterFound(t *testing.T) {
	n := newNetwork(t, setup{})
	n.start()
	if found := n.red.failures(t); len(found) != 0 {
		t.Fatalf("before: %v", found)
	}
	table := func(hook, kind, rules string) string {
		return "nft 'table ip theirs { chain c { type " + kind + " hook " + hook + "; " + rules + "; }; }'"
	}
	for _, c := range []struct {
		name, cause, end string
		want             []string
	}{
		{"masquerade", table("postrouting priority srcnat", "nat", "masquerade"), "nft delete table ip theirs",
			[]string{"rewrites the source of packets from 10.77.1.0/24 to 10.77.2.0/24", "from 10.77.2.0/24 to 10.77.1.0/24"}},
		{"masquerade toward the LAN", table("postrouting priority srcnat", "nat", `oifname "lan0" masquerade`), "nft delete table ip theirs",
			[]string{"rewrites the source of packets from 10.77.2.0/24 to 10.77.1.0/24"}},
		{"raw", table("prerouting priority raw", "filter", `iifname "lan0" drop`), "nft delete table ip theirs",
			[]string{`chain ip theirs c drops all packets from "lan0" to "gw0"`}},
		{"rule by interface", "ip route add blackhole default table 52; ip rule add iif lan0 lookup 52", "ip rule del iif lan0 lookup 52; ip route flush table 52",
			[]string{`the kernel drops packets from`}},
		{"rule by source", "ip route add blackhole default table 52; ip rule add from 10.77.1.0/24 lookup 52", "ip rule del from 10.77.1.0/24 lookup 52; ip route flush table 52",
			[]string{`the kernel drops packets from`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n.red.runs(t, "sh", "-ec", c.cause)
			defer n.red.runs(t, "sh", "-ec", c.end)
			found := n.red.failures(t)
			if len(found) != len(c.want) {
				t.Fatalf("found %v, want %q", found, c.want)
			}
			for i, f := range found {
				if !strings.Contains(f.What, c.want[i]) {
					t.Errorf("found %v, want %q", f, c.want[i])
				}
				n.red.runs(t, "sh", "-ec", f.Do)
			}
			if found := n.red.failures(t); len(found) != 0 {
				t.Errorf("mended, and gw doctor finds %v", found)
			}
			for _, w := range n.ways() {
				carriesBulk(t, w, 64<<10)
			}
		})
	}
}

// TestNetfilterTranslated: a connection that the host translates is found although no rule shows it
// any more, and no longer when it has ended.
func TestNetfilterTranslated(t *testing.T) {
	n := newNetwork(t, setup{})
	n.start()
	n.red.runs(t, "nft", `table ip theirs { chain c { type nat hook postrouting priority srcnat; oifname "gw0" snat to `+n.red.host.LAN4.String()+`; }; }`)
	n.red.runs(t, "nft", statefulFirewall) // so that the kernel tracks connections without that table, too
	w := n.ways()[0]
	tr, err := lab.StartTransfer(t.Context(), lab.TransferConfig{
		From: w.from.Namespace, To: w.to.Namespace, Addr: netip.AddrPortFrom(w.addr, 0), Bytes: 8 << 20,
		Socket: func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, 4<<20)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Reached(1 << 20); err != nil {
		t.Fatal(err)
	}
	n.red.runs(t, "nft", "flush chain ip theirs c") // an empty chain still translates what it began
	if found := n.red.failures(t); len(found) != 1 || !strings.Contains(found[0].What, "this host rewrites the source of 1 connections between the sites") {
		t.Errorf("while it is open: %v", found)
	}
	if _, err := tr.Wait(); err != nil {
		t.Fatal(err)
	}
	if found := n.red.failures(t); len(found) != 0 {
		t.Errorf("after its end: %v", found)
	}
}
